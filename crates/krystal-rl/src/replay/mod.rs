//! Steps kept to be learned from again.

mod prioritized;
mod sum_tree;
mod transitions;
mod uniform;

pub use prioritized::{PrioritizedConfig, PrioritizedReplay};
pub use sum_tree::SumTree;
pub use transitions::{Batch, Transition};
pub use uniform::UniformReplay;
