//! Continual learning: streams of tasks for a small decoder whose adapter must learn the new without losing the old.
//!
//! [`Base`] is the frozen model, [`Stream`] what comes, [`Learner`] a method, [`run()`] lets one meet the other.

pub mod base_model;
pub mod curriculum;
pub mod learner;
mod learners;
pub mod metrics;
pub mod run;
pub mod settings;
pub mod stream;
pub mod symbols;
pub mod task;
pub mod tasks;
#[cfg(test)]
mod tests;
pub mod tuning;

pub use base_model::{Base, LoraGradient, conflict};
pub use learner::{Factors, Learner, Method, PhaseData, Protocol, Setup, all_examples, methods};
pub use metrics::{Metrics, interval, mean};
pub use run::{Job, Point, Record, run, run_all};
pub use settings::Settings;
pub use stream::{AgentBatch, Phase, Stream, StreamKind, Test};
pub use task::{Example, Task};
