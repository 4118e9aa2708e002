//! Importance ratios: of the policy against the one that generated, and of that one against the sampler.

use krystal_math::statistics::sum;
use serde::{Deserialize, Serialize};

use super::LossSequence;

/// Whether every token has its own importance ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportanceSamplingLevel {
    /// `exp(lp - old)` of each token.
    #[default]
    Token,
    /// The geometric mean of the token ratios of a sequence (GSPO).
    Sequence,
}

/// `exp(w)` of a sequence, per token or once.
pub(super) struct ImportanceRatio {
    level: ImportanceSamplingLevel,
    values: Vec<f64>,
}

impl ImportanceRatio {
    pub(super) fn new(level: ImportanceSamplingLevel, sequence: &LossSequence<'_>) -> Self {
        let old = sequence.old_log_probs.unwrap_or(sequence.log_probs);
        let log_ratio = |t: usize| sequence.log_probs[t] - old[t];
        let values = match level {
            ImportanceSamplingLevel::Token => (0..old.len()).map(|t| log_ratio(t).exp()).collect(),
            ImportanceSamplingLevel::Sequence => {
                let total = sum((0..old.len()).filter(|&t| sequence.mask[t]).map(log_ratio));
                vec![(total / sequence.n_tokens().max(1) as f64).exp()]
            }
        };
        Self { level, values }
    }

    pub(super) fn level(&self) -> ImportanceSamplingLevel {
        self.level
    }

    pub(super) fn at(&self, t: usize) -> f64 {
        match self.level {
            ImportanceSamplingLevel::Token => self.values[t],
            ImportanceSamplingLevel::Sequence => self.values[0],
        }
    }
}

impl LossSequence<'_> {
    pub(super) fn rollout_ratio_at(&self, t: usize) -> f64 {
        match self.rollout_ratio {
            None => 1.0,
            Some([one]) => *one,
            Some(values) => values[t],
        }
    }
}

/// What to do where the sampler's probabilities differ from the policy's (a quantised or remote sampler).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutCorrection {
    /// Nothing: sampler and policy are one.
    #[default]
    Off,
    /// Ratio per token, clamped to the bounds.
    TokenTruncate,
    /// Ratio per token, 0 outside the bounds.
    TokenMask,
    /// Ratio per sequence, clamped to the bounds.
    SequenceTruncate,
    /// Ratio per sequence, 0 outside the bounds.
    SequenceMask,
}

/// `rho = exp(old - sampling)` of each token, or of a sequence as a whole (one value), bounded as `correction` says.
///
/// A NaN in `sampling` (the sampler did not report that token) counts as no difference. `None` for
/// [`RolloutCorrection::Off`].
pub fn rollout_importance_ratio(
    correction: RolloutCorrection,
    old: &[f64],
    sampling: &[f64],
    mask: &[bool],
    clip_min: Option<f64>,
    clip_max: Option<f64>,
) -> Option<Vec<f64>> {
    let difference = |t: usize| match old[t] - sampling[t] {
        d if d.is_nan() || !mask[t] => 0.0,
        d => d,
    };
    let ratios: Vec<f64> = match correction {
        RolloutCorrection::Off => return None,
        RolloutCorrection::TokenTruncate | RolloutCorrection::TokenMask => {
            (0..old.len()).map(|t| difference(t).exp()).collect()
        }
        RolloutCorrection::SequenceTruncate | RolloutCorrection::SequenceMask => {
            vec![sum((0..old.len()).map(difference)).exp()]
        }
    };
    let low = clip_min.unwrap_or(f64::NEG_INFINITY);
    let high = clip_max.unwrap_or(f64::INFINITY);
    let masks = matches!(correction, RolloutCorrection::TokenMask | RolloutCorrection::SequenceMask);
    let bound = |r: f64| match masks {
        true if r < low || r > high => 0.0,
        true => r,
        false => r.max(low).min(high),
    };
    Some(ratios.into_iter().map(bound).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncates_or_masks_outside_the_bounds() {
        let (old, sampling) = ([0.0, 2.0, -3.0], [0.0, 0.0, 0.0]);
        let ratio = |c, max| rollout_importance_ratio(c, &old, &sampling, &[true; 3], Some(0.1), Some(max)).unwrap();
        assert_eq!(ratio(RolloutCorrection::TokenTruncate, 3.0), [1.0, 3.0, 0.1]);
        assert_eq!(ratio(RolloutCorrection::TokenMask, 3.0), [1.0, 0.0, 0.0]);
        assert_eq!(ratio(RolloutCorrection::SequenceMask, 3.0), [(-1.0_f64).exp()]);
        assert_eq!(ratio(RolloutCorrection::SequenceTruncate, 0.3), [0.3]);
    }

    #[test]
    fn an_unknown_or_masked_token_counts_as_equal() {
        let c = RolloutCorrection::SequenceTruncate;
        let mask = [true, true, false];
        let ratio = rollout_importance_ratio(c, &[0.5, 1.0, 9.0], &[0.0, f64::NAN, 0.0], &mask, None, None).unwrap();
        assert_eq!(ratio, [0.5_f64.exp()]);
    }
}
