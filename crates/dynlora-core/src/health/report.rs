//! What a check says.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Finding, Severity};
use crate::{LayerOwner, Level};

/// The ratios of a migration channel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChannelHealth {
    /// The channel's faster end.
    pub from: Level,
    /// Circuits in the queue.
    pub backlog: u64,
    /// Mean ticks until a migration is begun.
    pub wait_ticks: Option<f64>,
    /// Share of requests that are refused.
    pub rejection_rate: Option<f64>,
}

/// What a layer reports. Ratios are absent where there is too little data or the measurement is no number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LayerHealth {
    /// Which layer.
    pub layer: LayerOwner,
    /// Entropy over its optimum.
    pub entropy_ratio: Option<f64>,
    /// Share of parameters that are SCREENED.
    pub screening_rate: Option<f64>,
    /// `alpha_eff`.
    pub effective_inertia: Option<f64>,
    /// Ticks over which a free channel fades to 1/e.
    pub time_constant: Option<f64>,
    /// The worst finding about the layer.
    pub severity: Severity,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The tick.
    pub tick: u64,
    /// The worst finding.
    pub severity: Severity,
    /// The layers.
    pub layers: Vec<LayerHealth>,
    /// The migration channels.
    pub channels: Vec<ChannelHealth>,
    /// Share of windows in conflict.
    pub conflict_rate: Option<f64>,
    /// Share of windows that are fast-tracked.
    pub fast_track_rate: Option<f64>,
    /// Standard errors of the mean vertical alignment from none.
    pub resonance_z: Option<f64>,
    /// Share of gradients that are refused.
    pub refusal_rate: Option<f64>,
    /// Share of accepted gradients of an older snapshot.
    pub stale_rate: Option<f64>,
    /// All that is outside its band, worst first.
    pub findings: Vec<Finding>,
}

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>, decimals: usize| match value {
            Some(value) => format!("{value:.decimals$}"),
            None => "-".to_owned(),
        };
        let percent = |value: Option<f64>| match value {
            Some(value) => format!("{:.1} %", 100.0 * value),
            None => "-".to_owned(),
        };
        writeln!(f, "tick {}: {}", self.tick, self.severity)?;
        writeln!(
            f,
            "{:<12} {:>20} {:>8} {:>9} {:>9} {:>12}  health",
            "layer", "agent", "entropy", "screened", "inertia", "time const."
        )?;
        for layer in &self.layers {
            let agent = if layer.layer.level.is_shared() { "-".to_owned() } else { layer.layer.agent.to_string() };
            writeln!(
                f,
                "{:<12} {agent:>20} {:>8} {:>9} {:>9} {:>12}  {}",
                layer.layer.level,
                number(layer.entropy_ratio, 2),
                percent(layer.screening_rate),
                number(layer.effective_inertia, 4),
                number(layer.time_constant, 0),
                layer.severity
            )?;
        }
        writeln!(f, "{:<12} {:>20} {:>8} {:>9}", "from", "to", "backlog", "wait")?;
        for channel in &self.channels {
            let to = channel.from.slower().map_or("-", Level::name);
            let (from, wait) = (channel.from, number(channel.wait_ticks, 1));
            writeln!(f, "{from:<12} {to:>20} {:>8} {wait:>9}", channel.backlog)?;
        }
        let (z, refused) = (number(self.resonance_z, 1), percent(self.refusal_rate));
        writeln!(
            f,
            "conflict {}, fast track {}, alignment z {z}; gradients: refused {refused}, stale {}",
            percent(self.conflict_rate),
            percent(self.fast_track_rate),
            percent(self.stale_rate),
        )?;
        for finding in &self.findings {
            writeln!(f, "{:<10} {finding}", finding.severity())?;
        }
        Ok(())
    }
}
