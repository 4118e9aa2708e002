//! The layers of a hierarchy over time: rows and the time axis that all drawings of them share.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::escape::escape;
use super::number::number;
use super::run_log::{Record, RunLog};
use super::scale::Scale;

/// Levels, slowest first.
pub(crate) const LEVELS: [&str; 5] = ["foundation", "domain", "swarm", "agent", "context"];
/// Width of the drawing, the place for names at its left, and the height of a layer's row.
pub(crate) const WIDTH: f64 = 1080.0;
const LEFT: f64 = 116.0;
const RIGHT: f64 = 10.0;
pub(crate) const ROW_HEIGHT: f64 = 22.0;
/// Agents with rows of their own.
const MOST_AGENTS: usize = 8;

/// What a layer was like at a step; `None` where the log does not say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LayerSample {
    pub(crate) step: f64,
    pub(crate) time_constant: Option<f64>,
    pub(crate) screening_rate: Option<f64>,
}

/// A layer over time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayerRow {
    pub(crate) layer: LayerKey,
    pub(crate) samples: Vec<LayerSample>,
}

impl LayerRow {
    pub(crate) fn label(&self) -> String {
        self.layer.label()
    }
}

/// Place of the level in [`LEVELS`], and the agent of a private layer. Agents first: their two layers stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LayerKey {
    pub(crate) agent: Option<u64>,
    pub(crate) level: usize,
}

impl LayerKey {
    /// Reads `{"level": .., "agent": ..}`; `None` for what is no layer.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let name = value.get("level")?.as_str()?;
        let level = LEVELS.iter().position(|level| *level == name)?;
        let agent = (level > 2).then(|| value.get("agent").and_then(Value::as_u64).unwrap_or(0));
        Some(Self { agent, level })
    }

    pub(crate) fn label(self) -> String {
        match self.agent {
            Some(agent) => format!("{} {agent}", LEVELS[self.level]),
            None => LEVELS[self.level].to_owned(),
        }
    }
}

/// Time from left to right.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(crate) x: Scale,
    /// Where the last sample's colour ends.
    pub(crate) end: f64,
    pub(crate) regimes: Vec<f64>,
}

impl Axis {
    pub(crate) fn new(log: &RunLog) -> Self {
        let (first, last) = log.steps();
        let mut sampled: Vec<f64> = log.events_of("layers").chain(log.events_of("health")).map(|e| e.step).collect();
        sampled.sort_by(f64::total_cmp);
        sampled.dedup();
        let spacing = match sampled.as_slice() {
            [.., before, last] => last - before,
            _ => 1.0,
        };
        let end = last + spacing;
        let regimes = log.events_of("regime").map(|event| event.step).collect();
        Self { x: Scale::new((first, end), (LEFT, WIDTH - RIGHT)), end, regimes }
    }
}

/// Every layer that the log tells of, shared ones first, and how many agents were left out.
pub(crate) fn layer_rows(log: &RunLog) -> (Vec<LayerRow>, usize) {
    let mut found: BTreeMap<LayerKey, Vec<LayerSample>> = BTreeMap::new();
    // Where a step has both kinds of event, what one does not say is in the other.
    for event in log.events.iter().filter(|event| matches!(event.text("event"), Some("layers" | "health"))) {
        for value in event.array("layers") {
            let Some(layer) = LayerKey::of(value) else { continue };
            let finite = |key: &str| value.get(key).and_then(Value::as_f64).filter(|value| value.is_finite());
            let (time_constant, screening_rate) = (finite("time_constant"), finite("screening_rate"));
            let samples = found.entry(layer).or_default();
            match samples.last_mut().filter(|last| last.step == event.step) {
                Some(last) => {
                    last.time_constant = time_constant.or(last.time_constant);
                    last.screening_rate = screening_rate.or(last.screening_rate);
                }
                None => samples.push(LayerSample { step: event.step, time_constant, screening_rate }),
            }
        }
    }
    let mut agents: Vec<u64> = found.keys().filter_map(|layer| layer.agent).collect();
    agents.dedup();
    let left_out = agents.len().saturating_sub(MOST_AGENTS);
    agents.truncate(MOST_AGENTS);
    let is_shown = |layer: &LayerKey| layer.agent.is_none_or(|agent| agents.contains(&agent));
    let rows = found.into_iter().filter(|(layer, _)| is_shown(layer));
    (rows.map(|(layer, samples)| LayerRow { layer, samples }).collect(), left_out)
}

/// Layers that migrations are drawn between: those with samples, or all levels that migrations name.
pub(crate) fn layers_of_migrations(rows: &[LayerRow], migrations: &[&Record]) -> Vec<LayerKey> {
    let mut layers: Vec<LayerKey> = rows.iter().map(|row| row.layer).collect();
    if layers.is_empty() {
        let ends = migrations.iter().flat_map(|event| ["from", "to"].map(|end| event.fields.get(end)));
        layers = ends.flatten().filter_map(LayerKey::of).collect();
        layers.sort();
        layers.dedup();
        layers.truncate(3 + 2 * MOST_AGENTS);
    }
    layers
}

/// Names at the left, time below, regimes across, and `inside` between them.
pub(crate) fn frame(labels: &[String], axis: &Axis, inside: &str) -> String {
    let bottom = labels.len() as f64 * ROW_HEIGHT;
    let height = bottom + 20.0;
    let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" class="wide">"#);
    for (i, label) in labels.iter().enumerate() {
        let middle = (i as f64 + 0.5) * ROW_HEIGHT;
        let _ = write!(svg, r#"<text x="{}" y="{:.1}" class="e">{}</text>"#, LEFT - 10.0, middle + 4.0, escape(label));
    }
    svg.push_str(inside);
    for step in &axis.regimes {
        let at = axis.x.at(*step);
        let _ = write!(
            svg,
            r#"<path class="regime" d="M{at:.1} 0V{bottom}"><title>step {}: a new regime</title></path>"#,
            number(*step)
        );
    }
    for tick in axis.x.ticks(10) {
        let at = axis.x.at(tick);
        let _ = write!(svg, r#"<text x="{at:.1}" y="{:.1}" class="m">{}</text>"#, height - 4.0, number(tick));
    }
    svg + "</svg>"
}
