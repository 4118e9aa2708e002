//! Forward and backward pass against the f64 twin.
//!
//! **Scores** are compared within [`SCORE_TOLERANCE`]: an f32 pass of two blocks over logits of order one loses a few of its
//! 24 bits.
//!
//! **Gradients** of `sum w log_prob + u H` are compared with central differences of the twin. With a step of 1e-4 their own
//! error is about 1e-8 (truncation, `h^2`) plus 1e-11 (rounding, `1e-16 / h` for losses of order ten), far below the f32
//! gradient's. Of every tensor the entry with the largest gradient, a random entry and a random direction are taken; a
//! direction has unit length, so that errors of size `e` in all entries show as about `e`, and a single wrong entry among `n`
//! shows as a `sqrt(n)`-th of itself. The bound is [`GRADIENT_TOLERANCE`] of the tensor's largest entry, and never less than
//! a thousandth of that of the largest gradient of the model: some tensors' gradients cancel, wholly or nearly (a key's
//! bias shifts all scores of a query alike), and rounding does not.

use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{Gradients, Keep};
use krystal_math::rng::{Purpose, stream_rng};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::RngExt;
use rayon::prelude::*;

use crate::random_model::{Features, RandomModel};
use crate::twin::Twin;

const SCORE_TOLERANCE: f64 = 2e-5;
const GRADIENT_TOLERANCE: f64 = 1e-3;
const STEP: f64 = 1e-4;

/// `sum w log_prob + u H`.
fn loss(twin: &Twin, model: &RandomModel, temperature: f32) -> f64 {
    let completions = model.texts.iter().flat_map(|(prompt, c)| c.iter().map(move |c| (prompt, c)));
    completions
        .zip(model.w_log_prob.iter().zip(&model.w_entropy))
        .map(|((prompt, completion), (w, u))| {
            let scores = twin.scores(prompt, completion, f64::from(temperature));
            let terms = scores.iter().zip(w.iter().zip(u));
            terms.map(|((l, h), (w, u))| f64::from(*w) * l + f64::from(*u) * h).sum::<f64>()
        })
        .sum()
}

/// Our gradients by the twin's names.
#[derive(Debug, Clone, Copy)]
enum Trainable {
    Lora,
    All,
}

fn gradients(model: &RandomModel, temperature: f32, trainable: Trainable) -> Vec<(String, Vec<f32>)> {
    let config = model.decoder.config();
    let mut gradients = match trainable {
        Trainable::Lora => Gradients::lora(&Cpu, config, &model.lora),
        Trainable::All => Gradients::all(&Cpu, config),
    };
    let lora = Some(&model.lora);
    let (_, tape) = model.decoder.forward_groups(lora, &model.groups(), temperature, Keep::Activations);
    model.decoder.backward_groups(lora, tape, &model.w_log_prob, &model.w_entropy, &mut gradients);
    let tensors = gradients.names().iter().enumerate().map(|(i, name)| (name.clone(), gradients.values(&Cpu, i)));
    tensors.collect()
}

fn check_scores(features: &Features, model: &RandomModel, twin: &Twin) {
    let ours = model.decoder.score_groups(Some(&model.lora), &model.groups(), features.temperature);
    let completions = model.texts.iter().flat_map(|(prompt, c)| c.iter().map(move |c| (prompt, c)));
    for ((prompt, completion), (log_probs, entropy)) in completions.zip(ours.log_probs.iter().zip(&ours.entropy)) {
        let exact = twin.scores(prompt, completion, f64::from(features.temperature));
        assert_eq!(exact.len(), log_probs.len());
        for ((l, h), (log_prob, entropy)) in exact.iter().zip(log_probs.iter().zip(entropy)) {
            for (got, exact) in [(log_prob, l), (entropy, h)] {
                let error = (f64::from(*got) - exact).abs();
                assert!(error <= SCORE_TOLERANCE * (1.0 + exact.abs()), "{got} instead of {exact} in {features:?}");
            }
        }
    }
}

fn check_gradients(features: &Features, model: &RandomModel, twin: &Twin, trainable: Trainable) {
    let ours = gradients(model, features.temperature, trainable);
    let largest = |values: &[f32]| values.iter().fold(0.0_f64, |m, g| m.max(f64::from(g.abs())));
    let overall = ours.iter().fold(0.0_f64, |m, (_, g)| m.max(largest(g)));
    assert!(overall > 1e-3, "the loss does not depend on anything: {features:?}");
    ours.par_iter().enumerate().for_each(|(i, (name, ours))| {
        let mut rng = stream_rng(features.seed, Purpose::Task, 1 + i as u64, 0);
        let top = (0..ours.len()).max_by(|a, b| ours[*a].abs().total_cmp(&ours[*b].abs())).unwrap();
        let entry = |i: usize| (0..ours.len()).map(|j| if i == j { 1.0 } else { 0.0 }).collect::<Vec<f64>>();
        let length = 1.0 / (ours.len() as f64).sqrt();
        let random = (0..ours.len()).map(|_| if rng.random::<bool>() { length } else { -length }).collect();
        let other = rng.random_range(0..ours.len());
        for (what, direction) in [("largest entry", entry(top)), ("an entry", entry(other)), ("a direction", random)] {
            let moved = |step: f64| {
                let mut twin = twin.clone();
                let parameter = twin.parameters.get_mut(name).expect("a parameter of the twin");
                assert_eq!(parameter.len(), ours.len(), "{name}");
                for (p, d) in parameter.iter_mut().zip(&direction) {
                    *p += step * d;
                }
                loss(&twin, model, features.temperature)
            };
            let exact = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let got: f64 = ours.iter().zip(&direction).map(|(g, d)| f64::from(*g) * d).sum();
            let scale = largest(ours).max(1e-3 * overall);
            assert!(
                (got - exact).abs() <= GRADIENT_TOLERANCE * scale,
                "{name}, {what}: {got} instead of {exact} where the largest entry is {scale}, in {features:?}"
            );
        }
    });
}

fn check(features: &Features) {
    let model = features.build();
    let twin = Twin::new(model.decoder.config(), &model.tensors, Some(&model.adapter));
    check_scores(features, &model, &twin);
    for trainable in [Trainable::Lora, Trainable::All] {
        check_gradients(features, &model, &twin, trainable);
    }
}

fn features() -> impl Strategy<Value = Features> {
    let sizes = (
        prop::sample::select(vec![5_usize, 9, 17, 20]),
        prop::sample::select(vec![3_usize, 16, 19]),
        1..=3_usize,
        prop::sample::select(vec![2_usize, 6, 10, 20]),
        1..=3_usize,
        1..=3_usize,
        prop::sample::select(vec![37_usize, 1031, 1100]),
    );
    let switches = (
        prop::option::of(prop::sample::select(vec![1_usize, 3, 16, 20])),
        any::<[bool; 6]>(),
        1..128_u8,
        1..=5_usize,
        prop::sample::select(vec![1.0_f64, 7.0, 16.0]),
        any::<bool>(),
    );
    let completions = prop::collection::vec(prop::sample::select(vec![1_usize, 2, 5, 18]), 1..=3);
    let texts = (
        prop::sample::select(vec![0.6_f32, 1.0, 1.7]),
        prop::collection::vec((prop::sample::select(vec![1_usize, 4, 17, 70]), completions), 1..=2),
        any::<u64>(),
    );
    (sizes, switches, texts).prop_map(|(sizes, switches, texts)| {
        let (hidden, inner, layers, head_dim, kv_heads, group, vocab) = sizes;
        let (window, [qkv_bias, o_bias, mlp_bias, qk_norm, tied, llama3], targets, rank, alpha, rslora) = switches;
        let (temperature, lengths, seed) = texts;
        Features {
            hidden,
            inner,
            layers,
            head_dim,
            kv_heads,
            group,
            vocab,
            window,
            qkv_bias,
            o_bias,
            mlp_bias,
            qk_norm,
            tied,
            llama3,
            targets,
            rank,
            alpha,
            rslora,
            temperature,
            lengths,
            seed,
        }
    })
}

proptest! {
    // Always the same cases, since each is a second of work: `PROPTEST_CASES=100` looks further.
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(5),
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        max_shrink_iters: 40,
        ..ProptestConfig::default()
    })]
    #[test]
    fn random_models_have_the_scores_and_gradients_of_their_twins(features in features()) {
        check(&features);
    }
}

/// Everything at once, over more than one block of queries (64), panel (16) and chunk of the vocabulary (1024).
#[test]
fn long_completions_of_a_windowed_model_with_every_bias() {
    check(&Features {
        layers: 2,
        head_dim: 10,
        kv_heads: 1,
        group: 3,
        vocab: 1029,
        window: Some(33),
        qkv_bias: true,
        o_bias: true,
        mlp_bias: true,
        qk_norm: true,
        tied: true,
        llama3: true,
        rslora: true,
        lengths: vec![(70, vec![67, 1, 20])],
        ..Features::default()
    });
}

/// A window shorter than the prompt: late tokens of a completion see a part of the prompt, then none of it.
#[test]
fn completions_that_leave_the_window_of_their_prompt() {
    for window in [1, 2, 7, 16, 17] {
        check(&Features { layers: 1, window: Some(window), lengths: vec![(21, vec![24, 3])], ..Features::default() });
    }
}
