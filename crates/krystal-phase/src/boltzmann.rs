//! Boltzmann's distribution, and what follows from its partition function.
//!
//! A state of energy `E` has probability `p = exp(-E/T) / Z`, with `Z = sum exp(-E/T)` and Boltzmann's constant 1. All sums run over
//! `exp(-(E - E_min)/T)`, so nothing overflows, and what could only be had as a difference of large numbers (the entropy, the
//! heat capacity) is computed from the gaps `E - E_min` instead.
//!
//! The ends of the scale are what the formulas tend to: at `T = 0` the lowest states share all probability, at `T = inf` all states
//! do. A state of energy `inf` cannot occur at any temperature; states of energy `-inf` leave room for no others. For slices of any
//! shape: pass them flat.

use krystal_math::statistics::sum;

use crate::error::{Error, Result};

/// What the partition function says about a system at one temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thermodynamics {
    /// `ln Z`.
    pub log_partition: f64,
    /// Helmholtz's free energy `F = -T ln Z = U - T S`.
    pub free_energy: f64,
    /// The mean energy `U = sum p E`.
    pub internal_energy: f64,
    /// `S = -sum p ln p`, in nats.
    pub entropy: f64,
    /// `C = dU/dT = (sum p E^2 - U^2) / T^2`; 0 at both ends of the scale.
    pub heat_capacity: f64,
}

/// The thermodynamics of states with the given energies.
///
/// ```
/// let system = krystal_phase::boltzmann::thermodynamics(&[0.0, 1.0, 2.0, 5.0], 1.0 / 1.7)?;
/// assert!((system.free_energy - -0.115165171886).abs() < 1e-12);
/// let identity = system.internal_energy - system.entropy / 1.7;
/// assert!((system.free_energy - identity).abs() < 1e-15);
/// # Ok::<(), krystal_phase::Error>(())
/// ```
///
/// # Errors
/// [`Error::NotANumber`] for an energy that is NaN, [`Error::NoStates`] if none is below infinity, [`Error::Temperature`].
pub fn thermodynamics(energies: &[f64], temperature: f64) -> Result<Thermodynamics> {
    of_levels(energies.iter().map(|&energy| (energy, 0.0)), temperature)
}

/// The thermodynamics of levels, each of an energy and the logarithm of how many states share it: a density of states.
///
/// # Errors
/// As [`thermodynamics`]; also [`Error::Counts`] if the slices differ in length, and [`Error::NotANumber`] for a degeneracy that
/// is NaN or infinitely large.
pub fn thermodynamics_of_levels(
    energies: &[f64],
    log_degeneracies: &[f64],
    temperature: f64,
) -> Result<Thermodynamics> {
    if energies.len() != log_degeneracies.len() {
        return Err(Error::Counts {
            what: "log degeneracies",
            expected: energies.len(),
            found: log_degeneracies.len(),
        });
    }
    if let Some(index) = log_degeneracies.iter().position(|g| g.is_nan() || *g == f64::INFINITY) {
        return Err(Error::NotANumber { what: "log degeneracy", index });
    }
    of_levels(energies.iter().copied().zip(log_degeneracies.iter().copied()), temperature)
}

/// The probabilities of states with the given energies.
///
/// # Errors
/// As [`thermodynamics`].
pub fn weights(energies: &[f64], temperature: f64) -> Result<Vec<f64>> {
    let mut out = vec![0.0; energies.len()];
    weights_into(energies, temperature, &mut out)?;
    Ok(out)
}

/// [`weights`] without an allocation.
///
/// # Errors
/// As [`thermodynamics`], and [`Error::Counts`] if `out` has another length.
pub fn weights_into(energies: &[f64], temperature: f64, out: &mut [f64]) -> Result<()> {
    probabilities(energies, |energy| energy, "energy", temperature, out)
}

/// Softmax with a temperature: `p_i = exp(q_i / T) / sum_j exp(q_j / T)`.
///
/// At `T = 0` the largest share all probability, at `T = inf` all do but those of `-inf`.
///
/// ```
/// let p = krystal_phase::boltzmann::softmax(&[1.0, 2.0, 3.0], 0.5)?;
/// assert!((p[2] - 0.86681333219733).abs() < 1e-14);
/// assert_eq!(krystal_phase::boltzmann::softmax(&[1.0, 3.0, 3.0], 0.0)?, [0.0, 0.5, 0.5]);
/// # Ok::<(), krystal_phase::Error>(())
/// ```
///
/// # Errors
/// As [`thermodynamics`], with energies `-q`.
pub fn softmax(preferences: &[f64], temperature: f64) -> Result<Vec<f64>> {
    let mut out = vec![0.0; preferences.len()];
    softmax_into(preferences, temperature, &mut out)?;
    Ok(out)
}

/// [`softmax`] without an allocation.
///
/// # Errors
/// As [`softmax`], and [`Error::Counts`] if `out` has another length.
pub fn softmax_into(preferences: &[f64], temperature: f64, out: &mut [f64]) -> Result<()> {
    probabilities(preferences, |preference| -preference, "preference", temperature, out)
}

/// `-sum p ln p` in nats, of probabilities that need not be normalised exactly; what is 0 counts for nothing.
pub fn entropy(probabilities: &[f64]) -> f64 {
    sum(probabilities.iter().filter(|p| **p != 0.0).map(|p| -p * p.ln()))
}

/// `(energy - lowest) / temperature`, with the limits for what is infinite or zero.
#[inline]
pub(crate) fn gap(energy: f64, lowest: f64, temperature: f64) -> f64 {
    if energy == lowest {
        0.0
    } else if energy == f64::INFINITY || lowest == f64::NEG_INFINITY || temperature == 0.0 {
        f64::INFINITY
    } else {
        let difference = energy - lowest;
        if difference.is_finite() { difference / temperature } else { energy / temperature - lowest / temperature }
    }
}

/// The lowest of the energies; NaN, nothing below infinity and impossible temperatures are refused.
#[inline]
pub(crate) fn lowest(energies: impl Iterator<Item = f64> + Clone, what: &'static str, temperature: f64) -> Result<f64> {
    if temperature.is_nan() || temperature < 0.0 {
        return Err(Error::Temperature { found: temperature });
    }
    let mut lowest = f64::INFINITY;
    let mut nan = false;
    for energy in energies.clone() {
        nan |= energy.is_nan();
        lowest = lowest.min(energy);
    }
    if nan {
        let index = energies.clone().take_while(|energy| !energy.is_nan()).count();
        return Err(Error::NotANumber { what, index });
    }
    if lowest == f64::INFINITY { Err(Error::NoStates { n_states: energies.count() }) } else { Ok(lowest) }
}

fn probabilities(
    values: &[f64],
    energy: impl Fn(f64) -> f64 + Copy,
    what: &'static str,
    temperature: f64,
    out: &mut [f64],
) -> Result<()> {
    if values.len() != out.len() {
        return Err(Error::Counts { what: "places for probabilities", expected: values.len(), found: out.len() });
    }
    let lowest = lowest(values.iter().map(|&x| energy(x)), what, temperature)?;
    let mut total = 0.0;
    for (out, &value) in out.iter_mut().zip(values) {
        *out = (-gap(energy(value), lowest, temperature)).exp();
        total += *out;
    }
    out.iter_mut().for_each(|p| *p /= total);
    Ok(())
}

fn of_levels(levels: impl Iterator<Item = (f64, f64)> + Clone, temperature: f64) -> Result<Thermodynamics> {
    let occupied =
        levels.clone().map(|(energy, log_g)| if log_g == f64::NEG_INFINITY { f64::INFINITY } else { energy });
    // NaN is looked for in all levels, also in those without states.
    if let Some(index) = levels.clone().position(|(energy, _)| energy.is_nan()) {
        return Err(Error::NotANumber { what: "energy", index });
    }
    let lowest = lowest(occupied, "energy", temperature)?;
    let possible = levels.filter(|&(energy, log_g)| energy < f64::INFINITY && log_g > f64::NEG_INFINITY);
    let largest = possible.clone().map(|(_, log_g)| log_g).fold(f64::NEG_INFINITY, f64::max);
    // Above every exponent, so that no term overflows; for plain states it is 0.
    let terms = possible.clone().map(|(energy, log_g)| {
        let gap = gap(energy, lowest, temperature);
        (gap, log_g - largest - gap)
    });
    let shift = terms.clone().map(|(_, exponent)| exponent).fold(f64::NEG_INFINITY, f64::max);
    let weighted = terms.map(|(gap, exponent)| (gap, (exponent - shift).exp())).filter(|(_, weight)| *weight > 0.0);

    let total = sum(weighted.clone().map(|(_, weight)| weight));
    let mean = sum(weighted.clone().map(|(gap, weight)| weight * gap)) / total;
    let variance = sum(weighted.map(|(gap, weight)| weight * (gap - mean).powi(2))) / total;
    // ln sum g exp(-(E - E_min)/T)
    let log_sum = total.ln() + shift + largest;
    let entropy = log_sum + mean;

    let (internal_energy, free_energy) = if temperature == 0.0 || lowest == f64::NEG_INFINITY {
        (lowest, lowest)
    } else if temperature == f64::INFINITY {
        let share = |log_g: f64| (log_g - largest).exp();
        let states = sum(possible.clone().map(|(_, log_g)| share(log_g)));
        let mean = sum(possible.map(|(energy, log_g)| energy * (share(log_g) / states)));
        (mean, if entropy > 0.0 { f64::NEG_INFINITY } else { mean })
    } else {
        (lowest + temperature * mean, lowest - temperature * log_sum)
    };
    let log_partition = if lowest == 0.0 { log_sum } else { log_sum - lowest / temperature };
    Ok(Thermodynamics { log_partition, free_energy, internal_energy, entropy, heat_capacity: variance })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [f64; 4] = [0.0, 1.0, 2.0, 5.0];

    /// `sum exp(-1.7 E)` and its derivatives by Python's `math`, 12 digits.
    #[test]
    fn four_levels() {
        let t = 1.0 / 1.7;
        let system = thermodynamics(&LEVELS, t).unwrap();
        let expected = [
            (system.log_partition.exp(), 1.216260262382),
            (system.free_energy, -0.115165171886),
            (system.internal_energy, 0.205915965164),
            (system.entropy, 0.545837932985),
            (system.heat_capacity, 0.640825376170),
        ];
        for (found, expected) in expected {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        let p = weights(&LEVELS, t).unwrap();
        assert!((entropy(&p) - system.entropy).abs() < 1e-15);
    }

    /// `F = U - T S`, `C = dU/dT = T dS/dT`, `U = -d ln Z/d beta`, the derivatives by central differences.
    #[test]
    fn identities() {
        let energies = [-3.0, -1.0, 0.5, 0.5, 2.0, f64::INFINITY];
        for t in [0.2, 0.7, 1.0, 3.0, 50.0] {
            let at = |t: f64| thermodynamics(&energies, t).unwrap();
            let system = at(t);
            let h = 1e-5 * t;
            let slope = |f: fn(&Thermodynamics) -> f64| (f(&at(t + h)) - f(&at(t - h))) / (2.0 * h);
            let scale = 1e-8 * (1.0 + system.heat_capacity);
            assert!((system.free_energy - (system.internal_energy - t * system.entropy)).abs() < 1e-13 * t.max(3.0));
            assert!((slope(|s| s.internal_energy) - system.heat_capacity).abs() < scale);
            assert!((t * slope(|s| s.entropy) - system.heat_capacity).abs() < scale);
            assert!((t * t * slope(|s| s.log_partition) - system.internal_energy).abs() < 1e-7 * t.max(1.0));
            assert!((slope(|s| s.free_energy) + system.entropy).abs() < 1e-8);
        }
    }

    #[test]
    fn a_shift_of_all_energies_changes_only_what_it_should() {
        let base = thermodynamics(&LEVELS, 0.8).unwrap();
        let far = thermodynamics(&LEVELS.map(|e| e + 1e6), 0.8).unwrap();
        assert_eq!((base.entropy, base.heat_capacity), (far.entropy, far.heat_capacity));
        assert!((far.free_energy - base.free_energy - 1e6).abs() < 1e-9);
        assert_eq!(weights(&LEVELS, 0.8).unwrap(), weights(&LEVELS.map(|e| e - 1e6), 0.8).unwrap());
    }

    #[test]
    fn the_ends_of_the_scale() {
        let energies = [2.0, -1.0, -1.0, f64::INFINITY];
        let cold = thermodynamics(&energies, 0.0).unwrap();
        assert_eq!((cold.internal_energy, cold.free_energy, cold.heat_capacity), (-1.0, -1.0, 0.0));
        assert_eq!((cold.entropy, cold.log_partition), (2.0_f64.ln(), f64::INFINITY));
        assert_eq!(weights(&energies, 0.0).unwrap(), [0.0, 0.5, 0.5, 0.0]);
        assert_eq!(weights(&energies, 1e-320).unwrap(), [0.0, 0.5, 0.5, 0.0]);

        let hot = thermodynamics(&energies, f64::INFINITY).unwrap();
        assert_eq!((hot.internal_energy, hot.entropy, hot.heat_capacity), (0.0, 3.0_f64.ln(), 0.0));
        assert_eq!((hot.free_energy, hot.log_partition), (f64::NEG_INFINITY, 3.0_f64.ln()));
        assert_eq!(weights(&energies, f64::INFINITY).unwrap()[3], 0.0);

        let bottomless = thermodynamics(&[0.0, f64::NEG_INFINITY], 1.0).unwrap();
        assert_eq!((bottomless.internal_energy, bottomless.entropy), (f64::NEG_INFINITY, 0.0));
        // The difference of the energies overflows, what it is divided into does not.
        let huge = weights(&[-f64::MAX, f64::MAX], 1e308).unwrap();
        assert!((huge[1] / huge[0] - (-2.0 * (f64::MAX / 1e308)).exp()).abs() < 1e-15);
    }

    #[test]
    fn levels_are_states_counted() {
        let states = thermodynamics(&[1.0, 1.0, 1.0, 4.0], 1.3).unwrap();
        let levels = thermodynamics_of_levels(&[0.0, 1.0, 4.0], &[f64::NEG_INFINITY, 3.0_f64.ln(), 0.0], 1.3).unwrap();
        assert!((states.free_energy - levels.free_energy).abs() < 1e-15);
        assert!((states.entropy - levels.entropy).abs() < 1e-15);
        assert!((states.heat_capacity - levels.heat_capacity).abs() < 1e-15);
        // Degeneracies beyond the range of f64.
        let many = thermodynamics_of_levels(&[0.0, 1.0], &[1e4, 1e4], f64::INFINITY).unwrap();
        assert_eq!((many.internal_energy, many.entropy), (0.5, 1e4 + 2.0_f64.ln()));
    }

    #[test]
    fn bad_input_is_refused() {
        assert_eq!(weights(&[], 1.0), Err(Error::NoStates { n_states: 0 }));
        assert_eq!(weights(&[f64::INFINITY; 2], 1.0), Err(Error::NoStates { n_states: 2 }));
        assert_eq!(softmax(&[1.0, f64::NAN], 1.0), Err(Error::NotANumber { what: "preference", index: 1 }));
        assert_eq!(thermodynamics(&[0.0], -1.0), Err(Error::Temperature { found: -1.0 }));
        assert!(thermodynamics(&[0.0], f64::NAN).is_err());
        assert!(weights_into(&[0.0; 3], 1.0, &mut [0.0; 2]).is_err());
    }

    /// Python's `math`: `q = [1, 2, 3]`, `T = 0.5`.
    #[test]
    fn softmax_golden() {
        let p = softmax(&[1.0, 2.0, 3.0], 0.5).unwrap();
        for (p, expected) in p.iter().zip([0.01587623997647, 0.1173104278262, 0.86681333219733]) {
            assert!((p - expected).abs() < 1e-14);
        }
        assert!((entropy(&p) - 0.44105744405816).abs() < 1e-14);
    }
}
