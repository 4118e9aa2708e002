//! What was asked of the run, and how it ended, in a few numbers.

use std::fmt::Write;
use std::path::Path;

use super::escape::escape;
use super::number::{duration, number, percent};
use super::run_log::RunLog;

/// Settings worth a line, with the words for them.
const SETTINGS: [(&str, &str); 14] = [
    ("model", "model"),
    ("data", "data"),
    ("reward", "reward"),
    ("train", "trained"),
    ("lora_r", "rank"),
    ("lora_alpha", "alpha"),
    ("learning_rate", "learning rate"),
    ("prompts_per_step", "prompts per step"),
    ("num_generations", "completions per prompt"),
    ("max_completion_length", "longest completion"),
    ("temperature", "temperature"),
    ("beta", "KL coefficient"),
    ("loss_type", "loss"),
    ("seed", "seed"),
];
/// Steps at the end over which noisy metrics are averaged.
const LAST: usize = 10;

/// A headline number with what it means.
struct Tile {
    name: &'static str,
    value: String,
    note: String,
}

/// Numbers in large type.
pub(crate) fn tiles(log: &RunLog) -> String {
    let mut tiles = Vec::new();
    let mut tile = |name, value: String, note: String| tiles.push(Tile { name, value, note });
    let (_, last) = log.steps();
    let seconds: f64 = log.values("step_time").map(|(_, seconds)| seconds).sum();
    let time = if seconds > 0.0 { format!("{} of computing", duration(seconds)) } else { String::new() };
    tile("Steps", number(last), time);
    let evaluated: Vec<(f64, f64)> = log.values("eval_pass@1").collect();
    if let (Some((_, first)), Some((step, value))) = (evaluated.first(), evaluated.last()) {
        let at = |key: &str| log.metrics.iter().find(|record| record.step == *step)?.number(key);
        let interval = at("eval_pass@1_low").zip(at("eval_pass@1_high"));
        let mut note = if evaluated.len() > 1 { format!("from {}", percent(*first)) } else { String::new() };
        if let Some((low, high)) = interval {
            let _ = write!(note, "{}{} to {}", if note.is_empty() { "" } else { "; " }, percent(low), percent(high));
        }
        tile("pass@1", percent(*value), note);
    }
    let rewards: Vec<f64> = log.values("reward").map(|(_, reward)| reward).collect();
    if let Some(first) = rewards.first() {
        let tail = &rewards[rewards.len().saturating_sub(LAST)..];
        let mean = tail.iter().sum::<f64>() / tail.len() as f64;
        let note = match tail.len() {
            1 => String::new(),
            n => format!("mean of the last {n} steps; the first was {}", number(*first)),
        };
        tile("Reward", number(mean), note);
    }
    if let Some((_, tokens)) = log.values("num_tokens").next_back() {
        let rate = log.values("tokens_per_second").next_back();
        tile(
            "Tokens",
            number(tokens),
            rate.map_or_else(String::new, |(_, rate)| format!("{} per second", number(rate))),
        );
    }
    let arrived = |event: &&super::run_log::Record| {
        let kind = event.fields.get("action").and_then(|action| action.get("kind")?.as_str());
        matches!(kind, Some("arrived" | "exchanged" | "shared"))
    };
    let migrations = log.events_of("migration").filter(arrived).count();
    // Events of a hierarchy of layers, and not of the temperature.
    if log.events_of("layers").next().is_some() || migrations > 0 {
        let regimes = log.events_of("regime").count();
        tile("Migrations", number(migrations as f64), format!("arrived, in {} regimes", regimes + 1));
    }
    if let Some(health) = log.events_of("health").last() {
        let findings = health.array("findings").len();
        tile(
            "Health",
            health.text("severity").unwrap_or("unknown").to_owned(),
            format!("{findings} findings at the end"),
        );
    }
    if let Some(snapshot) = log.events_of("snapshot").last() {
        let version = snapshot.fields.get("version").map_or_else(|| "?".to_owned(), super::number::word);
        tile("Snapshot", version, snapshot.text("id").map_or_else(String::new, |id| id.chars().take(12).collect()));
    }
    let html = tiles.iter().map(|Tile { name, value, note }| {
        format!(
            r#"<div class="tile"><div class="name">{name}</div><div class="value">{}</div><div class="about">{}</div></div>"#,
            escape(value),
            escape(note)
        )
    });
    format!(r#"<div class="tiles">{}</div>"#, html.collect::<String>())
}

/// The settings in short, and all of them folded away.
pub(crate) fn settings(log: &RunLog) -> String {
    if log.config.is_empty() {
        return String::new();
    }
    let text = |value: &toml::Value| match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut html = r#"<dl class="settings">"#.to_owned();
    for (key, name) in SETTINGS {
        let value = match (key, log.config.get(key)) {
            // The demonstration is what a run without a model trains on.
            ("model", None) => "the demonstration".to_owned(),
            (_, None) => continue,
            ("model" | "data", Some(value)) => {
                let path = text(value);
                Path::new(&path).file_name().map_or(path.clone(), |name| name.to_string_lossy().into_owned())
            }
            (_, Some(toml::Value::Float(value))) => number(*value),
            (_, Some(value)) => text(value),
        };
        let _ = write!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    html.push_str("</dl><details><summary>All settings</summary><div class=\"scroll\"><table class=\"config\"><tbody>");
    for (key, value) in &log.config {
        let _ = write!(html, "<tr><td>{}</td><td class=\"mono\">{}</td></tr>", escape(key), escape(&text(value)));
    }
    html + "</tbody></table></div></details>"
}
