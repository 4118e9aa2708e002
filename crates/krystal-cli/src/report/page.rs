//! The page: parts in their order, and how they look.

use std::fmt::Write;

use super::completion_table::completion_table;
use super::dynamics::{Axis, layer_rows, layers_of_migrations};
use super::escape::escape;
use super::health_strip::{finding_table, health_strip};
use super::heat_map::{Quantity, heat_map};
use super::line_chart::{LineChart, Point, Series};
use super::migration_marks::{migration_marks, migration_table};
use super::number::number;
use super::run_log::{Record, RunLog};
use super::summary;

const STYLE: &str = include_str!("style.css");
/// Single metrics with their titles, after reward and pass@1.
const METRICS: [(&str, &str); 10] = [
    ("Loss", "loss"),
    ("KL to the reference", "kl"),
    ("Entropy", "entropy"),
    ("Completion length", "completions/mean_length"),
    ("Completions cut short", "completions/clipped_ratio"),
    ("Prompts without spread", "frac_reward_zero_std"),
    ("Gradient norm", "grad_norm"),
    ("Token accuracy", "mean_token_accuracy"),
    ("Held-out loss", "eval_loss"),
    ("Step time in seconds", "step_time"),
];

/// The whole page.
pub(crate) fn html(log: &RunLog) -> String {
    let mut body = format!(
        "<header><p class=\"kicker\">Krystal run</p><h1>{}</h1>{}{}</header>",
        escape(&log.name),
        summary::tiles(log),
        summary::settings(log)
    );
    let charts = charts(log);
    let figures: String = charts.iter().map(LineChart::figure).collect();
    let _ = write!(body, r#"<section><h2>Training</h2><div class="charts">{figures}</div></section>"#);
    body.push_str(&dynamics(log));
    if let Some(table) = completion_table(&log.completions) {
        let _ = write!(body, r#"<section><h2>Completions</h2><div class="card">{table}</div></section>"#);
    }
    document(&log.name, &body)
}

/// A whole page with this title and body.
pub(crate) fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"><title>{} \u{2013} Krystal run</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n",
        escape(title)
    )
}

/// Every chart with something in it.
pub(crate) fn charts(log: &RunLog) -> Vec<LineChart> {
    let keys = log.keys();
    let rewards: Vec<&str> =
        keys.iter().copied().filter(|key| key.starts_with("rewards/") && key.ends_with("/mean")).collect();
    let mut reward = vec![("reward", "reward".to_owned())];
    // A single reward is the reward.
    if rewards.len() > 1 {
        let name = |key: &str| key.trim_start_matches("rewards/").trim_end_matches("/mean").to_owned();
        reward.extend(rewards.iter().map(|key| (*key, name(key))));
    }
    let is_pass = |key: &&str| key.starts_with("eval_pass@") && !key.ends_with("_low") && !key.ends_with("_high");
    let pass: Vec<(&str, String)> =
        keys.iter().copied().filter(is_pass).map(|key| (key, key["eval_".len()..].to_owned())).collect();
    let mut charts = vec![chart(log, "Reward", &reward, false)];
    let title = if pass.len() == 1 { pass[0].1.clone() } else { "pass@k".to_owned() };
    charts.push(chart(log, &title, &pass, true));
    for (title, key) in METRICS {
        charts.push(chart(log, title, &[(key, key.to_owned())], key.starts_with("eval_")));
    }
    charts.push(temperature(log));
    charts.push(phases(log));
    charts.retain(|chart| !chart.series.is_empty());
    charts
}

fn empty_chart(log: &RunLog, title: &str, is_exact: bool) -> LineChart {
    let regimes = log.events_of("regime").map(|event| (event.step, "a new regime".to_owned()));
    LineChart { title: title.to_owned(), series: Vec::new(), steps: log.steps(), marks: regimes.collect(), is_exact }
}

/// One chart of some metrics. Where `is_sparse`, steps that do not name the metric are no gaps: it is measured now and then.
fn chart(log: &RunLog, title: &str, keys: &[(&str, String)], is_sparse: bool) -> LineChart {
    let series = keys.iter().map(|(key, label)| {
        let interval =
            |record: &Record| record.number(&format!("{key}_low")).zip(record.number(&format!("{key}_high")));
        // The evaluation before the first step tells nothing of the steps' metrics.
        let says = |record: &&Record| record.fields.contains_key(*key) || !(is_sparse || record.step == 0.0);
        let point =
            |record: &Record| Point { step: record.step, value: record.number(key), interval: interval(record) };
        Series { label: label.clone(), points: log.metrics.iter().filter(says).map(point).collect() }
    });
    let series = series.filter(|series| !series.is_empty()).collect();
    LineChart { series, ..empty_chart(log, title, is_sparse) }
}

/// The temperature of sampling, where it is controlled: with changes of the controller's phase, and reheats.
fn temperature(log: &RunLog) -> LineChart {
    let mut chart = chart(log, "Sampling temperature", &[("temperature", "temperature".to_owned())], false);
    let word = |event: &Record, key| event.text(key).unwrap_or("?").to_owned();
    let changes = log.events_of("phase_change");
    let changes = changes.map(|event| (event.step, format!("{} to {}", word(event, "from"), word(event, "to"))));
    let reheats = log.events_of("reheat").map(|event| (event.step, "reheated after a stall".to_owned()));
    chart.marks.extend(changes.chain(reheats));
    chart
}

/// Changes of phase of the layers' parameters.
fn phases(log: &RunLog) -> LineChart {
    let series = ["screened", "freed"].map(|key| {
        let point = |event: &Record| Point { step: event.step, value: event.number(key), interval: None };
        Series { label: key.to_owned(), points: log.events_of("phases").map(point).collect() }
    });
    let series = series.into_iter().filter(|series| !series.is_empty()).collect();
    LineChart { series, ..empty_chart(log, "Parameters that changed their phase", false) }
}

fn dynamics(log: &RunLog) -> String {
    let (rows, left_out) = layer_rows(log);
    let migrations: Vec<&Record> = log.events_of("migration").collect();
    let checks: Vec<&Record> = log.events_of("health").collect();
    let axis = Axis::new(log);
    let mut cards = String::new();
    let mut card = |title: &str, note: &str, inside: &str| {
        let _ = write!(cards, r#"<div class="card"><h3>{title}</h3><p class="note">{note}</p>{inside}</div>"#);
    };
    let agents = match left_out {
        0 => String::new(),
        n => format!(" {n} more agents are not shown."),
    };
    if let Some(map) = heat_map(Quantity::TimeConstant, &rows, &axis) {
        card(
            "Time constants",
            &format!(
                "Pace: ticks after which a free channel that is not used has lost all but 1/e, where decay is on.{agents}"
            ),
            &map,
        );
    }
    if let Some(map) = heat_map(Quantity::ScreeningRate, &rows, &axis) {
        card(
            "Screening",
            &format!("Share of a layer\u{2019}s parameters that are screened from change.{agents}"),
            &map,
        );
    }
    if !migrations.is_empty() {
        let layers = layers_of_migrations(&rows, &migrations);
        let note = format!(
            "{} entries of the log, from the layer that is left to the one that is entered.",
            number(migrations.len() as f64)
        );
        card("Migrations", &note, &migration_marks(&migrations, &layers, &axis));
    }
    if !checks.is_empty() {
        card("Health", "Each check until the next.", &(health_strip(&checks, &axis) + &finding_table(&checks)));
    }
    if !migrations.is_empty() {
        card("Last migrations", "Newest first.", &migration_table(&migrations));
    }
    if cards.is_empty() {
        return String::new();
    }
    let regimes = match axis.regimes.len() {
        0 => String::new(),
        n => format!(r#"<p class="note">Dashed lines: {n} changes of regime.</p>"#),
    };
    format!("<section><h2>Dynamics of the layers</h2>{regimes}{cards}</section>")
}
