//! SAPO: a sigmoid gate in place of the hard clip.

use super::{LossSettings, Surrogate};

/// `-sigmoid(tau (r - 1)) 4 / tau A`, steeper where the advantage is not positive.
pub(super) fn surrogate(settings: &LossSettings, ratio: f64, advantage: f64) -> Surrogate {
    let tau = if advantage > 0.0 { settings.sapo_temperature_pos } else { settings.sapo_temperature_neg };
    // TRL chooses between the two with `torch.where` on Python numbers, which makes an `f32` whatever the model computes
    // in: its 1.05 is 1.0499999523. Copied, so that the two agree to the last digits.
    let tau = f64::from(tau as f32);
    let gate = 1.0 / (1.0 + (-tau * (ratio - 1.0)).exp());
    Surrogate { loss: -gate * 4.0 / tau * advantage, d_ratio: -4.0 * gate * (1.0 - gate) * advantage, d_log_prob: 0.0 }
}
