//! From per-token losses to one number: what each token's loss is divided by.

use super::{LossSequence, LossSettings, LossType, entropy_threshold};

/// The counts a reduction divides by, of the whole batch even where the loss is computed in parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Sequences of the batch (`B`).
    pub n_sequences: usize,
    /// Tokens of the batch that count (`sum m`).
    pub n_tokens: usize,
    /// Tokens that count in the whole generation the batch is a part of.
    pub num_items_in_batch: usize,
    /// Most tokens of a completion, the divisor of `dr_grpo`.
    pub max_completion_length: usize,
    /// Batches whose gradients are added before a step; 1 in evaluation.
    pub current_gradient_accumulation_steps: usize,
    /// Batches a generation is cut into.
    pub steps_per_generation: usize,
    /// Tokens with less entropy carry no policy gradient; `None` where all do.
    pub entropy_threshold: Option<f64>,
    /// Counted tokens that reach the threshold.
    pub n_high_entropy_tokens: usize,
}

impl Window {
    /// The window of a batch given as a whole, which is also the whole generation.
    pub fn of(settings: &LossSettings, sequences: &[LossSequence<'_>], max_completion_length: usize) -> Self {
        let n_tokens = sequences.iter().map(LossSequence::n_tokens).sum();
        let mut window = Self {
            n_sequences: sequences.len(),
            n_tokens,
            num_items_in_batch: n_tokens,
            max_completion_length,
            current_gradient_accumulation_steps: 1,
            steps_per_generation: 1,
            entropy_threshold: None,
            n_high_entropy_tokens: n_tokens,
        };
        window.set_entropy_threshold(settings, sequences.iter().map(|s| (s.entropy, s.mask)));
        window
    }

    /// Sets the threshold and the count of tokens that reach it from the entropies of the whole batch.
    pub fn set_entropy_threshold<'a>(
        &mut self,
        settings: &LossSettings,
        sequences: impl Iterator<Item = (&'a [f64], &'a [bool])>,
    ) {
        if settings.top_entropy_quantile >= 1.0 {
            return;
        }
        let counted: Vec<f64> = sequences
            .flat_map(|(entropy, mask)| entropy.iter().zip(mask).filter(|&(_, &m)| m).map(|(&h, _)| h))
            .collect();
        let threshold = entropy_threshold(&counted, settings.top_entropy_quantile);
        self.n_high_entropy_tokens = counted.iter().filter(|&&h| threshold.is_none_or(|t| h >= t)).count();
        self.entropy_threshold = threshold;
    }

    pub(super) fn is_high_entropy(&self, entropy: f64) -> bool {
        self.entropy_threshold.is_none_or(|threshold| entropy >= threshold)
    }

    /// `dloss / dL[b,t]` of a token that counts, in a sequence with `n_tokens` such tokens.
    pub(super) fn coefficient(&self, loss_type: LossType, n_tokens: usize) -> f64 {
        let batch = self.n_sequences.max(1) as f64;
        let accumulation = self.current_gradient_accumulation_steps.max(1) as f64;
        let divisor = match loss_type {
            LossType::Grpo | LossType::Sapo => n_tokens.max(1) as f64 * batch * accumulation,
            LossType::Bnpo => self.n_tokens.max(1) as f64 * accumulation,
            LossType::DrGrpo => batch * self.max_completion_length as f64 * accumulation,
            LossType::Luspo => batch * accumulation,
            // `num_items_in_batch` spans the generation: rescaled to one accumulation window.
            LossType::Dapo | LossType::Cispo | LossType::Vespo => {
                self.num_items_in_batch.max(1) as f64 * accumulation / self.steps_per_generation.max(1) as f64
            }
        };
        divisor.recip()
    }

    /// What undoes the division by the accumulation steps, for the metric `policy_loss`.
    pub(super) fn policy_loss_scale(&self, loss_type: LossType) -> f64 {
        match loss_type {
            LossType::Dapo | LossType::Cispo | LossType::Vespo => 1.0,
            _ => self.current_gradient_accumulation_steps.max(1) as f64,
        }
    }
}
