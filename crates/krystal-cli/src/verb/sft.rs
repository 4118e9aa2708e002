//! `krystal sft`: supervised fine-tuning.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use krystal::grpo::data::{Prompt, Record, read_jsonl};
use krystal::grpo::lm::Ranks;
use krystal::grpo::sft::demonstration_loss;
use krystal::grpo::{Demonstration, Policy, RunDir, SftConfig, SftTrainer};
use krystal::lm::config::ModelConfig;
use krystal::lm::{LanguageModel, Tokenizer, initial_tensors};
use krystal::verify::ProblemSet;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::failure::usage;
use crate::hosted::{HostedOptions, Lesson, Taught, TeacherOptions, check, draw};
use crate::model::open_model;
use crate::settings::Given;
use crate::terminal::Terminal;
use crate::training::{
    Opened, PromptOptions, RunOptions, TaskName, TrainableOptions, Trained, Watch, What, agree_on_data, agree_on_model,
    check_golds, clock, hold_out, keep_whole_model, resolved, resumable, write_config,
};

/// Flags of `krystal sft`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal sft --model DIR --data demonstrations.jsonl
  krystal sft --model DIR --data demonstrations.jsonl --train all --num-train-epochs 1
  krystal sft --init config.json --data demonstrations.jsonl --learning-rate 1e-3 --max-steps 500
  krystal sft --teacher openai:gpt-5-mini --data questions.jsonl --reward math --model DIR
      asks the teacher, keeps what is right, and learns from it
  krystal sft --teacher ollama:qwen3 --task arithmetic --limit 500 --teacher-system 'Answer with a number alone.'
      without a model: leaves the demonstrations in runs/sft-1/demonstrations.jsonl
  krystal sft --resume runs/sft-1

A demonstration is a line {\"prompt\": .., \"completion\": ..}; a prompt of messages goes through the chat template. --init makes a
fresh model of a config.json, with a token for each character of the data (its vocab_size and special tokens are filled in).

With --teacher a hosted model gives the demonstrations: its key is read from OPENAI_API_KEY, ANTHROPIC_API_KEY, GOOGLE_API_KEY or
GEMINI_API_KEY. All it says is kept in teacher.jsonl of the run directory as it comes, and never asked for twice; what --reward accepts is
in demonstrations.jsonl.

With --json the line is {\"eval_loss_before\": .., \"eval_loss_after\": .., \"seconds\": .., \"run_dir\": .., \"trained\": ..}, with
{.., \"teacher\": {\"kept\": .., \"acceptance_rate\": .., \"cost_usd\": .., ..}} where there is one.")]
pub(crate) struct Options {
    /// Hugging Face folder of a Llama, Mistral, Qwen2 or Qwen3 model
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<PathBuf>,
    /// config.json of a model to make from nothing, instead of --model; all its weights are trained
    #[arg(long, value_name = "FILE.json", conflicts_with = "model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<PathBuf>,
    /// JSONL file of demonstrations, or of prompts for --teacher
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
    /// A built-in task whose problems --teacher solves, instead of a file: `arithmetic`
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "data",
        requires = "teacher",
        hide_possible_values = true,
        help_heading = "Data"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<TaskName>,
    /// Read this many records at most
    #[arg(long, value_name = "N", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
    /// Column of the prompt [default: prompt, or else question]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_column: Option<String>,
    /// Column of the completion [default: completion, or else answer]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) completion_column: Option<String>,
    /// Demonstrations to hold out for the loss before and after [default: 100, at most a tenth]
    #[arg(long, value_name = "N", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eval_size: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) trainable: TrainableOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) run: RunOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) teacher: TeacherOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) hosted: HostedOptions,
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) sft: Given<SftConfig>,
}

pub(crate) fn run(options: &Options, global: &Global, terminal: Terminal, ranks: &Ranks) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut trainable = options.trainable.clone();
    if options.init.is_some() {
        trainable.train = What::All;
    }
    if let Trained::Dynamic(_) = trainable.trained()? {
        return Err(usage(
            "krystal sft trains plain adapters and whole models: --adapter dynamic is for krystal train",
        ));
    }
    let mut config = options.sft.settings()?;
    config.seed = global.seed;
    if trainable.train == What::All && !options.sft.has("learning_rate") {
        config.learning_rate = SftConfig::default().learning_rate;
    }
    config.validate()?;
    let (opened, taught) = match options.teacher.teacher {
        Some(_) => {
            let (opened, taught) = options.ask_teacher(&config, global, terminal, ranks)?;
            if options.model.is_none() && options.init.is_none() {
                show_taught(&opened, &taught, started, terminal);
                return Ok(());
            }
            (Some(opened), Some(taught))
        }
        None => (None, None),
    };
    let data = taught.as_ref().map(|taught| taught.path.as_path()).or(options.data.as_deref());
    let Some(data) = data else {
        return Err(usage("no demonstrations: expected --data FILE.jsonl, or --teacher TARGET"));
    };
    let examples = options.examples(data)?;
    let model = match (&options.model, &options.init) {
        (Some(path), _) => open_model(path, terminal)?,
        (None, Some(path)) => fresh(path, &examples, global.seed)?,
        (None, None) => return Err(usage("no model: expected --model DIR, or --init config.json for a fresh one")),
    };
    let model = Arc::new(model);
    ranks.agree("settings", &serde_json::to_vec(&config)?)?;
    agree_on_model(&model, ranks)?;
    let base = options.model.as_ref().map(|path| path.display().to_string());
    let policy = trainable.policy(Arc::clone(&model), base, global.seed, ranks)?;
    let demonstrations = demonstrations(&examples, &policy, &model, terminal)?;
    agree_on_data(&demonstrations, ranks)?;
    let size = options.eval_size.unwrap_or_else(|| 100.min(demonstrations.len() / 10));
    if size >= demonstrations.len() {
        return Err(usage(format!("--eval-size {size} leaves none of the {} demonstrations", demonstrations.len())));
    }
    let (demonstrations, held_out) = hold_out(demonstrations, size);
    let loss = |policy: &_| -> anyhow::Result<Option<f64>> {
        Ok(if held_out.is_empty() { None } else { Some(demonstration_loss(policy, &held_out, config.batch_size)?) })
    };
    let before = loss(&policy)?;
    let mut watch = Watch::new("training", terminal, ranks);
    let mut trainer = SftTrainer::new(config.clone(), policy, demonstrations)?.with_clock(clock());
    let Opened { run, resumes } = opened.map_or_else(|| options.run.open("sft", ranks), Ok)?;
    if let Some(run) = &run {
        trainer = match resumes {
            true => trainer.resume_from(run.clone(), &mut watch)?,
            false => trainer.with_run_dir(run.clone())?,
        };
        write_config(run, "sft", &resolved(options, global, &config)?)?;
    }
    if resumes && ranks.are_many() {
        let state = ranks.ask_first(|| anyhow::Ok(trainer.state()?))?;
        if !ranks.is_first() {
            trainer = trainer.resume_from_state(&state)?;
        }
    }
    let summary = trainer.train(&mut watch);
    watch.end();
    let summary = summary.map_err(|error| resumable(error.into(), run.as_ref(), "sft"))?;
    let after = loss(trainer.policy())?;
    let Some(run) = run else { return Ok(()) };
    let whole = trainable.train == What::All;
    let trained = if whole { keep_whole_model(&run)? } else { run.adapter_path() };
    let seconds = started.elapsed().as_secs_f64();
    let line = |name: &str, text: String| terminal.line(&format!("{name:16} {text}"));
    if let Some(taught) = &taught {
        line("teacher", taught.text.clone());
    }
    if let (Some(before), Some(after)) = (before, after) {
        let n = held_out.len();
        line("held-out loss", format!("{before:.4} before, {after:.4} after, {n} demonstrations (nats per token)"));
    }
    if summary.step < summary.total_steps {
        let (step, total, run) = (summary.step, summary.total_steps, run.path().display());
        line("stopped", format!("after step {step} of {total}; to go on: krystal sft --resume {run}"));
    } else {
        line("steps", summary.step.to_string());
    }
    if let Some(rate) = watch.tokens_per_second() {
        line("speed", format!("{rate:.0} tokens/s"));
    }
    line("time", format!("{seconds:.1} s"));
    line("run directory", run.path().display().to_string());
    let next = match (&options.model, whole) {
        (Some(model), false) => format!("--model {} --adapter {}", model.display(), trained.display()),
        _ => format!("--model {}", trained.display()),
    };
    line("next", format!("krystal generate {next} --prompt TEXT"));
    terminal.json(&json!({
        "eval_loss_before": before,
        "eval_loss_after": after,
        "n": held_out.len(),
        "steps": summary.step,
        "total_steps": summary.total_steps,
        "tokens_per_second": watch.tokens_per_second(),
        "seconds": seconds,
        "run_dir": run.path(),
        "trained": trained,
        "teacher": taught.map(|taught| taught.json),
    }));
    Ok(())
}

/// Says what a teacher left, where nothing is trained on it.
fn show_taught(opened: &Opened, taught: &Taught, started: Instant, terminal: Terminal) {
    let line = |name: &str, text: String| terminal.line(&format!("{name:16} {text}"));
    let seconds = started.elapsed().as_secs_f64();
    line("teacher", taught.text.clone());
    line("time", format!("{seconds:.1} s"));
    line("demonstrations", taught.path.display().to_string());
    line("next", format!("krystal sft --model DIR --data {}", taught.path.display()));
    let run = opened.run.as_ref().map(RunDir::path);
    terminal.json(&json!({ "teacher": taught.json, "seconds": seconds, "run_dir": run }));
}

/// A prompt and the text it should get.
struct Example {
    prompt: Prompt,
    completion: String,
}

impl Options {
    /// Opens the run directory and has the teacher fill it.
    fn ask_teacher(
        &self,
        config: &SftConfig,
        global: &Global,
        terminal: Terminal,
        ranks: &Ranks,
    ) -> anyhow::Result<(Opened, Taught)> {
        if ranks.are_many() {
            return Err(usage("--teacher is for one process: expected no --distributed"));
        }
        let spec = self.teacher.reward.as_deref().or(self.task.map(|_| "exact"));
        check(&self.teacher, &self.hosted, spec)?;
        let prompts = PromptOptions {
            data: self.data.clone(),
            task: self.task,
            prompt_column: self.prompt_column.clone(),
            chat: false,
            system: None,
            template: None,
            limit: self.limit,
            max_prompt_length: None,
        };
        let records = prompts.records(ProblemSet::Training, global.seed)?;
        if let Some(spec) = spec.filter(|_| !self.teacher.accept_all) {
            check_golds(spec, &records, terminal)?;
        }
        let opened = self.run.open("sft", ranks)?;
        let Some(run) = &opened.run else { return Err(usage("--teacher is for one process")) };
        write_config(run, "sft", &resolved(self, global, config)?)?;
        let again = format!("krystal sft --resume {}", run.path().display());
        let lesson = Lesson {
            options: &self.teacher,
            asking: &self.hosted,
            spec,
            records: &records,
            folder: run.path(),
            again: &again,
            seed: global.seed,
        };
        let taught = draw(lesson, terminal)?;
        Ok((opened, taught))
    }

    fn examples(&self, data: &Path) -> anyhow::Result<Vec<Example>> {
        // What a teacher left has columns of its own names, and as many records as were asked for.
        let is_taught = self.teacher.teacher.is_some();
        let mut records = read_jsonl(data, self.prompt_column.as_deref().filter(|_| !is_taught))?;
        if !is_taught {
            records.truncate(self.limit.unwrap_or(usize::MAX));
        }
        let example = |(i, record): (usize, Record)| {
            let column = match &self.completion_column {
                Some(name) if !is_taught => name.as_str(),
                _ if record.columns.contains_key("completion") => "completion",
                _ => "answer",
            };
            let completion = match record.columns.get(column) {
                Some(Value::String(text)) if !text.is_empty() => text.clone(),
                Some(other) => bail!("column `{column}`: expected text that is not empty, found {other}"),
                None if self.completion_column.is_some() => bail!("expected a column `{column}`"),
                None => bail!("expected a column `completion`"),
            };
            Ok((i, Example { prompt: record.prompt, completion }))
        };
        records
            .into_iter()
            .enumerate()
            .map(|(i, record)| {
                let example = example((i, record)).with_context(|| format!("{}: record {}", data.display(), i + 1));
                example.map(|(_, example)| example)
            })
            .collect()
    }
}

/// A model from nothing, with a token for each character of the examples.
fn fresh(path: &Path, examples: &[Example], seed: u64) -> anyhow::Result<LanguageModel> {
    let mut characters = BTreeSet::new();
    for example in examples {
        characters.extend(example.completion.chars());
        match &example.prompt {
            Prompt::Text(text) => characters.extend(text.chars()),
            Prompt::Messages(_) => bail!("a fresh model has no chat template: expected prompts of plain text"),
        }
    }
    let alphabet: String = characters.into_iter().collect();
    let tokenizer = Tokenizer::characters(&alphabet, &[])?;
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    let mut json: serde_json::Map<String, Value> =
        serde_json::from_str(&text).with_context(|| format!("{}: not a JSON object", path.display()))?;
    json.insert("vocab_size".into(), tokenizer.vocab_size().into());
    json.insert("eos_token_id".into(), json!(tokenizer.eos()));
    json.insert("pad_token_id".into(), json!(tokenizer.pad()));
    json.insert("bos_token_id".into(), Value::Null);
    let config = ModelConfig::from_json(&Value::Object(json).to_string(), path)?;
    let tensors = initial_tensors(&config, seed);
    Ok(LanguageModel::from_tensors(config, &tensors, tokenizer)?)
}

/// The examples as tokens, each ended by the end-of-sequence token; those that are too long for the model are left out.
fn demonstrations(
    examples: &[Example],
    policy: &impl Policy<Error: Send + Sync + 'static>,
    model: &LanguageModel,
    terminal: Terminal,
) -> anyhow::Result<Vec<Demonstration>> {
    let longest = model.decoder.config().max_position_embeddings;
    let eos = model.eos_token_ids().first().copied();
    let mut demonstrations = Vec::with_capacity(examples.len());
    for example in examples {
        let prompt = policy.encode_prompt(&example.prompt)?;
        let mut completion = model.tokenizer.encode(&example.completion, false)?;
        completion.extend(eos);
        if prompt.len() + completion.len() <= longest {
            demonstrations.push(Demonstration { prompt, completion });
        }
    }
    let (all, kept) = (examples.len(), demonstrations.len());
    if kept == 0 {
        bail!("all {all} demonstrations are longer than the model's {longest} tokens");
    }
    if kept < all {
        terminal.note(&format!("left out {} of {all} demonstrations of more than {longest} tokens", all - kept));
    }
    Ok(demonstrations)
}
