//! How far a pattern belongs to everyone, and how urgently it should move to a slower layer.

/// How universal a pattern is, 0 to 1: `sqrt(max(0, alignment) max(0, consensus))`.
///
/// `alignment` (-1 to 1) is how much the time-scales agree, `consensus` (0 to 1) how much the agents do. The product of the
/// seeds would make a double disagreement universal, and is small where both are fair; the geometric mean of the positive
/// parts is neither. NaN counts as 0.
///
/// ```
/// use dynlora_resonance::universality;
///
/// assert_eq!(universality(0.5, 0.5), 0.5);
/// assert_eq!(universality(-0.8, -0.7), 0.0);
/// ```
pub fn universality(alignment: f64, consensus: f64) -> f64 {
    (positive(alignment) * positive(consensus)).sqrt()
}

/// How urgently a circuit should move to the next slower layer, 0 to 1: `max(0, autocorrelation) usage_rank (alignment + 1) / 2`.
///
/// `autocorrelation` (-1 to 1) is the stability of the circuit over distant times, `usage_rank` (0 to 1) the share of circuits
/// that are used less, `alignment` (-1 to 1) how much the time-scales agree. Unstable circuits and those that the slower
/// layers oppose outright have no pressure. NaN counts as the least value.
///
/// ```
/// use dynlora_resonance::consolidation_pressure;
///
/// assert_eq!(consolidation_pressure(0.8, 0.5, 1.0), 0.4);
/// assert_eq!(consolidation_pressure(-0.8, 0.5, -1.0), 0.0);
/// ```
pub fn consolidation_pressure(autocorrelation: f64, usage_rank: f64, alignment: f64) -> f64 {
    positive(autocorrelation) * positive(usage_rank) * positive((alignment + 1.0) / 2.0)
}

/// Within [0, 1], NaN being 0.
fn positive(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_disagreement_is_not_universal_and_nan_is_nothing() {
        assert_eq!(universality(-1.0, -1.0), 0.0);
        assert_eq!(universality(0.9, -0.1), 0.0);
        assert!((universality(0.9, 0.4) - 0.6).abs() < 1e-12);
        assert_eq!(universality(f64::NAN, 1.0), 0.0);
        assert_eq!(consolidation_pressure(-0.5, 1.0, -0.9), 0.0);
        assert_eq!(consolidation_pressure(f64::NAN, 1.0, 1.0), 0.0);
        assert_eq!(consolidation_pressure(1.0, 1.0, 0.0), 0.5);
    }
}
