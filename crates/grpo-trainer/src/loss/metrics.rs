//! What a loss reports, under TRL's names.

use krystal_math::statistics::mean;

use super::ratio::{ImportanceRatio, ImportanceSamplingLevel};
use super::{LossSequence, LossSettings, LossType, clipped};

/// A mean in the making.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct RunningMean {
    pub(crate) sum: f64,
    pub(crate) count: f64,
}

impl RunningMean {
    pub(crate) fn add(&mut self, sum: f64, count: f64) {
        self.sum += sum;
        self.count += count;
    }

    fn merge(&mut self, other: Self) {
        self.add(other.sum, other.count);
    }

    /// The mean; 0 of nothing, as in TRL.
    pub(crate) fn mean(self) -> f64 {
        self.sum / self.count.max(1.0)
    }
}

/// Sums behind the metrics of a loss. Those of the parts of one batch are merged before they are divided.
#[derive(Debug, Clone, PartialEq)]
pub struct LossMetrics {
    pub(super) policy_loss: f64,
    pub(super) kl: RunningMean,
    pub(super) entropy: RunningMean,
    pub(super) high_entropy: RunningMean,
    low_clipped: RunningMean,
    high_clipped: RunningMean,
    region_clipped: RunningMean,
    low_min: f64,
    high_max: f64,
    cispo_clipped: RunningMean,
    phi: RunningMean,
}

impl Default for LossMetrics {
    fn default() -> Self {
        let none = RunningMean::default();
        Self {
            policy_loss: 0.0,
            kl: none,
            entropy: none,
            high_entropy: none,
            low_clipped: none,
            high_clipped: none,
            region_clipped: none,
            low_min: f64::INFINITY,
            high_max: f64::NEG_INFINITY,
            cispo_clipped: none,
            phi: none,
        }
    }
}

impl LossMetrics {
    /// Adds another part of the same batch.
    pub fn merge(&mut self, other: &Self) {
        self.policy_loss += other.policy_loss;
        self.kl.merge(other.kl);
        self.entropy.merge(other.entropy);
        self.high_entropy.merge(other.high_entropy);
        self.low_clipped.merge(other.low_clipped);
        self.high_clipped.merge(other.high_clipped);
        self.region_clipped.merge(other.region_clipped);
        self.low_min = self.low_min.min(other.low_min);
        self.high_max = self.high_max.max(other.high_max);
        self.cispo_clipped.merge(other.cispo_clipped);
        self.phi.merge(other.phi);
    }

    /// Sum and count of the entropies the bonus acts on, for the [`EntropyController`](super::EntropyController).
    pub fn high_entropy_totals(&self) -> (f64, f64) {
        (self.high_entropy.sum, self.high_entropy.count)
    }

    /// The metrics of the batch under TRL's names; `None` where there was nothing to measure.
    pub fn named(&self, settings: &LossSettings) -> Vec<(&'static str, Option<f64>)> {
        let mut named = Vec::new();
        if settings.entropy_bonus {
            named.push(("policy_loss", Some(self.policy_loss)));
        }
        if settings.beta != 0.0 {
            named.push(("kl", Some(self.kl.mean())));
        }
        named.push(("entropy", Some(self.entropy.mean())));
        match settings.loss_type {
            LossType::Cispo => named.push(("cispo_clip_ratio", Some(self.cispo_clipped.mean()))),
            LossType::Vespo => named.push(("vespo/phi_seq_mean", Some(self.phi.mean()))),
            LossType::Sapo => {}
            _ => named.extend([
                ("clip_ratio/low_mean", Some(self.low_clipped.mean())),
                ("clip_ratio/low_min", Some(self.low_min).filter(|x| x.is_finite())),
                ("clip_ratio/high_mean", Some(self.high_clipped.mean())),
                ("clip_ratio/high_max", Some(self.high_max).filter(|x| x.is_finite())),
                ("clip_ratio/region_mean", Some(self.region_clipped.mean())),
            ]),
        }
        named
    }

    /// Counts clipped ratios: per token, or once for a sequence that has a single ratio.
    pub(super) fn add_clipping(
        &mut self,
        settings: &LossSettings,
        sequence: &LossSequence<'_>,
        ratio: &ImportanceRatio,
        phi: f64,
    ) {
        let places: Vec<usize> = match ratio.level() {
            ImportanceSamplingLevel::Token => (0..sequence.mask.len()).filter(|&t| sequence.mask[t]).collect(),
            ImportanceSamplingLevel::Sequence => vec![0],
        };
        let advantage = sequence.advantage;
        if settings.loss_type.is_clipped() {
            let flags = |clipped: &dyn Fn(f64) -> bool| -> Vec<f64> {
                places.iter().map(|&t| f64::from(clipped(clipped::bounded(settings, ratio.at(t))))).collect()
            };
            let low = flags(&|r| r < 1.0 - settings.epsilon_low && advantage < 0.0);
            let high = flags(&|r| r > 1.0 + settings.epsilon_high && advantage > 0.0);
            let (n_low, n_high): (f64, f64) = (low.iter().sum(), high.iter().sum());
            let n = places.len() as f64;
            self.low_clipped.add(n_low, n);
            self.high_clipped.add(n_high, n);
            // A sequence has one sign of advantage: no ratio is clipped on both sides.
            self.region_clipped.add(n_low + n_high, n);
            if !places.is_empty() {
                self.low_min = self.low_min.min(mean(&low));
                self.high_max = self.high_max.max(mean(&high));
            }
        } else if settings.loss_type == LossType::Cispo {
            for &t in &places {
                let clipped = ratio.at(t) > settings.epsilon_high && advantage > 0.0;
                self.cispo_clipped.add(f64::from(clipped), 1.0);
            }
        } else if settings.loss_type == LossType::Vespo {
            self.phi.add(phi, 1.0);
        }
    }
}
