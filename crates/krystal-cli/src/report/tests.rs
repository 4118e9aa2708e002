use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::line_chart::{MOST_POINTS, Point, Series};
use super::page::{charts, html};
use super::run_log::RunLog;
use super::write;

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

/// Twenty steps with a gap, evaluations at some of them.
fn metrics() -> Vec<Value> {
    let mut all = vec![json!({"step": 0, "eval_pass@1": 0.25, "eval_pass@1_low": 0.2, "eval_pass@1_high": 0.3})];
    for step in 1..=20 {
        let kl = if (8..12).contains(&step) { Value::Null } else { json!(0.01 * f64::from(step)) };
        let mut line =
            json!({"step": step, "loss": -0.1, "kl": kl, "reward": 0.5, "rewards/exact/mean": 0.5, "step_time": 0.5});
        if step % 10 == 0 {
            line["eval_pass@1"] = json!(0.5);
        }
        all.push(line);
    }
    all
}

fn layers(step: u64) -> Value {
    let layer = |level: &str, agent: u64, ticks: f64| json!({"level": level, "agent": agent, "time_constant": ticks, "screening_rate": 0.25, "norm": 1.0});
    json!({"step": step, "event": "layers", "layers": [
        layer("foundation", 0, 3000.0), layer("swarm", 0, 50.0), layer("agent", 7, 9.0), {"level": "agent", "agent": 8},
        {"level": "no such"}, 3,
    ]})
}

fn events() -> Vec<Value> {
    let migration = |kind: &str| {
        json!({"step": 6, "event": "migration", "tick": 60, "circuit": 5, "from": {"level": "agent", "agent": 7},
            "to": {"level": "swarm", "agent": 0}, "module": "<i>q</i>", "channel": 3, "action": {"kind": kind},
            "fraction": 0.5, "pressure": {"stability": 0.25}, "reason": "stable"})
    };
    vec![
        layers(5),
        migration("arrived"),
        migration("blocked"),
        json!({"step": 6, "event": "migration"}),
        json!({"step": 8, "event": "regime", "n": 1}),
        json!({"step": 9, "event": "something new", "x": [1]}),
        json!({"step": 9, "event": "phases", "screened": 4, "freed": 1}),
        layers(10),
        json!({"step": 10, "event": "health", "severity": "degraded", "findings": ["<u>too</u> low"], "layers": []}),
        json!({"step": 20, "event": "health", "severity": "healthy"}),
        json!({"step": 20, "event": "snapshot", "version": 20, "id": "abcdef0123456789"}),
    ]
}

fn write_run(run: &Path) {
    fs::write(run.join("metrics.jsonl"), lines(&metrics())).unwrap();
    fs::write(run.join("events.jsonl"), lines(&events())).unwrap();
    fs::write(run.join("config.toml"), "model = \"some/where/tiny\"\nlora_r = 16\nreward = \"<b>exact</b>\"\n")
        .unwrap();
    let completion = |step: u64, text: &str, exact: f64| json!({"step": step, "prompt": "1+1=", "completion": text, "exact": exact, "advantage": exact - 0.5, "finish": "eos"});
    let hostile = "</td><script>alert(1)</script>\u{202e}\u{0}\" onload='x'";
    let all = [completion(19, "of an earlier step", 1.0), completion(20, "2", 1.0), completion(20, hostile, 0.0)];
    fs::write(run.join("completions.jsonl"), lines(&all)).unwrap();
}

fn page() -> String {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path());
    html(&RunLog::read(folder.path()).unwrap())
}

/// Marks of points in each chart.
fn marks(figure: &str) -> usize {
    figure.matches("<circle").count()
}

#[test]
fn every_chart_has_as_many_points_as_finite_values() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path());
    let log = RunLog::read(folder.path()).unwrap();
    let found: Vec<(String, usize)> = charts(&log).iter().map(|c| (c.title.clone(), marks(&c.figure()))).collect();
    let expected = [
        ("Reward", 20),
        ("pass@1", 3),
        ("Loss", 20),
        ("KL to the reference", 16),
        ("Step time in seconds", 20),
        ("Parameters that changed their phase", 2),
    ];
    assert_eq!(found, expected.map(|(title, n)| (title.to_owned(), n)));
}

#[test]
fn a_gap_lifts_the_line() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path());
    let log = RunLog::read(folder.path()).unwrap();
    let strokes = |title: &str| {
        let charts = charts(&log);
        let figure = charts.iter().find(|chart| chart.title == title).unwrap().figure();
        let start = figure.find(r#"class="line" d=""#).unwrap();
        let d = figure[start..].split('"').nth(3).unwrap().to_owned();
        d.matches('M').count()
    };
    assert_eq!((strokes("Loss"), strokes("KL to the reference")), (1, 2));
}

#[test]
fn long_runs_are_means_of_stretches() {
    let points = (0..1000).map(|step| Point {
        step: f64::from(step),
        value: (step != 3).then_some(f64::from(step % 2)),
        interval: None,
    });
    let series = Series { label: "x".to_owned(), points: points.collect() };
    let short = series.at_most(MOST_POINTS);
    assert_eq!(short.points.len(), 200);
    assert_eq!((short.points[0].step, short.points[0].value), (4.0, Some(0.25)));
    assert_eq!(short.points[199].step, 999.0);
    assert_eq!(series.at_most(1000), series);
}

#[test]
fn nothing_in_a_log_becomes_markup() {
    let page = page();
    for hostile in ["<script", "<u>", "<i>", "<b>exact", "onload='", "\u{202e}", "\u{0}"] {
        assert!(!page.contains(hostile), "`{hostile}` is in the page");
    }
    assert!(page.contains("&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;[U+202E][U+0000]&quot; onload=&#39;x&#39;"));
    assert!(page.contains("&lt;u&gt;too&lt;/u&gt; low"));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = page();
    for reference in ["src=", "href=", "url(", "@import", "http://", "https://"] {
        assert!(!page.contains(reference), "`{reference}` is in the page");
    }
}

#[test]
fn every_element_is_closed() {
    let page = page();
    for element in ["svg", "g", "figure", "table", "tr", "td", "th", "div", "p", "section", "span", "details", "title"]
    {
        let opened = page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf\""));
}

#[test]
fn events_are_drawn_and_what_is_unknown_is_passed_over() {
    let page = page();
    // Three layers with values at two steps, in each of two maps.
    assert_eq!(page.matches("<title>foundation, step").count(), 4);
    assert_eq!(page.matches("<title>agent 7, step").count(), 4);
    assert_eq!(page.matches("<title>agent 8, step").count(), 0);
    assert_eq!(page.matches(r#"<g class="mig done">"#).count(), 1);
    assert_eq!(page.matches(r#"<g class="mig stopped">"#).count(), 1);
    assert!(page.contains("1 between layers that are not shown are left out"));
    assert!(page.contains("agent 7 \u{2192} swarm, arrived"));
    assert!(page.contains(r#"<rect class="h-degraded""#) && page.contains(r#"<rect class="h-healthy""#));
    assert!(page.contains("abcdef012345<"));
    assert!(page.contains("step 8: a new regime"));
}

#[test]
fn a_run_without_dynamics_has_no_such_section() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("metrics.jsonl"), lines(&metrics())).unwrap();
    let path = write(folder.path()).unwrap();
    assert_eq!(path, folder.path().join("report.html"));
    let page = fs::read_to_string(path).unwrap();
    assert!(page.contains("<h2>Training</h2>"));
    assert!(!page.contains("Dynamics") && !page.contains("Completions</h2>") && !page.contains("class=\"regime\""));
}

#[test]
fn a_run_that_goes_on_may_end_within_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let whole = lines(&metrics());
    fs::write(folder.path().join("metrics.jsonl"), format!("{whole}{{\"step\": 21, \"rew")).unwrap();
    assert_eq!(RunLog::read(folder.path()).unwrap().metrics.len(), 21);
}

#[test]
fn what_is_no_run_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let refused = |expected: &str| {
        let error = format!("{:#}", write(run).unwrap_err());
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        assert!(!run.join("report.html").exists());
    };
    refused("not a run directory: expected metrics.jsonl in it");
    fs::write(run.join("metrics.jsonl"), "").unwrap();
    refused("metrics.jsonl: expected a line for each step, found none");
    fs::write(run.join("metrics.jsonl"), "{\"step\": 1}\n\nnot json\n").unwrap();
    refused("metrics.jsonl:3: expected a JSON object");
    fs::write(run.join("metrics.jsonl"), "{\"step\": 1}\n{\"loss\": 1}\n").unwrap();
    refused("metrics.jsonl:2: expected `step` to be a number of at least 0, found none");
    fs::write(run.join("metrics.jsonl"), "{\"step\": 1}\n").unwrap();
    fs::write(run.join("events.jsonl"), "{\"step\": 1}\n[]\n").unwrap();
    refused("events.jsonl:2: expected a JSON object, found another JSON value");
    fs::remove_file(run.join("events.jsonl")).unwrap();
    fs::write(run.join("config.toml"), "a = \n").unwrap();
    refused("config.toml:1: ");
}

#[test]
fn settings_in_short() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path());
    let log = RunLog::read(folder.path()).unwrap();
    let html = super::summary::settings(&log);
    insta::assert_snapshot!(html.split("</dl>").next().unwrap(), @r#"<dl class="settings"><div><dt>model</dt><dd>tiny</dd></div><div><dt>reward</dt><dd>&lt;b&gt;exact&lt;/b&gt;</dd></div><div><dt>rank</dt><dd>16</dd></div>"#);
}
