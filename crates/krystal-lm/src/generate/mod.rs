//! Batched generation.
//!
//! Each prompt is run once for all of its completions, which share its keys and values; finished sequences leave the batch at
//! once and waiting ones take their place. Each completion draws from its own random stream, and a row's numbers do not depend
//! on its neighbours, so batch size, order and threads change nothing.

mod sampler;
mod stop;
mod worker;

use std::collections::VecDeque;
use std::sync::Mutex;

use krystal_math::rng::Purpose;
use krystal_math::sampling::Sampling;
use rayon::prelude::*;

use crate::decoder::Decoder;
use crate::kernels::Kernels;
use crate::lora::LoraWeights;

pub use stop::StopStrings;
use worker::Limits;

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// An end-of-sequence token, which is the last token.
    EndOfSequence,
    /// A stop string.
    Stop,
    /// The longest allowed completion, or the longest sequence of the model.
    Length,
}

/// A completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Its tokens, at least one.
    pub tokens: Vec<u32>,
    /// Log-probability of each under the sampling temperature (temperature 1 when greedy), `(T)`. Top-k, top-p, min-p and the
    /// repetition penalty do not enter.
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// A prompt to complete.
#[derive(Debug, Clone, Copy)]
pub struct PromptRequest<'a> {
    /// Its tokens, at least one.
    pub tokens: &'a [u32],
    /// Completion `g` draws from random stream `(seed, purpose, stream, g)`.
    pub stream: u64,
}

/// How to generate.
#[derive(Debug, Clone, Copy)]
pub struct GenerateOptions<'a> {
    /// How tokens are drawn.
    pub sampling: &'a Sampling,
    /// Most tokens of a completion, at least 1.
    pub max_new_tokens: usize,
    /// Tokens that end a completion; none means that only the length does.
    pub eos_token_ids: &'a [u32],
    /// Strings that end a completion.
    pub stop: Option<&'a StopStrings<'a>>,
    /// Seed of the draws.
    pub seed: u64,
    /// What the draws are for.
    pub purpose: Purpose,
    /// Most sequences that a thread decodes together; changes speed and memory alone.
    pub max_batch: usize,
}

impl<'a> GenerateOptions<'a> {
    /// Options with no stop strings, seed 0 and batches of up to 256.
    pub fn new(sampling: &'a Sampling, max_new_tokens: usize, eos_token_ids: &'a [u32]) -> Self {
        Self {
            sampling,
            max_new_tokens,
            eos_token_ids,
            stop: None,
            seed: 0,
            purpose: Purpose::Generation,
            max_batch: 256,
        }
    }
}

/// Logits that a thread may hold: 64 MiB. A row needs at least 16 neighbours or so to make reading the head worth it, and has
/// them up to a million tokens.
const MOST_LOGITS: usize = 1 << 24;

/// Generation cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A prompt has no tokens.
    #[error("prompt {prompt} is empty: expected at least one token")]
    EmptyPrompt {
        /// Index of the prompt.
        prompt: usize,
    },
    /// A prompt is as long as the model's longest sequence, or longer.
    #[error("prompt {prompt} has {tokens} tokens, but the model's sequences end at {max_position_embeddings}")]
    PromptTooLong {
        /// Index of the prompt.
        prompt: usize,
        /// Its tokens.
        tokens: usize,
        /// `max_position_embeddings`.
        max_position_embeddings: usize,
    },
    /// A token is not in the vocabulary.
    #[error("prompt {prompt} has token {token}, but the vocabulary ends at {vocab_size}")]
    TokenOutOfRange {
        /// Index of the prompt.
        prompt: usize,
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A setting is out of range.
    #[error("`{setting}` must be {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

/// Some of the completions of one prompt.
#[derive(Debug, Clone)]
struct Task {
    prompt: usize,
    completions: std::ops::Range<usize>,
}

/// Completes every prompt `num_generations` times: one list of completions a prompt, in order.
///
/// # Errors
/// [`GenerateError`] for a prompt or a setting that cannot be used.
pub fn generate<K: Kernels>(
    decoder: &Decoder<K>,
    lora: Option<&LoraWeights<K>>,
    prompts: &[PromptRequest<'_>],
    num_generations: usize,
    options: &GenerateOptions<'_>,
) -> Result<Vec<Vec<Generated>>, GenerateError> {
    check(decoder, prompts, options)?;
    let threads = rayon::current_num_threads();
    let tasks = tasks(prompts.len(), num_generations, threads, options.max_batch.max(1));
    let workers = threads.min(tasks.len()).max(1);
    let share = (prompts.len() * num_generations).div_ceil(workers).clamp(1, options.max_batch.max(1));
    let limits = Limits { sequences: share, logits: MOST_LOGITS };
    let queue = Mutex::new(tasks);
    let finished: Vec<Vec<(usize, usize, Generated)>> = (0..workers)
        .into_par_iter()
        .map(|_| worker::run(decoder, lora, prompts, options, &queue, limits, &mut |_, _| {}))
        .collect();
    let mut out: Vec<Vec<Option<Generated>>> = vec![vec![None; num_generations]; prompts.len()];
    for (prompt, completion, generated) in finished.into_iter().flatten() {
        out[prompt][completion] = Some(generated);
    }
    Ok(out.into_iter().map(|row| row.into_iter().flatten().collect()).collect())
}

/// Completes one prompt once, calling `on_token` with every token as it is drawn.
///
/// # Errors
/// As [`generate`].
pub fn generate_streaming<K: Kernels>(
    decoder: &Decoder<K>,
    lora: Option<&LoraWeights<K>>,
    prompt: PromptRequest<'_>,
    options: &GenerateOptions<'_>,
    mut on_token: impl FnMut(u32),
) -> Result<Generated, GenerateError> {
    check(decoder, &[prompt], options)?;
    let queue = Mutex::new(VecDeque::from([Task { prompt: 0, completions: 0..1 }]));
    let limits = Limits { sequences: 1, logits: MOST_LOGITS };
    let mut done = worker::run(decoder, lora, &[prompt], options, &queue, limits, &mut |_, token| on_token(token));
    Ok(done.pop().expect("one task gives one completion").2)
}

/// Few prompts are split over threads by completion, as are more completions than fit one batch; each part then runs the
/// prompt itself.
fn tasks(prompts: usize, num_generations: usize, threads: usize, max_batch: usize) -> VecDeque<Task> {
    let parts = threads.div_ceil(prompts.max(1)).max(num_generations.div_ceil(max_batch));
    let parts = parts.clamp(1, num_generations.max(1));
    let task = |prompt, p| Task { prompt, completions: num_generations * p / parts..num_generations * (p + 1) / parts };
    (0..prompts).flat_map(|prompt| (0..parts).map(move |p| task(prompt, p))).collect()
}

fn check<K: Kernels>(
    decoder: &Decoder<K>,
    prompts: &[PromptRequest<'_>],
    options: &GenerateOptions<'_>,
) -> Result<(), GenerateError> {
    if let Some((setting, expected)) = options.sampling.problem() {
        return Err(GenerateError::Setting { setting, expected });
    }
    if options.max_new_tokens == 0 {
        return Err(GenerateError::Setting { setting: "max_new_tokens", expected: "at least 1" });
    }
    let (longest, vocab_size) = (decoder.config().max_position_embeddings, decoder.config().vocab_size);
    for (prompt, request) in prompts.iter().enumerate() {
        let tokens = request.tokens.len();
        if tokens == 0 {
            return Err(GenerateError::EmptyPrompt { prompt });
        }
        if tokens >= longest {
            return Err(GenerateError::PromptTooLong { prompt, tokens, max_position_embeddings: longest });
        }
        if let Some(token) = request.tokens.iter().find(|t| **t as usize >= vocab_size) {
            return Err(GenerateError::TokenOutOfRange { prompt, token: *token, vocab_size });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use krystal_math::sampling::Sampling;

    use super::{GenerateOptions, Limits, PromptRequest, Task, tasks, worker};
    use crate::config::ModelConfig;
    use crate::decoder::initial_tensors;
    use crate::language_model::decoder_from;

    #[test]
    fn completions_do_not_depend_on_how_many_logits_are_held() {
        let json = r#"{"model_type": "llama", "vocab_size": 40, "hidden_size": 12, "intermediate_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "bos_token_id": null, "eos_token_id": 1}"#;
        let config = ModelConfig::from_json(json, "config.json".as_ref()).expect("a configuration");
        let decoder = decoder_from(config.clone(), &initial_tensors(&config, 0)).expect("its tensors");
        let prompts = [PromptRequest { tokens: &[3], stream: 0 }, PromptRequest { tokens: &[4, 5], stream: 1 }];
        let sampling = Sampling::default();
        let options = GenerateOptions::new(&sampling, 9, &[]);
        let run = |logits| {
            let tasks: VecDeque<Task> = tasks(2, 4, 1, 256);
            let limits = Limits { sequences: 8, logits };
            worker::run(&decoder, None, &prompts, &options, &Mutex::new(tasks), limits, &mut |_, _| {})
        };
        let all = run(usize::MAX);
        assert_eq!(all.len(), 8);
        for logits in [0, 40, 130] {
            assert_eq!(run(logits), all);
        }
    }

    #[test]
    fn tasks_cover_every_completion_and_fit_a_batch() {
        for (prompts, num_generations, threads, max_batch) in
            [(1, 1000, 1, 256), (3, 5, 2, 256), (1, 7, 3, 2), (2, 0, 4, 8), (1, 2, 16, 1), (0, 3, 2, 4), (4, 8, 2, 3)]
        {
            let tasks = tasks(prompts, num_generations, threads, max_batch);
            let all: Vec<(usize, usize)> =
                tasks.iter().flat_map(|t| t.completions.clone().map(|c| (t.prompt, c))).collect();
            let expected: Vec<(usize, usize)> =
                (0..prompts).flat_map(|p| (0..num_generations).map(move |c| (p, c))).collect();
            assert_eq!(all, expected);
            assert!(tasks.iter().all(|t| t.completions.len() <= max_batch), "{tasks:?}");
        }
    }
}
