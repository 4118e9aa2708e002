//! Migrations as marks between the rows of the layers, and the last of them as a table.

use std::fmt::Write;

use serde_json::Value;

use super::dynamics::{Axis, LayerKey, ROW_HEIGHT, frame};
use super::escape::escape;
use super::number::{number, word};
use super::run_log::Record;

/// Most marks; beyond, every so many-th is drawn.
const MOST_MARKS: usize = 600;
/// Rows of the table.
const MOST_ROWS: usize = 15;

fn kind(event: &Record) -> &str {
    event.fields.get("action").and_then(|action| action.get("kind")?.as_str()).unwrap_or("unknown")
}

/// How a kind of action is drawn.
fn class(kind: &str) -> &'static str {
    match kind {
        "arrived" | "exchanged" | "shared" => "done",
        "begun" | "sharing_begun" => "begun",
        _ => "stopped",
    }
}

fn place(event: &Record, end: &str) -> String {
    event.fields.get(end).and_then(LayerKey::of).map_or_else(|| "?".to_owned(), LayerKey::label)
}

fn field(event: &Record, key: &str) -> String {
    event.fields.get(key).filter(|value| !value.is_null()).map_or_else(|| "\u{2013}".to_owned(), word)
}

/// What moved: module and channel, as far as they are known.
fn what(event: &Record) -> String {
    let module = match event.fields.get("module") {
        Some(module) if !module.is_null() => word(module),
        _ => "the whole circuit".to_owned(),
    };
    match event.number("channel") {
        Some(channel) => format!("{module}, channel {channel}"),
        None => module,
    }
}

fn title(event: &Record) -> String {
    let mut text = format!(
        "step {}, tick {}: {} \u{2192} {}, {}\ncircuit {}, {}",
        number(event.step),
        field(event, "tick"),
        place(event, "from"),
        place(event, "to"),
        kind(event).replace('_', " "),
        field(event, "circuit"),
        what(event),
    );
    for key in ["fraction", "parameters", "signal", "reason", "truncation", "jump"] {
        if event.fields.get(key).is_some_and(|value| !value.is_null()) {
            let _ = write!(text, "\n{key}: {}", field(event, key));
        }
    }
    if let Some(Value::Object(parts)) = event.fields.get("pressure") {
        let parts: Vec<String> = parts.iter().map(|(name, value)| format!("{name} {}", word(value))).collect();
        let _ = write!(text, "\npressure: {}", parts.join(", "));
    }
    text
}

/// The drawing. Several migrations of one step stand side by side in their order.
pub(crate) fn migration_marks(migrations: &[&Record], layers: &[LayerKey], axis: &Axis) -> String {
    let stride = migrations.len().div_ceil(MOST_MARKS).max(1);
    let drawn: Vec<&Record> = migrations.iter().copied().step_by(stride).collect();
    let labels: Vec<String> = layers.iter().map(|layer| layer.label()).collect();
    let mut svg = String::new();
    for i in 0..layers.len() {
        let middle = (i as f64 + 0.5) * ROW_HEIGHT;
        let _ = write!(svg, r#"<path class="grid" d="M{} {middle:.1}H{}"/>"#, axis.x.to.0, axis.x.to.1);
    }
    let middle = |end: Option<&Value>| {
        let layer = end.and_then(LayerKey::of)?;
        Some((layers.iter().position(|other| *other == layer)? as f64 + 0.5) * ROW_HEIGHT)
    };
    let mut n_left_out = 0;
    for group in drawn.chunk_by(|a, b| a.step == b.step) {
        for (i, event) in group.iter().enumerate() {
            let (from, to) = (middle(event.fields.get("from")), middle(event.fields.get("to")));
            let (Some(from), Some(to)) = (from, to) else {
                n_left_out += 1;
                continue;
            };
            let x = axis.x.at(event.step + 0.9 * (i as f64 + 0.5) / group.len() as f64);
            let class = class(kind(event));
            let mark = match class {
                "stopped" => format!("M{:.1} {:.1}l5 5m0 -5l-5 5", x - 2.5, from - 2.5),
                _ => format!("M{x:.1} {from:.1}V{to:.1}"),
            };
            let head = if class == "stopped" {
                String::new()
            } else {
                format!(r#"<circle cx="{x:.1}" cy="{to:.1}" r="3.2"/>"#)
            };
            let _ = write!(
                svg,
                r#"<g class="mig {class}"><title>{}</title><path d="{mark}"/>{head}</g>"#,
                escape(&title(event))
            );
        }
    }
    let mut note = String::new();
    if stride > 1 {
        let _ = write!(note, " One in {stride} of {} is drawn.", migrations.len());
    }
    if n_left_out > 0 {
        let _ = write!(note, " {n_left_out} between layers that are not shown are left out.");
    }
    format!(
        r#"{}<p class="note"><span class="mig done">&#9679; arrived, exchanged or shared</span> <span class="mig begun">&#9675; begun</span> <span class="mig stopped">&#10005; blocked, expired or ended</span>{note}</p>"#,
        frame(&labels, axis, &svg)
    )
}

/// The last ones, newest first.
pub(crate) fn migration_table(migrations: &[&Record]) -> String {
    let mut html = r#"<div class="scroll"><table><thead><tr><th class="n">step</th><th class="n">tick</th><th>from</th><th>to</th><th>what happened</th><th>module</th><th class="n">channel</th><th class="n">share moved</th><th>reason</th><th>signal</th></tr></thead><tbody>"#.to_owned();
    for event in migrations.iter().rev().take(MOST_ROWS) {
        let kind = kind(event);
        let _ = write!(
            html,
            r#"<tr><td class="n">{}</td><td class="n">{}</td><td>{}</td><td>{}</td><td class="mig {}">{}</td><td class="mono">{}</td><td class="n">{}</td><td class="n">{}</td><td>{}</td><td>{}</td></tr>"#,
            number(event.step),
            escape(&field(event, "tick")),
            place(event, "from"),
            place(event, "to"),
            class(kind),
            escape(&kind.replace('_', " ")),
            escape(&field(event, "module")),
            escape(&field(event, "channel")),
            escape(&field(event, "fraction")),
            escape(&field(event, "reason").replace('_', " ")),
            escape(&field(event, "signal").replace('_', " ")),
        );
    }
    html + "</tbody></table></div>"
}
