//! What a hierarchy writes into its provenance chain.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    AppliedInput, ContentHash, ContentHasher, Error, InputKind, LoraHierarchy, ProvenanceEntry, SavedState, Snapshot,
    state_hash,
};

impl LoraHierarchy {
    /// Notes what was applied, for the next record.
    pub(crate) fn note(&mut self, kind: InputKind, digest: impl FnOnce() -> ContentHash) {
        if self.config.provenance {
            self.applied.push((kind, digest()));
        }
    }

    /// Publishes a tick and records it.
    pub(crate) fn publish_tick(&mut self) -> Result<Arc<Snapshot>, Error> {
        let moved = self.layers.touched.clone();
        let snapshot = self.publish()?;
        if !self.config.provenance {
            return Ok(snapshot);
        }
        let summaries: Vec<_> = moved
            .into_iter()
            .filter_map(|owner| Some((owner, self.layers.get(owner.level, owner.agent)?.summary())))
            .collect();
        let layers = summaries.iter().map(|(owner, state): &(_, SavedState)| (owner.level, owner.agent, state));
        let own = digest_of(&(self.regime.state(), self.gradients, self.resonance.statistics(), self.source.summary()));
        let applied = std::mem::take(&mut self.applied);
        let group = |group: &[(InputKind, ContentHash)]| {
            let digests: Vec<ContentHash> = group.iter().map(|(_, digest)| *digest).collect();
            AppliedInput::of(group[0].0, &digests)
        };
        self.provenance.append(ProvenanceEntry {
            root: snapshot.id(),
            state: ContentHasher::new("dynlora-moved-v1").digest(state_hash(layers)).digest(own).finish(),
            version: snapshot.version(),
            tick: self.tick,
            seed: self.seed,
            applied: applied.chunk_by(|x, y| x.0 == y.0).map(group).collect(),
        });
        Ok(snapshot)
    }
}

/// Digest of plain data by its JSON.
pub(crate) fn digest_of(value: &impl Serialize) -> ContentHash {
    // Plain data with names for keys: JSON can say it.
    ContentHash::of_bytes(&serde_json::to_vec(value).unwrap_or_default())
}
