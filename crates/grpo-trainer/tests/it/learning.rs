//! Trainers learn, whatever the loss.

use grpo_trainer::config::GrpoConfig;
use grpo_trainer::loss::{ImportanceSamplingLevel, KlEstimator, LossType};
use grpo_trainer::policy::Sampling;
use grpo_trainer::sft::demonstration_loss;
use grpo_trainer::{Demonstration, EvaluateConfig, GrpoTrainer, SftConfig, SftTrainer, evaluate};

use crate::bigram::{Bigram, END};
use crate::task::{Constant, Exact, accuracy, config, records, trainer};

const LOSSES: [LossType; 8] = [
    LossType::Grpo,
    LossType::Bnpo,
    LossType::DrGrpo,
    LossType::Dapo,
    LossType::Cispo,
    LossType::Sapo,
    LossType::Luspo,
    LossType::Vespo,
];

/// A random table answers right in about one of 49 cases; training by chance (a reward without information) stays there.
#[test]
fn grpo_learns_a_task_that_chance_does_not_solve() {
    let before = accuracy(&Bigram::new());
    assert!(before < 0.06, "{before}");
    for seed in [1, 2, 3] {
        let config = GrpoConfig { seed, max_steps: Some(120), prompts_per_step: 6, num_generations: 8, ..config() };
        let mut trainer = GrpoTrainer::new(config.clone(), Bigram::new(), vec![Box::new(Exact)], records()).unwrap();
        let summary = trainer.train(&mut ()).unwrap();
        assert_eq!((summary.step, summary.total_steps), (120, 120));
        let after = accuracy(trainer.policy());
        assert!(after > 0.8, "seed {seed}: {after}");

        let blind = GrpoConfig { zero_spread_patience: 0, ..config };
        let mut trainer = GrpoTrainer::new(blind, Bigram::new(), vec![Box::new(Constant(1.0))], records()).unwrap();
        trainer.train(&mut ()).unwrap();
        assert!(accuracy(trainer.policy()) < 0.06);
    }
}

#[test]
fn every_loss_learns_at_both_levels_and_off_policy() {
    for loss_type in LOSSES {
        for level in [ImportanceSamplingLevel::Token, ImportanceSamplingLevel::Sequence] {
            let config = GrpoConfig {
                loss_type,
                importance_sampling_level: level,
                max_steps: Some(60),
                prompts_per_step: 6,
                num_generations: 8,
                num_iterations: 2,
                beta: 0.01,
                mask_truncated_completions: true,
                entropy_coef: 0.001,
                ..config()
            };
            let before = accuracy(&Bigram::new());
            let mut trainer = GrpoTrainer::new(config, Bigram::new(), vec![Box::new(Exact)], records()).unwrap();
            let summary = trainer.train(&mut ()).unwrap();
            let last = summary.last.unwrap();
            assert!(last.get("kl").unwrap() > 0.0, "{loss_type:?} {level:?}");
            let after = accuracy(trainer.policy());
            assert!(after > 2.0 * before + 0.1, "{loss_type:?} {level:?}: {before} -> {after}");
        }
    }
}

#[test]
fn every_option_runs_together() {
    for kl_estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
        let config = GrpoConfig {
            kl_estimator,
            beta: 0.05,
            delta: Some(2.0),
            epsilon_high: Some(0.28),
            top_entropy_quantile: 0.5,
            use_adaptive_entropy: true,
            off_policy_mask_threshold: Some(0.5),
            rollout_correction: grpo_trainer::loss::RolloutCorrection::SequenceMask,
            gradient_accumulation_steps: 2,
            steps_per_generation: Some(4),
            num_iterations: 2,
            prompts_per_step: 4,
            temperature: 0.8.into(),
            scale_rewards: grpo_trainer::advantage::ScaleRewards::Batch,
            multi_objective_aggregation: grpo_trainer::advantage::Aggregation::NormalizeThenSum,
            reward_weights: Some(vec![1.0, 0.5]),
            max_steps: Some(20),
            ..config()
        };
        let mut trainer = trainer(config);
        let first = trainer.step(&mut ()).unwrap();
        let last = trainer.train(&mut ()).unwrap().last.unwrap();
        assert_eq!(first.get("sampling/importance_sampling_ratio/mean"), Some(1.0));
        for (name, value) in last.iter() {
            assert!(value.is_none_or(f64::is_finite), "{name}");
        }
        assert!(last.get("entropy_coef").is_some() && last.get("policy_loss").is_some());
    }
}

#[test]
fn evaluation_does_not_depend_on_batches() {
    let sampled = |batch_prompts| {
        let sampling = Sampling::default();
        let config = EvaluateConfig { num_samples: 8, ks: vec![1, 4], sampling, batch_prompts, ..Default::default() };
        let mut seen = Vec::new();
        let result = evaluate(&Bigram::new(), &records(), &Exact, &config, &mut |c| {
            seen.push((c.index, c.sample, c.completion.to_string(), c.passed));
        });
        (result.unwrap(), seen)
    };
    let (whole, seen) = sampled(100);
    assert_eq!(sampled(5), (whole.clone(), seen.clone()));
    assert_eq!(seen.len(), 96);
    assert_eq!(whole.passed.iter().sum::<usize>(), seen.iter().filter(|s| s.3).count());
    assert!(whole.pass(4).unwrap().value > whole.pass(1).unwrap().value);
    let one = whole.pass(1).unwrap();
    assert!(one.low < one.value && one.value < one.high);
}

#[test]
fn supervised_training_fits_its_demonstrations() {
    let demonstrations: Vec<Demonstration> =
        (0..6).map(|i| Demonstration { prompt: vec![i % 3], completion: vec![i % 3 + 3, END] }).collect();
    let config = SftConfig {
        batch_size: 6,
        max_steps: Some(150),
        learning_rate: 0.1,
        checkpoint_every: 0,
        ..SftConfig::default()
    };
    let before = demonstration_loss(&Bigram::new(), &demonstrations, 4).unwrap();
    let mut trainer = SftTrainer::new(config, Bigram::new(), demonstrations.clone()).unwrap();
    let first = trainer.step(&mut ()).unwrap();
    assert!((first.get("loss").unwrap() - before).abs() < 1e-6);
    trainer.train(&mut ()).unwrap();
    let after = demonstration_loss(trainer.policy(), &demonstrations, 4).unwrap();
    assert!(before > 1.9 && after < 0.05, "{before} -> {after}");
}
