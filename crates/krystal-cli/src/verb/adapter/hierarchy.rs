//! A saved hierarchy: a folder with `dynlora.json` in place of a single adapter.

use std::path::{Path, PathBuf};

use anyhow::bail;
use dynlora_resonance::{ResonanceConfig, ResonanceEngine};
use krystal::dynlora::{
    AgentId, Level, LoraHierarchy, MigrationEvent, ModuleShape, PlainMean, Resonance, SavedHierarchy,
};
use krystal::lm::module_shapes;
use serde_json::{Value, json};

use super::inspect::update_norm;
use crate::model::open_model;
use crate::terminal::Terminal;

/// Agents that are shown one by one.
const MOST_AGENTS: usize = 4;
/// Entries of the log of migrations that are shown.
const MOST_MIGRATIONS: usize = 8;
/// Characters of a digest that tell it from others.
const SHORT: usize = 12;
/// Width of a bar that stands for one.
const BAR: usize = 10;

/// The folder of the hierarchy that `adapter` is or holds, as a run's does.
pub(super) fn folder(adapter: &Path) -> Option<PathBuf> {
    [adapter.to_owned(), adapter.join("hierarchy")].into_iter().find(|folder| folder.join("dynlora.json").is_file())
}

/// What there is to say of a layer.
struct Layer {
    level: Level,
    /// Of a private layer.
    agent: Option<AgentId>,
    ranks: (usize, usize),
    parameters: usize,
    norm: f64,
    dynamics: Option<Dynamics>,
}

struct Dynamics {
    effective_inertia: f64,
    /// Ticks; infinite for a layer that forgets nothing.
    time_constant: f64,
    screening_rate: Option<f64>,
}

/// Prints what is in it.
pub(super) fn inspect(folder: &Path, terminal: Terminal) -> anyhow::Result<()> {
    let saved = SavedHierarchy::load(folder, None)?;
    let restored = restore(&saved);
    let hierarchy = restored.as_ref().ok();
    let agents: Vec<AgentId> = saved.snapshot.agents().collect();
    let mut layers = Vec::new();
    for level in Level::SHARED {
        layers.extend(layer(&saved, hierarchy, level, None));
    }
    for agent in &agents {
        for level in Level::PRIVATE {
            layers.extend(layer(&saved, hierarchy, level, Some(*agent)));
        }
    }
    if terminal.json {
        terminal.json(&object(&saved, restored.as_ref(), &agents, &layers));
        return Ok(());
    }
    for line in heading(&saved, hierarchy, agents.len()) {
        terminal.line(&line);
    }
    terminal.line("");
    for line in table(&layers, &agents) {
        terminal.line(&line);
    }
    match &restored {
        Ok(hierarchy) => migrations(hierarchy).iter().for_each(|line| terminal.line(line)),
        Err(error) => terminal.line(&format!("\nno inertia, time constants and screening: {error:#}")),
    }
    Ok(())
}

/// Compares every file with its digest, the factors with the snapshot's name, the state with what this version can go on
/// from, and the modules with a model's.
pub(super) fn verify(folder: &Path, model: Option<&Path>, terminal: Terminal) -> anyhow::Result<()> {
    let shapes: Option<Vec<ModuleShape>> = match model {
        Some(path) => Some(targeted(folder, module_shapes(open_model(path, terminal)?.decoder.config()))?),
        None => None,
    };
    let saved = SavedHierarchy::load(folder, shapes.as_deref())?;
    let snapshot = &saved.snapshot;
    if !snapshot.is_whole() {
        bail!("{}: expected factors with the digests of snapshot {}, found others", folder.display(), snapshot.id());
    }
    let hierarchy = restore(&saved)?;
    let found = hierarchy.snapshot().id();
    if found != snapshot.id() {
        bail!("{}: expected its state to give snapshot {}, found {found}", folder.display(), snapshot.id());
    }
    let (agents, modules) = (snapshot.agents().count(), snapshot.shapes().len());
    terminal.line(&format!("{modules} modules, {agents} agents: every file has the digest that was saved with it"));
    terminal.line(&format!("snapshot {} is what its factors are named by, and what its state gives", snapshot.id()));
    if model.is_some() {
        terminal.line("its modules are the model's");
    }
    terminal.json(&json!({
        "snapshot": snapshot.id().to_string(), "version": snapshot.version(), "modules": modules, "agents": agents,
        "fits_model": model.is_some(),
    }));
    Ok(())
}

/// Those modules of a model that the hierarchy adapts: it may leave some out, but must not have others.
fn targeted(folder: &Path, shapes: Vec<ModuleShape>) -> anyhow::Result<Vec<ModuleShape>> {
    let saved = SavedHierarchy::load(folder, None)?;
    let adapted = |shape: &ModuleShape| saved.snapshot.shapes().iter().any(|other| other.name == shape.name);
    Ok(shapes.into_iter().filter(adapted).collect())
}

/// The hierarchy, with the resonance it was saved with.
fn restore(saved: &SavedHierarchy) -> anyhow::Result<LoraHierarchy> {
    let engine: Box<dyn Resonance> = Box::new(ResonanceEngine::new(ResonanceConfig::default())?);
    LoraHierarchy::from_saved(saved, engine).or_else(|error| {
        // Of two failures the first is the one to tell: most hierarchies have an engine.
        LoraHierarchy::from_saved(saved, Box::new(PlainMean::default())).map_err(|_| error.into())
    })
}

fn layer(
    saved: &SavedHierarchy,
    hierarchy: Option<&LoraHierarchy>,
    level: Level,
    agent: Option<AgentId>,
) -> Option<Layer> {
    let owner = agent.unwrap_or_default();
    // Without agents the shared layers have no adapter of their own, only factors.
    let factors = saved.snapshot.layer(level, owner)?;
    let adapter = saved.snapshot.layer_adapter(level, owner)?;
    let ranks = factors.iter().map(|pair| pair.rank);
    let ranks = ranks.fold((usize::MAX, 0), |(low, high), rank| (low.min(rank), high.max(rank)));
    let dynamics = hierarchy.and_then(|hierarchy| hierarchy.layer(level, owner)).map(|layer| Dynamics {
        effective_inertia: layer.effective_inertia(),
        time_constant: layer.time_constant(),
        screening_rate: layer.measure().screening_rate,
    });
    Some(Layer {
        level,
        agent,
        ranks,
        parameters: factors.iter().map(|pair| pair.num_parameters()).sum(),
        norm: adapter.modules.iter().map(|module| update_norm(module).powi(2)).sum::<f64>().sqrt(),
        dynamics,
    })
}

fn short(digest: &impl ToString) -> String {
    digest.to_string().chars().take(SHORT).collect()
}

fn heading(saved: &SavedHierarchy, hierarchy: Option<&LoraHierarchy>, agents: usize) -> Vec<String> {
    let snapshot = &saved.snapshot;
    let tick = match (hierarchy, saved.rest.get("tick").and_then(Value::as_u64)) {
        (Some(hierarchy), _) => format!("tick {}, {} regimes remembered", hierarchy.n_ticks(), hierarchy.n_regimes()),
        (None, Some(tick)) => format!("tick {tick}"),
        (None, None) => "tick unknown".to_owned(),
    };
    let head = &saved.provenance;
    vec![
        format!("snapshot {}, version {}, {tick}", short(&snapshot.id()), snapshot.version()),
        format!("{} modules, {agents} agents, base {}", snapshot.shapes().len(), short(&snapshot.base())),
        format!("provenance: {} records, link {}, root {}", head.n_records, short(&head.link), short(&head.root)),
    ]
}

fn table(layers: &[Layer], agents: &[AgentId]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<13} {:>7} {:>11} {:>10} {:>8} {:>11}  screened",
        "layer", "rank", "parameters", "|dW|_F", "inertia", "tau (ticks)"
    )];
    let shown = &agents[..agents.len().min(MOST_AGENTS)];
    for layer in layers.iter().filter(|layer| layer.agent.is_none_or(|agent| shown.contains(&agent))) {
        let name = match layer.agent {
            Some(agent) => format!("{} {agent}", layer.level),
            None => layer.level.to_string(),
        };
        let rank = match layer.ranks {
            (low, high) if low >= high => high.to_string(),
            (low, high) => format!("{low}-{high}"),
        };
        let (inertia, constant, screening) = match &layer.dynamics {
            Some(dynamics) => (
                format!("{:.4}", dynamics.effective_inertia),
                ticks(dynamics.time_constant),
                dynamics.screening_rate.map_or_else(|| "-".to_owned(), bar),
            ),
            None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        };
        lines.push(format!(
            "{name:<13} {rank:>7} {:>11} {:>10.4} {inertia:>8} {constant:>11}  {screening}",
            layer.parameters, layer.norm
        ));
    }
    if agents.len() > shown.len() {
        lines.push(format!("and the layers of {} more agents", agents.len() - shown.len()));
    }
    lines
}

fn ticks(value: f64) -> String {
    match value {
        value if !value.is_finite() => "never".to_owned(),
        value if value >= 1e6 => format!("{value:.2e}"),
        value => format!("{value:.1}"),
    }
}

/// A share of one as `[####......]  40 %`.
fn bar(share: f64) -> String {
    let filled = ((share.clamp(0.0, 1.0) * BAR as f64).round() as usize).min(BAR);
    format!("[{}{}] {:>3.0} %", "#".repeat(filled), ".".repeat(BAR - filled), share * 100.0)
}

fn migrations(hierarchy: &LoraHierarchy) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        format!("{:<21} {:>8} {:>8} {:>8} {:>8}", "migrations", "asked", "waiting", "arrived", "expired"),
    ];
    for to in Level::ALL {
        let Some(channel) = hierarchy.migration().channel(to) else { continue };
        let counts = channel.statistics();
        lines.push(format!(
            "{:<21} {:>8} {:>8} {:>8} {:>8}",
            format!("{} > {}", channel.from(), channel.to()),
            counts.requests,
            channel.backlog(),
            counts.arrived,
            counts.expired
        ));
    }
    let log = hierarchy.migration().log();
    let events: Vec<&MigrationEvent> = log.iter().collect();
    if !events.is_empty() {
        lines.push(String::new());
        lines.push(format!("last of {} entries in the log of migrations:", events.len() as u64 + log.lost()));
    }
    for event in events.iter().rev().take(MOST_MIGRATIONS) {
        let value = serde_json::to_value(&event.action).unwrap_or_default();
        let module = event.module.and_then(|module| hierarchy.shapes().get(module)).map(|shape| shape.name.as_str());
        lines.push(format!(
            "tick {}: {} > {} {}, {} channel {}, {:.0} % moved",
            event.tick,
            event.from.level,
            event.to.level,
            value.get("kind").and_then(Value::as_str).unwrap_or("moved"),
            module.unwrap_or("the circuit"),
            event.channel.map_or_else(|| "-".to_owned(), |channel| channel.to_string()),
            event.fraction * 100.0
        ));
    }
    lines
}

fn object(
    saved: &SavedHierarchy,
    restored: Result<&LoraHierarchy, &anyhow::Error>,
    agents: &[AgentId],
    layers: &[Layer],
) -> Value {
    let layer = |layer: &Layer| {
        let dynamics = layer.dynamics.as_ref();
        // JSON has no infinity: a layer that forgets nothing has null.
        json!({
            "level": layer.level, "agent": layer.agent, "rank_min": layer.ranks.0, "rank_max": layer.ranks.1,
            "parameters": layer.parameters, "norm": layer.norm,
            "effective_inertia": dynamics.map(|dynamics| dynamics.effective_inertia),
            "time_constant": dynamics.map(|dynamics| dynamics.time_constant).filter(|ticks| ticks.is_finite()),
            "screening_rate": dynamics.and_then(|dynamics| dynamics.screening_rate),
        })
    };
    let channels = restored.ok().map(|hierarchy| {
        let channels = Level::ALL.into_iter().filter_map(|to| hierarchy.migration().channel(to));
        let channel = |channel: &krystal::dynlora::MigrationChannel| {
            json!({
                "from": channel.from(), "to": channel.to(), "backlog": channel.backlog(), "statistics": channel.statistics(),
            })
        };
        channels.map(channel).collect::<Vec<_>>()
    });
    let log = restored.ok().map(|hierarchy| hierarchy.migration().log().iter().collect::<Vec<_>>());
    json!({
        "snapshot": saved.snapshot.id().to_string(),
        "version": saved.snapshot.version(),
        "base": saved.snapshot.base().to_string(),
        "base_model": saved.base_model,
        "tick": restored.ok().map(LoraHierarchy::n_ticks).or_else(|| saved.rest.get("tick")?.as_u64()),
        "regimes": restored.ok().map(LoraHierarchy::n_regimes),
        "provenance": saved.provenance,
        "modules": saved.snapshot.shapes().iter().map(|shape| &shape.name).collect::<Vec<_>>(),
        "agents": agents,
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        "channels": channels,
        "migrations": log,
        "truncations": saved.truncations.keys().collect::<Vec<_>>(),
        "not_restored": restored.err().map(|error| format!("{error:#}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bars() {
        assert_eq!(bar(0.0), "[..........]   0 %");
        assert_eq!(bar(0.44), "[####......]  44 %");
        assert_eq!(bar(1.0), "[##########] 100 %");
    }

    #[test]
    fn ticks_have_no_useless_digits() {
        assert_eq!([ticks(9.49), ticks(2.5e7), ticks(f64::INFINITY)], ["9.5", "2.50e7", "never"]);
    }
}
