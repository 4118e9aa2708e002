//! VESPO: sequences are weighted by a gamma-shaped function of their ratio.

use krystal_math::statistics::sum;

use super::{LossSequence, LossSettings};

/// `phi(W) = exp(lambda) W^k exp(-lambda W)` of the sequence ratio `W = exp(sum_t (lp - old) + sum_t ln rho)`; `phi(1) = 1`.
///
/// Computed in logarithms; every token's log-ratio is clamped to +-20 and `ln W` to `[ln 1e-8, 20]`. What overflows even so
/// weighs nothing. Not differentiated.
pub(super) fn gamma_weight(settings: &LossSettings, sequence: &LossSequence<'_>) -> f64 {
    let lowest = 1e-8_f64.ln();
    let old = sequence.old_log_probs.unwrap_or(sequence.log_probs);
    let policy =
        (0..old.len()).filter(|&t| sequence.mask[t]).map(|t| (sequence.log_probs[t] - old[t]).clamp(-20.0, 20.0));
    let rollout = sequence.rollout_ratio.unwrap_or(&[]).iter().map(|rho| rho.ln().clamp(lowest, 20.0));
    let log_ratio = (sum(policy) + sum(rollout)).clamp(lowest, 20.0);
    let (k, lambda) = if sequence.advantage >= 0.0 {
        (settings.vespo_k_pos, settings.vespo_lambda_pos)
    } else {
        (settings.vespo_k_neg, settings.vespo_lambda_neg)
    };
    // As for `sapo`: TRL's constants pass through `f32`. The defaults are whole numbers and lose nothing.
    let (k, lambda) = (f64::from(k as f32), f64::from(lambda as f32).max(1e-4));
    let phi = (lambda + k * log_ratio - lambda * log_ratio.exp()).exp();
    if phi.is_finite() { phi } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighs_one_on_policy_and_nothing_far_off() {
        let weight = |lp: &[f64], old: &[f64], advantage| {
            let sequence = LossSequence {
                log_probs: lp,
                old_log_probs: Some(old),
                sampling_log_probs: None,
                reference_log_probs: None,
                entropy: &[0.0; 2],
                mask: &[true; 2],
                advantage,
                rollout_ratio: None,
            };
            gamma_weight(&LossSettings::default(), &sequence)
        };
        assert!((weight(&[-1.0, -2.0], &[-1.0, -2.0], 1.0) - 1.0).abs() < 1e-15);
        assert_eq!(weight(&[0.0, 0.0], &[-30.0, -30.0], 1.0), 0.0);
        assert!(weight(&[-30.0, -30.0], &[0.0, 0.0], -1.0) < 1e-20);
    }
}
