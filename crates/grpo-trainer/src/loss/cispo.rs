//! CISPO: the ratio is capped and not differentiated, so no token loses its gradient.

use super::{LossSettings, Surrogate};

/// `-min(r, epsilon_high) A lp` with the ratio held constant.
pub(super) fn surrogate(settings: &LossSettings, ratio: f64, advantage: f64, log_prob: f64) -> Surrogate {
    let weight = -ratio.min(settings.epsilon_high) * advantage;
    Surrogate { loss: weight * log_prob, d_ratio: 0.0, d_log_prob: weight }
}
