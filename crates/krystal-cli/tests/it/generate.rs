use crate::krystal::{krystal, krystal_with, numbers};
use crate::tiny_model::TinyModel;

#[test]
fn json_holds_the_completion() {
    let tiny = TinyModel::new();
    let arguments = ["generate", "--model", &tiny.model(), "--ids", "5,6,7", "--max-new-tokens", "9"];
    let with = |more: &[&str]| krystal(&[&arguments, more, &["--json"]].concat());
    let answer = with(&["--temperature", "0", "--ignore-eos"]).json();
    assert_eq!(answer["ids"].as_array().unwrap().len(), 9);
    assert_eq!(answer["finish"], "length");
    assert_eq!(answer["prompt_tokens"], 3);
    assert!(answer["text"].is_string() && answer["tokens_per_second"].as_f64().unwrap() > 0.0);
    let log_probs = numbers(&answer["log_probs"]);
    assert_eq!(log_probs.len(), 9);
    assert!(log_probs.iter().all(|p| p.unwrap() < 0.0));
    // Greedy needs no seed; sampling is the seed's, on one thread or two.
    assert_eq!(with(&["--ignore-eos", "--seed", "8"]).json()["ids"], answer["ids"]);
    let drawn = |seed| with(&["--temperature", "1", "--seed", seed, "--ignore-eos"]).json()["ids"].clone();
    assert_eq!(
        drawn("3"),
        with(&["--temperature", "1", "--seed", "3", "--ignore-eos", "--threads", "1"]).json()["ids"]
    );
    assert_ne!(drawn("3"), drawn("4"));
    assert_ne!(with(&["--ignore-eos", "--adapter", &tiny.adapter()]).json()["ids"], answer["ids"]);
}

#[test]
fn what_is_generated_scores_as_it_was_drawn() {
    let tiny = TinyModel::new();
    let (model, adapter) = (tiny.model(), tiny.adapter());
    let drawn = krystal(&[
        "generate",
        "--model",
        &model,
        "--adapter",
        &adapter,
        "--ids",
        "5,6,7",
        "--temperature",
        "1",
        "--ignore-eos",
        "--max-new-tokens",
        "40",
        "--json",
    ])
    .json();
    let ids: Vec<String> = drawn["ids"].as_array().unwrap().iter().map(ToString::to_string).collect();
    let all = format!("5,6,7,{}", ids.join(","));
    let scored = krystal(&["score", "--model", &model, "--adapter", &adapter, "--ids", &all, "--json"]).json();
    let (drawn, scored) = (numbers(&drawn["log_probs"]), numbers(&scored["log_probs"]));
    for (drawn, scored) in drawn.iter().zip(&scored[3..]) {
        assert!((drawn.unwrap() - scored.unwrap()).abs() <= 1e-5, "{drawn:?} {scored:?}");
    }
}

#[test]
fn text_is_streamed_and_ends_before_a_stop_string() {
    let tiny = TinyModel::new();
    let arguments =
        ["generate", "--model", &tiny.model(), "--ignore-eos", "--max-new-tokens", "30", "--temperature", "1"];
    let with = |input, more: &[&str]| krystal_with(input, &[&arguments, more].concat());
    let whole = with("", &["abc"]);
    assert_eq!((whole.code, whole.stderr.as_str()), (Some(0), ""));
    assert_eq!(with("abc\n", &[]).stdout, whole.stdout);
    assert_eq!(with("", &["--prompt", "abc", "--seed=0"]).stdout, whole.stdout);
    let text = with("", &["abc", "--json"]).json()["text"].as_str().unwrap().to_owned();
    assert_eq!(whole.stdout, format!("{text}\n"));
    // A stop string of two characters in the middle of the text.
    let middle: Vec<(usize, char)> = text.char_indices().collect();
    let stop: String = middle[10..12].iter().map(|(_, c)| *c).collect();
    let before = &text[..text.find(&stop).unwrap()];
    let stopped = with("", &["abc", "--stop", &stop]);
    assert_eq!(stopped.stdout, format!("{before}\n"));
    let stopped = with("", &["abc", "--stop", &stop, "--json"]).json();
    assert_eq!((stopped["finish"].as_str(), stopped["text"].as_str()), (Some("stop"), Some(before)));
}

#[test]
fn a_message_is_rendered_by_the_chat_template() {
    let tiny = TinyModel::new();
    let arguments = ["generate", "--model", &tiny.model(), "--max-new-tokens", "5", "--ignore-eos"];
    let plain = krystal(&[&arguments[..], &["u: hello\na: "]].concat());
    let chat = krystal(&[&arguments[..], &["--chat", "hello"]].concat());
    assert_eq!((chat.code, &chat.stdout), (Some(0), &plain.stdout));
}
