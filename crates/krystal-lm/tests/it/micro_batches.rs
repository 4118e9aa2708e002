//! Gradients computed micro-batch by micro-batch, anywhere and more than once, and summed as flat lists.

use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{ActivityPlan, Chunks, Gradients, Keep, LoraWeights, MicroBatch};

use crate::random_model::{Features, RandomModel};

fn model() -> RandomModel {
    let lengths = vec![(50, vec![90, 4, 70, 33]), (1, vec![2]), (40, vec![60; 6])];
    Features { lengths, vocab: 300, ..Features::default() }.build()
}

/// What is trained: an adapter's factors with measurements, or all weights.
fn zeros(model: &RandomModel, all: bool) -> (Option<&LoraWeights<Cpu>>, Gradients<Cpu>) {
    let (config, lora) = (model.decoder.config(), &model.lora);
    match all {
        true => (None, Gradients::all(&Cpu, config)),
        false => {
            let zeros = Gradients::lora(&Cpu, config, lora);
            (Some(lora), zeros.with_activity(&Cpu, config, lora, ActivityPlan::default()))
        }
    }
}

fn micro_batches(model: &RandomModel, lora: Option<&LoraWeights<Cpu>>, w: &[Vec<f32>]) -> Vec<MicroBatch<Cpu>> {
    let (_, tape) = model.decoder.forward_groups(lora, &model.groups(), 0.7, Keep::Activations);
    tape.micro_batches(w, &model.w_entropy)
}

fn flat(gradients: &Gradients<Cpu>) -> Vec<f32> {
    let mut out = vec![f32::NAN; gradients.flat_len(&Cpu)];
    gradients.write_flat(&Cpu, &mut out);
    out
}

#[test]
fn flat_sums_of_micro_batches_are_the_gradient() {
    let model = model();
    for all in [false, true] {
        let (lora, mut expected) = zeros(&model, all);
        let batches = micro_batches(&model, lora, &model.w_log_prob);
        assert!(batches.len() > 2);
        assert!(batches.iter().map(MicroBatch::index).eq(0..batches.len() as u64));
        let mut part = expected.zeros_like(&Cpu);
        let mut sum = vec![0.0_f32; expected.flat_len(&Cpu)];
        for batch in &batches {
            part.clear(&Cpu);
            model.decoder.backward_micro_batch(lora, batch, &mut part);
            sum.iter_mut().zip(flat(&part)).for_each(|(to, from)| *to += from);
        }
        let (_, tape) = model.decoder.forward_groups(lora, &model.groups(), 0.7, Keep::Activations);
        model.decoder.backward_groups(lora, tape, &model.w_log_prob, &model.w_entropy, &mut expected);

        let (names, mut at) = (expected.names(), 0);
        for (i, name) in names.iter().enumerate() {
            assert_eq!(expected.tensor_at(&Cpu, at), Some(name.as_str()));
            at += expected.values(&Cpu, i).len();
            assert_eq!(expected.tensor_at(&Cpu, at - 1), Some(name.as_str()));
        }
        assert!(expected.tensor_at(&Cpu, at).is_none());

        // What was there before is replaced.
        part.read_flat(&Cpu, &sum);
        assert_eq!(flat(&part), flat(&expected));
        for i in 0..expected.names().len() {
            assert!(expected.values(&Cpu, i).iter().any(|g| *g != 0.0), "{}", expected.names()[i]);
            assert_eq!(part.values(&Cpu, i), expected.values(&Cpu, i));
        }
        assert_eq!(part.activity(&Cpu), expected.activity(&Cpu));
        assert_eq!(part.activity(&Cpu).is_some(), !all);
    }
}

/// The second time there is no tape, and the forward pass is run again.
#[test]
fn a_micro_batch_computed_twice_has_the_same_bits() {
    let model = model();
    for all in [false, true] {
        let (lora, zeros) = zeros(&model, all);
        for batch in micro_batches(&model, lora, &model.w_log_prob) {
            let gradient = || {
                let mut gradients = zeros.zeros_like(&Cpu);
                model.decoder.backward_micro_batch(lora, &batch, &mut gradients);
                flat(&gradients).into_iter().map(f32::to_bits).collect::<Vec<u32>>()
            };
            assert!(gradient() == gradient(), "micro-batch {}, all weights: {all}", batch.index());
        }
    }
}

#[test]
fn what_has_no_weight_is_left_out() {
    let mut model = model();
    let all = micro_batches(&model, None, &model.w_log_prob).len();
    model.w_entropy = Vec::new();
    let mut w: Vec<Vec<f32>> = model.w_log_prob.iter().map(|w| vec![0.0; w.len()]).collect();
    assert!(micro_batches(&model, None, &w).is_empty());
    w.last_mut().unwrap()[0] = 1.0;
    let left = micro_batches(&model, None, &w);
    assert!(left.len() == 1 && left[0].index() == 0 && all > 1);
}

/// Ranks that share out the chunks of a pass have, one after another, what one of them would have.
#[test]
fn parts_of_a_pass_are_the_pass() {
    let model = model();
    let (lora, zeros) = zeros(&model, false);
    // The first chunk has no weight, so that chunks and micro-batches are counted apart.
    let mut w = model.w_log_prob.clone();
    let mut u = model.w_entropy.clone();
    w.iter_mut().chain(&mut u).for_each(|row| row.fill(0.0));
    let first_of_each = model.w_log_prob.iter().zip(&model.w_entropy).enumerate().skip(5);
    first_of_each.for_each(|(i, (log_prob, entropy))| (w[i], u[i]) = (log_prob.clone(), entropy.clone()));
    let gradients = |batches: &[MicroBatch<Cpu>]| -> Vec<(u64, Vec<u32>)> {
        let gradient = |batch: &MicroBatch<Cpu>| {
            let mut gradients = zeros.zeros_like(&Cpu);
            model.decoder.backward_micro_batch(lora, batch, &mut gradients);
            (batch.index(), flat(&gradients).into_iter().map(f32::to_bits).collect())
        };
        batches.iter().map(gradient).collect()
    };
    let groups = model.groups();
    let (scores, tape) = model.decoder.forward_groups(lora, &groups, 0.7, Keep::Activations);
    let expected = gradients(&tape.micro_batches(&w, &u));
    let chunks = Chunks::cut(&groups);
    assert!(chunks.len() > expected.len() && expected.len() > 1 && !chunks.is_empty());
    for cuts in [vec![0, chunks.len()], vec![0, 1, chunks.len()], vec![0, 0, 2, chunks.len(), chunks.len()]] {
        let (mut log_probs, mut entropy, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for range in cuts.windows(2).map(|cut| cut[0]..cut[1]) {
            let (part, tape) = model.decoder.forward_chunks(lora, &chunks, range, 0.7, Keep::Activations);
            log_probs.extend(part.log_probs);
            entropy.extend(part.entropy);
            found.extend(gradients(&tape.micro_batches(&w, &u)));
        }
        assert_eq!((log_probs, entropy), (scores.log_probs.clone(), scores.entropy.clone()));
        assert!(found == expected, "cut at {cuts:?}");
    }
}
