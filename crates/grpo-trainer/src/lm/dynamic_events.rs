//! What a step of a hierarchy has to tell: metrics for every step, events for what happened in it.

use dynlora_core::{
    AgentId, HealthReport, Level, LoraHierarchy, LoraLayer, MigrationEvent, ModuleFactors, RegimeChange, Signal,
    TickReport,
};
use serde_json::{Map, Value, json};

use super::dynamic::owners;

/// Ticks between two `layers` and two `snapshot` events.
const EVERY: u64 = 10;

type Event = Map<String, Value>;

/// An event from its fields.
fn event(name: &str, fields: Value) -> Event {
    let mut event = Map::from_iter([("event".to_owned(), Value::from(name))]);
    if let Value::Object(fields) = fields {
        event.extend(fields);
    }
    event
}

/// Mean of what there is.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Numbers of a step.
pub(super) fn metrics(hierarchy: &LoraHierarchy, report: &TickReport) -> Vec<(String, f64)> {
    let layers: Vec<(Level, &dyn LoraLayer)> = owners(hierarchy)
        .into_iter()
        .filter_map(|(level, agent)| Some((level, hierarchy.layer(level, agent)?)))
        .collect();
    let mut metrics = vec![
        ("dynamic/regimes".to_owned(), hierarchy.n_regimes() as f64),
        ("dynamic/migrations".to_owned(), report.migrations.len() as f64),
        ("dynamic/screened".to_owned(), report.phases[0] as f64),
        ("dynamic/freed".to_owned(), report.phases[1] as f64),
    ];
    let mut push = |name: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            metrics.push((format!("dynamic/{name}"), value));
        }
    };
    push("screening_rate", mean(layers.iter().filter_map(|(_, layer)| layer.measure().screening_rate)));
    push("conflict_rate", hierarchy.resonance().statistics().conflict_rate());
    push("consensus", mean(report.horizontal.iter().filter_map(|(_, found)| found.consensus)));
    for level in Level::ALL {
        let own = || layers.iter().filter(|(other, _)| *other == level).map(|(_, layer)| layer);
        push(&format!("time_constant_{level}"), mean(own().map(|layer| layer.time_constant())));
        push(&format!("effective_inertia_{level}"), mean(own().map(|layer| layer.effective_inertia())));
    }
    metrics
}

/// What happened in a step.
pub(super) fn events(hierarchy: &LoraHierarchy, report: &TickReport) -> Vec<Event> {
    let mut events = Vec::new();
    if let Some(change) = report.regime {
        let returns = change == RegimeChange::Return;
        events.push(event("regime", json!({ "n": hierarchy.n_regimes(), "returns": returns })));
    }
    let [screened, freed] = report.phases;
    if screened + freed > 0 {
        events.push(event("phases", json!({ "screened": screened, "freed": freed })));
    }
    events.extend(report.migrations.iter().map(|migration| self::migration(hierarchy, migration)));
    for (agent, vertical) in &report.vertical {
        if vertical.signal != Signal::Normal {
            let fields = json!({
                "agent": agent,
                "signal": vertical.signal,
                "alignment": vertical.alignment,
                "conflict": vertical.conflict,
            });
            events.push(event("signal", fields));
        }
    }
    events.extend(report.health.as_ref().map(health));
    if report.tick.is_multiple_of(EVERY) {
        events.push(event("layers", json!({ "layers": layers(hierarchy) })));
        let snapshot = hierarchy.snapshot();
        events.push(event("snapshot", json!({ "version": snapshot.version(), "id": snapshot.id() })));
    }
    events
}

/// A move, with its module by name.
fn migration(hierarchy: &LoraHierarchy, migration: &MigrationEvent) -> Event {
    let mut fields = serde_json::to_value(migration).unwrap_or_default();
    let module = migration.module.and_then(|module| hierarchy.shapes().get(module));
    fields["module"] = module.map_or(Value::Null, |shape| Value::from(shape.name.as_str()));
    event("migration", fields)
}

fn health(report: &HealthReport) -> Event {
    let layers: Vec<Value> = report
        .layers
        .iter()
        .map(|layer| {
            json!({
                "level": layer.layer.level,
                "agent": layer.layer.agent,
                "entropy_ratio": layer.entropy_ratio,
                "screening_rate": layer.screening_rate,
                "effective_inertia": layer.effective_inertia,
                "time_constant": layer.time_constant,
                "severity": layer.severity,
            })
        })
        .collect();
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let fields = json!({
        "severity": report.severity,
        "findings": findings,
        "layers": layers,
        "channels": report.channels,
        "conflict_rate": report.conflict_rate,
        "fast_track_rate": report.fast_track_rate,
    });
    event("health", fields)
}

fn layers(hierarchy: &LoraHierarchy) -> Vec<Value> {
    let describe = |(level, agent): (Level, AgentId)| {
        let layer = hierarchy.layer(level, agent)?;
        let squares: f64 = layer.factors().iter().map(|factors| delta_square(factors)).sum();
        Some(json!({
            "level": level,
            "agent": agent,
            "time_constant": layer.time_constant(),
            "screening_rate": layer.measure().screening_rate,
            "effective_inertia": layer.effective_inertia(),
            "norm": squares.max(0.0).sqrt(),
        }))
    };
    owners(hierarchy).into_iter().filter_map(describe).collect()
}

/// `|B A|_F^2 = sum_ij (a_i . a_j) (b_i . b_j)`, without forming the product.
fn delta_square(factors: &ModuleFactors) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let mut sum = 0.0;
    for i in 0..factors.rank {
        for j in 0..=i {
            let term = dot(factors.a_row(i), factors.a_row(j)) * dot(factors.b_row(i), factors.b_row(j));
            sum += if i == j { term } else { 2.0 * term };
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_of_a_product_is_that_of_the_product() {
        let (d_in, d_out, rank) = (5, 4, 3);
        let value = |i: usize| ((i * 37 % 19) as f32 - 9.0) / 7.0;
        let a: Vec<f32> = (0..rank * d_in).map(value).collect();
        let b: Vec<f32> = (0..rank * d_out).map(|i| value(i + 5)).collect();
        let mut square = 0.0;
        for row in 0..d_out {
            for column in 0..d_in {
                let entry = (0..rank).map(|r| f64::from(b[r * d_out + row]) * f64::from(a[r * d_in + column]));
                square += entry.sum::<f64>().powi(2);
            }
        }
        let found = delta_square(&ModuleFactors { d_in, d_out, rank, a, b });
        assert!((found - square).abs() < 1e-9 * square, "{found} {square}");
    }
}
