//! What a check looks at: measurements now, and counters since the beginning of the run.

use serde::{Deserialize, Serialize};

use crate::{LayerMeasurement, LayerOwner, Level, StalenessCounters};

/// What a layer is measured at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerVitals {
    /// Which layer.
    pub owner: LayerOwner,
    /// Entropy, screening, density.
    pub measurement: LayerMeasurement,
    /// `alpha_eff`.
    pub effective_inertia: f64,
    /// Ticks over which a free channel fades to 1/e.
    pub time_constant: f64,
}

/// Counters of a migration channel since the beginning of the run, and its queue now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChannelVitals {
    /// The channel leads from this level to the next slower one.
    pub from: Level,
    /// Circuits in the queue now.
    pub backlog: u64,
    /// Migrations requested.
    pub requests: u64,
    /// Migrations refused.
    pub rejections: u64,
    /// Migrations that were begun.
    pub started: u64,
    /// Ticks that those waited, summed.
    pub waited_ticks: u64,
}

/// Counters of resonance since the beginning of the run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ResonanceVitals {
    /// Windows of vertical resonance that were judged.
    pub operations: u64,
    /// Of these, FAST_TRACK.
    pub fast_tracks: u64,
    /// Of these, CONFLICT.
    pub conflicts: u64,
    /// Vertical alignments in units of their noise, summed: each is about standard normal where there is no signal.
    pub z_sum: f64,
    /// How many.
    pub z_count: u64,
}

/// Gradients since the beginning of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GradientVitals {
    /// By age.
    pub staleness: StalenessCounters,
    /// Refused for a number that is not finite, a wrong shape or an unknown agent; not among [`staleness`](Self::staleness).
    pub malformed: u64,
}

/// What a check looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthInput {
    /// The tick.
    pub tick: u64,
    /// The layers.
    pub layers: Vec<LayerVitals>,
    /// The migration channels.
    pub channels: Vec<ChannelVitals>,
    /// Resonance.
    pub resonance: ResonanceVitals,
    /// Gradients.
    pub gradients: GradientVitals,
}
