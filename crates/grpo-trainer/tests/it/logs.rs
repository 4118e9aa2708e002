//! What a run writes.

use grpo_trainer::RunDir;
use grpo_trainer::config::GrpoConfig;
use serde_json::Value;

use crate::task::{config, trainer};

fn lines(config: GrpoConfig, file: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path()).unwrap();
    trainer(config).with_run_dir(run).unwrap().train(&mut ()).unwrap();
    let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn metrics_have_the_names_of_trl() {
    let lines = lines(GrpoConfig { beta: 0.04, entropy_coef: 0.01, ..config() }, "metrics.jsonl");
    let steps: Vec<u64> = lines.iter().map(|l| l["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    for name in [
        "loss",
        "grad_norm",
        "learning_rate",
        "num_tokens",
        "epoch",
        "completions/mean_length",
        "completions/min_length",
        "completions/max_length",
        "completions/clipped_ratio",
        "completions/mean_terminated_length",
        "completions/min_terminated_length",
        "completions/max_terminated_length",
        "rewards/exact/mean",
        "rewards/exact/std",
        "rewards/brief/mean",
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "policy_loss",
        "entropy_coef",
        "kl",
        "entropy",
        "clip_ratio/low_mean",
        "clip_ratio/low_min",
        "clip_ratio/high_mean",
        "clip_ratio/high_max",
        "clip_ratio/region_mean",
        "sampling/sampling_logp_difference/mean",
        "sampling/sampling_logp_difference/max",
    ] {
        assert!(lines[0].get(name).is_some_and(Value::is_number), "{name}: {}", lines[0]);
    }
    assert!(lines[0].get("step_time").is_none(), "no clock was given");
    // On policy nothing has moved: no ratio is clipped, and sampler and scorer agree exactly.
    assert_eq!(lines[0]["clip_ratio/region_mean"], 0.0);
    assert_eq!(lines[0]["sampling/sampling_logp_difference/max"], 0.0);
    assert_eq!(lines[0]["learning_rate"], 0.1);
}

#[test]
fn completions_have_a_column_per_reward() {
    let lines = lines(config(), "completions.jsonl");
    assert_eq!(lines.len(), 6 * 4 * 6);
    for line in &lines {
        let text = line["completion"].as_str().unwrap();
        assert_eq!(line["brief"].is_null(), text.starts_with('c'), "{line}");
        assert_eq!(line.get("brief/reason").is_some(), text.starts_with('c'), "{line}");
        assert_eq!(line.get("length").is_some(), !text.starts_with('c'), "{line}");
        assert!(line["exact"].is_number() && line["advantage"].is_number());
        assert!(line["finish"] == "eos" || line["finish"] == "length");
    }
    let none = GrpoConfig { log_completions: false, ..config() };
    let folder = tempfile::tempdir().unwrap();
    trainer(none).with_run_dir(RunDir::create(folder.path()).unwrap()).unwrap().train(&mut ()).unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("completions.jsonl")).unwrap(), "");
}

/// A generation that feeds several steps is measured once, and ratios leave 1 after the first step.
#[test]
fn later_steps_of_a_generation_are_off_policy() {
    let config = GrpoConfig { num_iterations: 3, epsilon: 0.01, ..config() };
    let lines = lines(config, "metrics.jsonl");
    for (i, line) in lines.iter().enumerate() {
        let is_first = i % 3 == 0;
        assert_eq!(line.get("reward").is_some(), is_first, "{line}");
        assert_eq!(line["clip_ratio/region_mean"] == 0.0, is_first, "{line}");
        assert_eq!(line["sampling/sampling_logp_difference/max"].is_null(), !is_first, "{line}");
    }
}
