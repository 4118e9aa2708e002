//! `krystal chat`: a conversation.

mod conversation;
#[cfg(feature = "providers")]
mod hosted;
mod local;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::cli::Global;
use crate::failure::usage;
use crate::generation::GenerationOptions;
use crate::hosted::HostedOptions;
use crate::model::ModelOptions;
use crate::terminal::Terminal;

/// Flags of `krystal chat`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal chat --model DIR
  krystal chat --model DIR --adapter runs/train-1/adapter --system 'Answer with a number alone.'
  krystal chat --provider ollama:qwen3
  krystal chat --provider anthropic:claude-sonnet-4-5 --system 'Be brief.' --max-new-tokens 2000
  krystal chat --provider http://localhost:8000/v1#model
  printf 'What is 17 + 25?\\nAnd twice that?\\n' | krystal chat --model DIR --temperature 0

In the conversation /reset starts anew, /help lists commands, /quit or Ctrl-D ends. From a pipe or a file each line is a
message, and the replies alone are printed. With --provider a hosted model answers (its key is read from OPENAI_API_KEY,
ANTHROPIC_API_KEY, GOOGLE_API_KEY or GEMINI_API_KEY); Ctrl-C stops an answer, and the conversation goes on. With --json the line is {\"messages\": [{\"role\": .., \"content\": ..}, ..]}, and of a
hosted model {.., \"input_tokens\": .., \"output_tokens\": .., \"cost_usd\": ..}.")]
pub(crate) struct Options {
    /// Hugging Face folder of a Llama, Mistral, Qwen2 or Qwen3 model
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<PathBuf>,
    /// PEFT adapter folder on top of it
    #[arg(long, value_name = "DIR", requires = "model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter: Option<PathBuf>,
    /// Hosted model to talk with: ollama:MODEL, openai:MODEL, anthropic:MODEL, gemini:MODEL, URL#MODEL
    #[arg(long, value_name = "TARGET", conflicts_with = "model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) generation: GenerationOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) hosted: HostedOptions,
}

pub(crate) fn run(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    match (&options.model, &options.provider) {
        (Some(model), _) => {
            let model = ModelOptions { model: model.clone(), adapter: options.adapter.clone() };
            local::run(options, &model, global, terminal)
        }
        (None, Some(target)) => hosted(options, target, global, terminal),
        (None, None) => Err(usage("nobody to talk with: expected --model DIR or --provider TARGET")),
    }
}

#[cfg(feature = "providers")]
use hosted::run as hosted;

#[cfg(not(feature = "providers"))]
fn hosted(_: &Options, _: &str, _: &Global, _: Terminal) -> anyhow::Result<()> {
    crate::hosted::left_out("--provider")
}
