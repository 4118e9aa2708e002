//! What may be computed together changes no bit of what is computed.
//!
//! A row's numbers are chains in a fixed order over that row (and over the rows it attends to), so scores agree **bit for
//! bit** whatever stands beside them. Gradients are sums over rows: the same bits come out for the same groups whatever the
//! threads and whatever the tape keeps, while another grouping adds in another order and agrees within rounding.

use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{CompletionScores, Gradients, Group, Keep, TokenBatch};

use crate::random_model::{Features, RandomModel};
use crate::shared::relative_error;

/// Prompts and completions that together need several chunks of 256 rows, one completion longer than a chunk.
fn features() -> Vec<Features> {
    let lengths = vec![(30, vec![80, 1, 100, 33, 17]), (1, vec![1]), (200, vec![20, 50]), (12, vec![3, 1, 1])];
    let small = Features { lengths, vocab: 1030, ..Features::default() };
    vec![
        small.clone(),
        Features { window: Some(25), qk_norm: true, qkv_bias: true, tied: true, llama3: true, ..small },
        Features { lengths: vec![(3, vec![240, 2])], kv_heads: 1, head_dim: 20, ..Features::default() },
    ]
}

fn score(model: &RandomModel, groups: &[Group<'_>]) -> CompletionScores {
    model.decoder.score_groups(Some(&model.lora), groups, 0.7)
}

/// Log-probabilities and entropies as bits.
fn bits(scores: &CompletionScores) -> Vec<Vec<(u32, u32)>> {
    let pairs = scores.log_probs.iter().zip(&scores.entropy);
    pairs.map(|(l, h)| l.iter().zip(h).map(|(l, h)| (l.to_bits(), h.to_bits())).collect()).collect()
}

#[test]
fn completions_score_alone_as_in_their_group() {
    for features in features() {
        let model = features.build();
        let together = bits(&score(&model, &model.groups()));
        let mut alone = Vec::new();
        for (prompt, completions) in &model.texts {
            for completion in completions {
                alone.extend(bits(&score(&model, &[Group { prompt, completions: vec![completion] }])));
            }
        }
        assert_eq!(together, alone);
    }
}

#[test]
fn chunks_change_no_score() {
    for features in features() {
        let model = features.build();
        let groups = model.groups();
        let cut = bits(&score(&model, &groups));
        // One batch of everything, never cut.
        let whole = model.decoder.score(Some(&model.lora), &TokenBatch::new(&groups), 0.7);
        let flat: Vec<(u32, u32)> =
            whole.log_probs.iter().zip(&whole.entropy).map(|(l, h)| (l.to_bits(), h.to_bits())).collect();
        assert_eq!(cut.concat(), flat);
        // Another order, hence other cuts.
        let mut reversed = groups.clone();
        reversed.reverse();
        let mut expected = Vec::new();
        let mut rest = cut.as_slice();
        for group in &groups {
            let (own, tail) = rest.split_at(group.completions.len());
            expected.insert(0, own);
            rest = tail;
        }
        assert_eq!(bits(&score(&model, &reversed)), expected.concat());
        // Forward passes that keep a tape are the same passes.
        for keep in [Keep::Activations, Keep::BlockInputs] {
            assert_eq!(bits(&model.decoder.forward_groups(Some(&model.lora), &groups, 0.7, keep).0), cut);
        }
    }
}

fn gradients(model: &RandomModel, groups: &[Group<'_>], keep: Keep, all: bool, threads: usize) -> Vec<Vec<f32>> {
    let config = model.decoder.config();
    let mut gradients = match all {
        true => Gradients::all(&Cpu, config),
        false => Gradients::lora(&Cpu, config, &model.lora),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let lora = Some(&model.lora);
        let (_, tape) = model.decoder.forward_groups(lora, groups, 0.7, keep);
        model.decoder.backward_groups(lora, tape, &model.w_log_prob, &model.w_entropy, &mut gradients);
    });
    (0..gradients.names().len()).map(|i| gradients.values(&Cpu, i)).collect()
}

#[test]
fn threads_and_tapes_change_no_bit_of_a_gradient() {
    for features in features() {
        let model = features.build();
        for all in [false, true] {
            let run = |keep, threads| -> Vec<Vec<u32>> {
                let tensors = gradients(&model, &model.groups(), keep, all, threads);
                tensors.iter().map(|t| t.iter().map(|g| g.to_bits()).collect()).collect()
            };
            let expected = run(Keep::Activations, 1);
            assert!(expected.iter().any(|t| t.iter().any(|g| *g != 0)));
            for (keep, threads) in
                [(Keep::Activations, 2), (Keep::Activations, 3), (Keep::BlockInputs, 1), (Keep::BlockInputs, 3)]
            {
                assert!(run(keep, threads) == expected, "{keep:?} with {threads} threads, all weights: {all}");
            }
        }
    }
}

/// A group's gradient is the sum of its completions' gradients: within 2e-5 of a tensor's largest entry, since the sums run in
/// another order.
#[test]
fn shared_prompts_have_the_gradients_of_repeated_ones() {
    for features in features() {
        let model = features.build();
        let apart: Vec<Group<'_>> = model
            .groups()
            .iter()
            .flat_map(|g| g.completions.iter().map(|c| Group { prompt: g.prompt, completions: vec![*c] }))
            .collect();
        for all in [false, true] {
            let together = gradients(&model, &model.groups(), Keep::Activations, all, 1);
            let apart = gradients(&model, &apart, Keep::Activations, all, 1);
            for (together, apart) in together.iter().zip(&apart) {
                let error = relative_error(together, apart);
                assert!(error <= 2e-5, "differs by {error}, all weights: {all}");
            }
        }
    }
}

/// Gradients of two backward passes add up in one set of gradients.
#[test]
fn gradients_accumulate() {
    let model = Features::default().build();
    let once = gradients(&model, &model.groups(), Keep::Activations, false, 1);
    let mut twice = Gradients::lora(&Cpu, model.decoder.config(), &model.lora);
    for _ in 0..2 {
        let (_, tape) = model.decoder.forward_groups(Some(&model.lora), &model.groups(), 0.7, Keep::Activations);
        model.decoder.backward_groups(Some(&model.lora), tape, &model.w_log_prob, &model.w_entropy, &mut twice);
    }
    for (i, once) in once.iter().enumerate() {
        let doubled: Vec<f32> = once.iter().map(|g| 2.0 * g).collect();
        assert_eq!(twice.values(&Cpu, i), doubled);
    }
}
