//! The best and the worst completions of the last step.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::escape::{escape, shortened};
use super::number::{number, word};
use super::run_log::Record;

/// Completions at either end.
const EACH: usize = 4;
/// Characters shown of a prompt and of a completion.
const MOST_CHARACTERS: usize = 1200;
/// Numbers in a line that are no rewards.
const NO_REWARDS: [&str; 2] = ["step", "advantage"];

/// Names of the rewards in these lines.
fn rewards(completions: &[Record]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, value) in completions.iter().flat_map(|record| &record.fields) {
        let is_reward = value.is_number() && !NO_REWARDS.contains(&name.as_str());
        if is_reward && !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

/// Orders by the sum of rewards, then by advantage.
fn score(record: &Record, rewards: &[&str]) -> (f64, f64) {
    (rewards.iter().filter_map(|name| record.number(name)).sum(), record.number("advantage").unwrap_or(0.0))
}

/// The table, or `None` without completions.
pub(crate) fn completion_table(completions: &[Record]) -> Option<String> {
    let rewards = rewards(completions);
    let mut sorted: Vec<&Record> = completions.iter().filter(|record| record.text("completion").is_some()).collect();
    sorted.sort_by(|a, b| {
        let (a, b) = (score(a, &rewards), score(b, &rewards));
        b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1))
    });
    let first = sorted.first()?;
    // One of each prompt, and what is among the best is not shown again.
    let mut prompts = BTreeSet::new();
    let mut shown = BTreeSet::new();
    let best: Vec<&Record> = sorted.iter().copied().filter(|r| prompts.insert(r.text("prompt"))).take(EACH).collect();
    let key =
        |record: &Record| (record.text("prompt").map(str::to_owned), record.text("completion").map(str::to_owned));
    best.iter().for_each(|record| {
        shown.insert(key(record));
    });
    let worst: Vec<&Record> = sorted.iter().rev().copied().filter(|r| shown.insert(key(r))).take(EACH).collect();
    let mut html = format!(
        r#"<p class="note">{} completions of step {}, ordered by the sum of their rewards.</p>"#,
        number(completions.len() as f64),
        number(first.step)
    );
    let heads: String = rewards.iter().map(|name| format!(r#"<th class="n">{}</th>"#, escape(name))).collect();
    let _ = write!(
        html,
        r#"<div class="scroll"><table><thead><tr><th>prompt</th><th>completion</th>{heads}<th class="n">advantage</th><th>finish</th></tr></thead><tbody>"#
    );
    for (title, records) in [("Best", &best), ("Worst", &worst)] {
        if !records.is_empty() {
            let _ = write!(html, r#"<tr><th class="group" colspan="{}">{title}</th></tr>"#, rewards.len() + 4);
            html.push_str(&rows(records, &rewards));
        }
    }
    Some(html + "</tbody></table></div>")
}

fn rows(records: &[&Record], rewards: &[&str]) -> String {
    let mut html = String::new();
    for record in records {
        let text = |key| escape(&shortened(record.text(key).unwrap_or_default(), MOST_CHARACTERS));
        let value = |key: &str| record.number(key).map_or_else(|| "\u{2013}".to_owned(), number);
        let values: String = rewards.iter().map(|name| format!(r#"<td class="n">{}</td>"#, value(name))).collect();
        let finish = record.fields.get("finish").map(word).unwrap_or_default();
        let _ = write!(
            html,
            r#"<tr><td class="text">{}</td><td class="text">{}</td>{values}<td class="n">{}</td><td>{}</td></tr>"#,
            text("prompt"),
            text("completion"),
            value("advantage"),
            escape(&finish)
        );
    }
    html
}
