//! The model, written once over [`Kernels`].
//!
//! Letters as in [`crate::kernels`]: `R` rows, `C` residual width, `H`/`J` query/key-value heads, `D` head width, `V` vocabulary.

mod activity;
mod batch;
mod block;
mod chunk;
mod gradient;
mod initial;
mod micro_batch;
mod projection;
mod rope;
mod score;
mod weights;

use std::sync::{Arc, Mutex};

use crate::config::ModelConfig;
use crate::kernels::{AttentionShape, Kernels, RopeTable, cpu::Cpu};

pub(crate) use activity::Activity;
pub use activity::ActivityPlan;
pub use batch::{Group, TokenBatch};
pub(crate) use block::{Activations, Adapted, Saved};
pub use chunk::{Chunks, CompletionScores, GroupTape};
pub use gradient::Gradients;
pub use initial::{Tensor, initial_tensors};
pub use micro_batch::MicroBatch;
pub use projection::Projection;
pub use score::{Keep, Scores, Tape};
pub(crate) use weights::LayerWeights;

/// A decoder with frozen weights, shared read-only by rollouts, scoring and training.
#[derive(Debug)]
pub struct Decoder<K: Kernels = Cpu> {
    kernels: K,
    config: ModelConfig,
    embedding: K::Matrix,
    layers: Vec<LayerWeights<K>>,
    norm: K::Buffer,
    /// `None` when tied to the embedding.
    head: Option<K::Matrix>,
    rope: Mutex<Arc<RopeTable>>,
}

impl<K: Kernels> Decoder<K> {
    /// The model's description.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The kernels it runs on.
    pub fn kernels(&self) -> &K {
        &self.kernels
    }

    pub(crate) fn layers(&self) -> &[LayerWeights<K>] {
        &self.layers
    }

    pub(crate) fn head(&self) -> &K::Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    pub(crate) fn embedding(&self) -> &K::Matrix {
        &self.embedding
    }

    pub(crate) fn norm(&self) -> &K::Buffer {
        &self.norm
    }

    pub(crate) fn attention_shape(&self, layer: usize) -> AttentionShape {
        AttentionShape {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            window: self.config.sliding_window[layer],
        }
    }

    /// A table of at least `positions` positions; grows by doubling, so short sequences of long-context models stay small.
    pub(crate) fn rope(&self, positions: usize) -> Arc<RopeTable> {
        let mut table = self.rope.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if table.positions() < positions {
            let size = positions.next_power_of_two().max(256);
            *table = Arc::new(RopeTable::new(&rope::frequencies(&self.config), size));
        }
        Arc::clone(&table)
    }
}
