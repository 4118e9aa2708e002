//! Every reward through the interface a trainer uses.

use krystal_verify::{Error, RewardSpec, Sample, Verdict, parse_rewards};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn judge(spec: &str, completion: &str, tokens: &[u32], columns: Value) -> Verdict {
    let reward: RewardSpec = spec.parse().unwrap_or_else(|error: Error| panic!("{spec}: {error}"));
    let columns: Map<String, Value> = serde_json::from_value(columns).expect("an object");
    let sample =
        Sample { prompt: "", completion, tokens, truncated: false, max_completion_length: 20, columns: &columns };
    reward.build().expect("it has been checked").verify(&sample)
}

fn score(spec: &str, completion: &str, columns: Value) -> Option<f64> {
    judge(spec, completion, &[], columns).value()
}

#[test]
fn exact() {
    assert_eq!(score("exact", " 85\n", json!({"answer": "85"})), Some(1.0));
    assert_eq!(score("exact", "85", json!({"answer": 85})), Some(1.0));
    assert_eq!(score("exact", "085", json!({"answer": "85"})), Some(0.0));
    assert_eq!(score("exact", "Yes", json!({"answer": "yes"})), Some(0.0));
    assert_eq!(score("exact:column=target", "a", json!({"answer": "b", "target": "a"})), Some(1.0));
    assert_eq!(score("exact:column=target", "a", json!({"answer": "a"})), None);
    assert_eq!(score("exact", "a", json!({})), None);
    assert_eq!(score("exact", "null", json!({"answer": null})), None);
}

#[test]
fn math() {
    let verdict = judge("math", "so it is 72 clips", &[], json!({"answer": "...\n#### 72"}));
    assert_eq!(
        (verdict.value(), &verdict.extra["parsed"], &verdict.extra["answer"]),
        (Some(1.0), &json!(true), &json!("72"))
    );
    let verdict = judge("math", "no idea", &[], json!({"answer": 72}));
    assert_eq!((verdict.value(), &verdict.extra["parsed"]), (Some(0.0), &json!(false)));
    assert_eq!(verdict.extra["unparsed"], json!("no number"));
    let verdict = judge("math", "72", &[], json!({"answer": "seventy-two"}));
    assert_eq!(verdict.reason(), Some("the gold is not a single number (no number)"));
    let verdict = judge("math", "72", &[], json!({"question": "?"}));
    assert_eq!(verdict.reason(), Some("no column named any of: answer, ground_truth, target, solution"));
    assert_eq!(score("math", "0.1", json!({"answer": 0.1})), Some(1.0));
    assert_eq!(score("math:column=n", "7", json!({"answer": 6, "n": 7})), Some(1.0));
    assert_eq!(score("math", "7", json!({"ground_truth": 6, "solution": 7})), Some(0.0));
}

#[test]
fn numeric() {
    assert_eq!(score("numeric", "#### 5 then 6", json!({"answer": 6})), Some(1.0));
    assert_eq!(score("numeric:tolerance=0.01", "3.14", json!({"answer": "3.14159"})), Some(1.0));
    assert_eq!(score("numeric:tolerance=0.001", "3.14", json!({"answer": "3.14159"})), Some(0.0));
    assert_eq!(score("numeric:tolerance=0.1", "0.3", json!({"answer": "0.2"})), Some(1.0));
    assert_eq!(score("numeric", "3.1", json!({"answer": "3.14"})), Some(0.0));
    assert_eq!(score("numeric", "", json!({"answer": "3.14"})), Some(0.0));
    assert_eq!(score("numeric", "3", json!({"answer": "pi"})), None);
}

#[test]
fn regex_and_format() {
    assert_eq!(score("regex:pattern=^\\d{2},\\d$", "12,3", json!({})), Some(1.0));
    assert_eq!(score("regex:pattern=^\\d{2},\\d$", "12,34", json!({})), Some(0.0));
    assert_eq!(score("think_format", "<think>a</think>b", json!({})), Some(1.0));
    assert_eq!(score("think_format", "b", json!({})), Some(0.0));
}

/// The numbers of TRL's documentation of `get_soft_overlong_punishment`: max 100, cache 20.
#[test]
fn soft_overlong() {
    let punishment = |spec: &str, length: usize| judge(spec, "", &vec![1; length], json!({})).value();
    for (length, expected) in [(0, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (100, -1.0), (101, -1.0), (500, -1.0)] {
        assert_eq!(punishment("soft_overlong:max=100,cache=20", length), Some(expected), "{length}");
    }
    // Without `max` the run's limit, here 20 tokens.
    for (length, expected) in [(10, 0.0), (15, -0.5), (20, -1.0), (21, -1.0)] {
        assert_eq!(punishment("soft_overlong:cache=10", length), Some(expected), "{length}");
    }
}

#[test]
fn repetition() {
    for (spec, tokens, expected) in [
        ("repetition", vec![], 0.0),
        ("repetition", vec![1, 1], 0.0),
        ("repetition", vec![1, 2, 3], 0.0),
        ("repetition", vec![1, 1, 1, 1], -0.5),
        ("repetition", vec![1, 2, 3, 1, 2, 3], -0.25),
        ("repetition:n=1,penalty=-2", vec![5, 5, 5, 5], -1.5),
        ("repetition:n=2", vec![1, 2, 1, 2, 1], -0.5),
    ] {
        assert_eq!(judge(spec, "", &tokens, json!({})).value(), Some(expected), "{spec} {tokens:?}");
    }
}

#[test]
fn calculator() {
    let verdict = judge("calculator", "48/2 = <<48/2=24>>24, <<1+1=3>>3, <<unclosed", &[], json!({}));
    assert_eq!(verdict.value(), Some(0.5));
    assert_eq!((&verdict.extra["annotations"], &verdict.extra["annotations_right"]), (&json!(2), &json!(1)));
    assert_eq!(score("calculator", "none", json!({})), None);
    assert_eq!(score("calculator:missing=0", "none", json!({})), Some(0.0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_makes_a_reward_panic_or_score_beyond_numbers(completion in any::<String>(), answer in any::<String>()) {
        let rewards = parse_rewards("exact,numeric,math,think_format,soft_overlong:cache=4,repetition,calculator,regex:pattern=a+b");
        for reward in rewards.expect("known rewards") {
            let verdict = judge(&reward.reward.to_string(), &completion, &[1, 2, 3, 1, 2, 3], json!({"answer": answer}));
            prop_assert!(verdict.value().is_none_or(f64::is_finite));
            prop_assert_ne!(verdict.value().is_none(), verdict.reason().is_none());
        }
    }
}
