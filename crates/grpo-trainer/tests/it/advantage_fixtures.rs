//! Advantages against TRL 1.16's own `_generate_and_score_completions`.

use grpo_trainer::advantage::compute_advantages;
use grpo_trainer::rollout::completion_counts;
use serde_json::Value;

use crate::fixtures::{load, numbers, rows};

#[test]
fn every_advantage_mask_and_metric_agrees_with_trl() {
    let Some(fixture) = load("trl_adv_fixtures.json") else {
        return;
    };
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 19);
    for (i, case) in cases.iter().enumerate() {
        let rewards: Vec<Vec<Option<f64>>> = case["rewards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row.as_array().unwrap().iter().map(Value::as_f64).collect())
            .collect();
        let advantages = compute_advantages(
            &rewards,
            &numbers(&case["weights"]),
            case["G"].as_u64().unwrap() as usize,
            serde_json::from_value(case["scale"].clone()).unwrap(),
            serde_json::from_value(case["agg"].clone()).unwrap(),
        );
        for (got, expected) in advantages.values.iter().zip(numbers(&case["advantages"])) {
            assert!((got - expected).abs() < 1e-5, "case {i}: {got} {expected}");
        }
        assert_eq!(advantages.values.len(), rewards.len());
        let metric = |name: &str| match name {
            "reward" => advantages.reward,
            "reward_std" => advantages.reward_std,
            "frac_reward_zero_std" => Some(advantages.frac_reward_zero_std),
            "rewards/r0/mean" => advantages.function_mean[0],
            "rewards/r0/std" => advantages.function_std[0],
            "rewards/r1/mean" => advantages.function_mean[1],
            "rewards/r1/std" => advantages.function_std[1],
            other => panic!("case {i}: unknown metric {other}"),
        };
        for (name, expected) in case["metrics"].as_object().unwrap() {
            match (metric(name), expected.as_f64()) {
                (Some(got), Some(expected)) => {
                    assert!((got - expected).abs() < 1e-5, "case {i}: {name} {got} {expected}")
                }
                (got, expected) => assert_eq!(got, expected, "case {i}: {name}"),
            }
        }
        // The generator cut completions at 4 tokens: a full one did not end by itself.
        let lengths: Vec<usize> = numbers(&case["lens"]).iter().map(|&n| n as usize).collect();
        let mask_truncated = case["mask_truncated"].as_bool().unwrap();
        let masks = rows(&case["completion_mask"]).unwrap();
        let mut num_items = 0;
        for (&n, mask) in lengths.iter().zip(&masks) {
            let counts = completion_counts(n == 4, mask_truncated);
            let expected: Vec<f64> = (0..4).map(|t| f64::from(t < n && counts)).collect();
            assert_eq!(&expected, mask, "case {i}");
            num_items += if counts { n } else { 0 };
        }
        assert_eq!(num_items as u64, case["num_items"].as_u64().unwrap(), "case {i}");
    }
}
