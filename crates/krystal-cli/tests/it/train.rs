use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::krystal::{Ran, krystal};
use crate::tiny_model::TinyModel;

/// Prompts whose completions are to hold letters of the first half of the alphabet: a random model does so now and then.
fn data(tiny: &TinyModel) -> String {
    let lines: String = (0..40).map(|i| format!("{{\"prompt\": \"{i} and\", \"answer\": \"{i}\"}}\n")).collect();
    tiny.write("data.jsonl", &lines)
}

fn train(tiny: &TinyModel, run: &str, more: &[&str]) -> Ran {
    let (model, data, run) = (tiny.model(), data(tiny), tiny.path(run));
    let arguments = [
        "train",
        "--model",
        &model,
        "--data",
        &data,
        "--reward",
        "regex=0.5:pattern=[a-m]{2}",
        "--run-dir",
        &run,
        "--max-steps",
        "6",
        "--max-completion-length",
        "8",
        "--learning-rate",
        "1e-3",
        "--lora-r",
        "4",
        "--seed",
        "7",
        "--checkpoint-every",
        "2",
        "--eval-size",
        "10",
    ];
    krystal(&[&arguments, more].concat())
}

/// The lines of `metrics.jsonl` without what a clock has said.
fn metrics(tiny: &TinyModel, run: &str) -> Vec<Value> {
    let text = fs::read_to_string(tiny.folder.path().join(run).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().retain(|key, _| !["step_time", "tokens_per_second"].contains(&key.as_str()));
        line
    });
    lines.collect()
}

fn assert_same_run(tiny: &TinyModel, one: &str, other: &str) {
    assert_eq!(metrics(tiny, one), metrics(tiny, other));
    for file in ["adapter/adapter_model.safetensors", "completions.jsonl"] {
        let read = |run: &str| fs::read(tiny.folder.path().join(run).join(file)).unwrap();
        assert!(read(one) == read(other), "{file} differs");
    }
}

#[test]
fn a_run_leaves_all_that_it_should_and_can_be_reproduced() {
    let tiny = TinyModel::new();
    let answer = train(&tiny, "run", &["--json"]).json();
    for evaluation in ["eval_before", "eval_after"] {
        assert_eq!(answer[evaluation]["n"], 10);
        assert!((0.0..=1.0).contains(&answer[evaluation]["pass@1"].as_f64().unwrap()), "{answer}");
    }
    assert!(answer["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!((answer["steps"].as_u64(), answer["run_dir"].as_str()), (Some(6), Some(tiny.path("run").as_str())));
    assert!(answer["kl"].as_f64().unwrap() > 0.0, "{answer}");
    let lines = metrics(&tiny, "run");
    assert_eq!(lines.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    assert!(lines.iter().any(|line| line["update_norm"].as_f64().is_some_and(|norm| norm > 0.0)));
    // A weight scales the reward and not the verdict of the evaluation.
    let rewards = lines.iter().filter_map(|line| line["reward"].as_f64());
    assert!(rewards.fold(0.0, f64::max) <= 0.5);
    assert_eq!(fs::read_to_string(tiny.folder.path().join("run/completions.jsonl")).unwrap().lines().count(), 6 * 64);
    krystal(&["adapter", "verify", "--model", &tiny.model(), "--adapter", &tiny.path("run/adapter"), "--json"]).json();
    // On one thread, on three, and with other spheres.
    for (name, more) in [
        ("one", &["--threads", "1"][..]),
        ("three", &["--threads", "3", "--sphere-depth", "3"]),
        ("alone", &["--threads", "2", "--sphere-depth", "0"]),
    ] {
        assert_eq!(train(&tiny, name, &[more, &["--quiet"]].concat()).code, Some(0));
        assert_same_run(&tiny, "run", name);
    }
    // From its own configuration, in another working directory.
    let again = tiny.path("again");
    let ran = krystal(&["train", "--config", &tiny.path("run/config.toml"), "--run-dir", &again]);
    assert!(ran.stdout.contains("--prompt '") && ran.stdout.contains("nats per token"), "{ran:?}");
    assert!(ran.code == Some(0) && ran.stdout.contains("held-out pass@1") && ran.stdout.contains(&again), "{ran:?}");
    assert_same_run(&tiny, "run", "again");
    assert_ne!(train(&tiny, "other", &["--seed", "8"]).code, None);
    assert_ne!(metrics(&tiny, "other"), lines);
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    let tiny = TinyModel::new();
    let more =
        ["--max-steps", "120", "--max-completion-length", "30", "--eval-size", "2", "--zero-spread-patience", "0"];
    let config = {
        assert_eq!(train(&tiny, "short", &["--max-steps", "1"]).code, Some(0));
        tiny.path("short/config.toml")
    };
    let start = |run: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_krystal"));
        command.args(["train", "--config", &config, "--run-dir", &tiny.path(run)]).args(more);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert!(start("whole").status().unwrap().success());
    let mut child = start("killed").spawn().unwrap();
    let checkpoints = tiny.folder.path().join("killed/checkpoints");
    let began = Instant::now();
    let has_checkpoint = || {
        fs::read_dir(&checkpoints).is_ok_and(|mut entries| entries.any(|e| e.is_ok_and(|e| is_checkpoint(&e.path()))))
    };
    while !has_checkpoint() {
        assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "the run was over before it could be killed");
    let resumed = krystal(&["train", "--resume", &tiny.path("killed"), "--json"]).json();
    assert_eq!(resumed["steps"], 120);
    assert!(resumed["eval_before"]["pass@1"].is_number() && resumed["eval_after"]["pass@1"].is_number(), "{resumed}");
    assert_same_run(&tiny, "whole", "killed");
    // With other settings it would be another run.
    let ran = krystal(&["train", "--resume", &tiny.path("killed"), "--beta", "0.5"]);
    ran.fails(1, &["cannot resume", "`beta`"]);
}

fn is_checkpoint(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "ckpt")
}

#[test]
fn the_temperature_can_follow_the_run() {
    let tiny = TinyModel::new();
    train(&tiny, "run", &["--temperature", "phase", "--phase-patience", "2", "--json"]).json();
    let lines = metrics(&tiny, "run");
    let temperatures: Vec<f64> = lines.iter().filter_map(|line| line["temperature"].as_f64()).collect();
    assert_eq!((temperatures.len(), temperatures[0]), (6, 1.0));
    assert!(temperatures.iter().all(|t| (0.7..=1.3).contains(t)) && temperatures[5] != 1.0, "{temperatures:?}");
    // Rewards of a random model do not rise by themselves.
    let events = fs::read_to_string(tiny.folder.path().join("run/events.jsonl")).unwrap();
    assert!(events.contains(r#""event":"reheat""#), "{events}");
    let config = fs::read_to_string(tiny.folder.path().join("run/config.toml")).unwrap();
    assert!(config.contains("temperature = \"phase\""), "{config}");
    krystal(&["report", &tiny.path("run")]);
    let page = fs::read_to_string(tiny.folder.path().join("run/report.html")).unwrap();
    assert!(page.contains("Sampling temperature") && page.contains("reheated after a stall"));
    train(&tiny, "wrong", &["--temperature", "hot"]).fails(2, &["--temperature", "`phase`"]);
    train(&tiny, "wrong", &["--temperature", "phase", "--phase-temperature-min", "1.5"])
        .fails(1, &["phase_temperature_min", "(0, 1]"]);
}

#[test]
fn all_weights_can_be_trained() {
    let tiny = TinyModel::new();
    let answer = train(&tiny, "run", &["--train", "all", "--beta", "0.01", "--json"]).json();
    let model = answer["trained"].as_str().unwrap();
    assert!(model.ends_with("model"));
    assert_eq!(krystal(&["generate", "--model", model, "abc"]).code, Some(0));
    let score =
        |model: &str| krystal(&["score", "--model", model, "--ids", "5,6,7", "--json"]).json()["log_probs"].clone();
    assert_ne!(score(model), score(&tiny.model()));
}

#[test]
fn runs_that_cannot_start() {
    let tiny = TinyModel::new();
    let (model, data) = (tiny.model(), data(&tiny));
    let with = |more: &[&str]| krystal(&[&["train", "--model", &model][..], more].concat());
    let given = |more: &[&str]| {
        with(&[&["--data", &data, "--reward", "exact", "--run-dir", &tiny.path("no")][..], more].concat())
    };
    with(&["--data", &data]).fails(2, &["--reward"]);
    with(&["--reward", "math"]).fails(2, &["--data"]);
    krystal(&["train", "--data", &data]).fails(2, &["--model"]);
    with(&["--data", &data, "--reward", "maht"]).fails(1, &["`maht`", "`math`"]);
    with(&["--data", &tiny.path("none.jsonl"), "--reward", "math"]).fails(1, &["none.jsonl"]);
    let broken = tiny.write("broken.jsonl", "{\"prompt\": \"a\", \"answer\": \"b\"}\n{\"prompt\": \n");
    with(&["--data", &broken, "--reward", "exact"]).fails(1, &["broken.jsonl:2", "JSON"]);
    let blind = tiny.write("blind.jsonl", &"{\"prompt\": \"a\"}\n".repeat(20));
    with(&["--data", &blind, "--reward", "math"]).fails(1, &["`math` cannot judge any", "answer"]);
    given(&["--num-generations", "1"]).fails(1, &["num_generations", "at least 2"]);
    given(&["--loss-type", "ppo"]).fails(2, &["--loss-type", "dr_grpo"]);
    given(&["--sphere-depth", "18"]).fails(2, &["--sphere-depth", "depth 18", "at most 17"]);
    given(&["--sphere-depth", "-1"]).fails(2, &["--sphere-depth"]);
    given(&["--lora-r", "0"]).fails(1, &["rank"]);
    given(&["--target-modules", "q_proj,nose"]).fails(1, &["`nose`", "v_proj"]);
    given(&["--prompts-per-step", "100"]).fails(1, &["100 records", "prompts_per_step"]);
    given(&["--eval-size", "40"]).fails(2, &["--eval-size 40"]);
    given(&["--template", "no place"]).fails(2, &["--template", "{}"]);
    // Nothing of this has left a folder behind.
    assert!(!tiny.folder.path().join("no").exists());
    krystal(&["train", "--resume", &tiny.path("nowhere")]).fails(2, &["nowhere", "cannot read"]);
    krystal(&["train", "--resume", &tiny.path("a"), "--config", "b.toml"]).fails(2, &["--config"]);
    let unknown = tiny.write("unknown.toml", "learning_rte = 1e-3\n");
    with(&["--config", &unknown]).fails(2, &["unknown.toml", "`learning_rte`", "`learning_rate`"]);
}

#[test]
fn a_folder_that_cannot_be_written_or_is_taken_is_refused() {
    let tiny = TinyModel::new();
    tiny.write("file", "in the way");
    train(&tiny, "file", &[]).fails(1, &["file"]);
    assert_eq!(train(&tiny, "run", &["--max-steps", "1"]).code, Some(0));
    train(&tiny, "run", &[]).fails(1, &["run", "another run"]);
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_a_run_after_its_step_with_a_checkpoint() {
    let tiny = TinyModel::new();
    let run = tiny.path("run");
    let child = Command::new(env!("CARGO_BIN_EXE_krystal"))
        .args([
            "train",
            "--model",
            &tiny.model(),
            "--data",
            &data(&tiny),
            "--reward",
            "regex:pattern=[a-m]{2}",
            "--run-dir",
            &run,
        ])
        .args([
            "--max-steps",
            "100000",
            "--max-completion-length",
            "8",
            "--eval-size",
            "0",
            "--checkpoint-every",
            "99999",
            "--json",
        ])
        .args(["--zero-spread-patience", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let metrics = tiny.folder.path().join("run/metrics.jsonl");
    while fs::metadata(&metrics).map_or(0, |metadata| metadata.len()) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "no step");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let step = answer["steps"].as_u64().unwrap();
    assert!((1..100_000).contains(&step), "{answer}");
    assert!(tiny.folder.path().join(format!("run/checkpoints/step-{step:08}.ckpt")).exists());
}
