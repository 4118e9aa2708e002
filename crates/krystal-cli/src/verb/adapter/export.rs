//! `krystal adapter export`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use krystal::dynlora::{CONFIG_FILE, LoraAdapter, LoraConfig, LoraModule, PatternMap, stored_shapes};
use serde::Serialize;
use serde_json::{Value, json};

use crate::model::must_be_folder;
use crate::terminal::Terminal;

/// Flags of `krystal adapter export`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal adapter export runs/train-1/adapter --out plain
  krystal adapter export runs/train-1/adapter --out plain --base Qwen/Qwen3-0.6B

Scales are multiplied into B and ranks filled up with zeros, so that alpha = r and there are no patterns: what vLLM and other
readers of plain LoRA expect. The update of each weight stays the same up to one rounding of B.")]
pub(crate) struct Options {
    /// PEFT adapter folder
    #[arg(value_name = "DIR")]
    pub(crate) adapter: PathBuf,
    /// Folder to write; must not hold an adapter yet
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Base model that the files name [default: the one they name now]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
}

pub(crate) fn run(options: &Options, terminal: Terminal) -> anyhow::Result<()> {
    let out = &options.out;
    if out.join(CONFIG_FILE).exists() {
        bail!("{}: expected a folder without an adapter, found one; choose another --out", out.display());
    }
    must_be_folder(&options.adapter, "adapter")?;
    let adapter = LoraAdapter::load(&options.adapter, &stored_shapes(&options.adapter)?)?;
    let base = options.base.clone().or_else(|| base_of(&options.adapter));
    let plain = plain(&adapter);
    plain.save(out, base.as_deref())?;
    let (r, modules) = (plain.config.r, plain.modules.len());
    terminal.line(&format!("{modules} modules of rank {r} in {}", out.display()));
    terminal.json(&json!({ "out": out, "r": r, "modules": modules }));
    Ok(())
}

/// The same updates with one rank and scale 1.
fn plain(adapter: &LoraAdapter) -> LoraAdapter {
    let r = adapter.modules.iter().map(|module| module.rank).max().unwrap_or(adapter.config.r);
    let modules = adapter.modules.iter().map(|module| {
        let mut a = module.a.clone();
        a.resize(r * module.d_in, 0.0);
        let b = module
            .b
            .chunks_exact(module.rank)
            .flat_map(|row| row.iter().map(|value| value * module.scale).chain(std::iter::repeat_n(0.0, r - row.len())))
            .collect();
        LoraModule { rank: r, scale: 1.0, a, b, ..module.clone() }
    });
    LoraAdapter {
        modules: modules.collect(),
        config: LoraConfig {
            r,
            lora_alpha: r as f64,
            use_rslora: false,
            rank_pattern: PatternMap::default(),
            alpha_pattern: PatternMap::default(),
            ..adapter.config.clone()
        },
    }
}

/// The base model that an adapter folder names; it was read before, so what is not there was not said.
fn base_of(directory: &Path) -> Option<String> {
    let text = std::fs::read_to_string(directory.join(CONFIG_FILE)).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    config["base_model_name_or_path"].as_str().map(str::to_owned)
}
