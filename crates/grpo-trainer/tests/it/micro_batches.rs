//! How much goes through the model at once changes memory and nothing else.

use grpo_trainer::config::GrpoConfig;
use grpo_trainer::loss::{ImportanceSamplingLevel, LossType};
use grpo_trainer::policy::Policy;
use grpo_trainer::{Demonstration, SftConfig, SftTrainer};

use crate::bigram::Bigram;
use crate::task::{config, trainer};

/// Parameters and norm of the gradient after one step without momentum in the way: the change is proportional to neither,
/// so both are compared.
fn after_steps(config: GrpoConfig) -> (Vec<f32>, Vec<f64>, usize) {
    let mut trainer = trainer(config);
    let norms = (0..4).map(|_| trainer.step(&mut ()).unwrap().get("grad_norm").unwrap()).collect();
    let policy = trainer.into_policy();
    let n_forward = policy.n_forward.get();
    ([policy.even, policy.odd].concat(), norms, n_forward)
}

#[test]
fn gradients_do_not_depend_on_micro_batches() {
    for loss_type in [
        LossType::Grpo,
        LossType::Bnpo,
        LossType::DrGrpo,
        LossType::Dapo,
        LossType::Cispo,
        LossType::Sapo,
        LossType::Luspo,
        LossType::Vespo,
    ] {
        for (top_entropy_quantile, accumulation) in [(1.0, 1), (0.4, 1), (0.4, 2)] {
            let with = |micro_batch_prompts| GrpoConfig {
                loss_type,
                importance_sampling_level: ImportanceSamplingLevel::Token,
                beta: 0.04,
                entropy_coef: 0.01,
                top_entropy_quantile,
                gradient_accumulation_steps: accumulation,
                mask_truncated_completions: true,
                micro_batch_prompts,
                // A large epsilon keeps Adam from turning rounding errors of near-zero gradients into whole steps.
                adam_epsilon: 1.0,
                ..config()
            };
            let (whole, whole_norms, n_whole) = after_steps(with(None));
            for size in [1, 3] {
                let (parts, norms, n_parts) = after_steps(with(Some(size)));
                assert!(n_parts > n_whole || 4 / accumulation <= size, "the batch was not cut");
                for (a, b) in whole.iter().zip(&parts) {
                    assert!((a - b).abs() < 1e-6, "{loss_type:?} {top_entropy_quantile} {size}: {a} {b}");
                }
                for (a, b) in whole_norms.iter().zip(&norms) {
                    assert!((a - b).abs() < 1e-6, "{loss_type:?} {top_entropy_quantile} {size}: norm {a} {b}");
                }
            }
        }
    }
}

/// Without a loss that normalises per batch, accumulating over batches is the same as one large batch.
#[test]
fn accumulation_adds_up_to_one_large_batch() {
    for loss_type in [LossType::Grpo, LossType::DrGrpo, LossType::Dapo, LossType::Cispo, LossType::Luspo] {
        let with = |gradient_accumulation_steps| {
            let adam_epsilon = 1.0;
            after_steps(GrpoConfig { loss_type, gradient_accumulation_steps, beta: 0.04, adam_epsilon, ..config() })
        };
        let ((one, ..), (four, ..)) = (with(1), with(4));
        for (a, b) in one.iter().zip(&four) {
            assert!((a - b).abs() < 1e-6, "{loss_type:?}: {a} {b}");
        }
    }
}

#[test]
fn supervised_gradients_do_not_depend_on_micro_batches() {
    let demonstrations: Vec<Demonstration> = (0..8)
        .map(|i| Demonstration { prompt: vec![i % 6], completion: (0..=i % 4).map(|j| (i + j) % 7).collect() })
        .collect();
    let after = |micro_batch_size| {
        let config = SftConfig { micro_batch_size, learning_rate: 0.1, adam_epsilon: 1.0, ..SftConfig::default() };
        let mut trainer = SftTrainer::new(config, Bigram::new(), demonstrations.clone()).unwrap();
        trainer.train(&mut ()).unwrap();
        let mut policy = trainer.into_policy();
        policy.parameters().iter().flat_map(|p| p.values.to_vec()).collect::<Vec<f32>>()
    };
    for (a, b) in after(None).iter().zip(after(Some(3))) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}
