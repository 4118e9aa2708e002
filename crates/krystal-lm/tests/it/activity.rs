//! What the backward pass measures beside gradients, against what it stands for.

use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{ActivityPlan, Gradients, Keep, LoraWeights, TokenBatch, decoder_from};

use crate::random_model::{Features, RandomModel};

fn backward(model: &RandomModel, plan: Option<ActivityPlan>) -> Gradients<krystal_lm::kernels::cpu::Cpu> {
    let (decoder, lora) = (&model.decoder, &model.lora);
    let (_, tape) = decoder.forward_groups(Some(lora), &model.groups(), 0.8, Keep::Activations);
    let mut gradients = Gradients::lora(&Cpu, decoder.config(), lora);
    if let Some(plan) = plan {
        gradients = gradients.with_activity(&Cpu, decoder.config(), lora, plan);
    }
    decoder.backward_groups(Some(lora), tape, &model.w_log_prob, &model.w_entropy, &mut gradients);
    gradients
}

fn model() -> RandomModel {
    let completions = vec![90, 4, 70, 33];
    Features { lengths: vec![(50, completions), (1, vec![2]), (40, vec![60; 6])], ..Features::default() }.build()
}

#[test]
fn measuring_changes_no_gradient() {
    let model = model();
    let (plain, measured) = (backward(&model, None), backward(&model, Some(ActivityPlan::default())));
    for i in 0..plain.names().len() {
        assert_eq!(plain.values(&Cpu, i), measured.values(&Cpu, i));
    }
    assert!(plain.activity(&Cpu).is_none());
}

/// The sketch of `dL/dW` without forming it is that of the gradient of the merged model's weights, which is formed.
#[test]
fn the_sketch_is_that_of_the_whole_gradient() {
    let model = model();
    let side = 4;
    let plan = ActivityPlan { sketch_side: side, sketch_slots: 14, ..ActivityPlan::default() };
    let (_, sketch) = backward(&model, Some(plan)).activity(&Cpu).unwrap();
    let mut tensors = model.tensors.clone();
    let weights = tensors.iter_mut().filter_map(|t| Some((t.name.strip_suffix(".weight")?, t.values.as_mut_slice())));
    model.adapter.merge_into(weights).unwrap();
    let merged = decoder_from(model.decoder.config().clone(), &tensors).unwrap();
    let (_, tape) = merged.forward_groups(None, &model.groups(), 0.8, Keep::Activations);
    let mut whole = Gradients::all(&Cpu, merged.config());
    merged.backward_groups(None, tape, &model.w_log_prob, &model.w_entropy, &mut whole);
    for (slot, module) in model.adapter.modules.iter().enumerate() {
        let i = whole.names().iter().position(|name| *name == format!("{}.weight", module.name)).unwrap();
        let gradient = whole.values(&Cpu, i);
        let seen = &sketch[slot * side * side..][..side * side];
        // The signs are not public; that the sums of squares agree over all sign patterns would not show a wrong pattern,
        // so a linear relation is checked: folding is linear, and the sketch of a rank-one piece is rank one. What must hold
        // for any signs is that entry (0, 0) is a signed sum of the gradient's entries with both indices divisible by 4.
        for (p, q) in [(0, 0), (1, 2), (3, 3)] {
            let rows: Vec<usize> = (p..module.d_out).step_by(side).collect();
            let columns: Vec<usize> = (q..module.d_in).step_by(side).collect();
            let (n_rows, n_columns) = (rows.len(), columns.len());
            let found = (0..1_u32 << (n_rows + n_columns)).any(|bits| {
                let sign = |bit: usize| if bits >> bit & 1 == 1 { 1.0 } else { -1.0 };
                let mut sum = 0.0_f64;
                for (i, row) in rows.iter().enumerate() {
                    for (j, column) in columns.iter().enumerate() {
                        sum += sign(i) * sign(n_rows + j) * f64::from(gradient[row * module.d_in + column]);
                    }
                }
                (sum - f64::from(seen[p * side + q])).abs() <= 2e-4 * (1.0 + sum.abs())
            });
            assert!(found, "{} entry ({p}, {q})", module.name);
        }
    }
}

/// `A S^T S A^T / s` is `sum h h^T` within the noise of random signs, 1/sqrt(s) of the trace (s = 2048: 2 %, five deviations).
#[test]
fn sums_of_inputs_have_the_second_moment_of_the_inputs() {
    let model = model();
    let s = 2048;
    let plan = ActivityPlan { input_sums: s, ..ActivityPlan::default() };
    let (activity, _) = backward(&model, Some(plan)).activity(&Cpu).unwrap();
    assert_eq!(activity.modules.len(), model.adapter.modules.len());
    assert!(activity.n_rows > 300);
    for (seen, module) in activity.modules.iter().zip(&model.adapter.modules) {
        let r = module.rank;
        let mut estimate = vec![0.0_f64; r * r];
        for x in seen.inputs.chunks_exact(module.d_in) {
            let h: Vec<f64> = module
                .a
                .chunks_exact(module.d_in)
                .map(|a| a.iter().zip(x).map(|(a, x)| f64::from(a * x)).sum())
                .collect();
            for i in 0..r {
                for j in 0..r {
                    estimate[i * r + j] += h[i] * h[j] / s as f64;
                }
            }
        }
        let trace: f64 = (0..r).map(|i| f64::from(seen.second_moment[i * r + i])).sum();
        assert!(trace > 0.0);
        for (estimate, seen) in estimate.iter().zip(&seen.second_moment) {
            assert!((estimate - f64::from(*seen)).abs() < 0.1 * trace, "{}: {estimate} {seen} of {trace}", module.name);
        }
    }
}

/// The first module reads normalised embeddings, which are known without a forward pass.
#[test]
fn the_sum_of_inputs_is_that_of_the_normalised_embeddings() {
    // Small enough that no group is cut, which would read its prompt twice.
    let model = Features { lengths: vec![(9, vec![5, 4]), (1, vec![2])], ..Features::default() }.build();
    let (activity, _) = backward(&model, Some(ActivityPlan::default())).activity(&Cpu).unwrap();
    let tensor = |name: &str| &model.tensors.iter().find(|tensor| tensor.name.ends_with(name)).unwrap().values;
    let (embeddings, gain) = (tensor("embed_tokens.weight"), tensor("layers.0.input_layernorm.weight"));
    let width = gain.len();
    let eps = f64::from(model.decoder.config().rms_norm_eps);
    let batches = model.groups().into_iter().map(|group| TokenBatch::new([&group]));
    let tokens: Vec<u32> = batches.flat_map(|batch| batch.tokens).collect();
    assert_eq!(activity.n_rows, tokens.len() as u64);
    let mut expected = vec![0.0_f64; width];
    for token in tokens {
        let row = &embeddings[token as usize * width..][..width];
        let mean_square = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64;
        for ((sum, x), gain) in expected.iter_mut().zip(row).zip(gain) {
            *sum += f64::from(*x) * f64::from(*gain) / (mean_square + eps).sqrt();
        }
    }
    for (expected, seen) in expected.iter().zip(&activity.input_sum) {
        assert!((expected - f64::from(*seen)).abs() < 1e-3 * (1.0 + expected.abs()), "{expected} {seen}");
    }
}

#[test]
fn measurements_do_not_depend_on_threads() {
    let model = model();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| backward(&model, Some(ActivityPlan::default())).activity(&Cpu).unwrap())
    };
    assert_eq!(run(1), run(3));
}

/// One fused pair per module is the sum of the layers that it was made of.
#[test]
fn a_fused_stack_is_the_adapter_with_the_same_channels() {
    let model = model();
    let shapes = krystal_lm::module_shapes(model.decoder.config());
    let fused: Vec<dynlora_core::FusedFactors> = model
        .adapter
        .modules
        .iter()
        .map(|m| {
            let scaled = |i: usize, j: usize| m.b[i * m.rank + j] * m.scale;
            let b = (0..m.rank).flat_map(|j| (0..m.d_out).map(move |i| scaled(i, j))).collect();
            let factors = dynlora_core::ModuleFactors { d_in: m.d_in, d_out: m.d_out, rank: m.rank, a: m.a.clone(), b };
            dynlora_core::FusedFactors { factors, offsets: [0, 1, 2, 3, 3, 3] }
        })
        .collect();
    let lora = LoraWeights::from_fused(&Cpu, model.decoder.config(), &shapes, &fused);
    let scores = |lora| model.decoder.score_groups(Some(lora), &model.groups(), 0.8);
    assert_eq!(scores(&lora), scores(&model.lora));
}
