//! `krystal adapter merge`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use krystal::dynlora::LoraAdapter;
use krystal::lm::{LanguageModel, Tensor, copy_tokenizer_files, save_language_model};
use serde::Serialize;
use serde_json::json;

use crate::model::{open_adapter, open_model};
use crate::terminal::Terminal;

/// Flags of `krystal adapter merge`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal adapter merge --model DIR --adapter runs/train-1/adapter --out merged
  krystal generate --model merged --prompt 'Once upon a time'

The result is a Hugging Face folder in f32 with the base model's tokenizer, chat template and generation settings.")]
pub(crate) struct Options {
    /// Hugging Face folder of the base model
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// PEFT adapter folder
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: PathBuf,
    /// Folder to write; must not hold a model yet
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

pub(crate) fn run(options: &Options, terminal: Terminal) -> anyhow::Result<()> {
    let out = &options.out;
    if out.join("config.json").exists() || out.join("model.safetensors").exists() {
        bail!("{}: expected a folder without a model, found one; choose another --out", out.display());
    }
    let model = open_model(&options.model, terminal)?;
    let adapter = open_adapter(&options.adapter, &model)?;
    let tensors = merged(&model, &adapter)?;
    let config = model.decoder.config();
    save_language_model(out, config, &tensors, &model.tokenizer)?;
    copy_tokenizer_files(&options.model, out)?;
    copy_generation_config(&options.model, out)?;
    terminal.line(&format!("{} modules merged into {}", adapter.modules.len(), out.display()));
    terminal.json(&json!({ "out": out, "modules": adapter.modules.len() }));
    Ok(())
}

/// The base model's tensors with the adapter's updates added.
pub(super) fn merged(model: &LanguageModel, adapter: &LoraAdapter) -> anyhow::Result<Vec<Tensor>> {
    let mut tensors = model.decoder.tensors();
    let weights = tensors
        .iter_mut()
        .filter_map(|tensor| Some((tensor.name.strip_suffix(".weight")?, tensor.values.as_mut_slice())));
    adapter.merge_into(weights)?;
    Ok(tensors)
}

fn copy_generation_config(from: &Path, to: &Path) -> anyhow::Result<()> {
    let name = "generation_config.json";
    let path = from.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(krystal::checkpoint::write_atomically(&to.join(name), &bytes)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{}: cannot read", path.display())),
    }
}
