//! A conversation with a model on this machine.

use serde_json::json;

use super::Options;
use super::conversation::{Partner, converse};
use crate::cli::Global;
use crate::generation::{GenerationOptions, speak};
use crate::model::{AdaptedModel, ModelOptions};
use crate::terminal::Terminal;

/// A turn: who said what.
type Turn = (&'static str, String);

pub(super) fn run(options: &Options, model: &ModelOptions, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    const MAX_NEW_TOKENS: usize = 512;
    let adapted = model.open(terminal)?;
    let mut generation = options.generation.clone();
    generation.max_new_tokens =
        generation.max_new_tokens.or(adapted.model.generation.max_new_tokens).or(Some(MAX_NEW_TOKENS));
    // A folder without a template is refused before the first word.
    adapted.model.encode_chat([("user", "hello")])?;
    let start: Vec<Turn> = options.system.iter().map(|text| ("system", text.clone())).collect();
    let mut partner = Local { adapted, generation, seed: global.seed, replies: 0, turns: start.clone(), start };
    converse(&mut partner, terminal)?;
    let messages: Vec<_> = partner.turns.iter().map(|(role, text)| json!({ "role": role, "content": text })).collect();
    terminal.json(&json!({ "messages": messages }));
    Ok(())
}

struct Local {
    adapted: AdaptedModel,
    generation: GenerationOptions,
    seed: u64,
    replies: u64,
    turns: Vec<Turn>,
    start: Vec<Turn>,
}

impl Partner for Local {
    fn reply(&mut self, text: &str, terminal: Terminal) -> anyhow::Result<()> {
        let Self { adapted, generation, seed, replies, turns, .. } = self;
        turns.push(("user", text.to_owned()));
        let reply = adapted
            .model
            .encode_chat(turns.iter().map(|(role, text)| (*role, text.as_str())))
            .map_err(anyhow::Error::from)
            .and_then(|tokens| speak(adapted, &tokens, generation, *seed, *replies, terminal));
        match reply {
            Ok(reply) => {
                *replies += 1;
                turns.push(("assistant", reply.text));
                Ok(())
            }
            Err(error) => {
                turns.pop();
                Err(error)
            }
        }
    }

    fn reset(&mut self) {
        self.turns.clone_from(&self.start);
    }
}
