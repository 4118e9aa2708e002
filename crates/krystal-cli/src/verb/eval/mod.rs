//! `krystal eval`: how many problems are solved.

#[cfg(feature = "providers")]
mod hosted;
mod model;
mod recorded;
#[cfg(feature = "providers")]
mod route;
mod summary;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::Global;
use crate::failure::usage;
use crate::hosted::HostedOptions;
use crate::terminal::Terminal;
use crate::training::PromptOptions;

/// Flags of `krystal eval`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal eval --model DIR --data test.jsonl --reward math
  krystal eval --model DIR --adapter runs/train-1/adapter --data test.jsonl --reward math --limit 200
  krystal eval --model DIR --task arithmetic --samples 16 --k 1,4,16
  krystal eval --provider ollama:qwen3 --data test.jsonl --reward math
  krystal eval --provider openai:gpt-5-mini --data test.jsonl --reward math --samples 4 --k 1,4 --prices prices.toml --max-cost 2
  krystal eval --provider http://localhost:8000/v1#model --task arithmetic --limit 100 --system 'Answer with a number alone.'
  krystal eval --provider ollama:qwen3 --provider openai:gpt-5-mini --route compare --data test.jsonl --reward math
  krystal eval --provider ollama:qwen3 --provider openai:gpt-5-mini --route learned --data test.jsonl --reward math
  krystal eval --reward math --completions answers.jsonl --completion-column solution --gold-column answer
  krystal eval --reward math --completions example_model_solutions.jsonl --gold-column ground_truth \\
      --completion-column 6b_finetuning.solution,175b_verification.solution \\
      --label-column 6b_finetuning.is_correct,175b_verification.is_correct

With --completions no model is needed: recorded answers are judged, and compared with labels where there are some. A column
within an object is written object.column.

With several --provider and --route compare each answers every problem, and a router that learns which to ask is replayed over all
those answers, many times: its regret against every fixed choice is printed, also where it loses. With --route learned it chooses as it
goes, one model a problem.

With --provider a hosted model is asked: ollama:MODEL, openai:MODEL, anthropic:MODEL, gemini:MODEL, or URL#MODEL for a server that speaks
OpenAI's protocol; keys are read from OPENAI_API_KEY, ANTHROPIC_API_KEY, GOOGLE_API_KEY or GEMINI_API_KEY. Answers are kept in --answers
as they come: the same command asks only for what is missing. What failed is not scored, and asked again.

With --json the line is {\"n\": .., \"pass@1\": .., \"pass@1_low\": .., \"pass@1_high\": .., ..}, or
{\"n\": .., \"accuracy\": .., \"labelled\": .., \"agree\": .., \"columns\": [..]} with --completions; with --provider it has tokens, cost_usd and
failed, by kind, as well.")]
pub(crate) struct Options {
    /// Hugging Face folder of a Llama, Mistral, Qwen2 or Qwen3 model
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<PathBuf>,
    /// PEFT adapter folder on top of it
    #[arg(long, value_name = "DIR", requires = "model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter: Option<PathBuf>,
    /// Hosted model to ask: ollama:MODEL, openai:MODEL, anthropic:MODEL, gemini:MODEL, URL#MODEL; several with --route
    #[arg(long, value_name = "TARGET")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) provider: Vec<String>,
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
    /// File that answers of hosted models are kept in
    #[arg(long, value_name = "FILE.jsonl", default_value = "runs/answers.jsonl", help_heading = "Hosted models")]
    pub(crate) answers: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) hosted: HostedOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) routing: RoutingOptions,
}

/// Which of several hosted models is asked.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Several hosted models")]
pub(crate) struct RoutingOptions {
    /// compare: ask all of them everything; learned: ask the one that a learner chooses
    #[arg(long, value_name = "HOW", requires = "provider", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<Route>,
    /// What a second is worth, in right answers
    #[arg(long, value_name = "X", default_value_t = 0.01, value_parser = weight)]
    pub(crate) latency_weight: f64,
    /// What a US dollar is worth, in right answers
    #[arg(long, value_name = "X", default_value_t = 10.0, value_parser = weight)]
    pub(crate) cost_weight: f64,
    /// With compare: learners that are replayed
    #[arg(long, value_name = "N", default_value = "200")]
    pub(crate) route_seeds: NonZeroUsize,
}

/// How models are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Route {
    /// All of them
    Compare,
    /// By a learner
    Learned,
}

fn weight(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite());
    number.ok_or_else(|| "expected a number of 0 or more".to_owned())
}

pub(crate) fn run(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    match (&options.model, &options.provider[..], &options.recorded.completions) {
        (Some(model), [], None) => model::run(options, model, global, terminal),
        (None, [_, ..], None) => ask(options, global, terminal),
        (None, [], Some(file)) => recorded::run(options, file, terminal),
        (None, [], None) => {
            Err(usage("nothing to evaluate: expected --model DIR, --provider TARGET or --completions FILE.jsonl"))
        }
        _ => Err(usage("--model and --provider make answers, --completions has them: expected one of the three")),
    }
}

#[cfg(feature = "providers")]
fn ask(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    match (&options.provider[..], options.routing.route) {
        ([target], None) => hosted::run(options, target, global, terminal),
        ([_], Some(_)) => Err(usage("--route chooses between models: expected a second --provider")),
        (_, Some(Route::Compare)) => route::compare(options, global, terminal),
        (_, Some(Route::Learned)) => route::learned(options, global, terminal),
        (_, None) => Err(usage("several --provider: expected --route compare or --route learned")),
    }
}

#[cfg(not(feature = "providers"))]
fn ask(_: &Options, _: &Global, _: Terminal) -> anyhow::Result<()> {
    crate::hosted::left_out("--provider")
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
