//! What is trained.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use krystal::dynlora::{LoraAdapter, LoraConfig, TargetModules};
use krystal::grpo::lm::LmPolicy;
use krystal::lm::{Keep, LanguageModel, module_shapes};
use serde::Serialize;

use crate::model::open_adapter;

/// Which weights learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// LoRA factors beside frozen weights
    Lora,
    /// Every weight
    All,
}

/// Flags of verbs that train.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "What is trained")]
pub(crate) struct TrainableOptions {
    /// lora: factors beside frozen weights; all: every weight
    #[arg(long, value_name = "WHAT", default_value = "lora", hide_possible_values = true)]
    pub(crate) train: What,
    /// PEFT adapter folder to go on from; its own rank, scale and targets stay
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter: Option<PathBuf>,
    /// Rank of the factors
    #[arg(long, value_name = "R", default_value_t = 16)]
    pub(crate) lora_r: usize,
    /// Numerator of their scale, alpha / r
    #[arg(long, value_name = "ALPHA", default_value_t = 32.0)]
    pub(crate) lora_alpha: f64,
    /// Scale by alpha / sqrt(r) instead
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub(crate) use_rslora: bool,
    /// Linear layers that get factors: names separated by commas (q_proj,v_proj), or all-linear
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "all-linear")]
    pub(crate) target_modules: Vec<String>,
    /// Compute activations again on the way back: a third more work, several times less memory
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub(crate) recompute: bool,
    /// Most sequences that a thread decodes together; speed and memory only
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_batch: usize,
    /// End completions at this string as well; may be given more than once
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stop: Vec<String>,
}

impl TrainableOptions {
    /// The policy that learns; `base` is what the adapter's files call the base model.
    pub(crate) fn policy(
        &self,
        model: Arc<LanguageModel>,
        base: Option<String>,
        seed: u64,
    ) -> anyhow::Result<LmPolicy> {
        let policy = match (self.train, &self.adapter) {
            (What::All, _) => LmPolicy::with_all_weights(model)?,
            (What::Lora, Some(path)) => {
                let adapter = open_adapter(path, &model)?;
                LmPolicy::with_adapter(model, adapter, base)
            }
            (What::Lora, None) => {
                let adapter = LoraAdapter::new(self.lora(), &module_shapes(model.decoder.config()), seed)?;
                LmPolicy::with_adapter(model, adapter, base)
            }
        };
        let keep = if self.recompute { Keep::BlockInputs } else { Keep::Activations };
        Ok(policy.with_keep(keep).with_max_batch(self.max_batch).with_stop_strings(self.stop.clone()))
    }

    fn lora(&self) -> LoraConfig {
        let target_modules = match self.target_modules.as_slice() {
            [one] if one.eq_ignore_ascii_case("all-linear") => TargetModules::AllLinear,
            names => TargetModules::Names(names.iter().map(|name| name.trim().to_owned()).collect()),
        };
        LoraConfig {
            r: self.lora_r,
            lora_alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            target_modules,
            ..LoraConfig::default()
        }
    }
}
