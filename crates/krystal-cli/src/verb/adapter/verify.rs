//! `krystal adapter verify`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use krystal::lm::kernels::cpu::Cpu;
use krystal::lm::{Group, LoraWeights, TokenBatch, decoder_from};
use krystal::math::rng::{Purpose, stream_rng};
use rand::RngExt;
use serde::Serialize;
use serde_json::json;

use super::hierarchy;
use super::merge::merged;
use crate::cli::Global;
use crate::failure::usage;
use crate::model::{must_be_folder, open_adapter, open_model};
use crate::terminal::Terminal;

/// Largest difference between merged and unmerged logits, relative to the largest logit. Both are sums of the same numbers in
/// another order, in f32: 1e-6 or so is usual, and a wrong scale or a transposed factor gives 0.1.
const TOLERANCE: f64 = 1e-4;
/// Most tokens that are compared.
const TOKENS: usize = 48;

/// Flags of `krystal adapter verify`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal adapter verify --model DIR --adapter runs/train-1/adapter
  krystal adapter verify --model DIR --adapter runs/train-1/adapter --seed 3 --json
  krystal adapter verify --adapter runs/train-1/adapter/hierarchy

Fails where the adapter does not fit the model, holds a number that is not finite, or gives logits on random tokens that
differ from those of the merged model by more than 1e-4 of the largest. A saved hierarchy (a folder with dynlora.json) fails where
a file is not the one that was saved, or cannot be gone on from.")]
pub(crate) struct Options {
    /// Hugging Face folder of the base model; only for a saved hierarchy it can be left out
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<PathBuf>,
    /// PEFT adapter folder, or folder of a saved hierarchy
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: PathBuf,
}

pub(crate) fn run(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    must_be_folder(&options.adapter, "adapter")?;
    if let Some(folder) = hierarchy::folder(&options.adapter) {
        return hierarchy::verify(&folder, options.model.as_deref(), terminal);
    }
    let Some(model) = &options.model else {
        return Err(usage("--model is missing: a PEFT adapter is verified on its base model"));
    };
    let model = open_model(model, terminal)?;
    let adapter = open_adapter(&options.adapter, &model)?;
    for module in &adapter.modules {
        if let Some(value) = module.a.iter().chain(&module.b).find(|value| !value.is_finite()) {
            bail!("{}: module {}: expected finite numbers, found {value}", options.adapter.display(), module.name);
        }
    }
    let config = model.decoder.config();
    let mut rng = stream_rng(global.seed, Purpose::Evaluation, 0, 0);
    let count = TOKENS.min(config.max_position_embeddings);
    let tokens: Vec<u32> = (0..count).map(|_| rng.random_range(0..config.vocab_size as u32)).collect();
    let group = Group { prompt: &tokens[..1], completions: vec![&tokens[1..]] };
    let batch = TokenBatch::new([&group]);
    let lora = LoraWeights::new(&Cpu, config, &adapter);
    let base = model.decoder.logits(None, &batch);
    let adapted = model.decoder.logits(Some(&lora), &batch);
    let merged = decoder_from(config.clone(), &merged(&model, &adapter)?)?.logits(None, &batch);
    let largest = adapted.iter().fold(0.0_f64, |top, value| top.max(f64::from(value.abs())));
    let difference = |other: &[f32]| {
        let pairs = adapted.iter().zip(other);
        pairs
            .map(|(x, y)| f64::from(*x) - f64::from(*y))
            .fold(0.0_f64, |top, d| if d.abs() > top || d.is_nan() { d.abs() } else { top })
    };
    let (absolute, effect) = (difference(&merged), difference(&base));
    let relative = absolute / largest.max(f64::MIN_POSITIVE);
    if relative.is_nan() || relative > TOLERANCE {
        bail!(
            "merged and unmerged logits differ by {absolute:.3e}, {relative:.3e} of the largest: expected at most {TOLERANCE:e}"
        );
    }
    terminal.line(&format!("{} modules, {} parameters, all finite", adapter.modules.len(), adapter.num_parameters()));
    terminal.line(&format!(
        "merged and unmerged logits differ by at most {absolute:.3e} ({relative:.1e} of the largest) on {count} tokens"
    ));
    terminal.line(&format!(
        "the adapter changes logits by up to {effect:.4}{}",
        if effect == 0.0 { ": it does nothing" } else { "" }
    ));
    terminal.json(&json!({
        "modules": adapter.modules.len(), "parameters": adapter.num_parameters(), "tokens": count,
        "max_difference": absolute, "max_relative_difference": relative, "max_effect": effect,
    }));
    Ok(())
}
