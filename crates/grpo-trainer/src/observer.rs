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
