//! Integration tests: published fixtures, and whole runs of a small exact model.

mod advantage_fixtures;
mod bigram;
mod divergence;
#[cfg(feature = "lm")]
mod dynamic_policy;
mod fixtures;
mod guards;
#[cfg(feature = "lm")]
mod language_model;
mod learning;
mod logs;
mod loss_fixtures;
mod loss_gradients;
mod micro_batches;
mod optimizer_fixtures;
#[cfg(feature = "lm")]
mod ranks;
mod resume;
#[cfg(feature = "lm")]
mod spheres;
mod task;
