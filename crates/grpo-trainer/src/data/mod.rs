//! Training data: one record per prompt.

mod record;

pub use record::{Message, Prompt, Record};
