//! `krystal eval`: how many problems are solved.

mod model;
mod recorded;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::cli::Global;
use crate::failure::usage;
use crate::terminal::Terminal;
use crate::training::PromptOptions;

/// Flags of `krystal eval`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal eval --model DIR --data test.jsonl --reward math
  krystal eval --model DIR --adapter runs/train-1/adapter --data test.jsonl --reward math --limit 200
  krystal eval --model DIR --task arithmetic --samples 16 --k 1,4,16
  krystal eval --reward math --completions answers.jsonl --completion-column solution --gold-column answer
  krystal eval --reward math --completions example_model_solutions.jsonl --gold-column ground_truth \\
      --completion-column 6b_finetuning.solution,175b_verification.solution \\
      --label-column 6b_finetuning.is_correct,175b_verification.is_correct

With --completions no model is needed: recorded answers are judged, and compared with labels where there are some. A column
within an object is written object.column.

With --json the line is {\"n\": .., \"pass@1\": .., \"pass@1_low\": .., \"pass@1_high\": .., ..}, or
{\"n\": .., \"accuracy\": .., \"labelled\": .., \"agree\": .., \"columns\": [..]} with --completions.")]
pub(crate) struct Options {
    /// Hugging Face folder of a Llama, Mistral, Qwen2 or Qwen3 model
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<PathBuf>,
    /// PEFT adapter folder on top of it
    #[arg(long, value_name = "DIR", requires = "model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter: Option<PathBuf>,
    /// What decides whether an answer passes: math, exact, 'regex:pattern=..', .. [default: exact for a task]
    #[arg(long, value_name = "SPEC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reward: Option<String>,
    /// An answer passes where its score is at least this
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub(crate) threshold: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) prompts: PromptOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) sampling: model::SamplingOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) recorded: recorded::RecordedOptions,
}

pub(crate) fn run(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    match (&options.model, &options.recorded.completions) {
        (Some(_), Some(_)) => Err(usage("--model makes answers and --completions has them: expected one of the two")),
        (Some(model), None) => model::run(options, model, global, terminal),
        (None, Some(file)) => recorded::run(options, file, terminal),
        (None, None) => Err(usage("nothing to evaluate: expected --model DIR or --completions FILE.jsonl")),
    }
}

impl Options {
    /// The specification of the reward.
    fn spec(&self) -> anyhow::Result<&str> {
        match (&self.reward, self.prompts.task) {
            (Some(spec), _) => Ok(spec),
            (None, Some(_)) => Ok("exact"),
            (None, None) => Err(usage("no reward: expected --reward SPEC, such as --reward math")),
        }
    }
}
