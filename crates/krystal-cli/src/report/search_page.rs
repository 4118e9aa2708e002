//! The page of a search by `krystal tune`.

use std::fmt::Write;
use std::path::Path;

use anyhow::anyhow;
use serde_json::Value;

use super::escape::{escape, shortened};
use super::line_chart::{LineChart, Point, Series};
use super::number::{duration, number, word};
use super::page::document;
use super::parallel_coordinates::{Axis, AxisKind, Line, parallel_coordinates};
use super::run_log::folder_name;
use crate::tuning::{Entry, Goal, LEDGER, Outcome, Range, SPACE, Search, read_ledger};

/// Trials in the table.
const MOST_ROWS: usize = 25;
/// Characters of a reason why a trial failed.
const MOST_CHARACTERS: usize = 200;

/// Whether a folder holds a search.
pub(crate) fn is_search(run: &Path) -> bool {
    run.join(LEDGER).exists()
}

/// The page.
pub(crate) fn html(run: &Path) -> anyhow::Result<String> {
    let search = Search::read(&run.join(SPACE))?;
    let entries = read_ledger(&run.join(LEDGER))?;
    if entries.is_empty() {
        return Err(anyhow!("{}: no trial has been run yet", run.join(LEDGER).display()));
    }
    let name = folder_name(run);
    Ok(document(&name, &body(&name, &search, &entries)))
}

/// Each trial where it went furthest, the best first: further is better, and then the number.
fn ranked<'e>(search: &Search, entries: &'e [Entry]) -> Vec<(&'e Entry, f64)> {
    let furthest = |entry: &Entry| !entries.iter().any(|other| other.trial == entry.trial && other.rung > entry.rung);
    let last = entries.iter().filter(|entry| furthest(entry));
    let mut ranked: Vec<(&Entry, f64)> = last.filter_map(|entry| Some((entry, entry.outcome.value()?))).collect();
    ranked.sort_by(|(a, _), (b, _)| search.order(a, b).then(a.trial.cmp(&b.trial)));
    ranked
}

fn body(name: &str, search: &Search, entries: &[Entry]) -> String {
    let ranked = ranked(search, entries);
    let mut body = format!(r#"<header><p class="kicker">Krystal search</p><h1>{}</h1>"#, escape(name));
    body.push_str(&tiles(search, entries, &ranked));
    let _ = write!(body, r#"<p class="note mono">{}</p></header>"#, escape(&search.command.join(" ")));
    if !ranked.is_empty() {
        let note = match search.budget {
            Some(_) => {
                "Each line is a trial, from its settings to what it came to; orange is best. Faint ones were stopped early."
            }
            None => "Each line is a trial, from its settings to what it came to; orange is best.",
        };
        let picture = parallel_coordinates(&axes(search, &ranked), &lines(search, &ranked));
        let _ = write!(
            body,
            r#"<section><h2>Settings and results</h2><p class="note">{note}</p><div class="card">{picture}</div></section>"#
        );
        let _ = write!(
            body,
            r#"<section><h2>Progress</h2><div class="charts">{}</div></section>"#,
            progress(search, entries).figure()
        );
        let _ = write!(
            body,
            r#"<section><h2>Best trials</h2><div class="card scroll">{}</div></section>"#,
            table(search, &ranked)
        );
    }
    let failed = failures(entries);
    if !failed.is_empty() {
        let _ = write!(body, r#"<section><h2>Failures</h2><div class="card scroll">{failed}</div></section>"#);
    }
    body
}

fn tiles(search: &Search, entries: &[Entry], ranked: &[(&Entry, f64)]) -> String {
    let mut html = r#"<div class="tiles">"#.to_owned();
    let mut tile = |name: &str, value: &str, about: &str| {
        let _ = write!(
            html,
            r#"<div class="tile"><div class="name">{name}</div><div class="value">{value}</div><div class="about">{}</div></div>"#,
            escape(about)
        );
    };
    let metric = search.metric.as_deref().unwrap_or("the last number printed");
    let goal = if search.goal == Goal::Maximize { "largest" } else { "smallest" };
    if let Some((entry, value)) = ranked.first() {
        tile("Best", &number(*value), &format!("trial {}; {goal} {metric}", entry.trial));
    }
    let n = entries.iter().filter(|entry| entry.rung == 0).count();
    let failed = entries.iter().filter(|entry| entry.outcome.value().is_none()).count();
    tile("Trials", &number(n as f64), &if failed > 0 { format!("{failed} runs failed") } else { String::new() });
    let seconds: f64 = entries.iter().map(|entry| entry.seconds).sum();
    tile("Time", &duration(seconds), &format!("of commands, in {} runs", entries.len()));
    if let Some(budget) = &search.budget {
        let rungs: Vec<String> = budget.rungs().iter().map(ToString::to_string).collect();
        tile("Budgets", &rungs.join(", "), &format!("one in {} goes on", budget.factor));
    }
    html + "</div>"
}

fn axes(search: &Search, ranked: &[(&Entry, f64)]) -> Vec<Axis> {
    let kind = |range: &Range| match range {
        Range::Real { min, max, is_log: false } => AxisKind::Linear(*min, *max),
        Range::Real { min, max, is_log: true } => AxisKind::Log(*min, *max),
        Range::Integer { min, max, is_log: false } => AxisKind::Linear(*min as f64, *max as f64),
        Range::Integer { min, max, is_log: true } => AxisKind::Log(*min as f64, *max as f64),
        Range::Choice(choices) => AxisKind::Words(choices.iter().map(ToString::to_string).collect()),
    };
    let settings = search.space.iter().map(|(name, range)| Axis { name: name.clone(), kind: kind(range) });
    let (low, high) = ranked
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, value)| (low.min(*value), high.max(*value)));
    let metric = search.metric.clone().unwrap_or_else(|| "result".to_owned());
    settings.chain([Axis { name: metric, kind: AxisKind::Linear(low, high) }]).collect()
}

/// The lines, the best one last.
fn lines(search: &Search, ranked: &[(&Entry, f64)]) -> Vec<Line> {
    let furthest = ranked.iter().map(|(entry, _)| entry.rung).max().unwrap_or(0);
    let line = |(place, (entry, value)): (usize, &(&Entry, f64))| {
        let at = search.space.iter().map(|(name, range)| {
            let setting = entry.settings.get(name).unwrap_or(&Value::Null);
            serde_json::from_value(setting.clone()).map_or(f64::NAN, |setting| range.number(&setting))
        });
        let settings: Vec<String> =
            entry.settings.iter().map(|(name, setting)| format!("{name} {}", word(setting))).collect();
        Line {
            at: at.chain([*value]).collect(),
            merit: 1.0 - place as f64 / ranked.len() as f64,
            is_faint: entry.rung < furthest,
            title: format!("trial {}: {}; {}", entry.trial, number(*value), settings.join(", ")),
        }
    };
    ranked.iter().enumerate().rev().map(line).collect()
}

/// What trials came to, and the best until each.
fn progress(search: &Search, entries: &[Entry]) -> LineChart {
    let furthest = entries.iter().filter(|entry| entry.outcome.value().is_some()).map(|entry| entry.rung).max();
    let mut last: Vec<&Entry> = entries.iter().filter(|entry| Some(entry.rung) == furthest).collect();
    last.sort_by_key(|entry| entry.trial);
    let point = |entry: &Entry, value| Point { step: entry.trial as f64, value, interval: None };
    let mut best = f64::INFINITY;
    let until = last.iter().filter_map(|entry| {
        let cost = search.goal.cost(entry.outcome.value()?);
        best = best.min(cost);
        // Twice the sign is none: back from cost to value.
        Some(point(entry, Some(search.goal.cost(best))))
    });
    let best = Series { label: "best so far".to_owned(), points: until.collect() };
    let each = last.iter().map(|entry| point(entry, entry.outcome.value())).collect();
    let each = Series { label: "trial".to_owned(), points: each };
    let end = entries.iter().map(|entry| entry.trial).max().unwrap_or(0) as f64;
    let title = search.metric.clone().unwrap_or_else(|| "Result".to_owned());
    LineChart { title, series: vec![best, each], steps: (0.0, end), marks: Vec::new(), is_exact: true }
}

fn table(search: &Search, ranked: &[(&Entry, f64)]) -> String {
    let mut html = r#"<table><tr><th class="n">trial</th><th class="n">result</th>"#.to_owned();
    if search.budget.is_some() {
        html.push_str(r#"<th class="n">budget</th>"#);
    }
    for name in search.space.keys() {
        let _ = write!(html, r#"<th class="n">{}</th>"#, escape(name));
    }
    html.push_str(r#"<th class="n">seconds</th></tr>"#);
    for (entry, value) in ranked.iter().take(MOST_ROWS) {
        let _ = write!(html, r#"<tr><td class="n">{}</td><td class="n">{}</td>"#, entry.trial, number(*value));
        if let Some(budget) = entry.budget {
            let _ = write!(html, r#"<td class="n">{budget}</td>"#);
        }
        for name in search.space.keys() {
            let setting = entry.settings.get(name).map_or_else(String::new, word);
            let _ = write!(html, r#"<td class="n">{}</td>"#, escape(&setting));
        }
        let _ = write!(html, r#"<td class="n">{:.1}</td></tr>"#, entry.seconds);
    }
    html + "</table>"
}

fn failures(entries: &[Entry]) -> String {
    let mut html = String::new();
    for entry in entries {
        if let Outcome::Failure(reason) = &entry.outcome {
            let reason = escape(&shortened(reason, MOST_CHARACTERS));
            let _ = write!(html, r#"<tr><td class="n">{}</td><td class="text">{reason}</td></tr>"#, entry.trial);
        }
    }
    if html.is_empty() {
        html
    } else {
        format!(r#"<table><tr><th class="n">trial</th><th>reason</th></tr>{html}</table>"#)
    }
}
