//! Entropy: which tokens are uncertain enough to learn from, and how strong the bonus is.

use krystal_math::statistics::quantile;
use serde::{Deserialize, Serialize};

/// The entropy that the most uncertain `top_entropy_quantile` of the tokens reach: the `1 - top_entropy_quantile`
/// quantile, linearly interpolated. `None` where all tokens are taken or there are none.
pub fn entropy_threshold(entropies: &[f64], top_entropy_quantile: f64) -> Option<f64> {
    if top_entropy_quantile >= 1.0 { None } else { quantile(entropies, 1.0 - top_entropy_quantile) }
}

/// How the coefficient of the entropy bonus is chosen. Defaults are TRL 1.16's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntropySettings {
    /// Coefficient to start with, >= 0.
    pub entropy_coef: f64,
    /// Whether the coefficient follows the entropy.
    pub use_adaptive_entropy: bool,
    /// Entropy (nats per token) the controller holds.
    pub entropy_target: f64,
    /// Change of the coefficient per step.
    pub entropy_coef_delta: f64,
    /// Largest coefficient.
    pub entropy_coef_max: f64,
    /// Smallest coefficient.
    pub entropy_coef_min: f64,
}

impl Default for EntropySettings {
    fn default() -> Self {
        Self {
            entropy_coef: 0.0,
            use_adaptive_entropy: false,
            entropy_target: 0.2,
            entropy_coef_delta: 0.005,
            entropy_coef_max: 1.0,
            entropy_coef_min: 0.0,
        }
    }
}

/// The coefficient of the entropy bonus, constant or following a target (Skywork-OR1, arXiv:2505.22312).
///
/// After each step the coefficient rises by `entropy_coef_delta` where the mean entropy was at or below the target and
/// falls by it otherwise, within its bounds. The bonus is applied only while the entropy is at or below the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntropyController {
    settings: EntropySettings,
    coefficient: f64,
    last_entropy: f64,
}

impl EntropyController {
    /// Starts from the settings' coefficient.
    pub fn new(settings: EntropySettings) -> Self {
        let coefficient = settings.entropy_coef;
        // TRL's start: an entropy of 0 lets an adaptive bonus act from the first step.
        Self { settings, coefficient, last_entropy: 0.0 }
    }

    /// Whether the loss has an entropy bonus at all.
    pub fn is_enabled(&self) -> bool {
        self.settings.use_adaptive_entropy || self.settings.entropy_coef != 0.0
    }

    /// The coefficient as logged.
    pub fn coefficient(&self) -> f64 {
        self.coefficient
    }

    /// The coefficient to apply in the next step: 0 while an adaptive controller sees more entropy than it wants.
    pub fn applied(&self) -> f64 {
        let idle = self.settings.use_adaptive_entropy && self.last_entropy > self.settings.entropy_target;
        if idle { 0.0 } else { self.coefficient }
    }

    /// Takes the mean entropy of the tokens of a finished step.
    pub fn update(&mut self, mean_entropy: f64) {
        if !self.settings.use_adaptive_entropy {
            return;
        }
        let s = &self.settings;
        self.coefficient = if mean_entropy <= s.entropy_target {
            (self.coefficient + s.entropy_coef_delta).min(s.entropy_coef_max)
        } else {
            (self.coefficient - s.entropy_coef_delta).max(s.entropy_coef_min)
        };
        self.last_entropy = mean_entropy;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_holds_its_target() {
        let settings =
            EntropySettings { use_adaptive_entropy: true, entropy_coef: 0.002, ..EntropySettings::default() };
        let mut controller = EntropyController::new(settings);
        assert_eq!(controller.applied(), 0.002);
        controller.update(0.1);
        assert!((controller.applied() - 0.007).abs() < 1e-15);
        controller.update(0.5);
        assert!((controller.coefficient() - 0.002).abs() < 1e-15);
        assert_eq!(controller.applied(), 0.0, "above the target the bonus rests");
        controller.update(0.5);
        assert_eq!(controller.coefficient(), 0.0, "bounded below");
        assert!(controller.is_enabled());
    }

    #[test]
    fn a_constant_coefficient_stays() {
        let mut controller = EntropyController::new(EntropySettings { entropy_coef: 0.3, ..Default::default() });
        controller.update(0.0);
        controller.update(9.0);
        assert_eq!((controller.applied(), controller.coefficient()), (0.3, 0.3));
    }
}
