//! The layers of a hierarchy, and the time that passes for them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{AgentId, LayerAccess, LayerOwner, Level, LoraLayer};

/// The layers by owner.
///
/// Time passes lazily: a layer that is not used catches up when it is next looked at to be changed, or when its alarm rings
/// because time alone does something to it. Agents that rest cost a tick nothing.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) shared: Vec<Box<dyn LoraLayer>>,
    pub(crate) private: BTreeMap<AgentId, [Box<dyn LoraLayer>; 2]>,
    /// Ticks that have passed for whatever is looked at.
    pub(crate) now: u64,
    /// Layers that were looked at to be changed since the last publication.
    pub(crate) touched: BTreeSet<LayerOwner>,
    /// When time next does something to a layer, for those that rest until then.
    alarms: BTreeMap<LayerOwner, u64>,
    by_tick: BTreeSet<(u64, LayerOwner)>,
}

impl Layers {
    pub(crate) fn new(shared: Vec<Box<dyn LoraLayer>>) -> Self {
        Self {
            shared,
            private: BTreeMap::new(),
            now: 0,
            touched: BTreeSet::new(),
            alarms: BTreeMap::new(),
            by_tick: BTreeSet::new(),
        }
    }

    pub(crate) fn get(&self, level: Level, agent: AgentId) -> Option<&dyn LoraLayer> {
        match level.is_shared() {
            true => self.shared.get(level.index()).map(|layer| &**layer),
            false => self.private.get(&agent).map(|layers| &*layers[level.index() - 3]),
        }
    }

    /// A layer as it is, without the time that has passed since it was looked at.
    pub(crate) fn get_mut(&mut self, owner: LayerOwner) -> Option<&mut Box<dyn LoraLayer>> {
        match owner.level.is_shared() {
            true => self.shared.get_mut(owner.level.index()),
            false => self.private.get_mut(&owner.agent).map(|layers| &mut layers[owner.level.index() - 3]),
        }
    }

    pub(crate) fn owners(&self) -> Vec<LayerOwner> {
        let shared = Level::SHARED.map(|level| LayerOwner { level, agent: AgentId::default() });
        let private =
            self.private.keys().flat_map(|agent| Level::PRIVATE.map(|level| LayerOwner { level, agent: *agent }));
        shared.into_iter().chain(private).collect()
    }

    /// Puts a layer in the place of another.
    pub(crate) fn replace(&mut self, owner: LayerOwner, layer: Box<dyn LoraLayer>) {
        if let Some(place) = self.get_mut(owner) {
            *place = layer;
            self.touched.insert(owner);
        }
    }

    /// Drops an agent's layers; whether there were any.
    pub(crate) fn remove(&mut self, agent: AgentId) -> bool {
        for level in Level::PRIVATE {
            let owner = LayerOwner { level, agent };
            self.touched.remove(&owner);
            self.silence(owner);
        }
        self.private.remove(&agent).is_some()
    }

    /// Lets a tick pass for the layers that were used and those whose alarm rings. How many parameters (or channels) became
    /// SCREENED and FREE.
    pub(crate) fn pass(&mut self, tick: u64) -> [u64; 2] {
        self.now = tick;
        while let Some((due, owner)) = self.by_tick.first().copied().filter(|(due, _)| *due <= tick) {
            self.by_tick.remove(&(due, owner));
            self.alarms.remove(&owner);
            self.touched.insert(owner);
        }
        let mut phases = [0; 2];
        for owner in self.touched.clone() {
            if let Some(layer) = self.get_mut(owner) {
                let report = layer.advance(tick);
                phases[0] += report.screened;
                phases[1] += report.freed;
            }
        }
        phases
    }

    /// Lets all layers catch up.
    pub(crate) fn catch_up(&mut self) {
        for layer in self.shared.iter_mut().chain(self.private.values_mut().flatten()) {
            layer.advance(self.now);
        }
    }

    /// Lets these layers rest until time does something to them.
    pub(crate) fn rest(&mut self, owners: &BTreeSet<LayerOwner>) {
        for owner in owners {
            let due = self.get(owner.level, owner.agent).and_then(|layer| layer.rests_until(self.now));
            self.silence(*owner);
            if let Some(due) = due {
                self.alarms.insert(*owner, due);
                self.by_tick.insert((due, *owner));
            }
        }
    }

    fn silence(&mut self, owner: LayerOwner) {
        if let Some(due) = self.alarms.remove(&owner) {
            self.by_tick.remove(&(due, owner));
        }
    }
}

impl LayerAccess for Layers {
    fn agents(&self) -> Vec<AgentId> {
        self.private.keys().copied().collect()
    }

    fn layer(&mut self, level: Level, agent: AgentId) -> Option<&mut (dyn LoraLayer + 'static)> {
        let owner = LayerOwner { level, agent: if level.is_shared() { AgentId::default() } else { agent } };
        let now = self.now;
        if self.get(level, agent).is_some() {
            self.touched.insert(owner);
        }
        let layer = &mut **self.get_mut(owner)?;
        layer.advance(now);
        Some(layer)
    }
}
