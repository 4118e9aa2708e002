//! `krystal chat`: a conversation.

use std::io::{BufRead, IsTerminal};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::cli::Global;
use crate::failure::one_line;
use crate::generation::{GenerationOptions, speak};
use crate::model::ModelOptions;
use crate::terminal::{self, Terminal};

const HELP: &str = "/reset starts anew, /quit or Ctrl-D ends, anything else is said to the model";

/// Flags of `krystal chat`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal chat --model DIR
  krystal chat --model DIR --adapter runs/train-1/adapter --system 'Answer with a number alone.'
  printf 'What is 17 + 25?\\nAnd twice that?\\n' | krystal chat --model DIR --temperature 0

In the conversation /reset starts anew, /help lists commands, /quit or Ctrl-D ends. From a pipe or a file each line is a
message, and the replies alone are printed. With --json the line is {\"messages\": [{\"role\": .., \"content\": ..}, ..]}.")]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) model: ModelOptions,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) generation: GenerationOptions,
}

/// A turn: who said what.
type Turn = (&'static str, String);

pub(crate) fn run(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    const MAX_NEW_TOKENS: usize = 512;
    let adapted = options.model.open(terminal)?;
    let mut generation = options.generation.clone();
    generation.max_new_tokens =
        generation.max_new_tokens.or(adapted.model.generation.max_new_tokens).or(Some(MAX_NEW_TOKENS));
    // A folder without a template is refused before the first word.
    adapted.model.encode_chat([("user", "hello")])?;
    let interactive = std::io::stdin().is_terminal() && !terminal.json;
    let start: Vec<Turn> = options.system.iter().map(|text| ("system", text.clone())).collect();
    let mut turns = start.clone();
    let mut replies = 0;
    if interactive {
        terminal.note(HELP);
    }
    let mut lines = std::io::stdin().lock();
    loop {
        if interactive {
            terminal::print("> ");
        }
        let mut line = String::new();
        if lines.read_line(&mut line).context("standard input: cannot read")? == 0 {
            break;
        }
        match line.trim() {
            "" => continue,
            "/quit" | "/exit" => break,
            "/reset" => {
                turns.clone_from(&start);
                terminal.note("a new conversation");
                continue;
            }
            "/help" => {
                terminal.note(HELP);
                continue;
            }
            command if interactive && command.starts_with('/') => {
                terminal.note(&format!("no command `{command}`: {HELP}"));
                continue;
            }
            text => turns.push(("user", text.to_owned())),
        }
        let reply = adapted
            .model
            .encode_chat(turns.iter().map(|(role, text)| (*role, text.as_str())))
            .map_err(anyhow::Error::from)
            .and_then(|tokens| speak(&adapted, &tokens, &generation, global.seed, replies, terminal));
        match reply {
            Ok(reply) => {
                terminal.piece("\n");
                replies += 1;
                turns.push(("assistant", reply.text));
            }
            // A conversation that has become too long can be started anew; a script should hear of it.
            Err(error) if interactive => {
                terminal::error_line(&format!("error: {} (try /reset)", one_line(&format!("{error:#}"))));
                turns.pop();
            }
            Err(error) => return Err(error),
        }
    }
    if interactive {
        terminal::print("\n");
    }
    let messages: Vec<_> = turns.iter().map(|(role, text)| json!({ "role": role, "content": text })).collect();
    terminal.json(&json!({ "messages": messages }));
    Ok(())
}
