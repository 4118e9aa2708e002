//! The distributions of transformers' own logits processors.

use krystal_math::sampling::{Sampling, probabilities};
use serde_json::Value;

use crate::shared::shared;

fn floats(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn probabilities_are_those_of_transformers() {
    let Some(path) = shared("fixtures/grpo/optimizer_sampling.json") else { return };
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut compared = 0;
    for case in file["sampling"].as_array().unwrap() {
        let f = |key: &str| case[key].as_f64();
        let sampling = Sampling {
            temperature: f("temperature").unwrap() as f32,
            top_k: case["top_k"].as_u64().unwrap() as usize,
            top_p: f("top_p").unwrap() as f32,
            min_p: f("min_p").unwrap_or(0.0) as f32,
            repetition_penalty: f("repetition_penalty").unwrap() as f32,
        };
        for row in 0..2 {
            let logits: Vec<f32> = floats(&case["logits"][row]).iter().map(|x| *x as f32).collect();
            let seen: Vec<u32> = floats(&case["ids"][row]).iter().map(|x| *x as u32).collect();
            for (got, expected) in probabilities(&logits, &seen, &sampling).iter().zip(floats(&case["probs"][row])) {
                assert!((got - expected).abs() <= 1e-7, "{sampling:?}: {got} instead of {expected}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 7 * 2 * 50);
}
