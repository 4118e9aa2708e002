//! Supervised fine-tuning: raise the probability of given completions.

use krystal_math::rng::Purpose;
use krystal_math::statistics::sum;
use serde::{Deserialize, Serialize};

use crate::config::first_violation;
use crate::data::PromptOrder;
use crate::error::Error;
use crate::learn::check_scores;
use crate::metrics::StepMetrics;
use crate::observer::{Clock, ClockSlot, Observer};
use crate::optimizer::{AdamWSettings, LrSchedule, LrSchedulerType};
use crate::policy::{Policy, ScoreGroup, TokenWeights};
use crate::resume::{self, Digest, TrainingState, snapshot_parameters};
use crate::run_dir::{RunDir, RunLog};
use crate::trainer::TrainSummary;
use crate::update::{Updater, clear_gradients};

/// What checkpoints of this trainer are called.
const CHECKPOINT_KIND: &str = "grpo-trainer/sft";

/// Settings that a resumed run may have otherwise than the run it continues.
const FREE_ON_RESUME: [&str; 5] =
    ["max_steps", "num_train_epochs", "micro_batch_size", "checkpoint_every", "keep_checkpoints"];

/// A prompt and the completion it should get, as tokens. The completion carries its end-of-sequence token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demonstration {
    /// Prompt tokens, at least one.
    pub prompt: Vec<u32>,
    /// Completion tokens, at least one.
    pub completion: Vec<u32>,
}

/// Settings of supervised fine-tuning. Names and defaults are TRL's where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Seed of the order of examples. Default 42.
    pub seed: u64,
    /// Steps of the run; `None` derives them from `num_train_epochs`.
    pub max_steps: Option<u64>,
    /// Passes over the data, > 0, where `max_steps` is not given. Default 3.
    pub num_train_epochs: f64,
    /// Examples of one optimiser step, >= 1. Default 8.
    pub batch_size: usize,
    /// Most examples in one forward and backward pass; `None` takes a whole batch. Memory only.
    pub micro_batch_size: Option<usize>,
    /// Whether each epoch visits the examples in a new order. Default true.
    pub shuffle_dataset: bool,
    /// Learning rate at the top of the schedule, >= 0. Default 2e-5.
    pub learning_rate: f64,
    /// Shape of the schedule. Default `linear`.
    pub lr_scheduler_type: LrSchedulerType,
    /// Steps of rising learning rate. Default 0.
    pub warmup_steps: u64,
    /// AdamW's weight decay, >= 0. Default 0.
    pub weight_decay: f64,
    /// AdamW's decay of the mean gradient, in [0, 1). Default 0.9.
    pub adam_beta1: f64,
    /// AdamW's decay of the squared gradient, in [0, 1). Default 0.999.
    pub adam_beta2: f64,
    /// AdamW's epsilon, > 0. Default 1e-8.
    pub adam_epsilon: f64,
    /// Largest norm of the gradient; 0 clips nothing. Default 1.
    pub max_grad_norm: f64,
    /// A checkpoint every so many steps (and at the end); 0 writes none. Default 500.
    #[serde(alias = "save_steps")]
    pub checkpoint_every: u64,
    /// Checkpoints kept, >= 1. Default 2.
    #[serde(alias = "save_total_limit")]
    pub keep_checkpoints: usize,
}

impl Default for SftConfig {
    fn default() -> Self {
        let adam = AdamWSettings::default();
        Self {
            seed: 42,
            max_steps: None,
            num_train_epochs: 3.0,
            batch_size: 8,
            micro_batch_size: None,
            shuffle_dataset: true,
            learning_rate: 2e-5,
            lr_scheduler_type: LrSchedulerType::Linear,
            warmup_steps: 0,
            weight_decay: adam.weight_decay,
            adam_beta1: adam.beta1,
            adam_beta2: adam.beta2,
            adam_epsilon: adam.eps,
            max_grad_norm: 1.0,
            checkpoint_every: 500,
            keep_checkpoints: 2,
        }
    }
}

impl SftConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first setting that is out of range, what it may be and what it is.
    pub fn validate(&self) -> Result<(), Error> {
        let count = |key, n: usize| (key, n >= 1, "at least 1", n.to_string());
        let above = |key, x: f64| (key, x > 0.0 && x.is_finite(), "a number above 0", x.to_string());
        let not_negative = |key, x: f64| (key, x >= 0.0 && x.is_finite(), "a number of 0 or more", x.to_string());
        let decay = |key, x: f64| (key, (0.0..1.0).contains(&x), "a number in [0, 1)", x.to_string());
        first_violation(vec![
            ("max_steps", self.max_steps != Some(0), "at least 1", "0".into()),
            above("num_train_epochs", self.num_train_epochs),
            count("batch_size", self.batch_size),
            count("micro_batch_size", self.micro_batch_size.unwrap_or(1)),
            not_negative("learning_rate", self.learning_rate),
            not_negative("weight_decay", self.weight_decay),
            decay("adam_beta1", self.adam_beta1),
            decay("adam_beta2", self.adam_beta2),
            above("adam_epsilon", self.adam_epsilon),
            not_negative("max_grad_norm", self.max_grad_norm),
            count("keep_checkpoints", self.keep_checkpoints),
        ])
    }
}

/// Trains a [`Policy`] on demonstrations: the loss is the mean of `-ln p` over the completion tokens of a step.
#[derive(Debug)]
pub struct SftTrainer<P: Policy> {
    config: SftConfig,
    policy: P,
    demonstrations: Vec<Demonstration>,
    digest: (u64, u64),
    order: PromptOrder,
    updater: Updater,
    step: u64,
    num_tokens: u64,
    total_steps: u64,
    run: Option<RunLog>,
    clock: ClockSlot,
}

impl<P: Policy> SftTrainer<P> {
    /// A trainer at step 0 that writes nothing.
    ///
    /// # Errors
    /// A setting out of range, too few or empty demonstrations, or a policy without trainable parameters.
    pub fn new(config: SftConfig, mut policy: P, demonstrations: Vec<Demonstration>) -> Result<Self, Error> {
        config.validate()?;
        if let Some(i) = demonstrations.iter().position(|d| d.prompt.is_empty() || d.completion.is_empty()) {
            let expected = "a prompt and a completion of at least one token each".to_string();
            return Err(Error::Config { key: "demonstrations", expected, got: format!("an empty one at index {i}") });
        }
        let (needed, n_records) = (config.batch_size, demonstrations.len());
        let order = PromptOrder::new(n_records, needed, config.seed, Purpose::ExampleOrder, config.shuffle_dataset)
            .ok_or(Error::TooFewRecords { needed, n_records, key: "batch_size" })?;
        let by_epochs = (config.num_train_epochs * order.chunks_per_epoch() as f64).ceil().max(1.0) as u64;
        let total_steps = config.max_steps.unwrap_or(by_epochs);
        let schedule = LrSchedule {
            kind: config.lr_scheduler_type,
            learning_rate: config.learning_rate,
            warmup_steps: config.warmup_steps,
            total_steps,
        };
        let adam = AdamWSettings {
            beta1: config.adam_beta1,
            beta2: config.adam_beta2,
            eps: config.adam_epsilon,
            weight_decay: config.weight_decay,
        };
        let updater = Updater::new(&mut policy, adam, schedule, config.max_grad_norm)?;
        clear_gradients(&mut policy);
        let mut digest = Digest::new();
        for token in demonstrations.iter().flat_map(|d| [&d.prompt, &d.completion]) {
            digest.add(&token.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<u8>>());
        }
        Ok(Self {
            digest: (n_records as u64, digest.finish()),
            config,
            policy,
            demonstrations,
            order,
            updater,
            step: 0,
            num_tokens: 0,
            total_steps,
            run: None,
            clock: ClockSlot::default(),
        })
    }

    /// Adds `step_time` and `tokens_per_second` to the metrics.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = ClockSlot(Some(clock));
        self
    }

    /// Writes metrics, checkpoints and what was trained to the directory of a new run.
    pub fn with_run_dir(mut self, dir: RunDir) -> Result<Self, Error> {
        self.run = Some(RunLog::open(dir)?);
        Ok(self)
    }

    /// Goes on with the run in `dir`; as [`GrpoTrainer::resume_from`](crate::GrpoTrainer::resume_from).
    pub fn resume_from(mut self, dir: RunDir, observer: &mut dyn Observer) -> Result<Self, Error> {
        let mut step = None;
        if let Some((state, unreadable)) = resume::load::<TrainingState>(&dir, CHECKPOINT_KIND)? {
            for path in unreadable {
                observer.on_warning(&format!("{} cannot be read; using an earlier checkpoint", path.display()));
            }
            self.restore(state)?;
            step = Some(self.step);
        }
        dir.truncate_logs(step)?;
        self.run = Some(RunLog::open(dir)?);
        Ok(self)
    }

    /// All that another trainer needs to go on from here; as [`GrpoTrainer::state`](crate::GrpoTrainer::state).
    pub fn state(&mut self) -> Result<Vec<u8>, Error> {
        resume::to_bytes(CHECKPOINT_KIND, &self.snapshot()?)
    }

    /// Goes on from what [`SftTrainer::state`] gave, writing nothing; as
    /// [`GrpoTrainer::resume_from_state`](crate::GrpoTrainer::resume_from_state).
    pub fn resume_from_state(mut self, state: &[u8]) -> Result<Self, Error> {
        self.restore(resume::from_bytes(CHECKPOINT_KIND, state)?)?;
        Ok(self)
    }

    fn restore(&mut self, state: TrainingState) -> Result<(), Error> {
        state.check(&self.config_json(), self.digest, &FREE_ON_RESUME)?;
        state.restore_parameters(&mut self.policy)?;
        self.step = state.step;
        self.num_tokens = state.num_tokens;
        self.updater.adamw = state.adamw;
        Ok(())
    }

    /// The policy as trained so far.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    /// Gives the policy back.
    pub fn into_policy(self) -> P {
        self.policy
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// Trains until the last step, or until the observer says stop.
    pub fn train(&mut self, observer: &mut dyn Observer) -> Result<TrainSummary, Error> {
        observer.on_start(self.step, self.total_steps);
        let mut last = None;
        while self.step < self.total_steps {
            last = Some(self.step(observer)?);
            if observer.should_stop() {
                self.checkpoint(observer)?;
                break;
            }
        }
        if let Some(run) = &self.run {
            self.policy.save(&run.dir.adapter_path()).map_err(Error::policy("save what was trained"))?;
        }
        let (step, total_steps, num_tokens) = (self.step, self.total_steps, self.num_tokens);
        Ok(TrainSummary { step, total_steps, num_tokens, last, evaluation: None })
    }

    /// Takes one step and writes what is due.
    pub fn step(&mut self, observer: &mut dyn Observer) -> Result<StepMetrics, Error> {
        let started = self.clock.now();
        let step = self.step + 1;
        let chosen: Vec<&Demonstration> =
            self.order.chunk(self.step).into_iter().map(|i| &self.demonstrations[i]).collect();
        let n_completion: usize = chosen.iter().map(|d| d.completion.len()).sum();
        let n_prompt: usize = chosen.iter().map(|d| d.prompt.len()).sum();
        let weight = -1.0 / n_completion as f64;
        let (mut loss, mut entropy) = (0.0, 0.0);
        for part in chosen.chunks(self.config.micro_batch_size.unwrap_or(chosen.len())) {
            let groups = to_score(part);
            let (scores, tape) = self.policy.forward(&groups, 1.0).map_err(Error::policy("run forward"))?;
            check_scores("forward", &groups, &scores)?;
            loss += weight * total(&scores.log_probs);
            entropy -= weight * total(&scores.entropy);
            let log_probs = part.iter().map(|d| vec![weight as f32; d.completion.len()]).collect();
            let weights = TokenWeights { log_probs, entropy: Vec::new() };
            self.policy.backward(tape, &weights).map_err(Error::policy("run backward"))?;
        }
        if !loss.is_finite() {
            return Err(Error::NonFiniteLoss { step, loss });
        }
        let update = self.updater.apply(&mut self.policy, step, true)?;
        self.step = step;
        self.num_tokens += (n_completion + n_prompt) as u64;
        let mut metrics = StepMetrics::new(step);
        metrics.push("loss", Some(loss));
        metrics.push("grad_norm", Some(update.grad_norm));
        metrics.push("learning_rate", Some(update.learning_rate));
        metrics.push("update_norm", Some(update.update_norm));
        metrics.push("num_tokens", Some(self.num_tokens as f64));
        metrics.push("epoch", Some(step as f64 / self.order.chunks_per_epoch() as f64));
        metrics.push("entropy", Some(entropy));
        for (name, value) in update.metrics {
            metrics.push(name, Some(value));
        }
        self.clock.push_timing(&mut metrics, started, n_completion as u64);
        if let Some(run) = &mut self.run {
            run.append(&metrics, Vec::new(), update.events)?;
        }
        observer.on_step(&metrics);
        let every = self.config.checkpoint_every;
        if every > 0 && (step.is_multiple_of(every) || step == self.total_steps) {
            self.checkpoint(observer)?;
        }
        Ok(metrics)
    }

    fn config_json(&self) -> String {
        // Every field is a finite number or a word.
        serde_json::to_string(&self.config).unwrap_or_default()
    }

    fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<(), Error> {
        if self.run.is_none() {
            return Ok(());
        }
        let state = self.snapshot()?;
        if let Some(run) = &mut self.run {
            let path = run.checkpoint(CHECKPOINT_KIND, self.step, &state, self.config.keep_checkpoints)?;
            observer.on_checkpoint(self.step, &path);
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<TrainingState, Error> {
        Ok(TrainingState {
            config: self.config_json(),
            data: self.digest,
            step: self.step,
            num_tokens: self.num_tokens,
            parameters: snapshot_parameters(&mut self.policy),
            adamw: self.updater.adamw.clone(),
            policy: self.policy.state().map_err(Error::policy("save its state"))?,
        })
    }
}

/// Mean of `-ln p` over the completion tokens of `demonstrations`, `batch_size` of them at a time; NaN for none.
pub fn demonstration_loss<P: Policy>(
    policy: &P,
    demonstrations: &[Demonstration],
    batch_size: usize,
) -> Result<f64, Error> {
    let (mut lost, mut n) = (0.0, 0);
    for part in demonstrations.chunks(batch_size.max(1)) {
        let part: Vec<&Demonstration> = part.iter().collect();
        let groups = to_score(&part);
        let scores = policy.score(&groups, 1.0).map_err(Error::policy("score completions"))?;
        check_scores("score", &groups, &scores)?;
        lost -= total(&scores.log_probs);
        n += part.iter().map(|d| d.completion.len()).sum::<usize>();
    }
    Ok(lost / n as f64)
}

fn to_score<'a>(part: &[&'a Demonstration]) -> Vec<ScoreGroup<'a>> {
    part.iter().map(|d| ScoreGroup { prompt: &d.prompt, completions: vec![&d.completion], agent: 0 }).collect()
}

fn total(rows: &[Vec<f32>]) -> f64 {
    sum(rows.iter().flatten().map(|&x| f64::from(x)))
}
