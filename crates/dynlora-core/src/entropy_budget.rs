//! Homeostasis of the screened share (R20, R21).

use crate::{EntropyMode, LayerConfig};

/// Movement of a layer, by phase.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Movement {
    /// Sum of mean squared movements.
    pub(crate) total: f64,
    /// Of SCREENED parameters.
    pub(crate) screened: f64,
}

/// `R = sum d_i u_i / sum u_i`: the mean dispersion rate weighted by movement, a number between the two rates that falls as
/// the screened share rises. `None` where nothing moves.
pub(crate) fn movement_entropy(movement: Movement, config: &LayerConfig) -> Option<f64> {
    if !(movement.total > 0.0 && movement.total.is_finite()) {
        return None;
    }
    Some(entropy_at((movement.screened / movement.total).clamp(0.0, 1.0), config))
}

/// `R` at a screened share.
pub(crate) fn entropy_at(screened: f64, config: &LayerConfig) -> f64 {
    screened * config.screened_decay + (1.0 - screened) * config.free_decay
}

/// `R` in the middle of the band: at a screened share of .55 by default.
pub(crate) fn optimal_entropy(config: &LayerConfig) -> f64 {
    let [low, high] = config.screening_band;
    entropy_at((low + high) / 2.0, config)
}

/// The adaptive threshold.
///
/// The seed's rule: above the largest entropy `tau *= 0.9`, below the least `tau *= 1.1`, nothing between. A step every
/// `homeostasis_ticks`, or `homeostasis_open_ticks` while all that moves is in one phase; never without an update since the
/// last step, and none beyond `threshold_range`: phases change in updates alone, and a threshold that moves
/// without effect winds up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EntropyBudget {
    pub(crate) threshold: f64,
    pub(crate) last_step: u64,
    pub(crate) is_measured: bool,
}

impl EntropyBudget {
    pub(crate) fn new(config: &LayerConfig) -> Self {
        Self { threshold: config.initial_threshold, last_step: 0, is_measured: false }
    }

    /// An update has measured movement anew.
    pub(crate) fn measured(&mut self) {
        self.is_measured = true;
    }

    /// Whether a step may come at this tick, given the screened share of movement.
    pub(crate) fn is_due(&self, tick: u64, movement: Movement, config: &LayerConfig) -> bool {
        let margin = 0.01 * movement.total;
        let is_open = movement.screened <= margin || movement.total - movement.screened <= margin;
        let wait = if is_open { config.homeostasis_open_ticks } else { config.homeostasis_ticks };
        self.is_measured && movement.total > 0.0 && tick >= self.last_step.saturating_add(wait)
    }

    /// One step; the new threshold if it moved.
    pub(crate) fn step(&mut self, tick: u64, entropy: f64, config: &LayerConfig) -> Option<f64> {
        self.last_step = tick;
        self.is_measured = false;
        let [min, max] = match config.entropy {
            EntropyMode::Seed => config.seed_entropy,
            EntropyMode::Movement => {
                let [low, high] = config.screening_band;
                [entropy_at(high, config), entropy_at(low, config)]
            }
        };
        let factor = if entropy > max {
            0.9
        } else if entropy < min {
            1.1
        } else {
            return None;
        };
        let [low, high] = config.threshold_range;
        let threshold = (self.threshold * factor).clamp(low, high);
        (threshold != self.threshold).then(|| {
            self.threshold = threshold;
            threshold
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_falls_strictly_with_the_screened_share() {
        let config = LayerConfig::default();
        let at = |screened: f64| movement_entropy(Movement { total: 3.0, screened: 3.0 * screened }, &config).unwrap();
        for percent in 0..100 {
            assert!(at(f64::from(percent) / 100.0) > at(f64::from(percent + 1) / 100.0));
        }
        assert_eq!(movement_entropy(Movement::default(), &config), None);
    }

    #[test]
    fn the_band_is_the_specifications() {
        let config = LayerConfig::default();
        let optimum = optimal_entropy(&config);
        assert!((optimum - 4.555e-3).abs() < 1e-5);
        assert!((entropy_at(0.4, &config) - 6.04e-3).abs() < 1e-5 && (entropy_at(0.7, &config) - 3.07e-3).abs() < 1e-5);
        assert!(
            (config.free_decay / optimum - 2.19).abs() < 0.01 && (config.screened_decay / optimum - 0.02).abs() < 0.01
        );
    }

    #[test]
    fn steps_wait_and_stop_at_the_clamp() {
        let config = LayerConfig::default();
        let mut budget = EntropyBudget::new(&config);
        let half = Movement { total: 1.0, screened: 0.2 };
        assert!(!budget.is_due(10, half, &config), "nothing was measured");
        budget.measured();
        assert!(budget.is_due(10, half, &config) && !budget.is_due(9, half, &config));
        assert!(budget.is_due(1, Movement { total: 1.0, screened: 0.0 }, &config));
        assert_eq!(budget.step(10, 0.008, &config), Some(0.9));
        assert_eq!(budget.step(20, 0.001, &config), Some(0.9 * 1.1));
        assert_eq!(budget.step(30, 0.005, &config), None);
        budget.threshold = config.threshold_range[0];
        assert_eq!(budget.step(40, 0.008, &config), None);
    }

    #[test]
    fn the_seeds_bounds_are_absolute() {
        let config = LayerConfig { entropy: EntropyMode::Seed, seed_entropy: [1.0, 2.0], ..LayerConfig::default() };
        let mut budget = EntropyBudget::new(&config);
        assert_eq!(budget.step(1, 2.5, &config), Some(0.9));
        assert_eq!(budget.step(2, 1.5, &config), None);
        assert_eq!(budget.step(3, 0.5, &config), Some(0.9 * 1.1));
    }
}
