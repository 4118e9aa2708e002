use std::fs;

use crate::krystal::{krystal, krystal_with};
use crate::tiny_model::TinyModel;

#[test]
#[cfg(not(feature = "mpi"))]
fn a_build_without_mpi_says_so() {
    for verb in [&["train"][..], &["sft", "--data", "x.jsonl", "--model", "x"]] {
        krystal(&[verb, &["--distributed", "mpi"]].concat()).fails(2, &["built without MPI", "--features mpi"]);
    }
}

#[test]
#[cfg(not(feature = "providers"))]
fn a_build_without_hosted_models_says_so() {
    let tiny = TinyModel::new();
    let data = tiny.write("data.jsonl", "{\"prompt\": \"a\", \"answer\": \"b\"}\n");
    for (verb, flag) in [
        (&["eval", "--provider", "ollama:a", "--data", &data, "--reward", "exact"][..], "--provider"),
        (&["chat", "--provider", "ollama:a"], "--provider"),
        (&["train", "--model", &tiny.model(), "--data", &data, "--judge", "ollama:a"], "--judge"),
        (
            &["sft", "--teacher", "ollama:a", "--data", &data, "--accept-all", "--run-dir", &tiny.path("run")],
            "--teacher",
        ),
    ] {
        krystal(verb).fails(2, &[flag, "built without hosted models", "--features providers"]);
    }
}

#[test]
fn model_folders_that_are_not() {
    let tiny = TinyModel::new();
    let generate = |model: &str| krystal(&["generate", "--model", model, "abc"]);
    generate(&tiny.path("nowhere")).fails(1, &["nowhere", "model's folder"]);
    generate(&tiny.path("model/config.json")).fails(1, &["config.json", "found a file"]);
    generate(&tiny.path("adapter")).fails(1, &["tokenizer.json", "missing"]);
    let weights = tiny.folder.path().join("model/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    generate(&tiny.model()).fails(1, &["model.safetensors", "truncated"]);
    fs::write(&weights, &bytes[..5]).unwrap();
    generate(&tiny.model()).fails(1, &["model.safetensors"]);
    fs::write(&weights, &bytes).unwrap();
    let config = tiny.folder.path().join("model/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"llama\"", "\"gpt2\"")).unwrap();
    generate(&tiny.model()).fails(1, &["config.json", "model_type", "gpt2"]);
    fs::write(&config, text.replace("\"hidden_size\": 24", "\"hidden_size\": 32")).unwrap();
    generate(&tiny.model()).fails(1, &["model.safetensors", "expected", "found"]);
    fs::write(&config, &text[..text.len() / 2]).unwrap();
    generate(&tiny.model()).fails(1, &["config.json", "not a JSON object"]);
    fs::write(&config, text).unwrap();
    assert_eq!(generate(&tiny.model()).code, Some(0));
    fs::write(tiny.folder.path().join("model/tokenizer.json"), "{\"decoder\": {\"type\": \"no such\"}}").unwrap();
    generate(&tiny.model()).fails(1, &["tokenizer.json"]);
}

#[test]
fn adapters_that_do_not_fit() {
    let tiny = TinyModel::new();
    let generate = |adapter: &str| krystal(&["generate", "--model", &tiny.model(), "--adapter", adapter, "abc"]);
    generate(&tiny.path("nowhere")).fails(1, &["nowhere", "adapter's folder"]);
    generate(&tiny.model()).fails(1, &["adapter_config.json"]);
    let weights = tiny.folder.path().join("adapter/adapter_model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 9]).unwrap();
    generate(&tiny.adapter()).fails(1, &["adapter_model.safetensors"]);
    krystal(&["adapter", "inspect", &tiny.adapter()]).fails(1, &["adapter_model.safetensors"]);
}

#[test]
fn tokens_that_no_model_can_read() {
    let tiny = TinyModel::new();
    let model = tiny.model();
    for verb in ["generate", "score"] {
        krystal(&[verb, "--model", &model, "--ids", "5,9999"]).fails(1, &["token 9999", "0 to 42"]);
        krystal(&[verb, "--model", &model, "--ids", "5,x"]).fails(2, &["--ids", "5,6,7"]);
        krystal(&[verb, "--model", &model, "--ids", "-5"]).fails(2, &["--ids"]);
        krystal_with("", &[verb, "--model", &model]).fails(1, &["no tokens"]);
        krystal(&[verb, "--model", &model, &"a".repeat(200)]).fails(1, &["200 tokens", "96"]);
    }
}

#[test]
fn settings_out_of_range() {
    let tiny = TinyModel::new();
    let model = tiny.model();
    let generate = |more: &[&str]| krystal(&[&["generate", "--model", &model, "abc"], more].concat());
    generate(&["--temperature", "-1"]).fails(1, &["temperature", "at least 0"]);
    generate(&["--temperature", "nan"]).fails(1, &["temperature"]);
    generate(&["--top-p", "0"]).fails(1, &["top_p"]);
    generate(&["--max-new-tokens", "0"]).fails(1, &["max_new_tokens"]);
    generate(&["--threads", "0"]).fails(2, &["--threads"]);
    generate(&["--seed", "-1"]).fails(2, &["--seed"]);
    krystal(&["score", "--model", &model, "--temperature", "0", "abc"]).fails(2, &["--temperature", "above 0"]);
}

#[test]
fn flags_and_verbs_that_are_not() {
    krystal(&["genrate"]).fails(2, &["genrate", "generate"]);
    krystal(&["generate", "--modle", "x"]).fails(2, &["--modle", "--model"]);
    krystal(&["generate", "abc"]).fails(2, &["--model"]);
    let bare = krystal(&[]);
    assert!(bare.code == Some(2) && bare.stdout.contains("Usage"), "{bare:?}");
}

#[test]
fn failures_are_json_too() {
    let ran = krystal(&["generate", "--model", "nowhere", "abc", "--json"]);
    ran.fails(1, &["nowhere"]);
    let answer: serde_json::Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert!(answer["error"].as_str().unwrap().contains("nowhere"), "{answer}");
    let ran = krystal(&["generate", "--json"]);
    ran.fails(2, &["--model"]);
    assert!(ran.stdout.starts_with("{\"error\":"), "{ran:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_no_success() {
    let tiny = TinyModel::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_krystal"))
        .args(["generate", "--model", &tiny.model(), "abc"])
        .stdout(full)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
#[cfg(unix)]
fn a_reader_that_goes_away_ends_the_program_in_silence() {
    let tiny = TinyModel::new();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_krystal"))
        .args(["generate", "--model", &tiny.model(), "abc", "--ignore-eos", "--max-new-tokens", "90"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}
