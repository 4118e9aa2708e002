//! Who watches a run.

use std::path::Path;

use crate::evaluate::Evaluation;
use crate::metrics::StepMetrics;

/// Seconds since any fixed moment. The library reads no clock but this one.
pub type Clock = Box<dyn Fn() -> f64>;

/// Is told how a run goes. Every method does nothing unless overridden.
pub trait Observer {
    /// The run starts (or goes on) after `step` of `total_steps`.
    fn on_start(&mut self, step: u64, total_steps: u64) {
        let _ = (step, total_steps);
    }

    /// A step was taken.
    fn on_step(&mut self, metrics: &StepMetrics) {
        let _ = metrics;
    }

    /// The policy was evaluated after `step`.
    fn on_evaluation(&mut self, step: u64, evaluation: &Evaluation) {
        let _ = (step, evaluation);
    }

    /// A checkpoint was written.
    fn on_checkpoint(&mut self, step: u64, path: &Path) {
        let _ = (step, path);
    }

    /// Something is odd but the run goes on.
    fn on_warning(&mut self, message: &str) {
        let _ = message;
    }

    /// Asked after every step: `true` ends the run as if it were finished, with a checkpoint to resume from.
    fn should_stop(&self) -> bool {
        false
    }
}

/// Watches nothing.
impl Observer for () {}

/// A clock, or none.
#[derive(Default)]
pub(crate) struct ClockSlot(pub(crate) Option<Clock>);

impl ClockSlot {
    pub(crate) fn now(&self) -> Option<f64> {
        self.0.as_ref().map(|clock| clock())
    }

    /// Adds how long a step took and how many tokens it learned from per second; nothing without a clock.
    pub(crate) fn push_timing(&self, metrics: &mut StepMetrics, started: Option<f64>, n_tokens: u64) {
        if let (Some(start), Some(end)) = (started, self.now()) {
            metrics.push("step_time", Some(end - start));
            metrics.push("tokens_per_second", Some(n_tokens as f64 / (end - start)));
        }
    }
}

impl std::fmt::Debug for ClockSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Clock" } else { "no clock" })
    }
}
