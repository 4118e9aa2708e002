//! Where circuits come from besides the detector.

use std::fmt::Debug;

use serde_json::Value;

use crate::{AgentId, Circuit, Error, PatternId, SnapshotId};

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
    /// Whether the detector is to know it where it has not found it by itself, or has lost sight of it. Of other circuits it takes
    /// the hit rate alone.
    pub is_proposed: bool,
}

/// A trajectory (a request, the rollouts behind a gradient) as the hierarchy saw it in a backward pass.
#[derive(Debug, Clone, Copy)]
pub struct Trajectory<'a> {
    /// When.
    pub tick: u64,
    /// Whose.
    pub agent: AgentId,
    /// What it was computed on.
    pub snapshot: SnapshotId,
    /// Circuits of all layers that were at work in the last window in which their layer was measured, each with the root mean
    /// square of `h` of its nodes in this very pass.
    pub active: &'a [(&'a Circuit, Vec<f32>)],
}

/// Something that watches trajectories and finds circuits: the seeds' WaveGen plugs in here
/// ([`LoraHierarchy::with_source`](crate::LoraHierarchy::with_source)) in place of the
/// [`TrajectoryCache`](crate::TrajectoryCache).
///
/// Open to other crates, object-safe.
///
/// # Contract
/// - `candidates` may return the same circuit again; its id is then the same, whatever the snapshot.
/// - After `consolidated` the circuit lives in a slower layer: the source frees what it keeps of it, and does not return it again
///   until it has seen it anew.
/// - A source into which the state of another was restored goes on exactly as that one; one that keeps a state overrides `state`,
///   `restore` and `summary`, and one that depends on more than what it is told here keeps no hierarchy deterministic.
pub trait CircuitSource: Debug + Send + Sync + 'static {
    /// Circuits that look stable at this tick, in a fixed order.
    fn candidates(&mut self, tick: u64) -> Vec<CircuitCandidate>;
    /// A circuit has arrived in a slower layer.
    fn consolidated(&mut self, pattern: PatternId);

    /// An agent's gradient has come; told in the order of agents, before `candidates`. By default nothing: a source may watch
    /// elsewhere.
    fn observe(&mut self, trajectory: &Trajectory<'_>) {
        let _ = trajectory;
    }

    /// An agent has left, and its own layers with it.
    fn forget_agent(&mut self, agent: AgentId) {
        let _ = agent;
    }

    /// A few numbers on which the state leaves its mark, for the digest in each record of the provenance; by default nothing.
    fn summary(&self) -> Vec<f64> {
        Vec::new()
    }

    /// All there is to restore; by default nothing.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Goes on from a state of a source of the same kind and settings.
    ///
    /// # Errors
    /// [`Error::State`] where it is not one; nothing has changed then.
    fn restore(&mut self, state: &Value) -> Result<(), Error> {
        let _ = state;
        Ok(())
    }
}
