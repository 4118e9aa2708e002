//! What a circuit is.

use serde::{Deserialize, Serialize};

use crate::{AgentId, Level};

/// Names a circuit for as long as it is known, whatever the snapshot (R40): a hash of the layer and the channels it was first
/// seen with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PatternId(pub u64);

impl PatternId {
    /// The id of a set of channels of one layer: FNV-1a over their numbers, the same on every machine.
    pub fn of(level: Level, agent: Option<AgentId>, channels: &[(usize, usize)]) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |word: u64| {
            for byte in word.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        eat(level.index() as u64);
        eat(agent.map_or(u64::MAX, |agent| agent.0));
        let mut sorted = channels.to_vec();
        sorted.sort_unstable();
        for (module, channel) in sorted {
            eat(module as u64);
            eat(channel as u64);
        }
        Self(hash)
    }
}

impl std::fmt::Display for PatternId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One channel of a circuit, and what it reads and writes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CircuitNode {
    /// Module of the hierarchy.
    pub module: usize,
    /// Channel of the circuit's layer in that module.
    pub channel: usize,
    /// Input features with the largest `|A_jk| E|x_k|`, largest first; empty where the factors were not looked at.
    pub inputs: Vec<u32>,
    /// Output neurons with the largest `|B_ij|`, largest first.
    pub outputs: Vec<u32>,
    /// Expected root mean square of `h = a_j . x` over the rows of a window.
    pub activation: f32,
}

/// What has been measured of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct CircuitScores {
    /// Of gradients at distant times, in `[-1, 1]`.
    pub gradient_autocorrelation: f64,
    /// Of usage at distant times, in `[-1, 1]`.
    pub usage_autocorrelation: f64,
    /// What counts: the gradient's, or that of usage where the circuit is used enough to be judged by it (R37).
    pub autocorrelation: f64,
    /// Share of the layer's circuits that are used no more than this one, in `(0, 1]`.
    pub usage_rank: f64,
    /// Mean strength of its edges, in `[0, 1]`; for a circuit from a [`CircuitSource`](crate::CircuitSource), the coherence
    /// that the source reports.
    pub coherence: f64,
}

/// Channels of one layer that act together: what migrates (R39).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Circuit {
    /// Its name.
    pub id: PatternId,
    /// Its layer.
    pub level: Level,
    /// Whose layer; `None` for shared ones.
    pub agent: Option<AgentId>,
    /// Its channels, by module and channel.
    pub nodes: Vec<CircuitNode>,
    /// Pairs of positions in `nodes`, the smaller first.
    pub edges: Vec<(u32, u32)>,
    /// What it does, where somebody knows.
    pub function: Option<String>,
    /// Measurements.
    pub scores: CircuitScores,
    /// Numbers in its rows of both factors; 0 where the detector does not know the modules' widths.
    pub num_parameters: usize,
    /// Sketch of the gradient that flows while it is active; empty where there is none.
    pub sketch: Vec<f32>,
}

impl Circuit {
    /// A circuit of these channels with nothing measured.
    pub fn new(level: Level, agent: Option<AgentId>, channels: &[(usize, usize)]) -> Self {
        let agent = if level.is_shared() { None } else { agent };
        let mut channels = channels.to_vec();
        channels.sort_unstable();
        channels.dedup();
        let node = |&(module, channel): &(usize, usize)| CircuitNode { module, channel, ..CircuitNode::default() };
        Self {
            id: PatternId::of(level, agent, &channels),
            level,
            agent,
            nodes: channels.iter().map(node).collect(),
            edges: Vec::new(),
            function: None,
            scores: CircuitScores::default(),
            num_parameters: 0,
            sketch: Vec::new(),
        }
    }

    /// With these measurements.
    pub fn with_scores(mut self, scores: CircuitScores) -> Self {
        self.scores = scores;
        self
    }
}
