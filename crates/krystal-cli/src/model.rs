//! A model folder, and an adapter on top of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use krystal::dynlora::LoraAdapter;
use krystal::lm::kernels::cpu::Cpu;
use krystal::lm::{LanguageModel, LoraWeights, module_shapes};
use serde::Serialize;

use crate::failure::usage;
use crate::terminal::Terminal;

/// Which model.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct ModelOptions {
    /// Hugging Face folder of a Llama, Mistral, Qwen2 or Qwen3 model
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// PEFT adapter folder on top of it
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter: Option<PathBuf>,
}

/// A model with its adapter, ready to use.
#[derive(Debug)]
pub(crate) struct AdaptedModel {
    pub(crate) model: LanguageModel,
    pub(crate) lora: Option<LoraWeights<Cpu>>,
}

impl ModelOptions {
    /// Loads both.
    pub(crate) fn open(&self, terminal: Terminal) -> anyhow::Result<AdaptedModel> {
        let model = open_model(&self.model, terminal)?;
        let adapter = self.adapter.as_deref().map(|path| open_adapter(path, &model)).transpose()?;
        let lora = adapter.map(|adapter| LoraWeights::new(&Cpu, model.decoder.config(), &adapter));
        Ok(AdaptedModel { model, lora })
    }
}

/// Loads a model folder.
pub(crate) fn open_model(path: &Path, terminal: Terminal) -> anyhow::Result<LanguageModel> {
    must_be_folder(path, "model")?;
    let mut progress = terminal.progress("loading", 0);
    progress.set(0, &path.display().to_string());
    Ok(LanguageModel::open(path)?)
}

/// Loads an adapter folder for a model.
pub(crate) fn open_adapter(path: &Path, model: &LanguageModel) -> anyhow::Result<LoraAdapter> {
    must_be_folder(path, "adapter")?;
    Ok(LoraAdapter::load(path, &module_shapes(model.decoder.config()))?)
}

/// A path that was given for a folder, but is none, is named as such.
pub(crate) fn must_be_folder(path: &Path, what: &str) -> anyhow::Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => bail!("{}: expected the {what}'s folder, found a file", path.display()),
        Err(error) => Err(error).with_context(|| format!("{}: cannot open the {what}'s folder", path.display())),
    }
}

/// Text or tokens to start from.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct TokenInput {
    /// The text; standard input where neither it nor --ids is given
    #[arg(value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<String>,
    /// The text, as a flag
    #[arg(long, value_name = "TEXT", visible_alias = "text", conflicts_with = "input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt: Option<String>,
    /// Tokens instead of text: 5,6,7
    #[arg(long, value_name = "IDS", value_delimiter = ',', conflicts_with_all = ["input", "prompt"])]
    #[arg(value_parser = token_id)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ids: Vec<u32>,
}

fn token_id(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| "expected token ids separated by commas, such as 5,6,7".to_owned())
}

/// Tokens or text, as they were given.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    Ids(Vec<u32>),
    Text(String),
}

impl TokenInput {
    /// What was given; standard input, without its last line end, where nothing was.
    pub(crate) fn read(&self) -> anyhow::Result<Given> {
        if !self.ids.is_empty() {
            return Ok(Given::Ids(self.ids.clone()));
        }
        if let Some(text) = self.prompt.as_ref().or(self.input.as_ref()) {
            return Ok(Given::Text(text.clone()));
        }
        if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            return Err(usage("nothing to start from: expected a text, --ids, or text on standard input"));
        }
        let mut text = std::io::read_to_string(std::io::stdin()).context("standard input: cannot read")?;
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(Given::Text(text))
    }

    /// The tokens of what was given, each in the vocabulary, at least one.
    pub(crate) fn tokens(&self, model: &LanguageModel) -> anyhow::Result<Vec<u32>> {
        let tokens = match self.read()? {
            Given::Ids(ids) => ids,
            Given::Text(text) => model.encode(&text)?,
        };
        check_tokens(&tokens, model)?;
        Ok(tokens)
    }
}

/// Refuses what no model can work on.
pub(crate) fn check_tokens(tokens: &[u32], model: &LanguageModel) -> anyhow::Result<()> {
    let vocab_size = model.decoder.config().vocab_size;
    if tokens.is_empty() {
        bail!("the text has no tokens: expected at least one");
    }
    if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab_size) {
        bail!("token {token} is out of range: the vocabulary has {vocab_size} tokens, 0 to {}", vocab_size - 1);
    }
    Ok(())
}
