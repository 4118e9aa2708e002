//! Arguments that contradict each other: a panic that names them, never a silent wrong number or worse.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dynlora_core::{LoraAdapter, LoraConfig};
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::kernels::{AttentionShape, Kernels, Segment, Write};
use krystal_lm::{Group, LoraWeights, TokenBatch, decoder_from, module_shapes};

use crate::random_model::Features;

/// What `run` panics with.
fn panic_of<T>(run: impl FnOnce() -> T) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else { return "no panic".to_owned() };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
}

fn check<T>(run: impl FnOnce() -> T, expected: &str) {
    let message = panic_of(run);
    assert!(message.contains(expected), "{message:?} does not say {expected:?}");
}

#[test]
fn tokens_beyond_the_vocabulary_are_named() {
    // 53 tokens, in panels of 16: the table has room for 64.
    let decoder = Features::default().build().decoder;
    let score = |prompt: &[u32], completion: &[u32]| {
        decoder.score(None, &TokenBatch::new(&[Group { prompt, completions: vec![completion] }]), 1.0)
    };
    check(|| score(&[53], &[1]), "row 0 has token 53, but the vocabulary ends at 53");
    check(|| score(&[1], &[2, 60, 2]), "row 2 has token 60, but the vocabulary ends at 53");
    check(|| score(&[1], &[2, u32::MAX]), "target 1 is token 4294967295, but the vocabulary ends at 53");
}

#[test]
fn temperatures_that_cannot_divide_are_named() {
    let model = Features::default().build();
    for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        check(
            || model.decoder.score_groups(None, &model.groups(), temperature),
            "temperature must be a finite number above 0",
        );
    }
}

#[test]
fn empty_texts_are_named() {
    let decoder = Features::default().build().decoder;
    for group in
        [Group { prompt: &[], completions: vec![&[1]] }, Group { prompt: &[1], completions: vec![&[1, 2], &[]] }]
    {
        check(|| group.rows(), "needs at least one token");
        check(|| TokenBatch::new(std::slice::from_ref(&group)), "needs at least one token");
        check(|| decoder.score_groups(None, std::slice::from_ref(&group), 1.0), "needs at least one token");
    }
}

#[test]
fn batches_of_ones_own_must_hold_together() {
    let decoder = Features::default().build().decoder;
    let good = TokenBatch::new(&[Group { prompt: &[1, 2], completions: vec![&[3, 4], &[5, 6]] }]);
    let mut batch = good.clone();
    batch.positions.pop();
    check(|| decoder.score(None, &batch, 1.0), "3 positions for 4 tokens");
    let mut batch = good.clone();
    batch.targets.pop();
    check(|| decoder.score(None, &batch, 1.0), "3 targets for 4 scored rows");
    let mut batch = good.clone();
    batch.scored[0] = 4;
    check(|| decoder.score(None, &batch, 1.0), "row 4 is scored, but there are 4");
    let mut batch = good.clone();
    batch.segments.pop();
    check(|| decoder.score(None, &batch, 1.0), "segments cover 3 of 4 rows");
    let mut batch = good.clone();
    batch.segments[2].prefix = Some(1);
    check(|| decoder.score(None, &batch, 1.0), "segment 2 continues 1");
    assert_eq!(decoder.score(None, &good, 1.0).log_probs.len(), 4);
}

#[test]
fn adapters_of_other_models_are_named() {
    let model = Features::default().build();
    let lora = |other: Features| {
        let adapter = LoraAdapter::new(LoraConfig::default(), &module_shapes(&other.config()), 0).unwrap();
        LoraWeights::new(&Cpu, model.decoder.config(), &adapter)
    };
    check(|| lora(Features { layers: 3, ..Features::default() }), "has no module `model.layers.2.self_attn.q_proj`");
    check(
        || lora(Features { hidden: 8, ..Features::default() }),
        "`model.layers.0.self_attn.q_proj` is (24, 9) in the model and (24, 8) in the adapter",
    );
}

#[test]
fn tensors_of_another_shape_are_errors() {
    let model = Features::default().build();
    let mut tensors = model.tensors.clone();
    let norm = tensors.iter_mut().find(|t| t.name == "model.norm.weight").unwrap();
    norm.shape = vec![8];
    norm.values.pop();
    let error = decoder_from(model.decoder.config().clone(), &tensors).unwrap_err().to_string();
    assert_eq!(error, "tensors in memory: tensor `model.norm.weight`: expected shape [9], found [8] with 8 values");
}

/// The kernels are public and safe: sizes that would lead outside a buffer stop before any arithmetic, overflow included.
#[test]
fn kernels_check_their_operands() {
    let matrix = Cpu.matrix(&[1.0; 32 * 16], 32, 16);
    let (mut out, short, long) = (Vec::new(), vec![0.0; 15], vec![0.0; 64]);
    // Products of these sizes wrap around to small ones.
    let huge = (1_usize << 60) + 1;
    check(
        || Cpu.linear(&short, 1, &matrix, None, &mut out, Write::Replace),
        "`x` has 15 values, expected 1 rows of 16",
    );
    check(|| Cpu.linear(&long, 1, &matrix, None, &mut out, Write::Replace), "`x` has 64 values, expected 1 rows of 16");
    check(|| Cpu.linear(&long, huge, &matrix, None, &mut out, Write::Replace), "`x` has 64 values");
    check(|| Cpu.linear(&long, 4, &matrix, Some(&short), &mut out, Write::Replace), "`bias` has 15 values");
    let narrow = Cpu.matrix(&[], 16, 0);
    check(|| Cpu.linear(&vec![], huge, &narrow, None, &mut out, Write::Replace), "too many rows");
    check(|| Cpu.linear_backward(&short, 1, &matrix, &mut out, Write::Replace), "`dy` has 15 values");
    check(|| Cpu.linear_backward(&long, huge, &matrix, &mut out, Write::Replace), "`dy` has 64 values");
    let flat = Cpu.matrix(&[], 0, 16);
    check(|| Cpu.linear_backward(&vec![], huge, &flat, &mut out, Write::Replace), "too many rows");
    check(|| Cpu.weight_gradient(&long, 16, &long, 16, huge, &mut vec![0.0; 256]), "`dy` has 64 values");
    check(|| Cpu.weight_gradient(&long, 16, &long, 16, 4, &mut vec![0.0; 255]), "`dw` has 255 values");
    check(|| Cpu.bias_gradient(&long, 16, &mut vec![0.0; 15]), "`db` has 15 values");
    check(|| Cpu.logits(&long, huge, &matrix, &mut out), "`hidden` has 64 values");
    check(|| Cpu.log_prob(&long, &matrix, &[1], 1.0), "`hidden` has 64 values, expected 1 rows of 16");
    check(|| Cpu.embed(&matrix, &[32], &mut out), "id 32, but the table has 32 rows");
    check(|| Cpu.rms_norm(&long, &short, 0.0, &mut out), "`x` has 64 values, expected rows of 15");
    check(|| Cpu.swiglu(&long, &short, &mut out), "`up` has 15 values");
    check(|| Cpu.add(&short, &mut long.clone()), "`from` has 15 values");
    let shape = AttentionShape { heads: 3, kv_heads: 2, head_dim: 4, window: None };
    let segments = [Segment { start: 0, len: 1, prefix: None }];
    let (q, k) = (vec![0.0; 12], vec![0.0; 8]);
    check(|| Cpu.attention(&q, &k, &k, &segments, shape, &mut out), "3 query heads do not share 2 key heads");
    let shape = AttentionShape { heads: 2, ..shape };
    check(|| Cpu.attention(&k, &k, &q, &segments, shape, &mut out), "`v` has 12 values, expected 1 rows of 8");
}
