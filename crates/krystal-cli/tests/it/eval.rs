use std::path::PathBuf;

use crate::krystal::krystal;
use crate::tiny_model::TinyModel;

#[test]
fn recorded_answers_are_judged_and_compared_with_labels() {
    let tiny = TinyModel::new();
    let file = tiny.write(
        "answers.jsonl",
        "{\"gold\": \"so #### 72\", \"one\": {\"text\": \"it is 72\", \"right\": true}, \"two\": \"The answer is 73.\", \"ok\": 0}\n\n\
         {\"gold\": \"8\", \"one\": {\"text\": \"no idea\", \"right\": true}, \"two\": \"8\", \"ok\": 1}\n",
    );
    let arguments = ["eval", "--reward", "math", "--completions", &file, "--gold-column", "gold"];
    let with = |more: &[&str]| krystal(&[&arguments, more].concat());
    let labelled = ["--completion-column", "one.text,two", "--label-column", "one.right", "--label-column", "ok"];
    let answer = with(&[&labelled[..], &["--json"]].concat()).json();
    let count = |field: &str| answer[field].as_u64().unwrap();
    assert_eq!((count("n"), count("passed"), count("labelled"), count("agree"), count("abstained")), (4, 2, 4, 3, 0));
    assert_eq!(answer["accuracy"], 0.5);
    let columns: Vec<&str> =
        answer["columns"].as_array().unwrap().iter().map(|c| c["column"].as_str().unwrap()).collect();
    assert_eq!(columns, ["one.text", "two"]);
    let text = with(&labelled).stdout;
    assert!(text.contains("3 of 4 labels agreed with"), "{text}");
    assert!(text.contains("line 3: one.text does not pass, the label says true"), "{text}");
    with(&[]).fails(1, &["answers.jsonl:1", "`completion`", "`one`"]);
    with(&["--completion-column", "one"]).fails(1, &["answers.jsonl:1", "expected text"]);
    with(&["--completion-column", "two", "--label-column", "two"]).fails(1, &["expected true or false"]);
    with(&["--completion-column", "two", "--label-column", "a,b"]).fails(2, &["--label-column", "found 2"]);
    let blind =
        ["eval", "--reward", "math", "--completions", &file, "--gold-column", "one.text", "--completion-column", "two"];
    krystal(&blind).fails(1, &["no answer could be judged", "line 1"]);
}

#[test]
fn gsm8k_labels_are_agreed_with() {
    let root = std::env::var_os("KRYSTAL_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let file = root.join("data/gsm8k/example_model_solutions.jsonl");
    if !file.exists() {
        println!("skipped: example_model_solutions.jsonl is not here");
        return;
    }
    let models = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"];
    let columns = |field: &str| models.map(|model| format!("{model}.{field}")).join(",");
    let answer = krystal(&[
        "eval",
        "--reward",
        "math",
        "--completions",
        file.to_str().unwrap(),
        "--gold-column",
        "ground_truth",
        "--completion-column",
        &columns("solution"),
        "--label-column",
        &columns("is_correct"),
        "--json",
    ])
    .json();
    let count = |field: &str| answer[field].as_u64();
    assert_eq!((count("n"), count("labelled"), count("agree")), (Some(5_276), Some(5_276), Some(5_276)));
}

#[test]
fn a_model_is_evaluated_on_a_file_and_on_a_task() {
    let tiny = TinyModel::new();
    let lines: String = (0..30).map(|i| format!("{{\"prompt\": \"{i} and\", \"answer\": \"{i}\"}}\n")).collect();
    let file = tiny.write("data.jsonl", &lines);
    let out = tiny.path("out.jsonl");
    let arguments = ["eval", "--model", &tiny.model(), "--max-completion-length", "6", "--json"];
    let with = |more: &[&str]| krystal(&[&arguments, more].concat());
    let data = ["--data", &file, "--reward", "regex:pattern=[a-m]"];
    let answer = with(&[&data[..], &["--samples", "4", "--k", "1,4", "--out", &out]].concat()).json();
    assert_eq!((answer["n"].as_u64(), answer["num_samples"].as_u64()), (Some(30), Some(4)));
    let value = |name: &str| answer[name].as_f64().unwrap();
    assert!(value("pass@1") < value("pass@4"), "{answer}");
    for k in ["pass@1", "pass@4"] {
        assert!(value(&format!("{k}_low")) <= value(k) && value(k) <= value(&format!("{k}_high")), "{answer}");
    }
    let written = std::fs::read_to_string(out).unwrap();
    let passed = written.lines().filter(|line| line.contains("\"passed\":true")).count();
    assert_eq!(written.lines().count(), 120);
    assert!((value("pass@1") - passed as f64 / 120.0).abs() < 1e-12);
    let adapted = with(&[&data[..], &["--adapter", &tiny.adapter(), "--limit", "5"]].concat()).json();
    assert_eq!(adapted["n"], 5);
    let task = with(&["--task", "arithmetic", "--limit", "12"]).json();
    assert_eq!((task["n"].as_u64(), task["pass@1"].as_f64()), (Some(12), Some(0.0)));
}

#[test]
fn requests_that_cannot_be_evaluated() {
    let tiny = TinyModel::new();
    let model = tiny.model();
    let file = tiny.write("data.jsonl", "{\"prompt\": \"a\", \"answer\": \"b\"}\n{\"prompt\": \"a\"\n");
    krystal(&["eval"]).fails(2, &["--model", "--completions"]);
    krystal(&["eval", "--model", &model, "--reward", "math"]).fails(2, &["--data", "--task"]);
    krystal(&["eval", "--model", &model, "--data", &file]).fails(2, &["--reward"]);
    krystal(&["eval", "--model", &model, "--data", &file, "--reward", "exact"]).fails(1, &["data.jsonl:2", "JSON"]);
    krystal(&["eval", "--model", &model, "--data", &file, "--reward", "exct"]).fails(1, &["exct", "`exact`"]);
    krystal(&["eval", "--reward", "math,exact", "--completions", &file]).fails(2, &["one reward", "found 2"]);
    krystal(&["eval", "--model", &model, "--task", "chess"]).fails(2, &["chess", "arithmetic"]);
    let good = tiny.write("good.jsonl", "{\"prompt\": \"a\", \"text\": \"b\"}\n");
    krystal(&["eval", "--model", &model, "--data", &good, "--reward", "math"]).fails(1, &["`math`", "answer"]);
    let more = ["--samples", "2", "--k", "3", "--task", "arithmetic"];
    krystal(&[&["eval", "--model", &model][..], &more].concat()).fails(1, &["ks", "num_samples"]);
    let long = tiny.write("long.jsonl", &format!("{{\"prompt\": \"{}\", \"answer\": \"b\"}}\n", "a".repeat(95)));
    krystal(&["eval", "--model", &model, "--data", &long, "--reward", "exact"]).fails(1, &["48 tokens"]);
}
