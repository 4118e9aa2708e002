//! What ends a completion, what restricts a draw, and what a broken model gives.

use std::collections::BTreeSet;

use krystal_lm::{
    Finish, GenerateOptions, Generated, Group, PromptRequest, StopStrings, TokenBatch, Tokenizer, decoder_from,
    generate, generate_streaming,
};
use krystal_math::rng::Purpose;
use krystal_math::sampling::Sampling;

use crate::bigram::{bigram, counting};
use crate::random_model::Features;
use crate::shared::shared;

/// `<pad>`, `<eos>`, `<unk>`, then these: 16 tokens.
const ALPHABET: &str = "abcdefghijklm";

/// A greedy completion of up to 12 tokens by the model that counts through the alphabet.
fn count(prompt: &str, stops: &[&str], eos: &[u32]) -> (String, String, Finish) {
    let tokenizer = Tokenizer::characters(ALPHABET, &[]).unwrap();
    let decoder = counting(16, 64);
    let tokens = tokenizer.encode(prompt, false).unwrap();
    let (sampling, stop) =
        (Sampling::greedy(), StopStrings::new(&tokenizer, stops.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()));
    let options = GenerateOptions { stop: Some(&stop), ..GenerateOptions::new(&sampling, 12, eos) };
    let prompt = PromptRequest { tokens: &tokens, stream: 0 };
    let out = generate(&decoder, None, &[prompt], 1, &options).unwrap().remove(0).remove(0);
    (tokenizer.decode(&out.tokens, false).unwrap(), stop.text(&out.tokens).unwrap(), out.finish)
}

#[test]
fn stop_strings_end_completions_at_the_token_that_completes_them() {
    let check = |prompt, stops: &[&str], all: &str, kept: &str, finish| {
        assert_eq!(count(prompt, stops, &[]), (all.to_owned(), kept.to_owned(), finish), "{prompt:?} until {stops:?}");
    };
    check("a", &["b"], "b", "", Finish::Stop);
    // Over three tokens; the text leaves it out.
    check("a", &["def"], "bcdef", "bc", Finish::Stop);
    // Whichever is complete first, and an empty one never.
    check("a", &["", "efgh", "de"], "bcde", "bc", Finish::Stop);
    // The prompt's text is not looked at.
    check("ab", &["bc"], "cdefghijklm<pad>", "cdefghijklm", Finish::Length);
    // In the last token that the length allows.
    check("a", &["m"], "bcdefghijklm", "bcdefghijkl", Finish::Stop);
}

#[test]
fn end_of_sequence_is_kept_and_comes_before_stop_strings() {
    // After `m` the model counts on to `<pad>` and `<eos>`.
    let (all, kept, finish) = count("k", &[], &[1]);
    assert_eq!((all.as_str(), kept.as_str(), finish), ("lm<pad><eos>", "lm", Finish::EndOfSequence));
    assert_eq!(count("k", &["l"], &[14]).2, Finish::EndOfSequence);
    assert_eq!(count("k", &["l"], &[15]).2, Finish::Stop);
}

/// A stop string in the middle of one token.
#[test]
fn stop_strings_within_a_token_end_completions() {
    let Some(folder) = shared("fixtures/hf/qwen2-tied") else { return };
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let text = |id: u32| tokenizer.decode(&[id], true).unwrap();
    let long = (0..384).find(|id| text(*id).len() >= 3 && text(*id).is_ascii()).expect("a token of three letters");
    let (word, middle) = (text(long), text(long)[1..2].to_owned());
    let decoder = bigram(1024, 64, |_, next| if next == long as usize { 30.0 } else { 0.0 });
    let (sampling, stop) = (Sampling::greedy(), StopStrings::new(&tokenizer, [middle.clone()]));
    let options = GenerateOptions { stop: Some(&stop), ..GenerateOptions::new(&sampling, 5, &[]) };
    let out = generate(&decoder, None, &[PromptRequest { tokens: &[0], stream: 0 }], 1, &options).unwrap();
    assert_eq!((out[0][0].tokens.as_slice(), out[0][0].finish), ([long].as_slice(), Finish::Stop));
    assert_eq!(stop.text(&out[0][0].tokens).unwrap(), word[..word.find(&middle).unwrap()]);
}

#[test]
fn sequences_end_where_the_model_does() {
    let decoder = counting(16, 8);
    let sampling = Sampling::greedy();
    for (prompt, completion) in [(1, 7), (5, 3), (7, 1)] {
        let tokens: Vec<u32> = (0..prompt).collect();
        let out = generate(
            &decoder,
            None,
            &[PromptRequest { tokens: &tokens, stream: 0 }],
            2,
            &GenerateOptions::new(&sampling, 100, &[]),
        )
        .unwrap();
        let expected: Vec<u32> = (prompt..prompt + completion).map(|t| t % 16).collect();
        for out in &out[0] {
            assert_eq!((&out.tokens, out.finish), (&expected, Finish::Length));
        }
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let decoder = counting(16, 8);
    let message = |sampling: Sampling, max_new_tokens| {
        let prompt = PromptRequest { tokens: &[1], stream: 0 };
        generate(&decoder, None, &[prompt], 1, &GenerateOptions::new(&sampling, max_new_tokens, &[]))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(message(Sampling::default(), 0), "`max_new_tokens` must be at least 1");
    let sampling = Sampling { temperature: f32::NAN, ..Sampling::default() };
    assert_eq!(message(sampling, 1), "`temperature` must be a finite number of at least 0");
}

#[test]
fn nothing_to_generate_gives_nothing() {
    let decoder = counting(16, 8);
    let sampling = Sampling::default();
    let options = GenerateOptions::new(&sampling, 3, &[]);
    assert!(generate(&decoder, None, &[], 4, &options).unwrap().is_empty());
    let prompts = [PromptRequest { tokens: &[1], stream: 0 }; 3];
    assert_eq!(generate(&decoder, None, &prompts, 0, &options).unwrap(), vec![Vec::<Generated>::new(); 3]);
}

#[test]
fn greedy_takes_the_first_of_equals() {
    let decoder = bigram(16, 64, |_, next| if next % 5 == 3 { 2.0 } else { -1.0 });
    let sampling = Sampling::greedy();
    let prompt = PromptRequest { tokens: &[1], stream: 0 };
    let out = generate(&decoder, None, &[prompt], 3, &GenerateOptions::new(&sampling, 2, &[])).unwrap();
    // Three tokens have logit 2, thirteen -1.
    let exact = 2.0 - (3.0 * 2.0_f64.exp() + 13.0 * (-1.0_f64).exp()).ln();
    for out in &out[0] {
        assert_eq!(out.tokens, [3, 3]);
        assert!(out.log_probs.iter().all(|l| (f64::from(*l) - exact).abs() < 1e-6));
    }
}

/// The tokens that 400 draws of one token give.
fn drawn(sampling: Sampling) -> Vec<u32> {
    // p is 0.5, 0.25, ... for tokens 9, 8, 7, ...; 10 to 15 come after token 0.
    let decoder = bigram(16, 64, |_, next| -std::f32::consts::LN_2 * ((9 + 16 - next) % 16) as f32);
    let prompt = PromptRequest { tokens: &[9, 8], stream: 3 };
    let out = generate(&decoder, None, &[prompt], 400, &GenerateOptions::new(&sampling, 1, &[])).unwrap();
    for out in &out[0] {
        let exact =
            -std::f64::consts::LN_2 * f64::from((9 + 16 - out.tokens[0]) % 16) / f64::from(sampling.temperature);
        let total: f64 =
            (0..16).map(|i| (-std::f64::consts::LN_2 * f64::from(i) / f64::from(sampling.temperature)).exp()).sum();
        assert!((f64::from(out.log_probs[0]) - (exact - total.ln())).abs() < 1e-5, "{sampling:?}");
    }
    out[0].iter().map(|c| c.tokens[0]).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A token of probability 1/8 or more is missed by 400 draws with probability 1e-23; those that are left out never come. The
/// log-probabilities are those of the temperature alone.
#[test]
fn truncation_restricts_the_draws() {
    assert!(drawn(Sampling::default()).len() >= 5);
    assert_eq!(drawn(Sampling { top_k: 1, ..Sampling::default() }), [9]);
    assert_eq!(drawn(Sampling { top_k: 3, ..Sampling::default() }), [7, 8, 9]);
    assert_eq!(drawn(Sampling { top_p: 0.7, ..Sampling::default() }), [8, 9]);
    assert_eq!(drawn(Sampling { min_p: 0.2, ..Sampling::default() }), [7, 8, 9]);
    assert_eq!(drawn(Sampling { min_p: 1.0, temperature: 1.5, ..Sampling::default() }), [9]);
    // Logit 0 of token 9 is not moved; the others are negative, and 8 was seen: exp(-0.69 * 50) is out of reach.
    assert!(!drawn(Sampling { repetition_penalty: 50.0, ..Sampling::default() }).contains(&8));
}

#[test]
fn a_large_repetition_penalty_visits_every_token_once() {
    // Positive logits fall with the distance from the last token, so that without a penalty the draw would stay where it is.
    let decoder = bigram(16, 64, |last, next| 40.0 - 2.0 * last.abs_diff(next) as f32);
    let run = |repetition_penalty| {
        let sampling = Sampling { repetition_penalty, ..Sampling::greedy() };
        let prompt = PromptRequest { tokens: &[2, 5], stream: 0 };
        generate(&decoder, None, &[prompt], 1, &GenerateOptions::new(&sampling, 14, &[])).unwrap()[0][0].tokens.clone()
    };
    assert_eq!(run(1.0), [5; 14]);
    let visited: BTreeSet<u32> = run(100.0).into_iter().chain([2, 5]).collect();
    assert_eq!(visited.len(), 16);
}

/// Prompts and windows such that completions outgrow the window, and see the whole, a part and nothing of the prompt.
#[test]
fn completions_longer_than_the_window_score_as_they_were_sampled() {
    for window in [1, 5, 16, 33, 200] {
        let features = Features {
            window: Some(window),
            vocab: 1030,
            qk_norm: true,
            head_dim: 10,
            lengths: vec![(20, vec![1]), (70, vec![1]), (1, vec![1])],
            ..Features::default()
        };
        let model = features.build();
        let sampling = Sampling { temperature: 0.9, ..Sampling::default() };
        let requests: Vec<PromptRequest<'_>> =
            model.texts.iter().map(|(prompt, _)| PromptRequest { tokens: prompt, stream: 0 }).collect();
        let options = GenerateOptions::new(&sampling, 75, &[]);
        let out = generate(&model.decoder, Some(&model.lora), &requests, 2, &options).unwrap();
        let groups: Vec<Group<'_>> = requests
            .iter()
            .zip(&out)
            .map(|(r, c)| Group { prompt: r.tokens, completions: c.iter().map(|c| c.tokens.as_slice()).collect() })
            .collect();
        let scores = model.decoder.score(Some(&model.lora), &TokenBatch::new(&groups), 0.9);
        let sampled: Vec<u32> = out.iter().flatten().flat_map(|c| &c.log_probs).map(|l| l.to_bits()).collect();
        assert_eq!(sampled.len(), 6 * 75);
        assert_eq!(sampled, scores.log_probs.iter().map(|l| l.to_bits()).collect::<Vec<_>>(), "window {window}");
    }
}

#[test]
fn a_completion_depends_on_its_stream_alone() {
    let model = Features { lengths: vec![(4, vec![1]), (9, vec![1])], ..Features::default() }.build();
    let (a, b) = (model.texts[0].0.as_slice(), model.texts[1].0.as_slice());
    let sampling = Sampling::default();
    let run = |requests: &[(&[u32], u64)], num_generations, seed, purpose| {
        let requests: Vec<PromptRequest<'_>> =
            requests.iter().map(|(tokens, stream)| PromptRequest { tokens, stream: *stream }).collect();
        let options = GenerateOptions { seed, purpose, ..GenerateOptions::new(&sampling, 10, &[]) };
        generate(&model.decoder, Some(&model.lora), &requests, num_generations, &options).unwrap()
    };
    let alone = run(&[(a, 7)], 4, 5, Purpose::Rollout).remove(0);
    assert_eq!(run(&[(b, 1), (a, 7), (a, 8)], 4, 5, Purpose::Rollout)[1], alone);
    assert_eq!(run(&[(a, 7), (b, 7)], 2, 5, Purpose::Rollout)[0], alone[..2]);
    assert_ne!(run(&[(a, 8)], 4, 5, Purpose::Rollout)[0], alone);
    assert_ne!(run(&[(a, 7)], 4, 6, Purpose::Rollout)[0], alone);
    assert_ne!(run(&[(a, 7)], 4, 5, Purpose::Evaluation)[0], alone);
    let mut streamed = Vec::new();
    let options = GenerateOptions { seed: 5, purpose: Purpose::Rollout, ..GenerateOptions::new(&sampling, 10, &[]) };
    let request = PromptRequest { tokens: a, stream: 7 };
    let out =
        generate_streaming(&model.decoder, Some(&model.lora), request, &options, |token| streamed.push(token)).unwrap();
    assert_eq!((&out, &streamed), (&alone[0], &alone[0].tokens));
}
/// A model of more than a million parameters, whose batch threads share instead of decoding batches of their own; its logits
/// are a matrix product large enough to be cut.
#[test]
fn threads_change_no_completion_of_a_larger_model() {
    let features =
        Features { vocab: 33_001, hidden: 20, lengths: vec![(3, vec![1]), (18, vec![1])], ..Features::default() };
    let model = features.build();
    assert!(model.tensors.iter().map(|t| t.values.len()).sum::<usize>() > 1 << 20);
    let sampling = Sampling { temperature: 0.9, ..Sampling::default() };
    let requests: Vec<PromptRequest<'_>> =
        model.texts.iter().map(|(prompt, _)| PromptRequest { tokens: prompt, stream: 0 }).collect();
    let run = |threads, max_batch| {
        let options = GenerateOptions { max_batch, ..GenerateOptions::new(&sampling, 6, &[]) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| generate(&model.decoder, Some(&model.lora), &requests, 20, &options)).unwrap()
    };
    let expected = run(1, 256);
    for (threads, max_batch) in [(2, 256), (3, 7), (1, 1)] {
        assert_eq!(run(threads, max_batch), expected, "{threads} threads, batches of {max_batch}");
    }
    let groups: Vec<Group<'_>> = requests
        .iter()
        .zip(&expected)
        .map(|(r, c)| Group { prompt: r.tokens, completions: c.iter().map(|c| c.tokens.as_slice()).collect() })
        .collect();
    let sampled: Vec<Vec<f32>> = expected.iter().flatten().map(|c| c.log_probs.clone()).collect();
    assert_eq!(model.decoder.score_groups(Some(&model.lora), &groups, 0.9).log_probs, sampled);
}

/// Models whose numbers overflow or are none: tokens are still tokens, the same each time, and where no distribution is left
/// the log-probabilities say so by not being finite.
#[test]
fn broken_models_give_tokens_and_no_panic() {
    let model = Features { vocab: 1030, ..Features::default() }.build();
    // Squares overflow and the norm makes zeros of everything: a uniform distribution. Then infinite logits, then NaN.
    for (part, factor, finite) in [("", 1e30, true), ("lm_head", f32::MAX, false), ("embed", f32::NAN, false)] {
        let mut tensors = model.tensors.clone();
        for tensor in tensors.iter_mut().filter(|t| t.name.contains(part)) {
            tensor.values.iter_mut().for_each(|w| *w *= factor);
        }
        let decoder = decoder_from(model.decoder.config().clone(), &tensors).unwrap();
        for sampling in [
            Sampling::greedy(),
            Sampling::default(),
            Sampling { top_k: 5, top_p: 0.9, min_p: 0.1, repetition_penalty: 1.2, ..Sampling::default() },
        ] {
            let run = || {
                let prompt = PromptRequest { tokens: &[3, 4], stream: 0 };
                generate(&decoder, None, &[prompt], 2, &GenerateOptions::new(&sampling, 3, &[])).unwrap().remove(0)
            };
            let first = run();
            for completion in &first {
                assert!(completion.tokens.len() == 3 && completion.tokens.iter().all(|t| *t < 1030));
                assert!(completion.log_probs.iter().all(|l| l.is_finite() == finite), "{part} {sampling:?}");
                if !finite {
                    // Nothing to draw from: the first of the likeliest.
                    assert_eq!(completion.tokens, first[0].tokens);
                }
            }
            assert_eq!(run()[0].tokens, first[0].tokens);
        }
        let scores = decoder.score(None, &TokenBatch::new(&model.groups()), 1.0);
        assert!(scores.log_probs.iter().all(|x| x.is_finite() == finite));
    }
}

/// A temperature so small that logits divided by it are infinite is greedy.
#[test]
fn the_smallest_temperature_is_greedy() {
    let decoder = counting(16, 64);
    for top_k in [0, 4] {
        let sampling = Sampling { temperature: 1e-40, top_k, ..Sampling::default() };
        let prompt = PromptRequest { tokens: &[3], stream: 0 };
        let out = generate(&decoder, None, &[prompt], 2, &GenerateOptions::new(&sampling, 4, &[])).unwrap();
        for completion in &out[0] {
            assert_eq!(completion.tokens, [4, 5, 6, 7], "top_k {top_k}");
        }
    }
}
