//! Publishing snapshots: one writer, any number of readers that never wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::snapshot::{AgentGroups, AgentSlot, LayerSlot, SnapshotIdentity, root};
use crate::{AgentId, ContentHash, Error, LayerFactors, LayerOwner, Level, ModuleShape, Snapshot, canonical_json};

/// The writer's side.
///
/// A publication shares with the one before it whatever was not written to since: it copies pointers, digests the modules
/// that lie elsewhere than before ([`Arc::make_mut`] moved them) and swaps one pointer. Readers go on with what they hold,
/// which is freed when the last of them lets go.
#[derive(Debug)]
pub struct SnapshotPublisher {
    current: Arc<ArcSwap<Snapshot>>,
}

/// A reader's side; clone one for each thread.
#[derive(Debug, Clone)]
pub struct SnapshotReader {
    current: Arc<ArcSwap<Snapshot>>,
}

/// A layer that may have been written to.
#[derive(Debug, Clone, Copy)]
pub struct LayerChange<'a> {
    /// Which layer.
    pub owner: LayerOwner,
    /// Its factors now.
    pub factors: &'a LayerFactors,
}

impl<'a> LayerChange<'a> {
    /// A shared layer.
    pub fn shared(level: Level, factors: &'a LayerFactors) -> Self {
        Self { owner: LayerOwner { level, agent: AgentId::default() }, factors }
    }

    /// A private layer.
    pub fn private(level: Level, agent: AgentId, factors: &'a LayerFactors) -> Self {
        Self { owner: LayerOwner { level, agent }, factors }
    }
}

impl SnapshotReader {
    /// The newest snapshot. Keep it as long as the same content is needed: a request, a session, a recorded gradient.
    ///
    /// Wait-free: neither a writer nor other readers can delay it.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

impl SnapshotPublisher {
    /// Publishes version 0: shared layers in the order of [`Level::SHARED`] and no agent.
    ///
    /// `base` names the content of the base model, `config` is everything else that inference depends on; both go into every
    /// id.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn new(
        base: ContentHash,
        config: &Value,
        shapes: Arc<[ModuleShape]>,
        shared: [&LayerFactors; 3],
    ) -> Result<Self, Error> {
        let slot = |level: Level| {
            let change = LayerChange::shared(level, shared[level.index()]);
            LayerSlot::build(change.owner, &shapes, change.factors, None)
        };
        let shared = [slot(Level::Foundation)?, slot(Level::Domain)?, slot(Level::Swarm)?];
        let identity = Arc::new(SnapshotIdentity { base, config: canonical_json(config) });
        let agents = AgentGroups::default();
        let id = root(&identity, &shared, &agents);
        let snapshot = Snapshot { version: 0, id, identity, shapes, shared, agents };
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(snapshot)) })
    }

    /// Goes on from a snapshot, for example one that was [loaded](crate::SavedHierarchy::load).
    pub fn resume(snapshot: Arc<Snapshot>) -> Self {
        Self { current: Arc::new(ArcSwap::new(snapshot)) }
    }

    /// Sets the version of what is published now: that of the saved state a hierarchy goes on from.
    #[must_use]
    pub fn with_version(self, version: u64) -> Self {
        self.set_version(version);
        self
    }

    /// As [`with_version`](Self::with_version), in place.
    pub(crate) fn set_version(&self, version: u64) {
        let mut snapshot = Snapshot::clone(&self.current.load());
        snapshot.version = version;
        self.current.store(Arc::new(snapshot));
    }

    /// A reader of this publisher.
    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader { current: Arc::clone(&self.current) }
    }

    /// What is published now.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Publishes the next version: `changed` in place of what those layers were, without the agents in `removed`.
    ///
    /// Costs nothing for layers that are not named. Naming one that did not change is allowed; if nothing did, what is
    /// published stays, version and all. An agent that is not known yet needs both its layers.
    ///
    /// # Errors
    /// [`Error::Layer`] or [`Error::Module`] for a layer of another shape, [`Error::NotFinite`], [`Error::UnknownAgent`].
    /// What was published before stays.
    pub fn publish(&mut self, changed: &[LayerChange<'_>], removed: &[AgentId]) -> Result<Arc<Snapshot>, Error> {
        let previous = self.current.load_full();
        let Snapshot { version, identity, shapes, mut shared, agents, .. } = Snapshot::clone(&previous);
        let mut private: BTreeMap<AgentId, [Option<Arc<LayerSlot>>; 2]> = BTreeMap::new();
        for LayerChange { owner, factors } in changed {
            let place = owner.level.index();
            if owner.level.is_shared() {
                shared[place] = LayerSlot::build(*owner, &shapes, factors, Some(&shared[place]))?;
            } else {
                let known = agents.get(owner.agent).map(|slot| &slot.layers[place - 3]);
                let slot = LayerSlot::build(*owner, &shapes, factors, known)?;
                private.entry(owner.agent).or_default()[place - 3] = Some(slot);
            }
        }
        let mut changes = Vec::with_capacity(private.len() + removed.len());
        for (agent, slots) in private {
            let known = agents.get(agent);
            let mut layers = Vec::with_capacity(2);
            for (place, slot) in slots.into_iter().enumerate() {
                let slot = slot.or_else(|| known.map(|known| Arc::clone(&known.layers[place])));
                layers.push(slot.ok_or_else(|| Error::Layer {
                    layer: LayerOwner { level: Level::PRIVATE[place], agent }.to_string(),
                    what: "factors beside those of the agent's other layer",
                    expected: "some".to_owned(),
                    found: "none".to_owned(),
                })?);
            }
            let layers: [Arc<LayerSlot>; 2] = layers.try_into().expect("one layer was pushed for each of two");
            let is_same = known.is_some_and(|known| (0..2).all(|i| Arc::ptr_eq(&known.layers[i], &layers[i])));
            if !is_same {
                changes.push((agent, Some(AgentSlot::new(agent, layers))));
            }
        }
        for agent in removed {
            if agents.get(*agent).is_none() {
                return Err(Error::UnknownAgent { agent: agent.0, known: previous.agents().count() });
            }
            changes.push((*agent, None));
        }
        let is_same = (0..3).all(|i| Arc::ptr_eq(&shared[i], &previous.shared[i]));
        if changes.is_empty() && is_same {
            return Ok(previous);
        }
        let agents = if changes.is_empty() { agents } else { agents.with(changes) };
        let id = root(&identity, &shared, &agents);
        if id == previous.id {
            return Ok(previous);
        }
        let snapshot = Arc::new(Snapshot { version: version + 1, id, identity, shapes, shared, agents });
        self.current.store(Arc::clone(&snapshot));
        Ok(snapshot)
    }
}
