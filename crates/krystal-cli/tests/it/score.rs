use serde_json::Value;

use crate::krystal::{krystal, numbers};
use crate::tiny_model::TinyModel;

#[test]
fn entries_are_about_their_tokens() {
    let tiny = TinyModel::new();
    let score = |more: &[&str]| krystal(&[&["score", "--model", &tiny.model(), "--json"], more].concat()).json();
    let answer = score(&["--ids", "20,21,22,23"]);
    assert_eq!(answer["ids"], serde_json::json!([20, 21, 22, 23]));
    let (log_probs, entropy) = (numbers(&answer["log_probs"]), numbers(&answer["entropy"]));
    assert_eq!((log_probs.len(), entropy.len()), (4, 4));
    assert_eq!((log_probs[0], entropy[0]), (None, None));
    let vocabulary = f64::from(3 + 40_u32);
    for (log_prob, entropy) in log_probs[1..].iter().zip(&entropy[1..]) {
        assert!(log_prob.unwrap() < 0.0);
        assert!(entropy.unwrap() > 0.0 && entropy.unwrap() <= vocabulary.ln());
    }
    let mean = log_probs.iter().flatten().sum::<f64>() / 3.0;
    assert!((answer["perplexity"].as_f64().unwrap() - (-mean).exp()).abs() < 1e-9 * (-mean).exp());
    // What comes later changes nothing before it.
    assert_eq!(numbers(&score(&["--ids", "20,21,22,5,6"])["log_probs"])[..3], log_probs[..3]);
    assert_ne!(score(&["--ids", "20,21,22,23", "--adapter", &tiny.adapter()])["log_probs"], answer["log_probs"]);
    // Text is its tokens.
    let ids = score(&["ab c"])["ids"].clone();
    let joined: Vec<String> = ids.as_array().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(score(&["--text", "ab c"])["log_probs"], score(&["--ids", &joined.join(",")])["log_probs"]);
}

#[test]
fn one_token_has_nothing_before_it() {
    let tiny = TinyModel::new();
    let answer = krystal(&["score", "--model", &tiny.model(), "--ids", "4", "--json"]).json();
    assert_eq!((&answer["log_probs"], &answer["perplexity"]), (&serde_json::json!([null]), &Value::Null));
}

#[test]
fn the_table_names_every_token() {
    let tiny = TinyModel::new();
    let ran = krystal(&["score", "--model", &tiny.model(), "abc"]);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!((ran.code, lines.len()), (Some(0), 5), "{ran:?}");
    assert!(lines[1].ends_with("\"a\"") && lines[3].ends_with("\"c\"") && lines[4].contains("perplexity"), "{ran:?}");
}
