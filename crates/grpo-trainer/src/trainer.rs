//! The GRPO loop.

use serde::{Deserialize, Serialize};

use krystal_math::rng::Purpose;

use crate::config::GrpoConfig;
use crate::data::{PromptOrder, Record};
use crate::error::Error;
use crate::evaluate::{EvaluateConfig, Evaluation, evaluate};
use crate::learn::{BatchContext, LearnSums, learn_batch, score_old_log_probs};
use crate::loss::EntropyController;
use crate::metrics::{BatchMeans, StepMetrics};
use crate::observer::{Clock, ClockSlot, Observer};
use crate::optimizer::LrSchedule;
use crate::policy::Policy;
use crate::resume::{self, TrainingState, records_digest, snapshot_parameters};
use crate::reward::RewardFunction;
use crate::rollout::{Rollout, check_rewards, generate};
use crate::run_dir::{RunDir, RunLog};
use crate::temperature::Thermostat;
use crate::update::{Updater, clear_gradients};

/// What checkpoints of this trainer are called.
const CHECKPOINT_KIND: &str = "grpo-trainer";

/// Settings that a resumed run may have otherwise than the run it continues. A new `max_steps` also means a new schedule of
/// the learning rate, so that only an unchanged one resumes bit for bit.
const FREE_ON_RESUME: [&str; 10] = [
    "max_steps",
    "num_train_epochs",
    "micro_batch_prompts",
    "checkpoint_every",
    "keep_checkpoints",
    "eval_steps",
    "eval_on_start",
    "log_completions",
    "zero_spread_patience",
    "sampling_logp_tolerance",
];

/// Trains a [`Policy`] on prompts by the rewards of its completions.
///
/// One step: complete the prompts, judge the completions, compare those of one prompt with each other, turn that into
/// `dL/dlog_prob` of every token, let the policy turn it into gradients, clip them, and move the parameters. See
/// [`GrpoConfig`] for how generations, batches and steps nest.
///
/// Differences from TRL: a batch holds whole groups in the order of their prompts (TRL shuffles completions of a generation
/// across batches), and an unfinished generation is part of the checkpoint (TRL draws a new one on resuming).
#[derive(Debug)]
pub struct GrpoTrainer<P: Policy> {
    config: GrpoConfig,
    policy: P,
    rewards: Vec<Box<dyn RewardFunction>>,
    records: Vec<Record>,
    order: PromptOrder,
    updater: Updater,
    progress: Progress,
    total_steps: u64,
    is_sampling_checked: bool,
    run: Option<RunLog>,
    evaluation: Option<EvaluationPlan>,
    last_evaluation: Option<Evaluation>,
    clock: ClockSlot,
}

/// Where the run is, besides parameters and moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Progress {
    step: u64,
    /// Batches visited.
    n_batches: u64,
    num_tokens: u64,
    /// Steps in a row whose rewards had no spread.
    n_without_spread: u64,
    entropy: EntropyController,
    thermostat: Thermostat,
    rollout: Option<Rollout>,
}

/// All there is to save.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    training: TrainingState,
    progress: Progress,
}

#[derive(Debug)]
struct EvaluationPlan {
    records: Vec<Record>,
    reward: Box<dyn RewardFunction>,
    config: EvaluateConfig,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSummary {
    /// Steps taken, those before a resume included.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Tokens of prompts and completions generated.
    pub num_tokens: u64,
    /// Metrics of the last step taken by this call.
    pub last: Option<StepMetrics>,
    /// The last evaluation made by this call.
    pub evaluation: Option<Evaluation>,
}

impl<P: Policy> GrpoTrainer<P> {
    /// A trainer at step 0 that writes nothing.
    ///
    /// # Errors
    /// A setting out of range, too few records for a generation, no reward function or two of one name, or a policy without
    /// trainable parameters.
    pub fn new(
        config: GrpoConfig,
        mut policy: P,
        rewards: Vec<Box<dyn RewardFunction>>,
        records: Vec<Record>,
    ) -> Result<Self, Error> {
        config.validate()?;
        check_rewards(&config, &rewards)?;
        let needed = config.prompts_per_generation();
        let order = PromptOrder::new(records.len(), needed, config.seed, Purpose::PromptOrder, config.shuffle_dataset)
            .ok_or(Error::TooFewRecords { needed, n_records: records.len(), key: "prompts_per_step" })?;
        let total_steps = config.total_steps(order.chunks_per_epoch());
        let schedule = LrSchedule {
            kind: config.lr_scheduler_type,
            learning_rate: config.learning_rate,
            warmup_steps: config.warmup_steps,
            total_steps,
        };
        let updater = Updater::new(&mut policy, config.adamw(), schedule, config.max_grad_norm)?;
        clear_gradients(&mut policy);
        let progress = Progress {
            step: 0,
            n_batches: 0,
            num_tokens: 0,
            n_without_spread: 0,
            entropy: EntropyController::new(config.entropy()),
            thermostat: Thermostat::new(&config, rewards.len())?,
            rollout: None,
        };
        Ok(Self {
            config,
            policy,
            rewards,
            records,
            order,
            updater,
            progress,
            total_steps,
            is_sampling_checked: false,
            run: None,
            evaluation: None,
            last_evaluation: None,
            clock: ClockSlot::default(),
        })
    }

    /// Evaluates on `records` by `reward` as `eval_steps` and `eval_on_start` say.
    pub fn with_evaluation(
        mut self,
        records: Vec<Record>,
        reward: Box<dyn RewardFunction>,
        config: EvaluateConfig,
    ) -> Result<Self, Error> {
        config.validate()?;
        self.evaluation = Some(EvaluationPlan { records, reward, config });
        Ok(self)
    }

    /// Adds `step_time` and `tokens_per_second` to the metrics.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = ClockSlot(Some(clock));
        self
    }

    /// Writes metrics, completions, checkpoints and the trained adapter to the directory of a new run.
    pub fn with_run_dir(mut self, dir: RunDir) -> Result<Self, Error> {
        self.run = Some(RunLog::open(dir)?);
        Ok(self)
    }

    /// Goes on with the run in `dir` after its newest readable checkpoint, or from the start where it has none. Lines of the
    /// logs that are newer than the checkpoint are dropped: the steps are taken again, with the same results.
    ///
    /// # Errors
    /// [`Error::ResumeMismatch`] where settings, data or parameters are not those of the run, and [`Error::CheckpointRead`]
    /// where no checkpoint can be read.
    pub fn resume_from(mut self, dir: RunDir, observer: &mut dyn Observer) -> Result<Self, Error> {
        let loaded = resume::load::<Checkpoint>(&dir, CHECKPOINT_KIND)?;
        let step = match loaded {
            None => None,
            Some((checkpoint, unreadable)) => {
                for path in unreadable {
                    observer.on_warning(&format!("{} cannot be read; using an earlier checkpoint", path.display()));
                }
                self.restore(checkpoint)?;
                Some(self.progress.step)
            }
        };
        dir.truncate_logs(step)?;
        self.run = Some(RunLog::open(dir)?);
        Ok(self)
    }

    /// All that another trainer with the same settings, data and model needs to go on from here: what checkpoints hold.
    ///
    /// # Errors
    /// Where the policy cannot say what it must remember.
    pub fn state(&mut self) -> Result<Vec<u8>, Error> {
        resume::to_bytes(CHECKPOINT_KIND, &self.snapshot()?)
    }

    /// Goes on from what [`GrpoTrainer::state`] gave, writing nothing: a rank that trains along with the one that has the run's
    /// directory.
    ///
    /// # Errors
    /// As [`GrpoTrainer::resume_from`], and [`Error::State`] for other bytes.
    pub fn resume_from_state(mut self, state: &[u8]) -> Result<Self, Error> {
        self.restore(resume::from_bytes(CHECKPOINT_KIND, state)?)?;
        Ok(self)
    }

    fn restore(&mut self, checkpoint: Checkpoint) -> Result<(), Error> {
        let Checkpoint { training, progress } = checkpoint;
        training.check(&self.config_json(), records_digest(&self.records), &FREE_ON_RESUME)?;
        training.restore_parameters(&mut self.policy)?;
        self.updater.adamw = training.adamw;
        self.progress = progress;
        Ok(())
    }

    /// Settings of the run.
    pub fn config(&self) -> &GrpoConfig {
        &self.config
    }

    /// The policy as trained so far.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    /// Gives the policy back.
    pub fn into_policy(self) -> P {
        self.policy
    }

    /// Steps taken.
    pub fn n_steps(&self) -> u64 {
        self.progress.step
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// Trains until the last step, or until the observer says stop.
    ///
    /// # Errors
    /// Whatever stopped the run. The run directory stays usable: its newest checkpoint can be resumed.
    pub fn train(&mut self, observer: &mut dyn Observer) -> Result<TrainSummary, Error> {
        observer.on_start(self.progress.step, self.total_steps);
        if self.progress.step == 0 && self.config.eval_on_start {
            let mut metrics = StepMetrics::new(0);
            if self.evaluate_into(&mut metrics, observer)?
                && let Some(run) = &mut self.run
            {
                run.append(&metrics, Vec::new(), Vec::new())?;
            }
        }
        let mut last = None;
        while self.progress.step < self.total_steps {
            last = Some(self.step(observer)?);
            if observer.should_stop() {
                self.checkpoint(observer)?;
                break;
            }
        }
        self.save_policy()?;
        Ok(TrainSummary {
            step: self.progress.step,
            total_steps: self.total_steps,
            num_tokens: self.progress.num_tokens,
            last,
            evaluation: self.last_evaluation.clone(),
        })
    }

    /// Takes one step, evaluates and writes what is due.
    pub fn step(&mut self, observer: &mut dyn Observer) -> Result<StepMetrics, Error> {
        let started = self.clock.now();
        let Learned { mut metrics, lines, events, n_tokens } = self.learn()?;
        self.clock.push_timing(&mut metrics, started, n_tokens);
        let step = self.progress.step;
        let is_due = |every: u64| every > 0 && (step.is_multiple_of(every) || step == self.total_steps);
        let (eval_is_due, checkpoint_is_due) = (is_due(self.config.eval_steps), is_due(self.config.checkpoint_every));
        if eval_is_due {
            self.evaluate_into(&mut metrics, observer)?;
        }
        if let Some(run) = &mut self.run {
            run.append(&metrics, lines, events)?;
        }
        observer.on_step(&metrics);
        let patience = self.config.zero_spread_patience;
        // A run at its end is not stopped: it has done what was asked.
        let gives_up =
            patience > 0 && self.progress.n_without_spread >= patience && self.progress.step < self.total_steps;
        if checkpoint_is_due || (gives_up && self.config.checkpoint_every > 0) {
            self.checkpoint(observer)?;
        }
        if gives_up {
            // A solved task has no spread either: what was learned until here must not be lost.
            self.save_policy()?;
            return Err(Error::ZeroRewardSpread { steps: patience, reward: metrics.get("reward") });
        }
        Ok(metrics)
    }

    /// One step of learning, without anything around it.
    fn learn(&mut self) -> Result<Learned, Error> {
        let step = self.progress.step + 1;
        let loss = self.config.loss();
        let mut sums = LearnSums::default();
        let mut generated = GenerationSums::default();
        for _ in 0..self.config.gradient_accumulation_steps {
            let place = self.progress.n_batches % self.config.batches_per_generation();
            if place == 0 {
                self.generate_rollout(step, &mut generated, &mut sums)?;
            }
            let index = place as usize % self.config.steps_per_generation();
            let per_batch = self.config.prompts_per_batch();
            if let Some(rollout) = &mut self.progress.rollout {
                let context = BatchContext {
                    config: &self.config,
                    loss: &loss,
                    num_items: rollout.num_items,
                    temperature: rollout.temperature,
                    entropy_coef: self.progress.entropy.applied() * self.progress.thermostat.exploration(),
                    step,
                };
                let groups = &mut rollout.groups[index * per_batch..(index + 1) * per_batch];
                learn_batch(&mut self.policy, groups, &context, &mut sums)?;
            }
            self.progress.n_batches += 1;
        }
        self.check_sampling(step, &sums)?;
        if generated.n > 0 {
            let spread = &mut self.progress.n_without_spread;
            *spread = if generated.has_signal { 0 } else { *spread + 1 };
        }
        if self.progress.n_batches.is_multiple_of(self.config.batches_per_generation()) {
            // Used up: not worth its place in a checkpoint.
            self.progress.rollout = None;
        }
        let update = self.updater.apply(&mut self.policy, step, sums.has_weights)?;
        self.progress.entropy.update(sums.entropy_sum / sums.entropy_count.max(1.0));
        self.progress.step = step;

        let mut metrics = StepMetrics::new(step);
        metrics.push("loss", Some(sums.loss));
        metrics.push("grad_norm", Some(update.grad_norm));
        metrics.push("learning_rate", Some(update.learning_rate));
        metrics.push("update_norm", Some(update.update_norm));
        metrics.push("num_tokens", Some(self.progress.num_tokens as f64));
        let batches_per_epoch = self.order.chunks_per_epoch() * self.config.batches_per_generation();
        metrics.push("epoch", Some(self.progress.n_batches as f64 / batches_per_epoch as f64));
        generated.means.push_to(&mut metrics);
        sums.means.push_to(&mut metrics);
        if self.progress.entropy.is_enabled() {
            metrics.push("entropy_coef", Some(self.progress.entropy.coefficient()));
        }
        sums.sampling.push_to(&mut metrics);
        for (name, value) in update.metrics {
            metrics.push(name, Some(value));
        }
        let mut events = update.events;
        events.extend(self.progress.thermostat.tick(&mut metrics)?);
        Ok(Learned { metrics, lines: generated.lines, events, n_tokens: sums.n_tokens })
    }

    /// Draws the next generation and, where batches of it will be visited only after the parameters have changed, scores
    /// those now.
    fn generate_rollout(&mut self, step: u64, sums: &mut GenerationSums, learned: &mut LearnSums) -> Result<(), Error> {
        let generation = self.progress.n_batches / self.config.batches_per_generation();
        let indices = self.order.chunk(generation);
        let chosen: Vec<&Record> = indices.iter().map(|&i| &self.records[i]).collect();
        let temperature = self.progress.thermostat.temperature();
        let place = (generation, step);
        let mut generated = generate(&self.policy, &self.config, &self.rewards, &chosen, temperature, place)?;
        let accumulation = self.config.gradient_accumulation_steps as u64;
        let in_this_step = (accumulation - self.progress.n_batches % accumulation) as usize;
        let first_stale = in_this_step * self.config.prompts_per_batch();
        if let Some(stale) = generated.rollout.groups.get_mut(first_stale..) {
            score_old_log_probs(&self.policy, stale, temperature, &self.config, &mut learned.sampling)?;
        }
        self.progress.num_tokens += generated.n_tokens;
        self.progress.rollout = Some(generated.rollout);
        sums.n += 1;
        sums.has_signal |= generated.has_signal;
        sums.lines.append(&mut generated.lines);
        sums.means.add(generated.metrics.iter());
        Ok(())
    }

    /// On the first generation after a start or resume, and on every step that ends in a checkpoint: sampler and scorer agree.
    fn check_sampling(&mut self, step: u64, sums: &LearnSums) -> Result<(), Error> {
        let Some(difference) = sums.sampling.max_difference() else {
            return Ok(());
        };
        let every = self.config.checkpoint_every;
        let is_due = !self.is_sampling_checked || (every > 0 && step.is_multiple_of(every));
        let tolerance = self.config.sampling_logp_tolerance;
        // A correction for a different sampler says that there is one.
        let is_same_model = self.config.rollout_correction == crate::loss::RolloutCorrection::Off;
        let agrees = difference <= tolerance;
        if is_due && is_same_model && !agrees {
            return Err(Error::SamplingMismatch { step, difference, tolerance });
        }
        self.is_sampling_checked = true;
        Ok(())
    }

    /// Evaluates where there is a plan; says whether there is one.
    fn evaluate_into(&mut self, metrics: &mut StepMetrics, observer: &mut dyn Observer) -> Result<bool, Error> {
        let Some(plan) = &self.evaluation else {
            return Ok(false);
        };
        let evaluation = evaluate(&self.policy, &plan.records, plan.reward.as_ref(), &plan.config, &mut |_| {})?;
        for (name, value) in evaluation.named() {
            metrics.push(name, value);
        }
        observer.on_evaluation(metrics.step, &evaluation);
        self.last_evaluation = Some(evaluation);
        Ok(true)
    }

    fn config_json(&self) -> String {
        // Every field is a number, a word or a list of numbers; the validated ones are finite.
        serde_json::to_string(&self.config).unwrap_or_default()
    }

    /// Writes a checkpoint, where there is a directory for it.
    fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<(), Error> {
        if self.run.is_none() {
            return Ok(());
        }
        let (step, state) = (self.progress.step, self.snapshot()?);
        if let Some(run) = &mut self.run {
            let path = run.checkpoint(CHECKPOINT_KIND, step, &state, self.config.keep_checkpoints)?;
            observer.on_checkpoint(step, &path);
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Checkpoint, Error> {
        Ok(Checkpoint {
            training: TrainingState {
                config: self.config_json(),
                data: records_digest(&self.records),
                step: self.progress.step,
                num_tokens: self.progress.num_tokens,
                parameters: snapshot_parameters(&mut self.policy),
                adamw: self.updater.adamw.clone(),
                policy: self.policy.state().map_err(Error::policy("save its state"))?,
            },
            progress: self.progress.clone(),
        })
    }

    fn save_policy(&self) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        self.policy.save(&run.dir.adapter_path()).map_err(Error::policy("save what was trained"))
    }
}

/// What a step of learning leaves to write.
#[derive(Debug)]
struct Learned {
    metrics: StepMetrics,
    /// Lines of `completions.jsonl`.
    lines: Vec<String>,
    /// Lines of `events.jsonl`.
    events: Vec<String>,
    /// Tokens learned from.
    n_tokens: u64,
}

/// Sums over the generations of a step.
#[derive(Debug, Default)]
struct GenerationSums {
    n: usize,
    has_signal: bool,
    lines: Vec<String>,
    means: BatchMeans,
}
