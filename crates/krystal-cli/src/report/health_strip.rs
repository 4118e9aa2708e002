//! Health over time, and what was found last.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::dynamics::{Axis, ROW_HEIGHT, frame};
use super::escape::{escape, shortened};
use super::number::{number, word};
use super::run_log::Record;

/// Best first.
const SEVERITIES: [&str; 4] = ["healthy", "acceptable", "degraded", "critical"];
/// Rows of the list.
const MOST_FINDINGS: usize = 12;
/// Findings in a title.
const IN_TITLE: usize = 6;

fn severity(event: &Record) -> &'static str {
    let said = event.text("severity").unwrap_or_default();
    SEVERITIES.into_iter().find(|severity| *severity == said).unwrap_or("unknown")
}

/// A strip of one colour for each check, until the next.
pub(crate) fn health_strip(checks: &[&Record], axis: &Axis) -> String {
    let mut svg = String::new();
    for (i, check) in checks.iter().enumerate() {
        let end = checks.get(i + 1).map_or(axis.end, |next| next.step);
        let (x, right) = (axis.x.at(check.step), axis.x.at(end));
        let severity = severity(check);
        let findings = check.array("findings");
        let mut title = format!("step {}: {severity}", number(check.step));
        for finding in findings.iter().take(IN_TITLE) {
            let _ = write!(title, "\n{}", shortened(&word(finding), 160));
        }
        if findings.len() > IN_TITLE {
            let _ = write!(title, "\nand {} more", findings.len() - IN_TITLE);
        }
        let _ = write!(
            svg,
            r#"<rect class="h-{severity}" x="{x:.2}" y="1" width="{:.2}" height="{}"><title>{}</title></rect>"#,
            (right - x).max(0.6),
            ROW_HEIGHT - 2.0,
            escape(&title)
        );
    }
    let counts = SEVERITIES.map(|severity| (severity, checks.iter().filter(|c| self::severity(c) == severity).count()));
    let keys: String = counts
        .iter()
        .map(|(severity, count)| format!(r#"<span class="k2 h-{severity}">{severity} <b>{count}</b></span> "#))
        .collect();
    format!(
        r#"{}<p class="note">{keys}</p>"#,
        frame(&["health".to_owned()], axis, &format!(r#"<g class="cells">{svg}</g>"#))
    )
}

/// The latest findings, each text once, with how often it was found.
pub(crate) fn finding_table(checks: &[&Record]) -> String {
    let mut found: BTreeMap<String, (usize, f64, usize)> = BTreeMap::new();
    for (i, check) in checks.iter().enumerate() {
        for finding in check.array("findings") {
            let entry = found.entry(word(finding)).or_insert((0, 0.0, 0));
            *entry = (i, check.step, entry.2 + 1);
        }
    }
    if found.is_empty() {
        return r#"<p class="note">No finding in any check.</p>"#.to_owned();
    }
    let mut rows: Vec<(String, (usize, f64, usize))> = found.into_iter().collect();
    rows.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
    let mut html = r#"<div class="scroll"><table><thead><tr><th class="n">last at step</th><th>health then</th><th class="n">times</th><th>finding</th></tr></thead><tbody>"#.to_owned();
    for (text, (check, step, times)) in rows.iter().take(MOST_FINDINGS) {
        let severity = severity(checks[*check]);
        let _ = write!(
            html,
            r#"<tr><td class="n">{}</td><td><span class="k2 h-{severity}">{severity}</span></td><td class="n">{times}</td><td>{}</td></tr>"#,
            number(*step),
            escape(&shortened(text, 400))
        );
    }
    html.push_str("</tbody></table></div>");
    if rows.len() > MOST_FINDINGS {
        let _ =
            write!(html, r#"<p class="note">{} earlier findings are in events.jsonl.</p>"#, rows.len() - MOST_FINDINGS);
    }
    html
}
