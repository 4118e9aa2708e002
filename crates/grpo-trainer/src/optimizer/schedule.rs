//! Learning rate over the steps of a run.

use serde::{Deserialize, Serialize};

/// The shape of a schedule, as `transformers.get_scheduler` defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedulerType {
    /// Up over the warm-up, then straight down to 0 at the last step. TRL's default.
    #[default]
    Linear,
    /// Up over the warm-up, then half a cosine down to 0 at the last step.
    Cosine,
    /// The same rate always; the warm-up is ignored.
    Constant,
    /// Up over the warm-up, then the same rate.
    ConstantWithWarmup,
}

/// A learning rate for every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LrSchedule {
    /// Shape.
    pub kind: LrSchedulerType,
    /// The rate at the top.
    pub learning_rate: f64,
    /// Steps of rising rate; the first of them has rate 0.
    pub warmup_steps: u64,
    /// Steps of the run.
    pub total_steps: u64,
}

impl LrSchedule {
    /// The rate of step `step`, the first being 0.
    pub fn at(&self, step: u64) -> f64 {
        let (step, warmup, total) = (step as f64, self.warmup_steps as f64, self.total_steps as f64);
        let rising = step / warmup.max(1.0);
        let after = (step - warmup) / (total - warmup).max(1.0);
        let factor = match self.kind {
            LrSchedulerType::Constant => 1.0,
            _ if step < warmup => rising,
            LrSchedulerType::ConstantWithWarmup => 1.0,
            LrSchedulerType::Linear => ((total - step) / (total - warmup).max(1.0)).max(0.0),
            LrSchedulerType::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * after).cos())).max(0.0),
        };
        self.learning_rate * factor
    }
}
