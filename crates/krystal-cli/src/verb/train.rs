//! `krystal train`: GRPO.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use krystal::grpo::advantage::Aggregation;
use krystal::grpo::data::{Prompt, Record};
use krystal::grpo::lm::{Ranks, SharedReward};
use krystal::grpo::verify::VerifierReward;
use krystal::grpo::{EvaluateConfig, GrpoConfig, GrpoTrainer, Policy, RewardFunction};
use krystal::lm::LanguageModel;
use krystal::math::sampling::Sampling;
use krystal::verify::{ProblemSet, parse_rewards};
use serde::Serialize;

use crate::cli::Global;
use crate::demo;
use crate::failure::usage;
use crate::hosted::{HostedOptions, Judge, JudgeOptions};
use crate::model::open_model;
use crate::settings::Given;
use crate::terminal::Terminal;
use crate::training::{
    Ending, Opened, Outcome, PromptOptions, RunOptions, TrainableOptions, Trained, Watch, What, agree_on_data,
    agree_on_model, check_golds, clock, divergence, drop_long, hold_out, keep_whole_model, one_reward, resolved,
    resumable, write_config,
};

/// Flags of `krystal train`.
#[derive(Debug, Clone, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal train
      the demonstration: makes and warms up a small model, teaches it arithmetic
  krystal train --model DIR --data gsm8k.jsonl --reward math
  krystal train --model DIR --data gsm8k.jsonl --chat --reward math=1.0,calculator=0.2 --max-steps 200 --learning-rate 2e-5
  krystal train --model DIR --data prompts.jsonl --reward 'command:./judge.py --strict' --loss-type dr_grpo --beta 0.01
  krystal train --adapter dynamic
      the same with five layers that learn and forget at their own pace; --agents 3 for three learners
  krystal train --model DIR --data gsm8k.jsonl --reward math --adapter dynamic --agents 4
  krystal train --model DIR --data more.jsonl --reward math --adapter runs/train-1/adapter/hierarchy
  krystal train --model DIR --data prompts.jsonl --chat --judge ollama:qwen3 --rubric 'Correct, and one sentence.'
  krystal train --model DIR --data gsm8k.jsonl --reward math --judge openai:gpt-5-mini --judge-weight 0.3 \\
      --rubric-file style.md --prices prices.toml --max-cost 5
  krystal train --resume runs/train-1
  mpirun -n 4 krystal train --distributed mpi --model DIR --data gsm8k.jsonl --reward math
  krystal train --config runs/train-1/config.toml --seed 2

Rewards: exact, numeric, math, regex, think_format, soft_overlong, repetition, calculator, command; written NAME, NAME=WEIGHT or
NAME:KEY=VALUE,.. and separated by commas. The run directory holds config.toml, metrics.jsonl, completions.jsonl, checkpoints/
and adapter/ (PEFT), or model/ with --train all. With --adapter dynamic there are events.jsonl as well, and in adapter/ the fused
stack of the first agent (of several, each one's in agents/N/), and hierarchy/, from which a later run goes on.

--judge adds a reward that a hosted model gives, from 0 to 1, by the rubric. Several votes make a grade; where calls fail or votes
disagree there is none, and the completion has its other rewards alone. Every verdict is kept in judge.jsonl of the run directory: a
resumed run asks nothing twice. Of a run with --judge alone the evaluation is the judge's as well: --threshold 0.7 says what passes.

With --json the line is {\"eval_before\": {\"pass@1\": .., \"n\": ..}, \"eval_after\": {..}, \"seconds\": .., \"run_dir\": ..}.")]
pub(crate) struct Options {
    /// Hugging Face folder of a Llama, Mistral, Qwen2 or Qwen3 model; without it the demonstration runs
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<PathBuf>,
    /// What completions are worth: math, or math=1.0,calculator=0.2, .. [default: exact for a task]
    #[arg(long, value_name = "SPEC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reward: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) prompts: PromptOptions,
    /// JSONL file to evaluate on [default: a part of the data that is held out, or the task's]
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eval_data: Option<PathBuf>,
    /// Problems to evaluate on; 0 evaluates nothing [default: 100, at most a tenth of the data; all of --eval-data or a task]
    #[arg(long, value_name = "N", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eval_size: Option<usize>,
    /// Reward to evaluate by [default: the first of --reward]
    #[arg(long, value_name = "SPEC", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eval_reward: Option<String>,
    /// A completion passes where its score is at least this
    #[arg(long, value_name = "X", default_value_t = 1.0, help_heading = "Evaluation")]
    pub(crate) threshold: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) trainable: TrainableOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) run: RunOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) judge: JudgeOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) hosted: HostedOptions,
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) grpo: Given<GrpoConfig>,
}

/// All that a run is made of.
struct Job<P> {
    config: GrpoConfig,
    policy: P,
    rewards: Vec<Box<dyn RewardFunction>>,
    judge: Option<Judge>,
    records: Vec<Record>,
    /// Problems to evaluate on before and after, by a reward.
    evaluation: Option<(Vec<Record>, Box<dyn RewardFunction>, EvaluateConfig)>,
}

/// What the learning rate of dynamic layers is, unless one is given, beside that of a plain adapter: steps along what earlier
/// data was read along are damped.
const DYNAMIC_RATE: f64 = 2.0;

pub(crate) fn run(options: &Options, global: &Global, terminal: Terminal, ranks: &Ranks) -> anyhow::Result<()> {
    let started = Instant::now();
    let config = options.config(global)?;
    config.validate()?;
    let table = resolved(options, global, &config)?;
    ranks.agree("settings", &serde_json::to_vec(&config)?)?;
    if let Some(model) = &options.model {
        let start = Start { options, model, opened: None, table: &table, started, ranks };
        return start.with_policy(config, global, terminal);
    }
    let opened = options.run.open("train", ranks)?;
    if let Some(run) = &opened.run {
        write_config(run, "train", &table)?;
    }
    let place = demo::Place::of(opened.run.as_ref(), ranks);
    let options = options.demonstration(&place, global, terminal, ranks)?;
    let model = options.model.clone().unwrap_or_default();
    let start = Start { options: &options, model: &model, opened: Some(opened), table: &table, started, ranks };
    start.with_policy(config, global, terminal)
}

/// Where a run starts.
struct Start<'s> {
    options: &'s Options,
    model: &'s Path,
    opened: Option<Opened>,
    table: &'s toml::Table,
    started: Instant,
    ranks: &'s Ranks,
}

impl Start<'_> {
    /// Runs with the policy that the flags ask for.
    fn with_policy(self, config: GrpoConfig, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
        let trainable = &self.options.trainable;
        let base = Some(self.model.display().to_string());
        let (seed, ranks) = (global.seed, self.ranks);
        match trainable.trained()? {
            Trained::All | Trained::Plain(_) => {
                let policy = |model, _: &mut [&mut Vec<Record>]| trainable.policy(model, base, seed, ranks);
                let job = self.options.job(self.model, config, policy, global, terminal, ranks)?;
                train(job, self, terminal)
            }
            Trained::Dynamic(saved) => {
                let policy = |model, records: &mut [&mut Vec<Record>]| {
                    let agents = trainable.share_out(records)?;
                    trainable.dynamic_policy(saved, &agents, model, base, seed, ranks)
                };
                let job = self.options.job(self.model, config, policy, global, terminal, ranks)?;
                train(job, self, terminal)
            }
        }
    }
}

/// Runs the job in its folder and reports.
fn train<P: Policy>(job: Job<P>, start: Start<'_>, terminal: Terminal) -> anyhow::Result<()> {
    let Start { options, model, opened, table, started, ranks } = start;
    let Job { config, policy, rewards, judge, records, evaluation } = job;
    let mut watch = Watch::new("training", terminal, ranks);
    let has_evaluation = evaluation.is_some();
    let (max_completion_length, seed) = (config.max_completion_length, config.seed);
    // Prompts that are not learned from, where there are some.
    let asked =
        evaluation.as_ref().map_or(&records, |(held_out, ..)| held_out).iter().take(64).cloned().collect::<Vec<_>>();
    let settings = with_evaluations(config, has_evaluation);
    let mut trainer = GrpoTrainer::new(settings, policy, rewards, records)?.with_clock(clock());
    if let Some((problems, reward, config)) = evaluation {
        trainer = trainer.with_evaluation(problems, reward, config)?;
    }
    // Only now, so that what is refused leaves no folder behind.
    let Opened { run, resumes } = opened.map_or_else(|| options.run.open("train", ranks), Ok)?;
    if let Some(run) = &run {
        trainer = match resumes {
            true => trainer.resume_from(run.clone(), &mut watch)?,
            false => trainer.with_run_dir(run.clone())?,
        };
        write_config(run, "train", table)?;
        if let Some(judge) = &judge {
            judge.keep_in(&run.path().join("judge.jsonl"))?;
        }
    }
    if resumes && ranks.are_many() {
        let state = ranks.ask_first(|| anyhow::Ok(trainer.state()?))?;
        if !ranks.is_first() {
            trainer = trainer.resume_from_state(&state)?;
        }
    }
    let summary = trainer.train(&mut watch);
    watch.end();
    let summary = summary.map_err(|error| resumable(error.into(), run.as_ref(), "train"))?;
    let kl = divergence(trainer.policy(), &asked, max_completion_length, seed)?;
    let Some(run) = run else { return Ok(()) };
    let whole = options.trainable.train == What::All;
    let trained = if whole { keep_whole_model(&run)? } else { run.adapter_path() };
    let model = match whole {
        true => format!("--model {}", trained.display()),
        false => format!("--model {} --adapter {}", model.display(), trained.display()),
    };
    let ending = Ending {
        outcome: Outcome::of(&run)?,
        summary: &summary,
        watch: &watch,
        is_fresh: options.trainable.trained()?.is_fresh(),
        kl,
        run: &run,
        trained: &trained,
        next: format!("krystal generate {model} --prompt {}", example(&asked)),
        judge: judge.map(|judge| judge.report()),
        seconds: started.elapsed().as_secs_f64(),
    };
    ending.show(terminal);
    Ok(())
}

/// A short prompt of the data as a shell writes it, or else a word for one.
fn example(records: &[Record]) -> String {
    let short = |text: &&String| text.len() <= 40 && !text.contains(['\'', '\n']);
    let texts =
        records.iter().filter_map(|record| if let Prompt::Text(text) = &record.prompt { Some(text) } else { None });
    texts.into_iter().find(short).map_or_else(|| "TEXT".to_owned(), |text| format!("'{text}'"))
}

/// `--eval-steps 0` means before and after the run: the trainer's 0 means never, even at the end.
fn with_evaluations(config: GrpoConfig, has_evaluation: bool) -> GrpoConfig {
    if has_evaluation && config.eval_steps == 0 {
        GrpoConfig { eval_steps: u64::MAX, eval_on_start: true, ..config }
    } else {
        config
    }
}

/// Most tokens of a prompt that leave room for a completion: all of it, or half of the model's longest sequence.
pub(crate) fn room_for_prompts(longest: usize, max_completion_length: usize) -> usize {
    longest.saturating_sub(max_completion_length).max(longest / 2)
}

/// A reward function whose work is shared out.
fn shared(function: Box<dyn RewardFunction>, ranks: &Ranks) -> Box<dyn RewardFunction> {
    Box::new(SharedReward::new(function, ranks.clone()))
}

fn no_reward() -> anyhow::Error {
    usage("no reward: expected --reward SPEC, such as --reward math, or --judge TARGET")
}

/// What is learned from, and what is not.
struct Split {
    records: Vec<Record>,
    held_out: Vec<Record>,
}

impl Options {
    /// The same options for the demonstration, whose model and data are made in `place`.
    fn demonstration(
        &self,
        place: &demo::Place,
        global: &Global,
        terminal: Terminal,
        ranks: &Ranks,
    ) -> anyhow::Result<Self> {
        terminal.note(demo::STORY);
        let made = demo::prepare(place, global.seed, terminal, ranks)?;
        let mut options = self.clone();
        options.model = Some(made.model);
        options.prompts.data = Some(made.data);
        options.eval_data = Some(made.eval_data);
        options.reward.get_or_insert_with(|| demo::REWARD.to_owned());
        Ok(options)
    }

    /// Model, data and rewards; `policy` makes the policy of the model and may say whose each record is.
    fn job<P: Policy>(
        &self,
        path: &Path,
        config: GrpoConfig,
        policy: impl FnOnce(Arc<LanguageModel>, &mut [&mut Vec<Record>]) -> anyhow::Result<P>,
        global: &Global,
        terminal: Terminal,
        ranks: &Ranks,
    ) -> anyhow::Result<Job<P>> {
        let judge = Judge::of(&self.judge, &self.hosted, global.seed)?;
        if judge.is_some() && ranks.are_many() {
            return Err(usage("--judge is for one process: expected no --distributed"));
        }
        let spec = self.reward_spec()?;
        // What is wrong with the data or the rewards is known before a large model is read.
        let records = self.prompts.records(ProblemSet::Training, global.seed)?;
        let Split { mut records, mut held_out } = self.split(records, global)?;
        if let Some(spec) = &spec {
            check_golds(spec, &records, terminal)?;
        }
        let eval_reward = match (self.eval_spec(spec.as_deref())?, &judge) {
            (Some(spec), _) => {
                if !held_out.is_empty() {
                    check_golds(&spec, &held_out, terminal)?;
                }
                one_reward(&spec)?.1
            }
            (None, Some(judge)) => judge.reward(),
            (None, None) => return Err(no_reward()),
        };
        agree_on_data(&(&records, &held_out), ranks)?;
        let model = Arc::new(open_model(path, terminal)?);
        agree_on_model(&model, ranks)?;
        let longest = model.decoder.config().max_position_embeddings;
        let policy = policy(model, &mut [&mut records, &mut held_out])?;
        let room = room_for_prompts(longest, config.max_completion_length);
        let most = self.prompts.max_prompt_length.unwrap_or(room);
        let records = drop_long(&policy, records, most, terminal)?;
        let evaluation = if held_out.is_empty() {
            None
        } else {
            let problems = drop_long(&policy, held_out, most, terminal)?;
            Some((problems, shared(eval_reward, ranks), self.evaluate_config(&config, global)))
        };
        let mut rewards: Vec<Box<dyn RewardFunction>> = Vec::new();
        if let Some(spec) = &spec {
            rewards.extend(
                VerifierReward::from_spec(spec)?.into_iter().map(|(reward, _)| shared(Box::new(reward), ranks)),
            );
        }
        if !rewards.is_empty() && judge.is_some() && config.multi_objective_aggregation == Aggregation::SumThenNormalize
        {
            terminal.note(
                "where the judge abstains, a completion counts as one that it gave 0: \
                 --multi-objective-aggregation normalize_then_sum counts it as the mean of its prompt",
            );
        }
        rewards.extend(judge.iter().map(Judge::reward));
        Ok(Job { config, policy, rewards, judge, records, evaluation })
    }

    /// The trainer's configuration.
    fn config(&self, global: &Global) -> anyhow::Result<GrpoConfig> {
        let is_demonstration = self.model.is_none();
        if is_demonstration && (self.prompts.data.is_some() || self.prompts.task.is_some()) {
            return Err(usage("no model for these prompts: expected --model DIR, or neither for the demonstration"));
        }
        let mut config =
            if is_demonstration { self.grpo.settings_over(&demo::grpo_config())? } else { self.grpo.settings()? };
        config.seed = global.seed;
        if matches!(self.trainable.trained()?, Trained::Dynamic(_)) && !self.grpo.has("learning_rate") {
            config.learning_rate *= DYNAMIC_RATE;
        }
        if !is_demonstration && self.trainable.train == What::All && !self.grpo.has("learning_rate") {
            config.learning_rate = GrpoConfig::default().learning_rate;
        }
        if self.reward.is_some() || self.judge.judge.is_some() {
            let spec = if is_demonstration {
                self.reward.clone().or(Some(demo::REWARD.to_owned()))
            } else {
                self.reward_spec()?
            };
            let rewards = spec.map_or_else(|| Ok(Vec::new()), |spec| VerifierReward::from_spec(&spec))?;
            let mut weights: Vec<f64> = rewards.into_iter().map(|(_, weight)| weight).collect();
            weights.extend(self.judge.judge.as_ref().map(|_| self.judge.judge_weight));
            config.reward_weights = Some(weights);
        }
        Ok(config)
    }

    /// The specification of the rewards that need no judge; `None` where the judge is the only one.
    fn reward_spec(&self) -> anyhow::Result<Option<String>> {
        match (&self.reward, self.prompts.task, &self.judge.judge) {
            (Some(spec), ..) => Ok(Some(spec.clone())),
            (None, Some(_), _) => Ok(Some("exact".to_owned())),
            (None, None, Some(_)) => Ok(None),
            (None, None, None) => Err(no_reward()),
        }
    }

    /// The reward to evaluate by: the first of the training rewards, unless another is named; `None` where there is only the judge.
    fn eval_spec(&self, spec: Option<&str>) -> anyhow::Result<Option<String>> {
        match (&self.eval_reward, spec) {
            (Some(spec), _) => Ok(Some(spec.clone())),
            (None, Some(spec)) => Ok(parse_rewards(spec)?.first().map(|first| first.reward.to_string())),
            (None, None) => Ok(None),
        }
    }

    /// Records to train on and records to evaluate on.
    fn split(&self, records: Vec<Record>, global: &Global) -> anyhow::Result<Split> {
        const USUAL: usize = 100;
        let size = |available: usize| self.eval_size.unwrap_or(available);
        if let Some(path) = &self.eval_data {
            let mut held_out = self.prompts.records_of(path)?;
            held_out.truncate(size(held_out.len()));
            return Ok(Split { records, held_out });
        }
        if self.prompts.task.is_some() {
            let mut held_out = self.prompts.records(ProblemSet::HeldOut, global.seed)?;
            held_out.truncate(size(held_out.len()));
            return Ok(Split { records, held_out });
        }
        let size = self.eval_size.unwrap_or_else(|| USUAL.min(records.len() / 10));
        if size >= records.len() {
            return Err(usage(format!("--eval-size {size} leaves none of the {} records to train on", records.len())));
        }
        let (records, held_out) = hold_out(records, size);
        Ok(Split { records, held_out })
    }

    fn evaluate_config(&self, config: &GrpoConfig, global: &Global) -> EvaluateConfig {
        EvaluateConfig {
            seed: global.seed,
            sampling: Sampling::greedy(),
            max_completion_length: config.max_completion_length,
            threshold: self.threshold,
            ..EvaluateConfig::default()
        }
    }
}
