//! What inference reads: an immutable copy of all layers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::{AgentId, LayerFactors, Level, ModuleFactors, ModuleShape};

/// A BLAKE3 digest that names the content of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub [u8; 32]);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotId({self})")
    }
}

/// The layers of one agent, frozen.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentFactors {
    /// [`Level::Agent`] and [`Level::Context`].
    pub layers: [LayerFactors; 2],
}

/// A frozen copy of the hierarchy. Cloning shares everything.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Counts publications.
    pub(crate) version: u64,
    pub(crate) id: SnapshotId,
    pub(crate) shapes: Arc<[ModuleShape]>,
    /// Foundation, Domain, Swarm.
    pub(crate) shared: [LayerFactors; 3],
    pub(crate) agents: BTreeMap<AgentId, Arc<AgentFactors>>,
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

    /// The agents that have layers of their own.
    pub fn agents(&self) -> impl Iterator<Item = AgentId> + '_ {
        self.agents.keys().copied()
    }

    /// One layer as `agent` sees it; `None` for a private layer of an unknown agent.
    pub fn layer(&self, level: Level, agent: AgentId) -> Option<&LayerFactors> {
        match level.is_shared() {
            true => Some(&self.shared[level.index()]),
            false => self.agents.get(&agent).map(|private| &private.layers[level.index() - 3]),
        }
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
