use crate::krystal::krystal;
use crate::tiny_model::TinyModel;

const INIT: &str = r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "max_position_embeddings": 32, "tie_word_embeddings": true, "vocab_size": 1}"#;

/// Sums of two digits; each occurs several times.
fn sums() -> String {
    let line = |i: usize| {
        let (a, b) = (i * 7 % 10, i * 3 % 7);
        format!("{{\"prompt\": \"{a}+{b}=\", \"completion\": \"{}\"}}\n", a + b)
    };
    (0..400).map(line).collect()
}

#[test]
fn a_fresh_model_learns_its_demonstrations() {
    let tiny = TinyModel::new();
    let (data, init, run) = (tiny.write("sums.jsonl", &sums()), tiny.write("init.json", INIT), tiny.path("run"));
    let answer = krystal(&[
        "sft",
        "--init",
        &init,
        "--data",
        &data,
        "--run-dir",
        &run,
        "--learning-rate",
        "5e-3",
        "--max-steps",
        "150",
        "--batch-size",
        "32",
        "--json",
    ])
    .json();
    let value = |name: &str| answer[name].as_f64().unwrap();
    assert!(value("eval_loss_before") > 2.0 && value("eval_loss_after") < 0.2, "{answer}");
    assert_eq!((answer["steps"].as_u64(), answer["n"].as_u64()), (Some(150), Some(40)));
    let model = answer["trained"].as_str().unwrap();
    // (7, 3): the first pair after (0, 0).
    assert_eq!(krystal(&["generate", "--model", model, "7+3="]).stdout, "10\n");
    // From there on an adapter.
    let again = krystal(&[
        "sft",
        "--model",
        model,
        "--data",
        &data,
        "--run-dir",
        &tiny.path("lora"),
        "--max-steps",
        "3",
        "--sphere-depth",
        "1",
        "--json",
    ]);
    let adapter = again.json()["trained"].as_str().unwrap().to_owned();
    krystal(&["adapter", "verify", "--model", model, "--adapter", &adapter, "--json"]).json();
    // A run that is over can be asked for its result again.
    let resumed = krystal(&["sft", "--resume", &run, "--json"]).json();
    assert_eq!(resumed["eval_loss_after"], answer["eval_loss_after"]);
}

#[test]
fn demonstrations_that_cannot_be_learned() {
    let tiny = TinyModel::new();
    let (data, init) = (tiny.write("sums.jsonl", &sums()), tiny.write("init.json", INIT));
    krystal(&["sft", "--data", &data]).fails(2, &["--model", "--init"]);
    krystal(&["sft", "--model", &tiny.model()]).fails(2, &["--data"]);
    krystal(&["sft", "--model", &tiny.model(), "--data", &data, "--completion-column", "text"]).fails(1, &["`text`"]);
    krystal(&["sft", "--init", &tiny.path("none.json"), "--data", &data]).fails(1, &["none.json", "cannot read"]);
    let chat =
        tiny.write("chat.jsonl", "{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}], \"completion\": \"b\"}\n");
    krystal(&["sft", "--init", &init, "--data", &chat]).fails(1, &["chat template"]);
    let empty = tiny.write("empty.jsonl", "{\"prompt\": \"a\", \"completion\": \"\"}\n");
    krystal(&["sft", "--model", &tiny.model(), "--data", &empty]).fails(1, &["record 1", "not empty"]);
    let few = tiny.write("few.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    krystal(&["sft", "--model", &tiny.model(), "--data", &few]).fails(1, &["at least 8 records", "batch_size"]);
    let deep = ["--sphere-depth", "18"];
    krystal(&[&["sft", "--model", &tiny.model(), "--data", &data][..], &deep].concat()).fails(2, &["--sphere-depth"]);
    let sizes = ["--eval-size", "400"];
    krystal(&[&["sft", "--model", &tiny.model(), "--data", &data][..], &sizes].concat()).fails(2, &["--eval-size 400"]);
}
