//! The five layers, and what happens to them each tick.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::layers::Layers;
use crate::{
    AgentId, CircuitDetector, CircuitDetectorState, CircuitModule, CircuitSource, ContentHash, ContentHasher,
    DirectionalInertia, DynamicLoraLayer, Error, GradientVitals, HealthMonitor, HealthState, HealthThresholds,
    HierarchyConfig, InputKind, LayerAccess, LayerChange, LayerOwner, Level, LoraLayer, MigrationCoordinator,
    MigrationState, ModuleShape, ProvenanceChain, ProvenanceHead, RegimeChange, RegimeDetector, RegimeState, Resonance,
    SavedHierarchy, SavedLayer, SavedState, Snapshot, SnapshotPublisher, SnapshotReader, StackActivity, StackGradient,
    Staleness, TrajectoryCache, effective_rank, state_hash,
};

/// Three shared layers, two for each agent, and all that moves them.
///
/// Learning is a circle: a [`LoraBackend`](crate::LoraBackend) computes gradients on a snapshot, [`submit`](Self::submit)
/// takes them in, [`tick`](Self::tick) applies what has come and publishes the next snapshot. Readers take snapshots from
/// [`reader`](Self::reader) and never wait.
///
/// Deterministic: the same gradients in the same ticks lead to the same hashes, whatever the order of submission within a
/// tick.
#[derive(Debug)]
pub struct LoraHierarchy {
    pub(crate) config: HierarchyConfig,
    pub(crate) seed: u64,
    pub(crate) shapes: Arc<[ModuleShape]>,
    /// By level and module.
    pub(crate) ranks: [Vec<usize>; 5],
    pub(crate) layers: Layers,
    pub(crate) resonance: Box<dyn Resonance>,
    pub(crate) directional: DirectionalInertia,
    pub(crate) regime: RegimeDetector,
    pub(crate) detector: CircuitDetector,
    pub(crate) source: Box<dyn CircuitSource>,
    pub(crate) migration: MigrationCoordinator,
    pub(crate) publisher: SnapshotPublisher,
    pub(crate) provenance: ProvenanceChain,
    pub(crate) health: HealthMonitor,
    pub(crate) pending: Vec<Pending>,
    pub(crate) gradients: GradientVitals,
    pub(crate) tick: u64,
    /// Agents that came or left since the last publication.
    pub(crate) arrived: BTreeSet<AgentId>,
    pub(crate) departed: BTreeSet<AgentId>,
    /// What was applied since the last record of the provenance, in order.
    pub(crate) applied: Vec<(InputKind, ContentHash)>,
    /// Mixing of rows of `B^T` by layer and module, looked at every few ticks.
    pub(crate) mixing: BTreeMap<LayerOwner, Vec<Vec<f32>>>,
}

/// A gradient that waits for the tick.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) gradient: StackGradient,
    pub(crate) weight: f64,
}

/// All there is to go on with a hierarchy, as plain data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HierarchyState {
    /// Every layer, shared ones first.
    pub layers: Vec<SavedLayer>,
    /// Named tensors and numbers of the hierarchy itself.
    pub own: SavedState,
    /// Everything else.
    pub rest: HierarchyRest,
}

/// The part of a [`HierarchyState`] that is neither tensor nor number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HierarchyRest {
    seed: u64,
    tick: u64,
    version: u64,
    agents: Vec<AgentId>,
    resonance: Vec<(String, f64)>,
    migration: MigrationState,
    circuits: CircuitDetectorState,
    /// Absent in what was saved before there was one.
    #[serde(default)]
    source: Value,
    regime: RegimeState,
    gradients: GradientVitals,
    /// Absent in what was saved before there was one.
    #[serde(default)]
    health: HealthState,
    provenance: ProvenanceHead,
    /// What was applied since the last record.
    #[serde(default)]
    applied: Vec<(InputKind, ContentHash)>,
}

impl LoraHierarchy {
    /// A hierarchy without agents that adds nothing to the base model.
    ///
    /// `base` names the content of the base model and goes into every snapshot's id.
    ///
    /// # Errors
    /// [`Error::Field`] for a wrong setting, [`Error::UnknownTarget`] and [`Error::NothingTargeted`] for wrong targets.
    pub fn new(
        config: HierarchyConfig,
        shapes: &[ModuleShape],
        base: ContentHash,
        seed: u64,
        resonance: Box<dyn Resonance>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let chosen = config.target_modules.select_all(shapes)?;
        let shapes: Arc<[ModuleShape]> = chosen.into_iter().map(|i| shapes[i].clone()).collect();
        let ranks = config.ranks.map(|rank| {
            let of = |shape: &ModuleShape| effective_rank(rank, shape.d_in, shape.d_out).0;
            shapes.iter().map(of).collect::<Vec<usize>>()
        });
        let mut shared: Vec<Box<dyn LoraLayer>> = Vec::with_capacity(3);
        for level in Level::SHARED {
            let layer_config = config.layer_config(level);
            let layer =
                DynamicLoraLayer::new(level, AgentId::default(), &shapes, &ranks[level.index()], seed, layer_config)?;
            shared.push(Box::new(layer));
        }
        let described = serde_json::to_value(&config)
            .map_err(|error| Error::field("config", "settings that JSON can say", error))?;
        let factors = [shared[0].factors(), shared[1].factors(), shared[2].factors()];
        let publisher = SnapshotPublisher::new(base, &described, Arc::clone(&shapes), factors)?;
        let modules = shapes.iter().enumerate().map(|(i, shape)| CircuitModule {
            d_in: shape.d_in,
            d_out: shape.d_out,
            ranks: Level::ALL.map(|level| ranks[level.index()][i]),
        });
        let start = ProvenanceHead::genesis(publisher.current().id(), 0);
        Ok(Self {
            detector: CircuitDetector::new(config.circuits, modules.collect()),
            source: Box::new(TrajectoryCache::new(config.trajectories)),
            directional: DirectionalInertia::new(config.directional.clone(), &shapes, seed),
            regime: RegimeDetector::new(config.regime.clone()),
            migration: MigrationCoordinator::new(config.migration),
            health: HealthMonitor::new(HealthThresholds::default()),
            provenance: ProvenanceChain::new(start),
            config,
            seed,
            shapes,
            ranks,
            layers: Layers::new(shared),
            resonance,
            publisher,
            pending: Vec::new(),
            gradients: GradientVitals::default(),
            tick: 0,
            arrived: BTreeSet::new(),
            departed: BTreeSet::new(),
            applied: Vec::new(),
            mixing: BTreeMap::new(),
        })
    }

    /// Asks `source` instead of a [`TrajectoryCache`] what the detector does not see by itself. To go on from a state with it,
    /// [`restore`](Self::restore) into a hierarchy that has it: [`from_saved`](Self::from_saved) makes one with the cache.
    #[must_use]
    pub fn with_source(mut self, source: Box<dyn CircuitSource>) -> Self {
        self.source = source;
        self
    }

    /// Gives an agent layers of its own; nothing happens if it has them. They are in the next snapshot.
    ///
    /// # Errors
    /// Never for a hierarchy that could be made.
    pub fn add_agent(&mut self, agent: AgentId) -> Result<(), Error> {
        if self.layers.private.contains_key(&agent) {
            return Ok(());
        }
        let make = |level: Level| -> Result<Box<dyn LoraLayer>, Error> {
            let config = self.config.layer_config(level);
            let ranks = &self.ranks[level.index()];
            Ok(Box::new(DynamicLoraLayer::new(level, agent, &self.shapes, ranks, self.seed, config)?))
        };
        let mut layers = [make(Level::Agent)?, make(Level::Context)?];
        layers.iter_mut().for_each(|layer| {
            layer.advance(self.tick);
        });
        self.layers.private.insert(agent, layers);
        self.arrived.insert(agent);
        self.departed.remove(&agent);
        self.note(InputKind::Agents, || ContentHasher::new("dynlora-came-v1").number(agent.0).finish());
        Ok(())
    }

    /// Removes an agent's layers, from the next snapshot on.
    ///
    /// # Errors
    /// [`Error::UnknownAgent`].
    pub fn remove_agent(&mut self, agent: AgentId) -> Result<(), Error> {
        if !self.layers.remove(agent) {
            return Err(Error::UnknownAgent { agent: agent.0, known: self.layers.private.len() });
        }
        self.pending.retain(|pending| pending.gradient.agent != agent);
        self.detector.forget_agent(agent);
        self.source.forget_agent(agent);
        self.migration.forget_agent(agent);
        self.mixing.retain(|owner, _| owner.level.is_shared() || owner.agent != agent);
        self.arrived.remove(&agent);
        if self.snapshot().layer(Level::Agent, agent).is_some() {
            self.departed.insert(agent);
        }
        self.note(InputKind::Agents, || ContentHasher::new("dynlora-left-v1").number(agent.0).finish());
        Ok(())
    }

    /// Puts a layer of another kind in place of one: of the same level, modules and ranks.
    ///
    /// # Errors
    /// [`Error::UnknownAgent`], or [`Error::Layer`] for one of another shape.
    pub fn replace_layer(&mut self, agent: AgentId, layer: Box<dyn LoraLayer>) -> Result<(), Error> {
        let level = layer.level();
        let owner = LayerOwner { level, agent: if level.is_shared() { AgentId::default() } else { agent } };
        let Some(place) = self.layers.get(level, agent) else {
            return Err(Error::UnknownAgent { agent: agent.0, known: self.layers.private.len() });
        };
        let sizes = |layer: &dyn LoraLayer| -> Vec<(usize, usize, usize)> {
            layer.factors().iter().map(|factors| (factors.rank, factors.d_in, factors.d_out)).collect()
        };
        let (expected, found) = (sizes(place), sizes(&*layer));
        if expected != found {
            let show = |sizes: &[(usize, usize, usize)]| format!("{sizes:?}");
            let (expected, found) = (show(&expected), show(&found));
            return Err(Error::Layer { layer: owner.to_string(), what: "(rank, d_in, d_out)", expected, found });
        }
        self.note(InputKind::Import, || state_hash([(level, agent, &layer.state())]));
        self.layers.replace(owner, layer);
        Ok(())
    }

    /// Takes in a gradient for the next tick; several of one agent are averaged.
    ///
    /// # Errors
    /// [`Error::UnknownAgent`], [`Error::Layer`] for one of another shape, [`Error::NotFinite`]: it is counted, and the
    /// hierarchy stays as it was. A gradient that is merely too old is no error: see the [`Staleness`] returned.
    pub fn submit(&mut self, gradient: StackGradient) -> Result<Staleness, Error> {
        if let Err(error) = self.check(&gradient) {
            self.gradients.malformed += 1;
            return Err(error);
        }
        let current = self.publisher.current().version();
        let staleness = self.config.staleness.judge(gradient.version, current, &mut self.gradients.staleness);
        if let Staleness::Accepted { weight, .. } = staleness {
            self.pending.push(Pending { gradient, weight });
        }
        Ok(staleness)
    }

    fn check(&self, gradient: &StackGradient) -> Result<(), Error> {
        let agent = gradient.agent;
        if !self.layers.private.contains_key(&agent) {
            return Err(Error::UnknownAgent { agent: agent.0, known: self.layers.private.len() });
        }
        for level in Level::ALL {
            let expected = self.layers.get(level, agent).map_or(0, LoraLayer::num_parameters);
            let found = gradient.level(level).len();
            if expected != found {
                let layer = LayerOwner { level, agent }.to_string();
                let (expected, found) = (expected.to_string(), found.to_string());
                return Err(Error::Layer { layer, what: "values of a gradient", expected, found });
            }
        }
        if let Some(activity) = &gradient.activity {
            self.check_activity(agent, activity)?;
        }
        if !gradient.is_finite() {
            return Err(Error::NotFinite { what: format!("the gradient of agent {agent}") });
        }
        Ok(())
    }

    /// What was measured has the modules' shapes, or was not measured.
    fn check_activity(&self, agent: AgentId, activity: &StackActivity) -> Result<(), Error> {
        let (expected, found) = (self.shapes.len(), activity.modules.len());
        if expected != found {
            let layer = format!("the stack of agent {agent}");
            let (expected, found) = (expected.to_string(), found.to_string());
            return Err(Error::Layer { layer, what: "modules of activity", expected, found });
        }
        let n_inputs = activity.input_sum.len();
        if let Some(first) = self.shapes.first().filter(|shape| n_inputs > 0 && n_inputs != shape.d_in) {
            return Err(Error::module(&first.name, "values of the sum of inputs", first.d_in, n_inputs));
        }
        for (i, (shape, seen)) in self.shapes.iter().zip(&activity.modules).enumerate() {
            let rank: usize = self.ranks.iter().map(|ranks| ranks[i]).sum();
            let (moments, inputs) = (seen.second_moment.len(), seen.inputs.len());
            let fits = (moments == 0 || moments == rank * rank) && inputs.is_multiple_of(shape.d_in);
            if !fits {
                let expected = format!("{} of second moments and rows of {} inputs", rank * rank, shape.d_in);
                let found = format!("{moments} and {inputs}");
                return Err(Error::module(&shape.name, "values of activity", expected, found));
            }
        }
        Ok(())
    }

    /// Ends the present regime of data, as a jump of the gradient's norm does by itself: what was read in it is protected
    /// from now on. For callers who know that a task is done.
    pub fn consolidate(&mut self) {
        self.regime.begin();
        self.begin_regime(RegimeChange::New);
        self.note(InputKind::Regime, || ContentHash::of_bytes(b"consolidate"));
    }

    /// What was read until now is protected, and the optimiser begins anew.
    pub(crate) fn begin_regime(&mut self, change: RegimeChange) {
        self.directional.end_regime(change);
        self.mixing.clear();
        for owner in self.layers.owners() {
            if let Some(layer) = self.layers.layer(owner.level, owner.agent) {
                layer.restart_moments();
            }
        }
    }

    /// Settings.
    pub fn config(&self) -> &HierarchyConfig {
        &self.config
    }

    /// The adapted modules, in the order of everything here.
    pub fn shapes(&self) -> &Arc<[ModuleShape]> {
        &self.shapes
    }

    /// Ticks passed.
    pub fn n_ticks(&self) -> u64 {
        self.tick
    }

    /// Regimes of data that have ended.
    pub fn n_regimes(&self) -> u64 {
        self.directional.n_regimes()
    }

    /// Agents with layers of their own, in order.
    pub fn agents(&self) -> impl Iterator<Item = AgentId> + '_ {
        self.layers.private.keys().copied()
    }

    /// A layer; `agent` is of no meaning for shared levels.
    pub fn layer(&self, level: Level, agent: AgentId) -> Option<&dyn LoraLayer> {
        self.layers.get(level, agent)
    }

    /// A handle from which any thread reads snapshots.
    pub fn reader(&self) -> SnapshotReader {
        self.publisher.reader()
    }

    /// The snapshot published last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.publisher.current()
    }

    /// What watches trajectories.
    pub fn source(&self) -> &dyn CircuitSource {
        &*self.source
    }

    /// What resonance has counted.
    pub fn resonance(&self) -> &dyn Resonance {
        &*self.resonance
    }

    /// The queues between layers.
    pub fn migration(&self) -> &MigrationCoordinator {
        &self.migration
    }

    /// Counts of gradients refused.
    pub fn gradient_vitals(&self) -> GradientVitals {
        self.gradients
    }

    /// The provenance chain since the last [`take_provenance`](Self::take_provenance).
    pub fn provenance(&self) -> &ProvenanceChain {
        &self.provenance
    }

    /// Hands over the records so far, to be written.
    pub fn take_provenance(&mut self) -> Vec<crate::ProvenanceRecord> {
        self.provenance.take_records()
    }

    /// Publishes what has changed now, also between ticks: agents that were added, layers that were replaced.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a layer left the finite numbers: what was published before stays.
    pub fn publish(&mut self) -> Result<Arc<Snapshot>, Error> {
        let mut owners: BTreeSet<LayerOwner> = std::mem::take(&mut self.layers.touched);
        for agent in std::mem::take(&mut self.arrived) {
            owners.extend(Level::PRIVATE.map(|level| LayerOwner { level, agent }));
        }
        for owner in &owners {
            if let Some(layer) = self.layers.get_mut(*owner) {
                layer.settle();
                layer.take_dirty();
            }
        }
        let layers = &self.layers;
        let change = |owner: &LayerOwner| {
            Some(LayerChange { owner: *owner, factors: layers.get(owner.level, owner.agent)?.factors() })
        };
        let changes: Vec<LayerChange<'_>> = owners.iter().filter_map(change).collect();
        let departed: Vec<AgentId> = self.departed.iter().copied().collect();
        let published = self.publisher.publish(&changes, &departed);
        match published {
            Ok(snapshot) => {
                self.departed.clear();
                self.layers.rest(&owners);
                Ok(snapshot)
            }
            Err(error) => {
                self.layers.touched = owners;
                Err(error)
            }
        }
    }

    /// All there is to go on with it. Gradients that wait for the next tick are not part of it.
    pub fn state(&self) -> HierarchyState {
        let layers =
            self.layers.owners().into_iter().filter_map(|owner| {
                Some(SavedLayer { owner, state: self.layers.get(owner.level, owner.agent)?.state() })
            });
        let mut own = self.directional.state();
        self.regime.save_inputs(&mut own);
        let SavedState { tensors, numbers } = self.resonance.state();
        own.tensors.extend(tensors.into_iter().map(|(name, values)| (format!("resonance.{name}"), values)));
        for (owner, modules) in &self.mixing {
            for (i, values) in modules.iter().enumerate() {
                own.set_tensor(format!("mixing.{}.{}.{i}", owner.level, owner.agent), values.as_slice());
            }
        }
        HierarchyState {
            layers: layers.collect(),
            own,
            rest: HierarchyRest {
                seed: self.seed,
                tick: self.tick,
                version: self.snapshot().version(),
                agents: self.agents().collect(),
                resonance: numbers,
                migration: self.migration.state(),
                circuits: self.detector.state(),
                source: self.source.state(),
                regime: self.regime.state(),
                gradients: self.gradients,
                health: self.health.state(),
                provenance: self.provenance.head(),
                applied: self.applied.clone(),
            },
        }
    }

    /// Goes on from a state of a hierarchy of the same configuration and modules, and publishes it.
    ///
    /// # Errors
    /// [`Error::State`] where it is not one; the hierarchy is then to be thrown away.
    pub fn restore(&mut self, state: &HierarchyState) -> Result<(), Error> {
        let HierarchyState { layers, own, rest } = state;
        if rest.seed != self.seed {
            return Err(Error::state("seed", self.seed, rest.seed));
        }
        self.pending.clear();
        for agent in self.agents().collect::<Vec<_>>() {
            self.remove_agent(agent)?;
        }
        (self.tick, self.layers.now) = (rest.tick, rest.tick);
        for agent in &rest.agents {
            self.add_agent(*agent)?;
        }
        let owners = self.layers.owners();
        let found: Vec<LayerOwner> = layers.iter().map(|layer| layer.owner).collect();
        if owners != found {
            let show = |owners: &[LayerOwner]| format!("{} layers", owners.len());
            return Err(Error::state("layers", show(&owners), show(&found)));
        }
        for SavedLayer { owner, state } in layers {
            if let Some(layer) = self.layers.get_mut(*owner) {
                layer.restore(state)?;
            }
            self.layers.touched.insert(*owner);
        }
        self.directional.restore(own)?;
        let resonance = own
            .tensors
            .iter()
            .filter_map(|(name, values)| Some((name.strip_prefix("resonance.")?.to_owned(), values.clone())));
        self.resonance.restore(&SavedState::new(resonance.collect(), rest.resonance.clone()))?;
        self.mixing = self.saved_mixing(own)?;
        self.migration.restore(rest.migration.clone())?;
        self.detector.restore(rest.circuits.clone())?;
        self.source.restore(&rest.source)?;
        self.regime.restore(rest.regime, own)?;
        self.gradients = rest.gradients;
        self.health.restore(rest.health.clone());
        self.applied.clone_from(&rest.applied);
        self.publish()?;
        self.publisher.set_version(rest.version);
        self.provenance = ProvenanceChain::new(rest.provenance);
        Ok(())
    }

    fn saved_mixing(&self, own: &SavedState) -> Result<BTreeMap<LayerOwner, Vec<Vec<f32>>>, Error> {
        let mut mixing: BTreeMap<LayerOwner, Vec<Vec<f32>>> = BTreeMap::new();
        for (name, values) in &own.tensors {
            let Some(rest) = name.strip_prefix("mixing.") else { continue };
            let parts: Vec<&str> = rest.split('.').collect();
            let parsed = match parts.as_slice() {
                [level, agent, module] => {
                    level.parse::<Level>().ok().zip(agent.parse().ok()).zip(module.parse::<usize>().ok())
                }
                _ => None,
            };
            let Some(((level, agent), module)) = parsed else {
                return Err(Error::state(name, "a level, an agent and a module", rest));
            };
            let expected = self.ranks[level.index()].get(module).map_or(0, |rank| rank * rank);
            let modules = mixing.entry(LayerOwner { level, agent: AgentId(agent) }).or_default();
            if values.len() != expected || modules.len() != module {
                return Err(Error::state(name, format!("{expected} values"), values.len()));
            }
            modules.push(values.clone());
        }
        Ok(mixing)
    }

    /// Publishes, and gives what files hold: see [`SavedHierarchy::save`].
    ///
    /// # Errors
    /// [`Error::NotFinite`] as [`publish`](Self::publish), otherwise as [`saved`](Self::saved).
    pub fn save_state(&mut self, base_model: Option<String>) -> Result<SavedHierarchy, Error> {
        self.publish()?;
        self.saved(base_model)
    }

    /// What files hold of a hierarchy as published last; `base_model` is what they call the base model.
    ///
    /// # Errors
    /// [`Error::State`] where its state cannot be written as JSON.
    pub fn saved(&self, base_model: Option<String>) -> Result<SavedHierarchy, Error> {
        let HierarchyState { layers, own, rest } = self.state();
        let rest = serde_json::to_value(rest).map_err(|error| Error::state("rest", "what JSON can say", error))?;
        Ok(SavedHierarchy {
            snapshot: self.snapshot(),
            layers,
            own,
            rest,
            provenance: self.provenance.head(),
            base_model,
            truncations: BTreeMap::new(),
        })
    }

    /// The hierarchy that was saved, ready to go on. `resonance` must be of the kind that was used.
    ///
    /// # Errors
    /// As [`new`](Self::new) and [`restore`](Self::restore).
    pub fn from_saved(saved: &SavedHierarchy, resonance: Box<dyn Resonance>) -> Result<Self, Error> {
        let syntax = |what: &str, error: serde_json::Error| Error::state(what, "what this version writes", error);
        let config: HierarchyConfig =
            serde_json::from_str(saved.snapshot.config()).map_err(|error| syntax("config", error))?;
        let rest: HierarchyRest = serde_json::from_value(saved.rest.clone()).map_err(|error| syntax("rest", error))?;
        let shapes = saved.snapshot.shapes();
        let mut hierarchy = Self::new(config, shapes, saved.snapshot.base(), rest.seed, resonance)?;
        let state = HierarchyState { layers: saved.layers.clone(), own: saved.own.clone(), rest };
        hierarchy.restore(&state)?;
        Ok(hierarchy)
    }
}
