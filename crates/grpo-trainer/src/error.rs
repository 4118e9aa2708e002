//! Everything that can go wrong.

use std::path::PathBuf;

use crate::reward::RewardError;

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range.
    #[error("`{key}`: expected {expected}, got {got}")]
    Config {
        /// The setting.
        key: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A line of a data file is no record.
    #[error("{}:{line}: {problem}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// The line, the first being 1.
        line: usize,
        /// What was expected and what came.
        problem: String,
    },
    /// A data file without records.
    #[error("{}: expected at least one record, got none", path.display())]
    NoRecords {
        /// The file.
        path: PathBuf,
    },
    /// The data cannot fill one batch.
    #[error("expected at least {needed} records to fill a batch, got {n_records}: lower `{key}` or add records")]
    TooFewRecords {
        /// Records a batch takes.
        needed: usize,
        /// Records there are.
        n_records: usize,
        /// The setting that decides how many a batch takes.
        key: &'static str,
    },
    /// The file system refused.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A new run would overwrite an old one.
    #[error("{} holds another run ({found}): resume it, or choose another directory", path.display())]
    RunDirectoryInUse {
        /// The directory.
        path: PathBuf,
        /// What was found in it.
        found: &'static str,
    },
    /// There is nothing to resume.
    #[error("expected a run in {}, got none: no metrics.jsonl, no checkpoints", path.display())]
    NotARun {
        /// The directory.
        path: PathBuf,
    },
    /// A checkpoint could not be written. What is on disk is as it was.
    #[error(
        "could not write checkpoint {} of step {step}; {}",
        path.display(),
        previous.map_or("there is no earlier one".to_string(), |p| format!("the one of step {p} is intact and can be resumed"))
    )]
    CheckpointWrite {
        /// The step.
        step: u64,
        /// The file.
        path: PathBuf,
        /// Step of the newest checkpoint that is there.
        previous: Option<u64>,
        /// The reason.
        #[source]
        source: Box<krystal_checkpoint::Error>,
    },
    /// No checkpoint of a run could be read.
    #[error("none of the {n_checkpoints} checkpoints could be read, the newest being {}", path.display())]
    CheckpointRead {
        /// The newest.
        path: PathBuf,
        /// How many there are.
        n_checkpoints: usize,
        /// What is wrong with the newest.
        #[source]
        source: Box<krystal_checkpoint::Error>,
    },
    /// The state of a run that another process handed over is not one.
    #[error("the state of the run cannot be handed over")]
    State(#[source] Box<krystal_checkpoint::Error>),
    /// The run to be resumed was another one.
    #[error("cannot resume: `{key}` was {saved} in the checkpoint and is {now} now")]
    ResumeMismatch {
        /// What differs.
        key: String,
        /// Then.
        saved: String,
        /// Now.
        now: String,
    },
    /// The model failed.
    #[error("the policy could not {action}")]
    Policy {
        /// What was asked of it.
        action: &'static str,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model returned something of the wrong shape.
    #[error("expected {expected} from the policy's `{call}`, got {got}")]
    PolicyShape {
        /// The call.
        call: &'static str,
        /// What its contract says.
        expected: String,
        /// What it returned.
        got: String,
    },
    /// A reward function failed.
    #[error(transparent)]
    Reward(#[from] RewardError),
    /// A reward function returned too few or too many rewards.
    #[error("reward `{name}`: expected {expected} rewards, one per completion, got {got}")]
    RewardCount {
        /// The reward function.
        name: String,
        /// Completions judged.
        expected: usize,
        /// Rewards returned.
        got: usize,
    },
    /// A reward that is no number.
    #[error("reward `{name}`: expected a finite score or an abstention, got {score}")]
    RewardNotFinite {
        /// The reward function.
        name: String,
        /// The score.
        score: f64,
    },
    /// A divergence from a reference that does not exist.
    #[error("`beta` is {beta}, but the policy has no reference model: set beta to 0 or train an adapter")]
    MissingReference {
        /// The weight of the divergence.
        beta: f64,
    },
    /// The controller of the temperature refused what it was told.
    #[error("step {step}: the controller of the temperature")]
    Temperature {
        /// The step.
        step: u64,
        /// Why.
        source: krystal_phase::Error,
    },
    /// Sampler and scorer disagree.
    #[error(
        "step {step}: the log-probabilities recorded while sampling differ from the rescored ones by {difference:e}, more \
         than {tolerance:e}: generation and training do not run the same model"
    )]
    SamplingMismatch {
        /// The step.
        step: u64,
        /// Largest difference (nats).
        difference: f64,
        /// The bound.
        tolerance: f64,
    },
    /// Nothing would be trained.
    #[error("the policy has no trainable parameters: attach an adapter or train all weights")]
    NoTrainableParameters,
    /// The loss is NaN or infinite.
    #[error(
        "step {step}: the loss is {loss}: lower the learning rate, or look for non-finite rewards or log-probabilities"
    )]
    NonFiniteLoss {
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A gradient is NaN or infinite.
    #[error("step {step}: the gradient of `{parameter}` is not finite: lower the learning rate or `max_grad_norm`")]
    NonFiniteGradient {
        /// The step.
        step: u64,
        /// The first parameter in question.
        parameter: String,
    },
    /// The loss has a slope, but no parameter received any.
    #[error(
        "step {step}: the loss has a gradient, but every trainable parameter received zero: the trained parameters do not \
         reach the model's output"
    )]
    GradientMissing {
        /// The step.
        step: u64,
    },
    /// A step changed nothing.
    #[error(
        "step {step}: no parameter changed although the learning rate is {learning_rate:e} and the gradient norm \
         {grad_norm:e}: the update is below the precision of the values; raise the learning rate"
    )]
    AdapterUnchanged {
        /// The step.
        step: u64,
        /// Learning rate of the step.
        learning_rate: f64,
        /// Norm of the gradient before clipping.
        grad_norm: f64,
    },
    /// The rewards have nothing to say.
    #[error(
        "for {steps} steps running, all completions of each prompt got the same reward ({}), so there is nothing to learn \
         from: use prompts the model solves sometimes, a reward with partial credit, a higher temperature or more \
         generations, or warm the model up first (`zero_spread_patience` sets how long to wait)",
        reward.map_or("no verdict at all".to_string(), |r| format!("mean {r}"))
    )]
    ZeroRewardSpread {
        /// Steps without spread.
        steps: u64,
        /// Mean reward of the last one.
        reward: Option<f64>,
    },
}

impl Error {
    /// Wraps an error of the policy.
    pub(crate) fn policy<E: std::error::Error + Send + Sync + 'static>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Policy { action, source: Box::new(source) }
    }

    /// Whether the run stopped because it could not learn, as opposed to something having failed.
    pub fn cannot_learn(&self) -> bool {
        matches!(
            self,
            Self::NoTrainableParameters
                | Self::NonFiniteLoss { .. }
                | Self::NonFiniteGradient { .. }
                | Self::GradientMissing { .. }
                | Self::AdapterUnchanged { .. }
                | Self::ZeroRewardSpread { .. }
        )
    }
}
