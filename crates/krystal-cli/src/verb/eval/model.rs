//! Answers of a local model.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use krystal::dynlora::{LoraAdapter, LoraConfig};
use krystal::grpo::lm::LmPolicy;
use krystal::grpo::{EvaluateConfig, evaluate};
use krystal::math::sampling::Sampling;
use krystal::verify::ProblemSet;
use serde::Serialize;
use serde_json::json;

use super::Options;
use super::summary::{Completions, Summary};
use crate::cli::Global;
use crate::model::{open_adapter, open_model};
use crate::terminal::Terminal;
use crate::training::{check_golds, drop_long, one_reward};
use crate::verb::train::room_for_prompts;

/// How answers are drawn.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Answers of a model")]
pub(crate) struct SamplingOptions {
    /// Completions per problem
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) samples: usize,
    /// For which k to report pass@k
    #[arg(long, value_name = "K", value_delimiter = ',', default_value = "1")]
    pub(crate) k: Vec<usize>,
    /// Softmax temperature; 0 takes the likeliest token [default: 0 for one sample, else 1]
    #[arg(long, value_name = "T")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    /// Draw from the fewest tokens whose probability reaches P
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub(crate) top_p: f64,
    /// Draw from the K likeliest tokens; 0 means all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Most tokens of a completion
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) max_completion_length: usize,
    /// End completions at this string as well; may be given more than once
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stop: Vec<String>,
    /// Problems that are worked on at once; memory only
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) batch_prompts: usize,
    /// Write every completion to this file
    #[arg(long, value_name = "FILE.jsonl")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) out: Option<PathBuf>,
}

pub(super) fn run(options: &Options, path: &Path, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    let started = Instant::now();
    let spec = options.spec()?;
    let (_, reward) = one_reward(spec)?;
    let config = options.config(global);
    config.validate()?;
    let records = options.prompts.records(ProblemSet::HeldOut, global.seed)?;
    check_golds(spec, &records, terminal)?;
    let model = Arc::new(open_model(path, terminal)?);
    let adapter = match &options.adapter {
        Some(path) => open_adapter(path, &model)?,
        // Without a module there is nothing but the model.
        None => LoraAdapter { config: LoraConfig::default(), modules: Vec::new() },
    };
    let longest = model.decoder.config().max_position_embeddings;
    let policy = LmPolicy::with_adapter(model, adapter, None).with_stop_strings(options.sampling.stop.clone());
    let most =
        options.prompts.max_prompt_length.unwrap_or_else(|| room_for_prompts(longest, config.max_completion_length));
    let records = drop_long(&policy, records, most, terminal)?;
    let mut out = options.sampling.out.as_deref().map(Completions::create).transpose()?;
    let mut progress = terminal.progress("evaluating", records.len());
    progress.set(0, "");
    let mut passed = 0;
    let evaluation = evaluate(&policy, &records, reward.as_ref(), &config, &mut |completion| {
        passed += usize::from(completion.passed);
        progress.set(completion.index + 1, &format!("{passed} completions passed"));
        if let Some(out) = &mut out {
            out.write(&json!({
                "index": completion.index, "sample": completion.sample, "completion": completion.completion,
                "score": completion.score, "passed": completion.passed, "finish": completion.finish.to_string(),
            }));
        }
    })?;
    drop(progress);
    if let Some(out) = out {
        out.close()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut summary = Summary::new(terminal);
    summary.evaluation(&evaluation, seconds);
    summary.end();
    Ok(())
}

impl Options {
    pub(super) fn config(&self, global: &Global) -> EvaluateConfig {
        let sampling = &self.sampling;
        let temperature = sampling.temperature.unwrap_or(if sampling.samples > 1 { 1.0 } else { 0.0 });
        EvaluateConfig {
            seed: global.seed,
            num_samples: sampling.samples,
            ks: sampling.k.clone(),
            sampling: Sampling {
                temperature: temperature as f32,
                top_k: sampling.top_k,
                top_p: sampling.top_p as f32,
                ..Sampling::default()
            },
            max_completion_length: sampling.max_completion_length,
            batch_prompts: sampling.batch_prompts,
            threshold: self.threshold,
        }
    }
}
