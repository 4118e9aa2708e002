//! `krystal generate`: one completion.

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::cli::Global;
use crate::generation::{GenerationOptions, speak};
use crate::model::{Given, ModelOptions, TokenInput, check_tokens};
use crate::terminal::Terminal;

/// Flags of `krystal generate`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal generate --model DIR --prompt 'Once upon a time'
  krystal generate --model DIR --adapter runs/train-1/adapter --chat 'What is 17 + 25?'
  krystal generate --model DIR --temperature 0.8 --top-p 0.95 --seed 7 < prompt.txt
  krystal generate --model DIR --ids 5,6,7 --max-new-tokens 32 --temperature 0 --ignore-eos --json

With --json the line is {\"ids\": [..], \"text\": .., \"log_probs\": [..], \"finish\": \"eos\"|\"stop\"|\"length\", ..}:
the completion alone, log-probabilities under the sampling temperature (1 when greedy).")]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) model: ModelOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) input: TokenInput,
    /// Take the text for a user's message and render it by the model's chat template
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true, conflicts_with = "ids")]
    pub(crate) chat: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) generation: GenerationOptions,
}

pub(crate) fn run(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    let adapted = options.model.open(terminal)?;
    let model = &adapted.model;
    let tokens = match options.input.read()? {
        Given::Ids(ids) => ids,
        Given::Text(text) if options.chat => model.encode_chat([("user", text.as_str())])?,
        Given::Text(text) => model.encode(&text)?,
    };
    check_tokens(&tokens, model)?;
    let spoken = speak(&adapted, &tokens, &options.generation, global.seed, 0, terminal)?;
    terminal.piece("\n");
    let (count, rate) = (spoken.generated.tokens.len(), spoken.tokens_per_second());
    if crate::terminal::stdout_is_terminal() && !terminal.json {
        terminal.note(&format!("{count} tokens, {rate:.0} tokens/s, ended by {}", spoken.finish()));
    }
    terminal.json(&json!({
        "ids": spoken.generated.tokens,
        "text": spoken.text,
        "log_probs": spoken.generated.log_probs,
        "finish": spoken.finish(),
        "prompt_tokens": tokens.len(),
        "tokens_per_second": rate,
    }));
    Ok(())
}
