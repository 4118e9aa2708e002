//! The five layers of a hierarchy as one adapter: against an ordinary adapter, against merged weights, against the base.

use std::sync::Arc;

use dynlora_core::{
    AgentId, ContentHash, HierarchyConfig, Level, LoraBackend, LoraHierarchy, ModuleFactors, PlainMean, Snapshot,
};
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{
    Error, Gradients, Keep, LanguageModel, LmBackend, LoraWeights, ScoredBatch, TokenBatch, Tokenizer, decoder_from,
    module_shapes,
};

use crate::random_model::{Features, RandomModel};

const AGENT: AgentId = AgentId(3);

fn model() -> RandomModel {
    Features { lengths: vec![(7, vec![5, 1, 9]), (2, vec![4])], ..Features::default() }.build()
}

/// The random model behind the seam, and a hierarchy without gradients yet.
fn backend(model: &RandomModel) -> (LmBackend, LoraHierarchy) {
    let config = model.decoder.config().clone();
    let tokenizer = Tokenizer::characters("abc", &[]).unwrap();
    let whole = LanguageModel::from_tensors(config.clone(), &model.tensors, tokenizer).unwrap();
    let backend = LmBackend::new(Arc::new(whole)).with_packed_stacks(1);
    let settings = HierarchyConfig::default().with_total_rank(31);
    let shapes = module_shapes(&config);
    let base = backend.base_hash();
    let mut hierarchy = LoraHierarchy::new(settings, &shapes, base, 5, Box::new(PlainMean::default())).unwrap();
    hierarchy.add_agent(AGENT).unwrap();
    hierarchy.publish().unwrap();
    (backend, hierarchy)
}

/// Moves every layer: a gradient of the model's own weights, and a tick.
fn trained(model: &RandomModel) -> (LmBackend, LoraHierarchy) {
    let (backend, mut hierarchy) = backend(model);
    for _ in 0..3 {
        let snapshot = hierarchy.snapshot();
        hierarchy.submit(gradient(model, &backend, &snapshot)).unwrap();
        hierarchy.tick(0.05).unwrap();
    }
    (backend, hierarchy)
}

fn gradient(model: &RandomModel, backend: &LmBackend, snapshot: &Snapshot) -> dynlora_core::StackGradient {
    let (_, tape) = backend.forward(&model.groups(), 0.8, snapshot, AGENT).unwrap();
    let batch = ScoredBatch { tape, log_probs: &model.w_log_prob, entropy: &model.w_entropy };
    backend.compute_gradient(batch, snapshot, AGENT).unwrap()
}

fn close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 2e-5 * (1.0 + largest), "{what}: {found} {expected}");
    }
}

#[test]
fn a_hierarchy_that_has_learned_nothing_is_the_base_bit_for_bit() {
    let model = model();
    let (backend, hierarchy) = backend(&model);
    let (scores, _) = backend.forward(&model.groups(), 0.8, &hierarchy.snapshot(), AGENT).unwrap();
    let (base, _) = model.decoder.forward_groups(None, &model.groups(), 0.8, Keep::Activations);
    let bits = |rows: &[Vec<f32>]| rows.iter().flatten().map(|x| x.to_bits()).collect::<Vec<u32>>();
    assert_eq!(bits(&scores.log_probs), bits(&base.log_probs));
    assert_eq!(bits(&scores.entropy), bits(&base.entropy));
}

/// One backward pass gives what an ordinary adapter of the same values gets, cut into the layers.
#[test]
fn the_gradient_is_that_of_the_fused_adapter() {
    let model = model();
    let (backend, hierarchy) = trained(&model);
    let snapshot = hierarchy.snapshot();
    let found = gradient(&model, &backend, &snapshot);
    let adapter = snapshot.fused_adapter(AGENT).unwrap();
    let lora = LoraWeights::new(&Cpu, model.decoder.config(), &adapter);
    let (_, tape) = model.decoder.forward_groups(Some(&lora), &model.groups(), 0.8, Keep::Activations);
    let mut gradients = Gradients::lora(&Cpu, model.decoder.config(), &lora);
    model.decoder.backward_groups(Some(&lora), tape, &model.w_log_prob, &model.w_entropy, &mut gradients);

    let mut first = [0; 5];
    for (i, shape) in snapshot.shapes().iter().enumerate() {
        let tensor = |suffix: &str| {
            let name = format!("{}.{suffix}", shape.name);
            gradients.values(&Cpu, gradients.names().iter().position(|other| *other == name).unwrap())
        };
        // `A (r, d_in)` and `B (d_out, r)` of the adapter, whose rank may be above the module's: the rest is zero.
        let (a, b) = (tensor("lora_A"), tensor("lora_B"));
        let rank = a.len() / shape.d_in;
        let mut channel = 0;
        for level in Level::ALL {
            let values = found.level(level);
            let n = snapshot.layer(level, AGENT).unwrap()[i].rank;
            let place = &mut first[level.index()];
            close(&values[*place..][..n * shape.d_in], &a[channel * shape.d_in..][..n * shape.d_in], "A");
            *place += n * shape.d_in;
            for j in 0..n {
                let column: Vec<f32> = (0..shape.d_out).map(|row| b[row * rank + channel + j]).collect();
                close(&values[*place..][..shape.d_out], &column, "B");
                *place += shape.d_out;
            }
            channel += n;
        }
    }
    for level in Level::ALL {
        assert_eq!(first[level.index()], found.level(level).len());
        assert!(found.level(level).iter().any(|g| *g != 0.0));
    }
    assert_eq!(found.version, snapshot.version());
    let activity = found.activity.unwrap();
    let rank = |i: usize| Level::ALL.map(|level| snapshot.layer(level, AGENT).unwrap()[i].rank).iter().sum::<usize>();
    for (i, (module, shape)) in activity.modules.iter().zip(snapshot.shapes().iter()).enumerate() {
        assert_eq!((module.second_moment.len(), module.inputs.len() % shape.d_in), (rank(i) * rank(i), 0));
    }
    assert!(!found.sketch.is_empty());
}

/// Fused, merged into the weights, and summed layer by layer: the same logits.
#[test]
fn fused_stacked_and_merged_logits_agree() {
    let model = model();
    let (backend, hierarchy) = trained(&model);
    let snapshot = hierarchy.snapshot();
    let context = &model.texts[0].0;
    let fused = backend.generate_step(context, &snapshot, AGENT).unwrap();
    assert_eq!(fused.len(), model.decoder.config().vocab_size);
    let logits = |tensors: &[krystal_lm::Tensor]| {
        let decoder = decoder_from(model.decoder.config().clone(), tensors).unwrap();
        let group = krystal_lm::Group { prompt: context, completions: vec![&context[..1]] };
        decoder.logits(None, &TokenBatch::new([&group]))
    };
    let base = logits(&model.tensors);
    assert!(fused.iter().zip(&base).any(|(x, y)| (x - y).abs() > 1e-3), "the layers do something");
    let mut merged = model.tensors.clone();
    for (name, delta) in snapshot.merged_delta(AGENT).unwrap() {
        let tensor = merged.iter_mut().find(|tensor| tensor.name == format!("{name}.weight")).unwrap();
        tensor.values.iter_mut().zip(delta).for_each(|(w, d)| *w += d);
    }
    close(&fused, &logits(&merged), "merged");
    let mut stacked = model.tensors.clone();
    for level in Level::ALL {
        for (shape, factors) in snapshot.shapes().iter().zip(snapshot.layer(level, AGENT).unwrap()) {
            let ModuleFactors { d_in, d_out, rank, a, b } = &**factors;
            let tensor = stacked.iter_mut().find(|tensor| tensor.name == format!("{}.weight", shape.name)).unwrap();
            for row in 0..*d_out {
                for column in 0..*d_in {
                    let terms = (0..*rank).map(|r| f64::from(b[r * d_out + row]) * f64::from(a[r * d_in + column]));
                    tensor.values[row * d_in + column] += terms.sum::<f64>() as f32;
                }
            }
        }
    }
    close(&fused, &logits(&stacked), "stacked");
}

#[test]
fn what_does_not_fit_is_named() {
    let model = model();
    let (backend, hierarchy) = backend(&model);
    let snapshot = hierarchy.snapshot();
    let unknown = backend.weights(&snapshot, AgentId(9)).unwrap_err();
    assert!(matches!(unknown, Error::UnknownAgent { agent: 9, known: 1 }), "{unknown}");
    for context in [&[][..], &[53]] {
        let error = backend.generate_step(context, &snapshot, AGENT).unwrap_err();
        assert!(error.to_string().starts_with("expected at least one token, each below 53"), "{error}");
    }
    let mut shapes = module_shapes(model.decoder.config());
    shapes[2].d_in += 1;
    let resonance = Box::new(PlainMean::default());
    let settings = HierarchyConfig::default().with_total_rank(31);
    let mut other = LoraHierarchy::new(settings, &shapes, ContentHash::of_bytes(b"other"), 1, resonance).unwrap();
    other.add_agent(AGENT).unwrap();
    let error = backend.weights(&other.publish().unwrap(), AGENT).unwrap_err().to_string();
    assert!(error.starts_with("the snapshot has a module `model.layers.0.self_attn.v_proj`"), "{error}");
}

/// Packed once for each stack; what was packed is dropped when others come.
#[test]
fn a_stack_is_packed_once() {
    let model = model();
    let (backend, mut hierarchy) = backend(&model);
    let snapshot = hierarchy.snapshot();
    let first = backend.weights(&snapshot, AGENT).unwrap();
    assert!(Arc::ptr_eq(&first, &backend.weights(&snapshot, AGENT).unwrap()));
    hierarchy.submit(gradient(&model, &backend, &snapshot)).unwrap();
    hierarchy.tick(0.05).unwrap();
    let second = backend.weights(&hierarchy.snapshot(), AGENT).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&first, &backend.weights(&snapshot, AGENT).unwrap()), "only one is kept");
}
