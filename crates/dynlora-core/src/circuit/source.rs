//! Where circuits come from besides the detector.

use std::fmt::Debug;

use crate::{Circuit, PatternId};

/// A circuit that a source has seen.
#[derive(Debug, Clone, PartialEq)]
pub struct CircuitCandidate {
    /// What; its layer and channels count, its scores are measured by the detector.
    pub circuit: Circuit,
    /// Share of trajectories on which it occurs, in `[0, 1]`. It raises the circuit's usage and nothing else (R38): being
    /// frequent makes nothing stable.
    pub hit_rate: f64,
    /// How alike its occurrences are, in `[-1, 1]`.
    pub coherence: f64,
}

/// Something that watches trajectories and finds circuits: the seeds' WaveGen plugs in here.
///
/// Open to other crates, object-safe.
///
/// # Contract
/// - `candidates` may return the same circuit again; its id is then the same, whatever the snapshot.
/// - After `consolidated` the circuit lives in a slower layer: the source frees what it keeps of it, and does not return it again
///   until it has seen it anew.
pub trait CircuitSource: Debug + Send + Sync + 'static {
    /// Circuits that look stable at this tick, in a fixed order.
    fn candidates(&mut self, tick: u64) -> Vec<CircuitCandidate>;
    /// A circuit has arrived in a slower layer.
    fn consolidated(&mut self, pattern: PatternId);
}
