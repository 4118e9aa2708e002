//! All eight losses against TRL 1.16's own `_compute_loss`.

use grpo_trainer::loss::{ImportanceSamplingLevel, LossSequence, LossSettings, Window, compute_loss};
use serde_json::Value;

use crate::fixtures::{load, numbers, rows};

/// Settings of a case: TRL's names, and the defaults the generator passes to TRL.
fn settings(cfg: &Value) -> LossSettings {
    let number = |key: &str, default: f64| cfg.get(key).and_then(Value::as_f64).unwrap_or(default);
    let level = match cfg.get("importance_sampling_level").and_then(Value::as_str) {
        Some("sequence") => ImportanceSamplingLevel::Sequence,
        _ => ImportanceSamplingLevel::Token,
    };
    LossSettings {
        loss_type: serde_json::from_value(cfg["loss_type"].clone()).expect("a known loss"),
        importance_sampling_level: level,
        epsilon_high: number("epsilon_high", 0.2),
        delta: cfg.get("delta").and_then(Value::as_f64),
        beta: number("beta", 0.0),
        use_bias_correction_kl: cfg.get("use_bias_correction_kl").and_then(Value::as_bool).unwrap_or(true),
        top_entropy_quantile: number("top_entropy_quantile", 1.0),
        off_policy_mask_threshold: cfg.get("off_policy_mask_threshold").and_then(Value::as_f64),
        entropy_bonus: number("entropy_coef", 0.0) != 0.0,
        ..LossSettings::default()
    }
}

struct Case {
    log_probs: Vec<Vec<f64>>,
    old: Vec<Vec<f64>>,
    reference: Vec<Vec<f64>>,
    entropy: Vec<Vec<f64>>,
    mask: Vec<Vec<bool>>,
    advantages: Vec<f64>,
    rollout_ratio: Option<Vec<Vec<f64>>>,
}

impl Case {
    fn new(case: &Value) -> Self {
        let mask = rows(&case["mask"]).unwrap();
        Self {
            log_probs: rows(&case["logp"]).unwrap(),
            old: rows(&case["old"]).unwrap(),
            reference: rows(&case["ref"]).unwrap(),
            entropy: rows(&case["entropy"]).unwrap(),
            mask: mask.iter().map(|row| row.iter().map(|&m| m != 0.0).collect()).collect(),
            advantages: numbers(&case["adv"]),
            rollout_ratio: rows(&case["is_ratio"]),
        }
    }

    fn sequences(&self) -> Vec<LossSequence<'_>> {
        (0..self.log_probs.len())
            .map(|b| LossSequence {
                log_probs: &self.log_probs[b],
                old_log_probs: Some(&self.old[b]),
                sampling_log_probs: None,
                reference_log_probs: Some(&self.reference[b]),
                entropy: &self.entropy[b],
                mask: &self.mask[b],
                advantage: self.advantages[b],
                rollout_ratio: self.rollout_ratio.as_ref().map(|r| &r[b][..]),
            })
            .collect()
    }
}

fn close(name: &str, what: &str, got: f64, expected: f64, tolerance: f64) {
    let difference = (got - expected).abs();
    assert!(difference <= tolerance, "{name}: {what} is {got}, expected {expected} (off by {difference:e})");
}

/// TRL counts clipped ratios in `float32`, so those metrics carry half a unit of its last place (6e-8 below 1); they are
/// compared at `f32` precision and everything else at 1e-9.
fn tolerance(metric: &str) -> f64 {
    if metric.starts_with("clip_ratio/") || metric == "cispo_clip_ratio" { 1e-7 } else { 1e-9 }
}

#[test]
fn every_loss_gradient_and_metric_agrees_with_trl() {
    let Some(fixture) = load("trl_loss_fixtures.json") else {
        return;
    };
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 53);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let settings = settings(&case["cfg"]);
        let inputs = Case::new(case);
        let sequences = inputs.sequences();
        let mut window = Window::of(&settings, &sequences, 8);
        assert_eq!(window.num_items_in_batch as u64, case["num_items"].as_u64().unwrap());
        let count = |key: &str| case["cfg"].get(key).and_then(Value::as_u64).unwrap_or(1) as usize;
        window.current_gradient_accumulation_steps = count("current_gradient_accumulation_steps");
        window.steps_per_generation = count("steps_per_generation");
        let entropy_coef = case["cfg"].get("entropy_coef").and_then(Value::as_f64).unwrap_or(0.0);

        let output = compute_loss(&settings, &sequences, &window, entropy_coef);
        close(name, "loss", output.loss, case["loss"].as_f64().unwrap(), 1e-9);
        for (b, (got, expected)) in output.d_log_probs.iter().zip(rows(&case["dlogp"]).unwrap()).enumerate() {
            for t in 0..expected.len() {
                close(name, &format!("dlogp[{b}][{t}]"), got[t], expected[t], 1e-9);
            }
        }
        match rows(&case["dentropy"]) {
            None => assert!(output.d_entropy.is_empty(), "{name}: no entropy gradient was expected"),
            Some(expected) => {
                for (got, expected) in output.d_entropy.iter().flatten().zip(expected.iter().flatten()) {
                    close(name, "dentropy", *got, *expected, 1e-9);
                }
                assert_eq!(output.d_entropy.len(), expected.len());
            }
        }
        let mut named = output.metrics.named(&settings);
        if settings.entropy_bonus {
            // The trainer adds it, from its controller.
            named.push(("entropy_coef", Some(entropy_coef)));
        }
        let expected = case["metrics"].as_object().unwrap();
        for (metric, value) in expected {
            let got = named.iter().find(|(n, _)| n == metric).unwrap_or_else(|| panic!("{name}: no {metric}")).1;
            close(name, metric, got.unwrap(), value.as_f64().unwrap(), tolerance(metric));
        }
        assert_eq!(named.len(), expected.len(), "{name}: {named:?}");

        // In parts, with the window of the whole, the numbers must be the same.
        let (mut loss, mut metrics) = (0.0, grpo_trainer::loss::LossMetrics::default());
        for (part, expected) in sequences.chunks(2).zip(output.d_log_probs.chunks(2)) {
            let part = compute_loss(&settings, part, &window, entropy_coef);
            loss += part.loss;
            metrics.merge(&part.metrics);
            assert_eq!(part.d_log_probs, expected, "{name}: parts differ from the whole");
        }
        close(name, "loss in parts", loss, output.loss, 1e-12);
        for ((n, got), (_, expected)) in metrics.named(&settings).iter().zip(output.metrics.named(&settings)) {
            close(name, n, got.unwrap(), expected.unwrap(), 1e-12);
        }
    }
}
