//! `krystal train --adapter dynamic`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::krystal::{Ran, krystal};
use crate::tiny_model::TinyModel;

fn train(tiny: &TinyModel, run: &str, more: &[&str]) -> Ran {
    let lines: String = (0..40).map(|i| format!("{{\"prompt\": \"{i} and\", \"answer\": \"{i}\"}}\n")).collect();
    let (model, data, run) = (tiny.model(), tiny.write("data.jsonl", &lines), tiny.path(run));
    let place = ["train", "--model", &model, "--data", &data, "--run-dir", &run];
    let settings = ["--reward", "regex:pattern=[a-m]{2}", "--max-steps", "12", "--max-completion-length", "8"];
    let others = ["--checkpoint-every", "2", "--eval-size", "10", "--zero-spread-patience", "0"];
    krystal(&[&place[..], &settings, &others, more].concat())
}

/// Every file of a run but its checkpoints and its configuration, without what a clock has said.
fn files(tiny: &TinyModel, run: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let run = tiny.folder.path().join(run);
    let (mut found, mut folders) = (BTreeMap::new(), vec![run.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&run).unwrap().to_owned();
            if path.is_dir() {
                folders.extend((name != Path::new("checkpoints")).then_some(path));
            } else if name == Path::new("metrics.jsonl") {
                let lines = fs::read_to_string(path).unwrap();
                let lines = lines.lines().map(|line| {
                    let mut line: Value = serde_json::from_str(line).unwrap();
                    line.as_object_mut()
                        .unwrap()
                        .retain(|key, _| !["step_time", "tokens_per_second"].contains(&&**key));
                    line.to_string()
                });
                found.insert(name, lines.collect::<String>().into_bytes());
            } else if name != Path::new("config.toml") {
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

fn assert_same_run(tiny: &TinyModel, one: &str, other: &str) {
    let (one, other) = (files(tiny, one), files(tiny, other));
    assert!(one.keys().eq(other.keys()));
    one.iter().for_each(|(name, content)| assert!(*content == other[name], "{} differs", name.display()));
}

#[test]
fn three_agents_learn_and_the_run_can_be_reproduced_and_continued() {
    let tiny = TinyModel::new();
    let flags = ["--adapter", "dynamic", "--agents", "3"];
    let answer = train(&tiny, "run", &[&flags[..], &["--json", "--threads", "2"]].concat()).json();
    assert_eq!((answer["steps"].as_u64(), answer["eval_after"]["n"].as_u64()), (Some(12), Some(10)));
    assert!(answer["kl"].as_f64().unwrap() > 0.0, "{answer}");
    let adapter = tiny.path("run/adapter");
    for folder in [adapter.clone(), tiny.path("run/adapter/agents/2")] {
        krystal(&["adapter", "verify", "--model", &tiny.model(), "--adapter", &folder, "--json"]).json();
        let ran = krystal(&["generate", "--model", &tiny.model(), "--adapter", &folder, "abc"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let events = fs::read_to_string(tiny.folder.path().join("run/events.jsonl")).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let layers = events.iter().find(|event| event["event"] == "layers").unwrap();
    // Three shared layers and two for each agent.
    assert_eq!((layers["step"].as_u64(), layers["layers"].as_array().unwrap().len()), (Some(10), 9));
    assert!(layers["layers"][3]["norm"].as_f64().unwrap() > 0.0, "{layers}");
    assert!(events.iter().any(|event| event["event"] == "snapshot" && event["id"].is_string()));

    assert_eq!(
        train(&tiny, "one", &[&flags[..], &["--threads", "1", "--sphere-depth", "1", "--quiet"]].concat()).code,
        Some(0)
    );
    assert_same_run(&tiny, "run", "one");
    // As if it had been killed after step 11: without newer checkpoints, what came after step 10 is taken again.
    for entry in fs::read_dir(tiny.folder.path().join("one/checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let step: u64 = path.file_stem().unwrap().to_str().unwrap().trim_start_matches("step-").parse().unwrap();
        if step > 10 {
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(krystal(&["train", "--resume", &tiny.path("one"), "--json"]).json()["steps"], 12);
    assert_same_run(&tiny, "run", "one");

    // Another run goes on from the hierarchy, with a further agent.
    let hierarchy = tiny.path("run/adapter/hierarchy");
    let more = train(&tiny, "more", &["--adapter", &hierarchy, "--agents", "4", "--json"]).json();
    assert_eq!(more["steps"], 12);
    assert!(tiny.folder.path().join("more/adapter/agents/3/adapter_config.json").exists());
}

#[test]
fn runs_that_cannot_start() {
    let tiny = TinyModel::new();
    let no = |more: &[&str]| train(&tiny, "no", more);
    no(&["--adapter", &tiny.path("nowhere")]).fails(1, &["nowhere", "expected an adapter's folder or `dynamic`"]);
    no(&["--adapter", "dynamic", "--agents", "0"]).fails(2, &["--agents must be at least 1"]);
    no(&["--agents", "2"]).fails(2, &["--agents", "--adapter dynamic"]);
    no(&["--adapter", &tiny.adapter(), "--agents", "2"]).fails(2, &["--agents", "--adapter dynamic"]);
    no(&["--adapter", "dynamic", "--train", "all"]).fails(2, &["--train all", "--adapter dynamic"]);
    no(&["--adapter", "dynamic", "--lora-r", "4"]).fails(2, &["--lora-r", "at least 5"]);
    no(&["--adapter", "dynamic", "--target-modules", "nose"]).fails(1, &["`nose`", "v_proj"]);
    let whose = tiny.write("whose.jsonl", &"{\"prompt\": \"a\", \"answer\": \"b\", \"agent\": \"me\"}\n".repeat(40));
    no(&["--adapter", "dynamic", "--data", &whose]).fails(1, &["column `agent`", "whole number", "\"me\""]);
    let bare = tiny.folder.path().join("bare");
    fs::create_dir(&bare).unwrap();
    fs::write(bare.join("dynlora.json"), "{}").unwrap();
    no(&["--adapter", &tiny.path("bare")]).fails(1, &["dynlora.json", "format 1"]);
    assert!(!tiny.folder.path().join("no").exists(), "nothing of this has left a folder behind");
}
