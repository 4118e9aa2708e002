//! Gradient clipping, learning-rate schedules and AdamW, with PyTorch's semantics.

mod adamw;
mod clip;
mod schedule;

pub use adamw::{AdamW, AdamWSettings, Real};
pub use clip::{clip_gradients, gradient_norm};
pub use schedule::{LrSchedule, LrSchedulerType};
