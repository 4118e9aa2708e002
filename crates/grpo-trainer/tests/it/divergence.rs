//! The measured divergence is that of the distributions.

use grpo_trainer::policy::{Parameter, Policy};
use grpo_trainer::{EvaluateConfig, reference_divergence};

use crate::bigram::{Bigram, END, Fault, VOCAB};
use crate::task::records;

fn softmax(row: &[f32]) -> Vec<f64> {
    let e: Vec<f64> = row.iter().map(|x| f64::from(*x).exp()).collect();
    let total: f64 = e.iter().sum();
    e.into_iter().map(|e| e / total).collect()
}

/// A bigram that likes the end of a sequence everywhere, so that one draw is much like another.
fn moved() -> Bigram {
    let mut policy = Bigram::new();
    for Parameter { values, .. } in policy.parameters() {
        for row in values.chunks_mut(VOCAB) {
            row[END as usize] += 1.5;
        }
    }
    policy.publish().unwrap();
    policy
}

#[test]
fn an_untrained_policy_has_not_moved() {
    let found = reference_divergence(&Bigram::new(), &records(), &EvaluateConfig::default()).unwrap().unwrap();
    assert_eq!((found.per_token, found.per_completion), (0.0, 0.0));
    assert!(found.n_tokens >= records().len());
}

#[test]
fn a_moved_policy_is_as_far_as_the_sum_over_the_vocabulary_says() {
    let (before, after) = (Bigram::new(), moved());
    // Over all rows, which differ little from each other: the bound below is three times that difference.
    let exact: Vec<f64> = before
        .even
        .chunks(VOCAB)
        .zip(after.even.chunks(VOCAB))
        .chain(before.odd.chunks(VOCAB).zip(after.odd.chunks(VOCAB)))
        .map(|(q, p)| softmax(p).iter().zip(softmax(q)).map(|(p, q)| p * (p / q).ln()).sum())
        .collect();
    let mean = exact.iter().sum::<f64>() / exact.len() as f64;
    let sampling = grpo_trainer::policy::Sampling::default();
    let config = EvaluateConfig { num_samples: 2000, sampling, ..EvaluateConfig::default() };
    let found = reference_divergence(&after, &records(), &config).unwrap().unwrap();
    assert!((found.per_token - mean).abs() < 0.05 * mean, "{found:?}, {mean} expected");
    assert!(found.per_completion > found.per_token);
}

#[test]
fn without_a_reference_there_is_nothing_to_measure() {
    let policy = Bigram::with_fault(Fault::NoReference);
    assert_eq!(reference_divergence(&policy, &records(), &EvaluateConfig::default()).unwrap(), None);
}
