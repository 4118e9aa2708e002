//! What inference reads: an immutable copy of all layers, named by its content.
//!
//! # Identity
//! A BLAKE3 tree over framed parts ([`ContentHasher`](crate::ContentHasher)), each kind of node under its own tag:
//!
//! - leaf, one a module of a layer: level, module name, `f32`, `d_in`, `d_out`, rank, `A` and `B^T` as little-endian bytes;
//! - layer: level and its leaves in the hierarchy's order;
//! - agent: its number and its two layers;
//! - root: digest of the base model's content, the configuration as canonical JSON, the shared layers, the agents.
//!
//! Neither time nor version nor phases go in: two snapshots that compute the same have the same id. Phases, moments and the
//! like have [a digest of their own](crate::state_hash).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{AgentId, ContentHash, ContentHasher, Error, LayerFactors, Level, ModuleFactors, ModuleShape, SnapshotId};

/// Agents are kept in this many groups by their number, so that a change of one copies and digests one group, not all.
const GROUPS: u64 = 256;

/// A frozen copy of the hierarchy. Cloning shares everything; a layer is freed with the last snapshot that has it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Counts publications.
    pub(crate) version: u64,
    pub(crate) id: SnapshotId,
    pub(crate) identity: Arc<SnapshotIdentity>,
    pub(crate) shapes: Arc<[ModuleShape]>,
    /// Foundation, Domain, Swarm.
    pub(crate) shared: [Arc<LayerSlot>; 3],
    pub(crate) agents: AgentGroups,
}

/// What of an identity is not in the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotIdentity {
    /// Digest of the base model's content.
    pub(crate) base: ContentHash,
    /// The configuration as canonical JSON.
    pub(crate) config: String,
}

/// A layer's factors and the digests that name them.
#[derive(Debug)]
pub(crate) struct LayerSlot {
    factors: LayerFactors,
    leaves: Vec<ContentHash>,
    pub(crate) node: ContentHash,
}

impl LayerSlot {
    /// A slot for `factors`. What `previous` also holds is not digested again: a snapshot never changes what it holds, so a
    /// module is the same if it lies at the same place.
    ///
    /// # Errors
    /// [`Error::Module`] where the factors do not have the modules' shapes, [`Error::NotFinite`].
    pub(crate) fn build(
        owner: LayerOwner,
        shapes: &[ModuleShape],
        factors: &LayerFactors,
        previous: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, Error> {
        if factors.len() != shapes.len() {
            return Err(Error::Layer {
                layer: owner.to_string(),
                what: "modules",
                expected: shapes.len().to_string(),
                found: factors.len().to_string(),
            });
        }
        let mut leaves = Vec::with_capacity(factors.len());
        let mut is_new = previous.is_none();
        for (module, (shape, pair)) in shapes.iter().zip(factors).enumerate() {
            let known = previous.filter(|slot| Arc::ptr_eq(&slot.factors[module], pair));
            leaves.push(match known {
                Some(slot) => slot.leaves[module],
                None => {
                    is_new = true;
                    check(shape, pair)?;
                    let (digest, is_finite) = leaf(owner.level, shape, pair);
                    if !is_finite {
                        return Err(Error::NotFinite { what: format!("module `{}` of {owner}", shape.name) });
                    }
                    digest
                }
            });
        }
        Ok(match previous {
            Some(slot) if !is_new => Arc::clone(slot),
            _ => {
                let node = layer_node(owner.level, &leaves);
                Arc::new(Self { factors: factors.clone(), leaves, node })
            }
        })
    }

    fn is_whole(&self, level: Level, shapes: &[ModuleShape]) -> bool {
        let same = |((shape, pair), known): ((&ModuleShape, &Arc<ModuleFactors>), &ContentHash)| {
            leaf(level, shape, pair).0 == *known
        };
        shapes.iter().zip(&self.factors).zip(&self.leaves).all(same) && layer_node(level, &self.leaves) == self.node
    }
}

/// A layer by its level and, for a private one, its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerOwner {
    /// The level.
    pub level: Level,
    /// Whose it is; of no meaning for shared levels.
    pub agent: AgentId,
}

impl std::fmt::Display for LayerOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.level.is_shared() {
            true => write!(f, "the {} layer", self.level),
            false => write!(f, "the {} layer of agent {}", self.level, self.agent),
        }
    }
}

fn check(shape: &ModuleShape, pair: &ModuleFactors) -> Result<(), Error> {
    let wrong = |what, expected: String, found: String| Error::module(&shape.name, what, expected, found);
    if (pair.d_in, pair.d_out) != (shape.d_in, shape.d_out) {
        let widths = |d_in, d_out| format!("{d_in} to {d_out}");
        return Err(wrong("widths", widths(shape.d_in, shape.d_out), widths(pair.d_in, pair.d_out)));
    }
    if pair.rank.checked_mul(pair.d_in) != Some(pair.a.len()) {
        return Err(wrong("values in A", format!("{} x {}", pair.rank, pair.d_in), pair.a.len().to_string()));
    }
    if pair.rank.checked_mul(pair.d_out) != Some(pair.b.len()) {
        return Err(wrong("values in B", format!("{} x {}", pair.d_out, pair.rank), pair.b.len().to_string()));
    }
    Ok(())
}

/// The digest of a module's factors and whether all of them are finite.
fn leaf(level: Level, shape: &ModuleShape, pair: &ModuleFactors) -> (ContentHash, bool) {
    let mut hasher = ContentHasher::new("dynlora-leaf-v1");
    hasher.text(level.name()).text(&shape.name).text("f32");
    hasher.number(pair.d_in as u64).number(pair.d_out as u64).number(pair.rank as u64);
    let is_finite = hasher.floats_if_finite(&pair.a) & hasher.floats_if_finite(&pair.b);
    (hasher.finish(), is_finite)
}

fn layer_node(level: Level, leaves: &[ContentHash]) -> ContentHash {
    let mut hasher = ContentHasher::new("dynlora-layer-v1");
    hasher.text(level.name()).number(leaves.len() as u64);
    leaves.iter().for_each(|leaf| {
        hasher.digest(*leaf);
    });
    hasher.finish()
}

/// The private layers of one agent.
#[derive(Debug)]
pub(crate) struct AgentSlot {
    /// [`Level::Agent`] and [`Level::Context`].
    pub(crate) layers: [Arc<LayerSlot>; 2],
    node: ContentHash,
}

impl AgentSlot {
    pub(crate) fn new(agent: AgentId, layers: [Arc<LayerSlot>; 2]) -> Arc<Self> {
        let node = agent_node(agent, &layers);
        Arc::new(Self { layers, node })
    }
}

fn agent_node(agent: AgentId, layers: &[Arc<LayerSlot>; 2]) -> ContentHash {
    let mut hasher = ContentHasher::new("dynlora-agent-v1");
    hasher.number(agent.0).digest(layers[0].node).digest(layers[1].node).finish()
}

/// Agents by number, in groups that snapshots share.
#[derive(Debug, Clone)]
pub(crate) struct AgentGroups {
    /// By `number % GROUPS`.
    groups: Arc<[Arc<AgentGroup>]>,
}

#[derive(Debug, Clone, Default)]
struct AgentGroup {
    /// Sorted by number.
    agents: Vec<(AgentId, Arc<AgentSlot>)>,
    /// Of a group with agents.
    node: Option<ContentHash>,
}

impl AgentGroup {
    fn digest(&self) -> Option<ContentHash> {
        let mut hasher = ContentHasher::new("dynlora-agents-v1");
        hasher.number(self.agents.len() as u64);
        self.agents.iter().for_each(|(_, slot)| {
            hasher.digest(slot.node);
        });
        (!self.agents.is_empty()).then(|| hasher.finish())
    }
}

impl Default for AgentGroups {
    fn default() -> Self {
        let empty = Arc::new(AgentGroup::default());
        Self { groups: vec![empty; GROUPS as usize].into() }
    }
}

impl AgentGroups {
    pub(crate) fn get(&self, agent: AgentId) -> Option<&Arc<AgentSlot>> {
        let agents = &self.groups[(agent.0 % GROUPS) as usize].agents;
        agents.binary_search_by_key(&agent, |entry| entry.0).ok().map(|place| &agents[place].1)
    }

    /// With these agents put in place of what they were, `None` for those that leave.
    pub(crate) fn with(&self, changes: impl IntoIterator<Item = (AgentId, Option<Arc<AgentSlot>>)>) -> Self {
        let mut groups = self.groups.to_vec();
        let mut touched = Vec::new();
        for (agent, slot) in changes {
            let index = (agent.0 % GROUPS) as usize;
            touched.push(index);
            let agents = &mut Arc::make_mut(&mut groups[index]).agents;
            match (agents.binary_search_by_key(&agent, |entry| entry.0), slot) {
                (Ok(place), Some(slot)) => agents[place].1 = slot,
                (Err(place), Some(slot)) => agents.insert(place, (agent, slot)),
                (Ok(place), None) => drop(agents.remove(place)),
                (Err(_), None) => {}
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for index in touched {
            let group = Arc::make_mut(&mut groups[index]);
            group.node = group.digest();
        }
        Self { groups: groups.into() }
    }

    fn iter(&self) -> impl Iterator<Item = (AgentId, &Arc<AgentSlot>)> {
        self.groups.iter().flat_map(|group| group.agents.iter().map(|(agent, slot)| (*agent, slot)))
    }

    fn is_whole(&self, shapes: &[ModuleShape]) -> bool {
        let layers_are = |slot: &AgentSlot| {
            Level::PRIVATE.iter().zip(&slot.layers).all(|(level, layer)| layer.is_whole(*level, shapes))
        };
        self.iter().all(|(agent, slot)| layers_are(slot) && agent_node(agent, &slot.layers) == slot.node)
            && self.groups.iter().all(|group| group.digest() == group.node)
    }
}

pub(crate) fn root(identity: &SnapshotIdentity, shared: &[Arc<LayerSlot>; 3], agents: &AgentGroups) -> SnapshotId {
    let mut hasher = ContentHasher::new("dynlora-v1");
    hasher.digest(identity.base).text(&identity.config);
    shared.iter().for_each(|layer| {
        hasher.digest(layer.node);
    });
    for (index, group) in agents.groups.iter().enumerate() {
        if let Some(node) = group.node {
            hasher.number(index as u64).digest(node);
        }
    }
    SnapshotId(hasher.finish().0)
}

/// All five layers of one module as one pair: channels of Foundation, Domain, Swarm, Agent and Context, one after another.
///
/// A stacked forward is one adapter's: `y = W x + B (A x)`.
#[derive(Debug, Clone, PartialEq)]
pub struct FusedFactors {
    /// The pair; its rank is the sum of the layers'.
    pub factors: ModuleFactors,
    /// First channel of each level, and the total at the end: level `l` owns channels `offsets[l]..offsets[l + 1]`.
    pub offsets: [usize; 6],
}

impl FusedFactors {
    /// Rows of `A` and of `B^T` of one level: views into the pair.
    pub fn layer(&self, level: Level) -> (&[f32], &[f32]) {
        let channels = self.offsets[level.index()]..self.offsets[level.index() + 1];
        let ModuleFactors { d_in, d_out, a, b, .. } = &self.factors;
        (&a[channels.start * d_in..channels.end * d_in], &b[channels.start * d_out..channels.end * d_out])
    }
}

impl Snapshot {
    /// Counts publications; gradients say which one they were computed on.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Names the content: part of every key of a cache over this snapshot.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// The modules, in the hierarchy's order.
    pub fn shapes(&self) -> &Arc<[ModuleShape]> {
        &self.shapes
    }

    /// The agents that have layers of their own, by their number.
    pub fn agents(&self) -> impl Iterator<Item = AgentId> + '_ {
        let mut agents: Vec<AgentId> = self.agents.iter().map(|(agent, _)| agent).collect();
        agents.sort_unstable();
        agents.into_iter()
    }

    /// Digest of the base model's content, as the publisher was told.
    pub fn base(&self) -> ContentHash {
        self.identity.base
    }

    /// The configuration as canonical JSON.
    pub fn config(&self) -> &str {
        &self.identity.config
    }

    /// Names what one agent sees: all that its logits depend on, and no other agent's layers. The key for its cached keys
    /// and values: what another agent learns in private leaves it as it is. `None` for an unknown agent.
    pub fn stack_id(&self, agent: AgentId) -> Option<SnapshotId> {
        let private = self.agents.get(agent)?;
        let mut hasher = ContentHasher::new("dynlora-stack-v1");
        hasher.digest(self.identity.base).text(&self.identity.config);
        self.shared.iter().chain(&private.layers).for_each(|layer| {
            hasher.digest(layer.node);
        });
        Some(SnapshotId(hasher.finish().0))
    }

    /// Digest of one layer's factors, without whose it is. `None` for a private layer of an unknown agent.
    pub fn layer_hash(&self, level: Level, agent: AgentId) -> Option<ContentHash> {
        self.slot(level, agent).map(|slot| slot.node)
    }

    /// Whether the content still has the digests it was published with: everything is digested again.
    pub fn is_whole(&self) -> bool {
        Level::SHARED.iter().zip(&self.shared).all(|(level, layer)| layer.is_whole(*level, &self.shapes))
            && self.agents.is_whole(&self.shapes)
            && root(&self.identity, &self.shared, &self.agents) == self.id
    }

    fn slot(&self, level: Level, agent: AgentId) -> Option<&Arc<LayerSlot>> {
        match level.is_shared() {
            true => Some(&self.shared[level.index()]),
            false => self.agents.get(agent).map(|private| &private.layers[level.index() - 3]),
        }
    }

    /// One layer as `agent` sees it; `None` for a private layer of an unknown agent.
    pub fn layer(&self, level: Level, agent: AgentId) -> Option<&LayerFactors> {
        self.slot(level, agent).map(|slot| &slot.factors)
    }

    /// The stack of one agent, fused: one pair a module. `None` for an unknown agent.
    pub fn fused(&self, agent: AgentId) -> Option<Vec<FusedFactors>> {
        let mut layers = Vec::with_capacity(5);
        for level in Level::ALL {
            layers.push(self.layer(level, agent)?);
        }
        let fuse = |module: usize| {
            let parts: Vec<&ModuleFactors> = layers.iter().map(|layer| &*layer[module]).collect();
            let mut offsets = [0; 6];
            for (i, part) in parts.iter().enumerate() {
                offsets[i + 1] = offsets[i] + part.rank;
            }
            let factors = ModuleFactors {
                d_in: parts[0].d_in,
                d_out: parts[0].d_out,
                rank: offsets[5],
                a: parts.iter().flat_map(|part| part.a.iter().copied()).collect(),
                b: parts.iter().flat_map(|part| part.b.iter().copied()).collect(),
            };
            FusedFactors { factors, offsets }
        };
        Some((0..self.shapes.len()).map(fuse).collect())
    }
}
