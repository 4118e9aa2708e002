use std::fs;

use crate::krystal::krystal;

#[test]
fn a_report_is_written_beside_the_run_or_where_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("train-1");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("metrics.jsonl"), "{\"step\": 1, \"reward\": 0.5}\n{\"step\": 2, \"reward\": null}\n").unwrap();
    let run = run.to_str().unwrap();
    let ran = krystal(&["report", run]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let path = ran.stdout.trim_end();
    assert!(path.ends_with("report.html"), "{ran:?}");
    let page = fs::read_to_string(path).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<h1>train-1</h1>"));
    let out = folder.path().join("other.html");
    let out = out.to_str().unwrap();
    assert_eq!(krystal(&["report", run, "--out", out, "--open", "no", "--json"]).json()["report"], out);
    assert_eq!(fs::read_to_string(out).unwrap(), page);
}

#[test]
fn what_is_no_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().to_str().unwrap();
    krystal(&["report", run]).fails(1, &["not a run directory", "metrics.jsonl"]);
    krystal(&["report", &format!("{run}/nowhere")]).fails(1, &["nowhere", "run's folder"]);
    fs::write(folder.path().join("metrics.jsonl"), "{\"step\": 1}\n{\"step\": NaN}\n").unwrap();
    krystal(&["report", run]).fails(1, &["metrics.jsonl:2"]);
    krystal(&["report", run, "--open", "perhaps"]).fails(2, &["--open"]);
    krystal(&["report"]).fails(2, &["RUN"]);
}
