//! How large a cosine is where there is no signal.

use dynlora_core::{Error, SavedState, StateReader};

/// The size of noise in cosines, `sigma0`, from what a stream of cosines shows.
///
/// Two sources say how far a cosine strays from its mean:
///
/// - *Sign flips.* If every coordinate of one vector got a random sign, its cosine with the other would have mean 0 and
///   variance `sum_i x_i^2 y_i^2` for unit `x`, `y`: `1 / k` for spread vectors, more where few coordinates carry everything.
///   That expectation is computed instead of drawn.
/// - *Running variance.* Coordinates are not independent in real gradients. Half the mean squared difference of successive
///   cosines of the same pair is their variance whatever their mean is, so lasting agreement is not taken for noise.
///
/// `variance = max(flips, (prior * flips + sum d^2 / 2) / (prior + count))`, sum and count over the past with the weight
/// `memory^ticks`; flips bound it from below because correlation only adds to noise.
#[derive(Debug, Clone, PartialEq)]
pub struct NullCalibration {
    squares: f64,
    count: f64,
}

/// Differences that sign flips count for.
const PRIOR: f64 = 16.0;

/// What is left of the past after a tick; a choice: a hundred ticks.
const MEMORY: f64 = 0.99;

impl Default for NullCalibration {
    fn default() -> Self {
        Self { squares: 0.0, count: 0.0 }
    }
}

impl NullCalibration {
    /// Takes in the difference of two successive cosines of the same pair.
    pub fn observe(&mut self, difference: f64) {
        if difference.is_finite() {
            self.squares += difference * difference / 2.0;
            self.count += 1.0;
        }
    }

    /// Ends a tick: the past counts for less.
    pub fn end_tick(&mut self) {
        self.squares *= MEMORY;
        self.count *= MEMORY;
    }

    /// The standard deviation of a cosine for which sign flips give the variance `flips`.
    pub fn sigma(&self, flips: f64) -> f64 {
        ((PRIOR * flips + self.squares) / (PRIOR + self.count)).max(flips).sqrt()
    }

    pub(crate) fn save(&self, prefix: &str, state: &mut SavedState) {
        state.set_number(format!("{prefix}.null.squares"), self.squares);
        state.set_number(format!("{prefix}.null.count"), self.count);
    }

    pub(crate) fn load(prefix: &str, saved: &StateReader<'_>) -> Result<Self, Error> {
        let squares = saved.at_least_zero(&format!("{prefix}.null.squares"))?;
        let count = saved.at_least_zero(&format!("{prefix}.null.count"))?;
        Ok(Self { squares, count })
    }
}

/// `cos / sigma`, 0 where there is no noise to compare with.
pub(crate) fn z_score(cosine: f64, sigma: f64) -> f64 {
    if sigma > 0.0 { cosine / sigma } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_variance_is_found_whatever_the_mean() {
        // Cosines 0.3 +- 0.05, alternating: their variance about the mean is 0.0025, but successive differences of an
        // alternation are 0.1 and give 0.005; pairs of equal values in between bring the mean of both back.
        let mut null = NullCalibration::default();
        let cosines = [0.35, 0.35, 0.25, 0.25];
        for tick in 0..4000 {
            null.observe(cosines[(tick + 1) % 4] - cosines[tick % 4]);
            null.end_tick();
        }
        assert!((null.sigma(0.0).powi(2) - 0.0025).abs() < 0.0005, "{}", null.sigma(0.0));
        // Never below what sign flips say.
        assert_eq!(null.sigma(0.04), 0.2);
        null.observe(f64::NAN);
        assert!(null.sigma(0.0).is_finite());
    }

    #[test]
    fn without_evidence_sign_flips_decide() {
        assert_eq!(NullCalibration::default().sigma(0.25), 0.5);
        assert_eq!(z_score(0.3, 0.0), 0.0);
    }
}
