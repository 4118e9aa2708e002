//! Gradients against finite differences, for what the fixtures do not combine.

use grpo_trainer::loss::{
    ImportanceSamplingLevel, KlEstimator, LossSequence, LossSettings, LossType, Window, compute_loss,
};
use proptest::prelude::*;

const LOSSES: [LossType; 6] =
    [LossType::Grpo, LossType::Bnpo, LossType::DrGrpo, LossType::Dapo, LossType::Sapo, LossType::Luspo];

#[derive(Debug, Clone)]
struct Batch {
    log_probs: Vec<Vec<f64>>,
    old: Vec<Vec<f64>>,
    reference: Vec<Vec<f64>>,
    entropy: Vec<Vec<f64>>,
    mask: Vec<Vec<bool>>,
    advantages: Vec<f64>,
}

fn loss(settings: &LossSettings, batch: &Batch) -> (f64, Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let sequences: Vec<_> = (0..batch.advantages.len())
        .map(|b| LossSequence {
            log_probs: &batch.log_probs[b],
            old_log_probs: Some(&batch.old[b]),
            sampling_log_probs: None,
            reference_log_probs: Some(&batch.reference[b]),
            entropy: &batch.entropy[b],
            mask: &batch.mask[b],
            advantage: batch.advantages[b],
            rollout_ratio: None,
        })
        .collect();
    let mut window = Window::of(settings, &sequences, 5);
    window.current_gradient_accumulation_steps = 2;
    window.steps_per_generation = 4;
    let output = compute_loss(settings, &sequences, &window, 0.3);
    (output.loss, output.d_log_probs, output.d_entropy)
}

fn batch() -> impl Strategy<Value = Batch> {
    let length = 1..5_usize;
    let sequence = length.prop_flat_map(|n| {
        (
            prop::collection::vec(-3.0..-0.1_f64, n),
            prop::collection::vec(-0.6..0.6_f64, n),
            prop::collection::vec(-0.6..0.6_f64, n),
            prop::collection::vec(0.0..2.0_f64, n),
            prop::collection::vec(prop::bool::weighted(0.8), n),
            -2.0..2.0_f64,
        )
    });
    prop::collection::vec(sequence, 1..4).prop_map(|sequences| {
        let mut batch = Batch {
            log_probs: vec![],
            old: vec![],
            reference: vec![],
            entropy: vec![],
            mask: vec![],
            advantages: vec![],
        };
        for (lp, old, reference, entropy, mask, advantage) in sequences {
            batch.old.push(lp.iter().zip(&old).map(|(a, b)| a + b).collect());
            batch.reference.push(lp.iter().zip(&reference).map(|(a, b)| a + b).collect());
            batch.log_probs.push(lp);
            batch.entropy.push(entropy);
            batch.mask.push(mask);
            batch.advantages.push(advantage);
        }
        batch
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gradients_are_derivatives(
        batch in batch(),
        which in 0..LOSSES.len(),
        sequence_level in any::<bool>(),
        bias in any::<bool>(),
        estimator in 0..3_usize,
        delta in prop::option::of(1.3..2.0_f64),
    ) {
        let settings = LossSettings {
            loss_type: LOSSES[which],
            importance_sampling_level:
                if sequence_level { ImportanceSamplingLevel::Sequence } else { ImportanceSamplingLevel::Token },
            epsilon_high: 0.28,
            delta,
            beta: 0.1,
            kl_estimator: [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3][estimator],
            use_bias_correction_kl: bias,
            entropy_bonus: true,
            ..LossSettings::default()
        };
        let (_, d_log_probs, d_entropy) = loss(&settings, &batch);
        let h = 1e-6;
        for b in 0..batch.advantages.len() {
            for t in 0..batch.log_probs[b].len() {
                let at = |d: f64| {
                    let mut moved = batch.clone();
                    moved.log_probs[b][t] += d;
                    loss(&settings, &moved).0
                };
                let (left, middle, right) = (at(-h), at(0.0), at(h));
                // Across a corner of the clip there is no derivative to compare with.
                let corner = ((right - middle) - (middle - left)).abs() > 1e-9;
                let slope = (right - left) / (2.0 * h);
                prop_assert!(corner || (slope - d_log_probs[b][t]).abs() < 1e-6, "{slope} {}", d_log_probs[b][t]);
                let at = |d: f64| {
                    let mut moved = batch.clone();
                    moved.entropy[b][t] += d;
                    loss(&settings, &moved).0
                };
                prop_assert!(((at(h) - at(-h)) / (2.0 * h) - d_entropy[b][t]).abs() < 1e-6);
            }
        }
    }
}
