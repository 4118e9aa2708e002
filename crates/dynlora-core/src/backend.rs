//! The seam to a language model.

use crate::{AgentId, Snapshot, StackGradient};

/// A model that runs over snapshots of a hierarchy: Variant A of the seeds, inference on a frozen state.
///
/// Both methods read one snapshot from beginning to end: the same input gives the same output whatever the hierarchy learns
/// meanwhile, and a cache keyed by [`Snapshot::id`] is never stale. Variant B (layers that change under a running request)
/// is left out: results would depend on timing, and neither keys and values nor recorded log-probabilities could be trusted
/// after the first change.
pub trait LoraBackend {
    /// What a gradient is computed from: a scored batch with the loss's derivatives.
    type Batch<'b>;
    /// Why the model could not do it.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Logits of the token after `context`, `(vocab_size)`, with all five layers of `agent` as one fused adapter.
    fn generate_step(&self, context: &[u32], snapshot: &Snapshot, agent: AgentId) -> Result<Vec<f32>, Self::Error>;

    /// The gradient of the batch's loss for all five layers, from one backward pass.
    fn compute_gradient(
        &self,
        batch: Self::Batch<'_>,
        snapshot: &Snapshot,
        agent: AgentId,
    ) -> Result<StackGradient, Self::Error>;
}
