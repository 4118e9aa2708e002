//! How tokens are drawn: flags over what the model's folder suggests.

use std::time::{Duration, Instant};

use clap::Args;
use krystal::lm::{
    Finish, GenerateOptions, Generated, GenerationConfig, PromptRequest, StopStrings, generate_streaming,
};
use krystal::math::sampling::Sampling;
use serde::Serialize;

use crate::model::AdaptedModel;
use crate::streamed_text::StreamedText;
use crate::terminal::Terminal;

/// Flags of verbs that generate.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Generation")]
pub(crate) struct GenerationOptions {
    /// Most tokens to generate [default: the folder's, else 128]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_new_tokens: Option<usize>,
    /// Softmax temperature; 0 takes the likeliest token [default: the folder's where it samples, else 0]
    #[arg(long, value_name = "T")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    /// Draw from the K likeliest tokens; 0 means all
    #[arg(long, value_name = "K")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<usize>,
    /// Draw from the fewest tokens whose probability reaches P
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f64>,
    /// Leave out tokens less likely than P times the likeliest
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_p: Option<f64>,
    /// Make tokens that were seen less likely; 1 changes nothing
    #[arg(long, value_name = "R")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repetition_penalty: Option<f64>,
    /// End at this string, which is left out; may be given more than once
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stop: Vec<String>,
    /// Go on after end-of-sequence tokens
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub(crate) ignore_eos: bool,
}

impl GenerationOptions {
    /// What the flags and the folder's suggestions make together.
    ///
    /// As in transformers a folder without `do_sample` is greedy, unless a flag only makes sense with sampling.
    pub(crate) fn sampling(&self, folder: &GenerationConfig) -> Sampling {
        let shaped = self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        let base = if folder.do_sample {
            Sampling {
                temperature: folder.temperature,
                top_k: folder.top_k,
                top_p: folder.top_p,
                min_p: folder.min_p,
                repetition_penalty: folder.repetition_penalty,
            }
        } else {
            let temperature = if shaped { 1.0 } else { 0.0 };
            Sampling { temperature, repetition_penalty: folder.repetition_penalty, ..Sampling::default() }
        };
        let number = |flag: Option<f64>, otherwise: f32| flag.map_or(otherwise, |value| value as f32);
        Sampling {
            temperature: number(self.temperature, base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: number(self.top_p, base.top_p),
            min_p: number(self.min_p, base.min_p),
            repetition_penalty: number(self.repetition_penalty, base.repetition_penalty),
        }
    }
}

/// A completion, its text, and how long it took.
#[derive(Debug)]
pub(crate) struct Spoken {
    pub(crate) generated: Generated,
    pub(crate) text: String,
    pub(crate) took: Duration,
}

impl Spoken {
    /// Tokens per second, the prompt's time included.
    pub(crate) fn tokens_per_second(&self) -> f64 {
        self.generated.tokens.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Why it ended, in a word.
    pub(crate) fn finish(&self) -> &'static str {
        match self.generated.finish {
            Finish::EndOfSequence => "eos",
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
    }
}

/// Completes a prompt, showing the text as it grows. Random stream: `(seed, Purpose::Generation, stream, 0)`.
pub(crate) fn speak(
    adapted: &AdaptedModel,
    tokens: &[u32],
    options: &GenerationOptions,
    seed: u64,
    stream: u64,
    terminal: Terminal,
) -> anyhow::Result<Spoken> {
    const MAX_NEW_TOKENS: usize = 128;
    let AdaptedModel { model, lora } = adapted;
    let sampling = options.sampling(&model.generation);
    let max_new_tokens = options.max_new_tokens.or(model.generation.max_new_tokens).unwrap_or(MAX_NEW_TOKENS);
    let eos = if options.ignore_eos { Vec::new() } else { model.eos_token_ids() };
    let stop = StopStrings::new(&model.tokenizer, options.stop.iter().cloned());
    let request = GenerateOptions { stop: Some(&stop), seed, ..GenerateOptions::new(&sampling, max_new_tokens, &eos) };
    let started = Instant::now();
    let mut streamed = StreamedText::new(&model.tokenizer, &options.stop);
    let mut failed = None;
    let prompt = PromptRequest { tokens, stream };
    let generated =
        generate_streaming(&model.decoder, lora.as_ref(), prompt, &request, |token| match streamed.push(token) {
            Ok(piece) => terminal.piece(&piece),
            Err(error) => failed = failed.take().or(Some(error)),
        })?;
    let took = started.elapsed();
    if let Some(error) = failed {
        return Err(error.into());
    }
    terminal.piece(&streamed.finish()?);
    let text = stop.text(&generated.tokens)?;
    Ok(Spoken { generated, text, took })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> GenerationOptions {
        GenerationOptions {
            max_new_tokens: None,
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: None,
            stop: Vec::new(),
            ignore_eos: false,
        }
    }

    #[test]
    fn the_folder_decides_what_no_flag_does() {
        let greedy = GenerationConfig { repetition_penalty: 1.5, ..GenerationConfig::default() };
        let sampling =
            GenerationConfig { do_sample: true, temperature: 0.7, top_p: 0.8, ..GenerationConfig::default() };
        let check = |options: GenerationOptions, folder: &GenerationConfig, expected: Sampling| {
            assert_eq!(options.sampling(folder), expected);
        };
        let still = Sampling { repetition_penalty: 1.5, ..Sampling::greedy() };
        check(flags(), &greedy, still.clone());
        check(
            GenerationOptions { temperature: Some(2.0), ..flags() },
            &greedy,
            Sampling { temperature: 2.0, ..still.clone() },
        );
        check(
            GenerationOptions { top_k: Some(5), ..flags() },
            &greedy,
            Sampling { temperature: 1.0, top_k: 5, ..still },
        );
        let suggested = Sampling { temperature: 0.7, top_k: 50, top_p: 0.8, ..Sampling::default() };
        check(flags(), &sampling, suggested.clone());
        check(GenerationOptions { top_k: Some(0), ..flags() }, &sampling, Sampling { top_k: 0, ..suggested });
    }
}
