//! Gradients of language models, summed by spheres: which of them computes what changes nothing.

use std::error::Error;

use dynlora_core::{AgentId, HierarchyConfig, LoraAdapter, LoraConfig, LoraHierarchy, PlainMean};
use grpo_trainer::lm::{DynamicPolicy, LmError, LmPolicy};
use grpo_trainer::policy::{Policy, ScoreGroup, StepRequest, TokenWeights};
use krystal_lm::{LmBackend, module_shapes};
use krystal_math::rng::{Purpose, StreamRng, stream_rng};
use rand::RngExt;
use sphere_hierarchy::{ARITY, SphereConfig};

use crate::language_model::model;

const COMPLETIONS: usize = 10;
const TOKENS: usize = 26;

/// Groups of one micro-batch each, and derivatives of a loss.
struct Batch {
    prompts: Vec<Vec<u32>>,
    completions: Vec<Vec<Vec<u32>>>,
    weights: TokenWeights,
}

impl Batch {
    fn new(n_groups: usize) -> Self {
        let vocab_size = model().decoder.config().vocab_size as u32;
        let mut rng = stream_rng(3, Purpose::Task, 0, 0);
        let text = |rng: &mut StreamRng, len| (0..len).map(|_| rng.random_range(0..vocab_size)).collect::<Vec<u32>>();
        let prompts = (0..n_groups).map(|_| text(&mut rng, 5)).collect();
        let completions = (0..n_groups).map(|_| (0..COMPLETIONS).map(|_| text(&mut rng, TOKENS)).collect()).collect();
        let mut rows = || -> Vec<Vec<f32>> {
            let row = |_| (0..TOKENS).map(|_| rng.random_range(-1.0..1.0)).collect();
            (0..n_groups * COMPLETIONS).map(row).collect()
        };
        Self { prompts, completions, weights: TokenWeights { log_probs: rows(), entropy: rows() } }
    }

    /// The groups, of two agents by turns.
    fn groups(&self) -> Vec<ScoreGroup<'_>> {
        let group = |place: usize| ScoreGroup {
            prompt: &self.prompts[place],
            completions: self.completions[place].iter().map(Vec::as_slice).collect(),
            agent: place as u64 % 2,
        };
        (0..self.prompts.len()).map(group).collect()
    }

    fn backward<P: Policy>(&self, policy: &mut P) -> Result<(), P::Error> {
        let (_, tape) = policy.forward(&self.groups(), 0.8)?;
        policy.backward(tape, &self.weights)
    }
}

/// An adapter that does something already.
fn adapter_policy() -> LmPolicy {
    let model = model();
    let config = LoraConfig { r: 4, ..LoraConfig::default() };
    let mut adapter = LoraAdapter::new(config, &module_shapes(model.decoder.config()), 1).unwrap();
    let mut rng = stream_rng(4, Purpose::Task, 0, 0);
    adapter.modules.iter_mut().flat_map(|m| &mut m.b).for_each(|b| *b = rng.random_range(-0.1..0.1));
    LmPolicy::with_adapter(model, adapter, None)
}

fn dynamic_policy() -> DynamicPolicy {
    let model = model();
    let base = LmBackend::new(model.clone()).base_hash();
    let (config, shapes) = (HierarchyConfig::default().with_total_rank(31), module_shapes(model.decoder.config()));
    let mut hierarchy = LoraHierarchy::new(config, &shapes, base, 1, Box::new(PlainMean::default())).unwrap();
    (0..2).for_each(|agent| hierarchy.add_agent(AgentId(agent)).unwrap());
    DynamicPolicy::new(model, hierarchy, None).unwrap()
}

fn gradient(policy: &mut LmPolicy) -> Vec<f32> {
    policy.parameters().iter().flat_map(|p| p.gradient.iter().copied()).collect()
}

/// Runs `work` with every division of labour that is tried, and checks that all give the same.
fn same_everywhere(work: impl Fn(SphereConfig) -> Vec<u8> + Sync) {
    let on_threads = |threads: usize, config: SphereConfig| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| work(config))
    };
    let expected = on_threads(1, SphereConfig::default());
    assert!(expected.iter().any(|byte| *byte != 0));
    for threads in 1..=3 {
        for depth in [None, Some(0), Some(1), Some(2), Some(3)] {
            let found = on_threads(threads, SphereConfig { depth, ..SphereConfig::default() });
            assert!(found == expected, "{threads} threads, depth {depth:?}");
        }
    }
    // Threads of their own, and out of order.
    let own = SphereConfig { threads: Some(3), shuffle: Some(5), ..SphereConfig::default() };
    assert!(on_threads(1, own) == expected, "threads of the spheres' own");
}

#[test]
fn threads_and_depths_change_no_bit_of_a_gradient() {
    let batch = Batch::new(2 * ARITY + 3);
    for make in [adapter_policy, || LmPolicy::with_all_weights(model()).unwrap()] {
        same_everywhere(|config| {
            let mut policy = make().with_spheres(config).unwrap();
            batch.backward(&mut policy).unwrap();
            gradient(&mut policy).into_iter().flat_map(f32::to_le_bytes).collect()
        });
    }
}

/// What is measured beside the gradients is summed along with them: all of it shows in the state after some steps.
#[test]
fn threads_and_depths_change_no_byte_of_a_hierarchy_of_layers() {
    let batch = Batch::new(2 * ARITY + 6);
    same_everywhere(|config| {
        let mut policy = dynamic_policy().with_spheres(config).unwrap();
        for step in 1..=2 {
            batch.backward(&mut policy).unwrap();
            policy.step(&StepRequest { step, learning_rate: 1e-2, max_grad_norm: 1.0 }).unwrap();
        }
        policy.state().unwrap()
    });
}

/// Within 2e-5 of the largest entry: sums in `f32` in another order.
#[test]
fn the_sum_is_that_of_the_groups() {
    let batch = Batch::new(2 * ARITY + 3);
    for make in [adapter_policy, || LmPolicy::with_all_weights(model()).unwrap()] {
        let (mut whole, mut parts) = (make(), make());
        batch.backward(&mut whole).unwrap();
        let mut expected = vec![0.0_f64; gradient(&mut parts).len()];
        for (place, group) in batch.groups().into_iter().enumerate() {
            let rows = place * COMPLETIONS..(place + 1) * COMPLETIONS;
            let weights = TokenWeights {
                log_probs: batch.weights.log_probs[rows.clone()].to_vec(),
                entropy: batch.weights.entropy[rows].to_vec(),
            };
            let (_, tape) = parts.forward(&[group], 0.8).unwrap();
            parts.backward(tape, &weights).unwrap();
            expected.iter_mut().zip(gradient(&mut parts)).for_each(|(sum, g)| *sum += f64::from(g));
            parts.parameters().iter_mut().for_each(|p| p.gradient.fill(0.0));
        }
        let largest = expected.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        assert!(largest > 0.0);
        for (found, expected) in gradient(&mut whole).into_iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() <= 2e-5 * largest, "{found} {expected} of {largest}");
        }
    }
}

#[test]
fn a_gradient_that_is_no_number_names_its_micro_batch_and_leaves_what_was() {
    let mut batch = Batch::new(4);
    let mut policy = adapter_policy();
    batch.backward(&mut policy).unwrap();
    let before = gradient(&mut policy);
    batch.weights.log_probs[2 * COMPLETIONS][3] = f32::NAN;
    let error = batch.backward(&mut policy).unwrap_err();
    assert!(matches!(&error, LmError::NotFinite { micro_batch: 2, .. }), "{error}");
    assert!(error.to_string().starts_with("micro-batch 2 of the backward pass: the gradient of `model.layers.0."));
    assert_eq!(gradient(&mut policy), before);
}

#[test]
fn settings_out_of_range_are_refused() {
    let config = |depth| SphereConfig { depth: Some(depth), ..SphereConfig::default() };
    assert!(adapter_policy().with_spheres(config(17)).is_ok());
    let error = adapter_policy().with_spheres(config(18)).unwrap_err();
    assert!(error.source().unwrap().to_string().starts_with("a tree of depth 18 has more spheres than can be counted"));
    let none = SphereConfig { threads: Some(0), ..SphereConfig::default() };
    assert!(matches!(dynamic_policy().with_spheres(none), Err(LmError::Spheres(_))));
}
