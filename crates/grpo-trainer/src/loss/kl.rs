//! Estimators of the divergence from the reference model.

use serde::{Deserialize, Serialize};

/// How `KL(policy || reference)` is estimated from one sampled token, with `d = ref - lp`.
///
/// Schulman (2020), "Approximating KL divergence", <http://joschu.net/blog/kl-approx.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// `-d`: unbiased, noisy, can be negative.
    K1,
    /// `d^2 / 2`: biased, never negative; its gradient is that of the true divergence.
    K2,
    /// `exp(d) - d - 1`: unbiased, never negative. TRL's.
    #[default]
    K3,
}

impl KlEstimator {
    /// The estimate from one sampled token.
    pub fn estimate(self, reference: f64, log_prob: f64) -> f64 {
        self.value_and_slope(reference, log_prob).0
    }

    /// The estimate and its derivative with respect to `log_prob`.
    pub(super) fn value_and_slope(self, reference: f64, log_prob: f64) -> (f64, f64) {
        let d = reference - log_prob;
        match self {
            Self::K1 => (-d, 1.0),
            Self::K2 => (0.5 * d * d, -d),
            Self::K3 => (d.exp() - d - 1.0, 1.0 - d.exp()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_derivatives() {
        for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
            for (reference, lp) in [(-1.0, -2.0), (-2.0, -1.5), (-0.3, -0.3)] {
                let h = 1e-6;
                let value = |x| estimator.value_and_slope(reference, x).0;
                let slope = (value(lp + h) - value(lp - h)) / (2.0 * h);
                assert!((slope - estimator.value_and_slope(reference, lp).1).abs() < 1e-8, "{estimator:?}");
            }
        }
    }
}
