//! The embedded demonstration: a small model, made on the spot, that has something to unlearn.
//!
//! A character model of 0.7 million weights is warmed up on sums and differences of two-digit numbers. Of the demonstrations with a
//! carry or a borrow, 65 % make the schoolchild's slip of forgetting it, so the model learns the slip: it is what its data says most
//! often. The verifier knows better, and GRPO has to find the right answer among the model's own samples.
//!
//! [`prepare`] leaves a model folder and two data files in the run directory; from there on the demonstration is an ordinary
//! `krystal train --model .. --data .. --reward exact`, with the settings of [`grpo_config`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use krystal::checkpoint::write_atomically;
use krystal::grpo::lm::{LmPolicy, Ranks};
use krystal::grpo::optimizer::LrSchedulerType;
use krystal::grpo::sft::Demonstration;
use krystal::grpo::{GrpoConfig, Observer, RunDir, SftConfig, SftTrainer, StepMetrics};
use krystal::lm::{LanguageModel, ModelConfig, RopeScaling, Tokenizer, initial_tensors, save_language_model};
use krystal::verify::{Arithmetic, DEFAULT_SLIP_RATE, Problem};
use serde_json::json;

use crate::progress::Progress;
use crate::terminal::Terminal;

/// Problems that neither the warm-up nor GRPO sees.
const HELD_OUT: usize = 1_200;
/// Warm-up steps of [`WARM_UP_BATCH`] demonstrations.
const WARM_UP_STEPS: u64 = 700;
const WARM_UP_BATCH: usize = 256;
/// What the model can write.
const ALPHABET: &str = "0123456789+-=";

/// What the demonstration says before it starts.
pub(crate) const STORY: &str = "\
No --model was given, so this is the demonstration: a small model learns two-digit sums and differences from examples of which
65 % of those with a carry or a borrow forget it, as schoolchildren do. It learns the slip. Then GRPO teaches it right: it samples
answers, an exact verifier says which are correct, and a LoRA adapter learns from that. Nobody shows it a solution again.";

/// What [`prepare`] leaves in the run directory.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The warmed-up model, a Hugging Face folder.
    pub(crate) model: PathBuf,
    /// Training problems.
    pub(crate) data: PathBuf,
    /// Held-out problems.
    pub(crate) eval_data: PathBuf,
}

/// Settings of the demonstration's GRPO run, where nothing else was asked for.
pub(crate) fn grpo_config() -> GrpoConfig {
    GrpoConfig {
        max_steps: Some(60),
        prompts_per_step: 64,
        num_generations: 16,
        max_completion_length: 6,
        learning_rate: 1e-3,
        lr_scheduler_type: LrSchedulerType::Constant,
        ..GrpoConfig::default()
    }
}

/// The reward of the demonstration.
pub(crate) const REWARD: &str = "exact";

/// Where the demonstration's files are.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    is_temporary: bool,
}

impl Place {
    /// The folder of the run, or one that lasts as long as this does for a rank that has none.
    pub(crate) fn of(run: Option<&RunDir>, ranks: &Ranks) -> Self {
        let temporary =
            || std::env::temp_dir().join(format!("krystal-demonstration-{}-{}", std::process::id(), ranks.rank()));
        Self { path: run.map_or_else(temporary, |run| run.path().to_owned()), is_temporary: run.is_none() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_temporary {
            // What cannot be removed is left to whoever clears the folder of temporary files.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes data and model in `place`, or finds those that an interrupted run made. The ranks warm the model up together; then all
/// get the files of the first.
pub(crate) fn prepare(place: &Place, seed: u64, terminal: Terminal, ranks: &Ranks) -> anyhow::Result<Prepared> {
    let run_dir = &place.path;
    let prepared = Prepared {
        model: run_dir.join("base"),
        data: run_dir.join("train.jsonl"),
        eval_data: run_dir.join("held_out.jsonl"),
    };
    // The tokenizer's configuration is the last file that is written.
    let is_there = ranks.is_first() && prepared.model.join("tokenizer_config.json").exists();
    if !ranks.any(is_there)? {
        make(&prepared, seed, terminal, ranks)?;
    }
    if !ranks.are_many() {
        return Ok(prepared);
    }
    let files = if ranks.is_first() { read_files(&prepared, run_dir) } else { Ok(Vec::new()) };
    let files = ranks.gather(files)?;
    if !ranks.is_first() {
        fs::create_dir_all(&prepared.model).with_context(|| format!("{}: cannot create", prepared.model.display()))?;
        for (name, content) in files {
            write_atomically(&run_dir.join(name), &content)?;
        }
    }
    Ok(prepared)
}

/// Every file of the demonstration, by its path within `folder`.
fn read_files(prepared: &Prepared, folder: &Path) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths = vec![prepared.data.clone(), prepared.eval_data.clone()];
    for entry in fs::read_dir(&prepared.model).with_context(|| format!("{}: cannot read", prepared.model.display()))? {
        paths.push(entry?.path());
    }
    let read = |path: PathBuf| {
        let content = fs::read(&path).with_context(|| format!("{}: cannot read", path.display()))?;
        Ok((path.strip_prefix(folder)?.to_owned(), content))
    };
    paths.into_iter().map(read).collect()
}

/// Makes data and model; the first rank writes them.
fn make(prepared: &Prepared, seed: u64, terminal: Terminal, ranks: &Ranks) -> anyhow::Result<()> {
    let task = Arithmetic::new(seed, HELD_OUT)?;
    if ranks.is_first() {
        write_problems(&prepared.data, task.train_problems())?;
        write_problems(&prepared.eval_data, task.held_out_problems())?;
    }
    let model = fresh_model(seed)?;
    let eos = model.tokenizer.eos().context("the demonstration's tokenizer has an end-of-sequence token")?;
    let demonstrations = (0..WARM_UP_STEPS * WARM_UP_BATCH as u64)
        .map(|index| {
            let (prompt, answer) = task.demonstration(index, DEFAULT_SLIP_RATE, seed);
            let mut completion = model.tokenizer.encode(&answer, false)?;
            completion.push(eos);
            Ok(Demonstration { prompt: model.encode(&prompt)?, completion })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let config = SftConfig {
        seed,
        max_steps: Some(WARM_UP_STEPS),
        batch_size: WARM_UP_BATCH,
        learning_rate: 3e-3,
        lr_scheduler_type: LrSchedulerType::Cosine,
        warmup_steps: 50,
        // The gradient changes quickly at first; the usual 0.999 averages over more steps than the warm-up has.
        adam_beta2: 0.98,
        checkpoint_every: 0,
        ..SftConfig::default()
    };
    let policy = LmPolicy::with_all_weights(Arc::clone(&model))?.with_ranks(ranks.clone());
    let mut trainer = SftTrainer::new(config, policy, demonstrations)?;
    let mut shown = WarmUp(terminal.progress("warm-up", WARM_UP_STEPS as usize));
    trainer.train(&mut shown)?;
    drop(shown);
    if !ranks.is_first() {
        return Ok(());
    }
    let tensors = trainer.policy().tensors().context("the warm-up trains all weights")?;
    save_language_model(&prepared.model, model.decoder.config(), &tensors, &model.tokenizer)?;
    Ok(())
}

/// The warm-up on a progress bar.
struct WarmUp(Progress);

impl Observer for WarmUp {
    fn on_step(&mut self, metrics: &StepMetrics) {
        let loss = metrics.get("loss").map_or_else(String::new, |loss| format!("loss {loss:.3}"));
        self.0.set(metrics.step as usize, &loss);
    }
}

/// Problems as records: a prompt and its answer.
fn write_problems(path: &Path, problems: &[Problem]) -> anyhow::Result<()> {
    let line = |p: &Problem| format!("{}\n", json!({"prompt": p.to_string(), "answer": p.answer().to_string()}));
    write_atomically(path, problems.iter().map(line).collect::<String>().as_bytes())?;
    Ok(())
}

/// An untrained Llama: 4 layers of width 128, 4 heads over 2 key/value heads, one token a character.
fn fresh_model(seed: u64) -> anyhow::Result<Arc<LanguageModel>> {
    const LAYERS: usize = 4;
    let tokenizer = Tokenizer::characters(ALPHABET, &[])?;
    let config = ModelConfig {
        model_type: "llama".to_owned(),
        vocab_size: tokenizer.vocab_size(),
        hidden_size: 128,
        intermediate_size: 352,
        num_hidden_layers: LAYERS,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Default,
        tie_word_embeddings: true,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norm: false,
        sliding_window: vec![None; LAYERS],
        max_position_embeddings: 64,
        bos_token_id: None,
        eos_token_ids: tokenizer.eos().into_iter().collect(),
        pad_token_id: tokenizer.pad(),
    };
    let tensors = initial_tensors(&config, seed);
    Ok(Arc::new(LanguageModel::from_tensors(config, &tensors, tokenizer)?))
}
