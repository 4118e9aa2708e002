//! How migration is set up.

use serde::{Deserialize, Serialize};

use crate::Level;

/// Which queue runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationMode {
    /// Nothing moves.
    Off,
    /// Token buckets, fluid transfers, consensus between agents.
    #[default]
    Fluid,
    /// The seed's: whole circuits by autocorrelation while `current_transfer`, which loses a tenth a tick, leaves room; no
    /// consensus. What is larger than the bandwidth waits for ever, as in the seed, but the tick ends. Transfers are exact here
    /// too. For ablation.
    Seed,
}

/// What to do where neither layer has a free channel in a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Save tokens until the whole channel is paid for, then decompose the slow layer and the channel together: the slow layer
    /// keeps the best approximation of its rank, the rest takes the channel's place. Exact. Dense training fills every channel
    /// at its first step, so without this nothing would ever move.
    #[default]
    Exchange,
    /// Wait (backpressure), and give up after [`MigrationConfig::max_blocked_ticks`].
    Refuse,
}

/// What agents that did not take part get from a circuit that others share (R46).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharingMode {
    /// The circuit, unless their probe objects.
    #[default]
    Share,
    /// Nothing: it is subtracted in their private layer.
    Exact,
}

/// What two agents' circuits are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alignment {
    /// Cosine of the weight changes themselves, from the factors.
    #[default]
    Weights,
    /// Cosine of the circuits' gradient sketches; of the weight changes where one has none.
    Sketch,
}

/// From private to shared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SharingConfig {
    /// For those who did not take part.
    pub mode: SharingMode,
    /// Agents with the same circuit that it takes. Default 2; at least 2.
    pub quorum: usize,
    /// What "the same" is measured by.
    pub alignment: Alignment,
    /// Least cosine to the circuit that asks. Default 0.5.
    pub min_cosine: f64,
    /// Least horizontal consensus of the participants, where it is measured. Default 0.3.
    pub min_consensus: f64,
    /// Most that a tick may move, as a share of the participants' `|dW|_F`. Default 0.05.
    pub max_step: f64,
    /// Most that the probe loss of an agent that did not take part may rise, relative; beyond it the circuit is subtracted in
    /// its private layer. Default 0.02.
    pub max_probe_increase: f64,
    /// What a private layer that has no free channel may drop, as a share of its module's `|dW|_F`, to hold what differs from the
    /// mean. Default 1e-3. Two channels' difference has one more than either: it cannot be exact in a full layer.
    pub residual_tolerance: f64,
}

impl Default for SharingConfig {
    fn default() -> Self {
        Self {
            mode: SharingMode::default(),
            quorum: 2,
            alignment: Alignment::default(),
            min_cosine: 0.5,
            min_consensus: 0.3,
            max_step: 0.05,
            max_probe_increase: 0.02,
            residual_tolerance: 1e-3,
        }
    }
}

/// Settings of migration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MigrationConfig {
    /// Which queue.
    pub mode: MigrationMode,
    /// Share of the source layer's parameters a tick, by source: Domain, Swarm, Agent, Context. Default .0001, .001, .005, .01
    /// (seed).
    pub rates: [f64; 4],
    /// Ticks of bandwidth that can be saved. Default 16.
    pub burst_ticks: f64,
    /// Ticks of bandwidth that an emergency may borrow. Default 100: paid back when the next one is allowed.
    pub emergency_ticks: f64,
    /// What a tick of waiting adds to a request's priority. Default 0.01: after 200 ticks it is ahead of any new one.
    pub ageing: f64,
    /// Factor on the priority of a FAST_TRACK. Default 2.
    pub fast_track_boost: f64,
    /// How slow a layer a FAST_TRACK may go on to. Default Domain.
    pub fast_track_target: Level,
    /// Requests that wait at most, a channel. Default 64.
    pub max_queue: usize,
    /// Ticks without room (or without a quorum) after which a request is dropped. Default 1024.
    pub max_blocked_ticks: u64,
    /// Ticks until a request that found no room is tried again. Default 8.
    pub retry_ticks: u64,
    /// `c` of R47: what moves is charged `max(parameters / source parameters, c |T|_F / |dW|_F)`. Default 1; 0 charges parameters
    /// alone.
    pub change_weight: f64,
    /// Part of a module's `|dW|_F` that compression may drop where it finds no place for it. Default 1e-5; 0 for never.
    pub truncation_tolerance: f64,
    /// Where both layers are full.
    pub when_full: WhenFull,
    /// From private to shared.
    pub sharing: SharingConfig,
    /// Events kept until somebody takes them. Default 4096; the oldest go first.
    pub max_events: usize,
}

impl Default for MigrationConfig {
    fn default() -> Self {
        Self {
            mode: MigrationMode::default(),
            rates: [0.0001, 0.001, 0.005, 0.01],
            burst_ticks: 16.0,
            emergency_ticks: 100.0,
            ageing: 0.01,
            fast_track_boost: 2.0,
            fast_track_target: Level::Domain,
            max_queue: 64,
            max_blocked_ticks: 1024,
            retry_ticks: 8,
            change_weight: 1.0,
            truncation_tolerance: 1e-5,
            when_full: WhenFull::default(),
            sharing: SharingConfig::default(),
            max_events: 4096,
        }
    }
}
