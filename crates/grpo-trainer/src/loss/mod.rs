//! The GRPO family of losses, as TRL 1.16 computes them, with their gradients in closed form.
//!
//! Letters: `B` sequences of a batch, `T[b]` completion tokens of sequence `b`, `m[b,t]` the loss mask, `A[b]` the advantage,
//! `lp`, `old`, `ref` the log-probabilities of a token under the policy, under the policy that generated it, and under the
//! reference model.
//!
//! ```text
//! w[b,t]  = lp - old                               (token level)
//! w[b]    = sum_t m (lp - old) / max(sum_t m, 1)   (sequence level, GSPO)
//! r       = exp(w)
//! L[b,t]  = surrogate(r, A, lp) * keep[b] * high_entropy[b,t] * rho[b,t] + beta * kl[b,t]
//! loss    = reduction(L, m) - entropy_coef * mean(H over high-entropy tokens) / ga
//! ```
//!
//! `rho` is the rollout importance ratio ([`rollout_importance_ratio`]), `keep` the off-policy sequence mask, `ga` the
//! number of batches whose gradients are added before a step. Every coefficient of the reduction is known before the first
//! forward pass, so a batch may be computed in parts ([`compute_loss`] of each with the [`Window`] of the whole) and the
//! parts add up to the whole.
//!
//! Differences from TRL: sequences are ragged instead of padded; computed in `f64` whatever the model computes in;
//! `cispo` without an explicit `epsilon_high` caps the ratio at 5.0, the value TRL recommends, where TRL would take
//! `epsilon` (0.2); the estimators k1 and k2 are offered besides k3.
//!
//! References: GRPO arXiv:2402.03300, DAPO arXiv:2503.14476, Dr. GRPO arXiv:2503.20783, GSPO arXiv:2507.18071, CISPO
//! arXiv:2506.13585, SAPO arXiv:2511.20347, INTELLECT-2 (`delta`) arXiv:2505.07291, entropy masks arXiv:2506.01939.

mod cispo;
mod clipped;
mod entropy;
mod kl;
mod metrics;
mod ratio;
mod reduction;
mod sapo;
mod vespo;

use serde::{Deserialize, Serialize};

pub use entropy::{EntropyController, EntropySettings, entropy_threshold};
pub use kl::KlEstimator;
pub use metrics::LossMetrics;
pub use ratio::{ImportanceSamplingLevel, RolloutCorrection, rollout_importance_ratio};
pub use reduction::Window;

use ratio::ImportanceRatio;

/// Which loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Clipped surrogate, mean per sequence, then over sequences.
    Grpo,
    /// Clipped surrogate, mean over the tokens of the local batch.
    Bnpo,
    /// Clipped surrogate, sum over tokens divided by `B * max_completion_length`: no length bias.
    DrGrpo,
    /// Clipped surrogate, mean over the tokens of the whole step. TRL's default.
    #[default]
    Dapo,
    /// Capped, detached ratio times advantage times log-probability; reduced as `dapo`.
    Cispo,
    /// Sigmoid-gated ratio; reduced as `grpo`.
    Sapo,
    /// Clipped surrogate, sum over tokens, mean over sequences: length-weighted GSPO.
    Luspo,
    /// Gamma-weighted, detached sequence ratio; reduced as `dapo`.
    Vespo,
}

impl LossType {
    /// Whether the surrogate is the clipped one of PPO.
    fn is_clipped(self) -> bool {
        matches!(self, Self::Grpo | Self::Bnpo | Self::DrGrpo | Self::Dapo | Self::Luspo)
    }
}

/// What the loss depends on besides the batch. Defaults are TRL 1.16's.
#[derive(Debug, Clone, PartialEq)]
pub struct LossSettings {
    /// Which loss.
    pub loss_type: LossType,
    /// One ratio per token, or one per sequence (GSPO).
    pub importance_sampling_level: ImportanceSamplingLevel,
    /// The ratio is clipped below at `1 - epsilon_low`.
    pub epsilon_low: f64,
    /// The ratio is clipped above at `1 + epsilon_high`; for `cispo` the cap of the ratio itself.
    pub epsilon_high: f64,
    /// Upper bound of the ratio even where the advantage is negative.
    pub delta: Option<f64>,
    /// Weight of the divergence from the reference model; 0 needs no reference.
    pub beta: f64,
    /// How the divergence is estimated.
    pub kl_estimator: KlEstimator,
    /// Whether the divergence is multiplied by the importance ratio, which makes its gradient unbiased off-policy.
    pub use_bias_correction_kl: bool,
    /// Steepness of `sapo` where the advantage is positive.
    pub sapo_temperature_pos: f64,
    /// Steepness of `sapo` elsewhere.
    pub sapo_temperature_neg: f64,
    /// Exponent `k` of `vespo` where the advantage is not negative.
    pub vespo_k_pos: f64,
    /// Rate `lambda` of `vespo` where the advantage is not negative.
    pub vespo_lambda_pos: f64,
    /// Exponent `k` of `vespo` elsewhere.
    pub vespo_k_neg: f64,
    /// Rate `lambda` of `vespo` elsewhere.
    pub vespo_lambda_neg: f64,
    /// Share of tokens, the most uncertain ones, that carry the policy gradient; 1 takes all.
    pub top_entropy_quantile: f64,
    /// A sequence with negative advantage is dropped when the policy has moved further than this from the one that
    /// generated it (mean of `old - lp` over its tokens).
    pub off_policy_mask_threshold: Option<f64>,
    /// Whether an entropy bonus is part of the loss (its coefficient is an argument of [`compute_loss`]).
    pub entropy_bonus: bool,
}

impl Default for LossSettings {
    fn default() -> Self {
        Self {
            loss_type: LossType::Dapo,
            importance_sampling_level: ImportanceSamplingLevel::Token,
            epsilon_low: 0.2,
            epsilon_high: 0.2,
            delta: None,
            beta: 0.0,
            kl_estimator: KlEstimator::K3,
            use_bias_correction_kl: true,
            sapo_temperature_pos: 1.0,
            sapo_temperature_neg: 1.05,
            vespo_k_pos: 2.0,
            vespo_lambda_pos: 3.0,
            vespo_k_neg: 3.0,
            vespo_lambda_neg: 2.0,
            top_entropy_quantile: 1.0,
            off_policy_mask_threshold: None,
            entropy_bonus: false,
        }
    }
}

/// One completion, as the loss sees it. Every slice has `T` values except where said otherwise.
#[derive(Debug, Clone, Copy)]
pub struct LossSequence<'a> {
    /// Log-probabilities under the policy; differentiated.
    pub log_probs: &'a [f64],
    /// Log-probabilities under the policy as it was when it generated; `None` means as it is now (ratio 1).
    pub old_log_probs: Option<&'a [f64]>,
    /// Log-probabilities recorded while sampling, for the off-policy mask; `None` takes `old_log_probs`.
    pub sampling_log_probs: Option<&'a [f64]>,
    /// Log-probabilities under the reference model; needed where `beta` is not 0.
    pub reference_log_probs: Option<&'a [f64]>,
    /// Entropies under the policy; differentiated.
    pub entropy: &'a [f64],
    /// Which tokens count.
    pub mask: &'a [bool],
    /// The advantage of the completion.
    pub advantage: f64,
    /// Rollout importance ratio: one value per token, or a single one for the sequence. Not differentiated.
    pub rollout_ratio: Option<&'a [f64]>,
}

/// The loss of a batch (or of a part of one), its gradient and its metrics.
#[derive(Debug, Clone, Default)]
pub struct LossOutput {
    /// The loss.
    pub loss: f64,
    /// `dloss / dlp`, `(B)(T[b])`; 0 where masked.
    pub d_log_probs: Vec<Vec<f64>>,
    /// `dloss / dentropy`, `(B)(T[b])`; empty without an entropy bonus.
    pub d_entropy: Vec<Vec<f64>>,
    /// Sums behind the metrics; those of the parts of a batch can be merged.
    pub metrics: LossMetrics,
}

/// The loss of `sequences`, which are all or a part of the batch that `window` describes.
///
/// `entropy_coef` is the coefficient of the entropy bonus now; it is ignored unless `settings.entropy_bonus`.
/// A non-finite input gives a non-finite loss or gradient, which the caller must check for.
///
/// # Panics
/// Where slices of one sequence differ in length, or `beta` is not 0 and a reference is missing.
pub fn compute_loss(
    settings: &LossSettings,
    sequences: &[LossSequence<'_>],
    window: &Window,
    entropy_coef: f64,
) -> LossOutput {
    let mut output = LossOutput::default();
    for sequence in sequences {
        sequence.check(settings);
        let d_log_probs = add_policy_loss(settings, sequence, window, &mut output);
        output.d_log_probs.push(d_log_probs);
        add_entropy_bonus(settings, sequence, window, entropy_coef, &mut output);
    }
    output
}

impl LossSequence<'_> {
    fn check(&self, settings: &LossSettings) {
        let n = self.log_probs.len();
        assert_eq!(self.mask.len(), n, "mask and log-probabilities differ in length");
        assert_eq!(self.entropy.len(), n, "entropies and log-probabilities differ in length");
        for other in [self.old_log_probs, self.sampling_log_probs, self.reference_log_probs].into_iter().flatten() {
            assert_eq!(other.len(), n, "log-probabilities of two policies differ in length");
        }
        assert!(settings.beta == 0.0 || self.reference_log_probs.is_some(), "beta needs reference log-probabilities");
    }

    fn n_tokens(&self) -> usize {
        self.mask.iter().filter(|&&m| m).count()
    }

    /// 1 where the sequence may teach, 0 where it is too far off-policy to be punished.
    fn off_policy_keep(&self, threshold: Option<f64>) -> f64 {
        let (Some(threshold), true) = (threshold, self.advantage < 0.0) else {
            return 1.0;
        };
        let before = self.sampling_log_probs.or(self.old_log_probs).unwrap_or(self.log_probs);
        let drift = (0..self.mask.len()).filter(|&t| self.mask[t]).map(|t| before[t] - self.log_probs[t]);
        // A token whose sampling log-probability is unknown is no evidence of drift.
        let drift = krystal_math::statistics::sum(drift.filter(|d| !d.is_nan()));
        if drift / self.n_tokens().max(1) as f64 <= threshold { 1.0 } else { 0.0 }
    }
}

/// Value of a surrogate at one token, and its derivatives with respect to the ratio and, directly, to `lp`.
#[derive(Debug, Clone, Copy, Default)]
struct Surrogate {
    loss: f64,
    d_ratio: f64,
    d_log_prob: f64,
}

fn add_policy_loss(
    settings: &LossSettings,
    sequence: &LossSequence<'_>,
    window: &Window,
    output: &mut LossOutput,
) -> Vec<f64> {
    let n_tokens = sequence.n_tokens();
    let advantage = sequence.advantage;
    let ratio = ImportanceRatio::new(settings.importance_sampling_level, sequence);
    let keep = sequence.off_policy_keep(settings.off_policy_mask_threshold);
    let is_vespo = settings.loss_type == LossType::Vespo;
    let phi = if is_vespo { vespo::gamma_weight(settings, sequence) } else { 1.0 };
    let coefficient = window.coefficient(settings.loss_type, n_tokens);

    let mut gradient = vec![0.0; sequence.log_probs.len()];
    let mut d_sequence_log_ratio = 0.0;
    let mut loss = 0.0;
    for t in (0..sequence.mask.len()).filter(|&t| sequence.mask[t]) {
        let (lp, r) = (sequence.log_probs[t], ratio.at(t));
        let surrogate = match settings.loss_type {
            LossType::Cispo => cispo::surrogate(settings, r, advantage, lp),
            LossType::Sapo => sapo::surrogate(settings, r, advantage),
            LossType::Vespo => Surrogate { loss: -phi * advantage * lp, d_ratio: 0.0, d_log_prob: -phi * advantage },
            _ => clipped::surrogate(settings, r, advantage),
        };
        let high_entropy = if window.is_high_entropy(sequence.entropy[t]) { 1.0 } else { 0.0 };
        // vespo has the rollout ratio inside its sequence weight already.
        let rho = if is_vespo { 1.0 } else { sequence.rollout_ratio_at(t) };
        let factor = keep * high_entropy * rho;
        let mut value = factor * surrogate.loss;
        let mut d_log_prob = factor * surrogate.d_log_prob;
        // dr/dw = r.
        let mut d_log_ratio = factor * surrogate.d_ratio * r;
        if let (true, Some(reference)) = (settings.beta != 0.0, sequence.reference_log_probs) {
            let (mut k, mut dk) = settings.kl_estimator.value_and_slope(reference[t], lp);
            if settings.use_bias_correction_kl {
                k *= r;
                dk *= r;
                d_log_ratio += settings.beta * k;
            }
            value += settings.beta * k;
            d_log_prob += settings.beta * dk;
            output.metrics.kl.add(k, 1.0);
        }
        loss += coefficient * value;
        gradient[t] = coefficient * d_log_prob;
        match settings.importance_sampling_level {
            // w[t] depends on lp[t] alone.
            ImportanceSamplingLevel::Token => gradient[t] += coefficient * d_log_ratio,
            ImportanceSamplingLevel::Sequence => d_sequence_log_ratio += coefficient * d_log_ratio,
        }
    }
    if settings.importance_sampling_level == ImportanceSamplingLevel::Sequence {
        // dw/dlp[t] = m[t] / max(sum m, 1).
        let share = d_sequence_log_ratio / n_tokens.max(1) as f64;
        for (g, _) in gradient.iter_mut().zip(sequence.mask).filter(|&(_, &m)| m) {
            *g += share;
        }
    }
    output.loss += loss;
    output.metrics.policy_loss += loss * window.policy_loss_scale(settings.loss_type);
    output.metrics.add_clipping(settings, sequence, &ratio, phi);
    gradient
}

fn add_entropy_bonus(
    settings: &LossSettings,
    sequence: &LossSequence<'_>,
    window: &Window,
    entropy_coef: f64,
    output: &mut LossOutput,
) {
    let weight = entropy_coef
        / window.n_high_entropy_tokens.max(1) as f64
        / window.current_gradient_accumulation_steps.max(1) as f64;
    let mut gradient = vec![0.0; if settings.entropy_bonus { sequence.mask.len() } else { 0 }];
    for t in (0..sequence.mask.len()).filter(|&t| sequence.mask[t]) {
        let entropy = sequence.entropy[t];
        output.metrics.entropy.add(entropy, 1.0);
        if window.is_high_entropy(entropy) {
            output.metrics.high_entropy.add(entropy, 1.0);
            if settings.entropy_bonus {
                output.loss -= weight * entropy;
                gradient[t] = -weight;
            }
        }
    }
    if settings.entropy_bonus {
        output.d_entropy.push(gradient);
    }
}
