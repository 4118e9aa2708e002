//! Settings of a GRPO run.
//!
//! Vocabulary of batches, from large to small (TRL's names where TRL has one):
//!
//! - a **generation** makes `num_generations` completions of each of `prompts_per_step * steps_per_generation /
//!   gradient_accumulation_steps` prompts, with the parameters as they are;
//! - it is cut into `steps_per_generation` equal **batches** of whole groups, all of which are visited `num_iterations` times;
//! - a **step** of the optimiser adds the gradients of `gradient_accumulation_steps` batches, `prompts_per_step` prompts in all;
//! - `micro_batch_prompts` prompts at most go through the model at once. It changes memory and nothing else.
//!
//! With the defaults all of these but the last are one and the same.

use serde::{Deserialize, Serialize};

use crate::advantage::{Aggregation, ScaleRewards};
use crate::error::Error;
use crate::loss::{EntropySettings, ImportanceSamplingLevel, KlEstimator, LossSettings, LossType, RolloutCorrection};
use crate::optimizer::{AdamWSettings, LrSchedulerType};
use crate::policy::Sampling;
use crate::temperature::Temperature;

/// Settings of a GRPO run. Names and defaults are TRL 1.16's where TRL has them.
///
/// An unknown key is an error when deserialising. [`GrpoConfig::validate`] checks the ranges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoConfig {
    /// Seed of every random draw. Default 42.
    pub seed: u64,
    /// Steps of the run; `None` derives them from `num_train_epochs`.
    pub max_steps: Option<u64>,
    /// Passes over the data, > 0, where `max_steps` is not given. Default 3.
    pub num_train_epochs: f64,
    /// Prompts of one optimiser step, >= 1. Default 8.
    pub prompts_per_step: usize,
    /// Completions per prompt (G), >= 2. Default 8.
    pub num_generations: usize,
    /// Batches whose gradients are added before a step; divides `prompts_per_step`. Default 1.
    pub gradient_accumulation_steps: usize,
    /// Batches a generation is cut into; `None` is `gradient_accumulation_steps`. More of them means fresher data is
    /// drawn less often.
    pub steps_per_generation: Option<usize>,
    /// Times each generation is learned from, >= 1. Default 1.
    pub num_iterations: usize,
    /// Most prompts (with all their completions) in one forward and backward pass; `None` takes a whole batch. Memory only.
    pub micro_batch_prompts: Option<usize>,
    /// Whether each epoch visits the prompts in a new order. Default true.
    pub shuffle_dataset: bool,

    /// Most tokens of a completion, >= 1. Default 512.
    pub max_completion_length: usize,
    /// Softmax temperature of sampling and scoring: a number > 0, or `phase` for a controller that cools while the gradient shrinks
    /// and reheats when the reward stalls. Default 1.
    pub temperature: Temperature,
    /// With `phase`: the temperature of the solid phase, in (0, 1]. Default 0.7.
    pub phase_temperature_min: f64,
    /// With `phase`: the temperature of plasma, >= 1. Default 1.3.
    pub phase_temperature_max: f64,
    /// With `phase`: steps whose mean reward is compared with that of as many before; no rise means a stall, which heats. 0 never
    /// does. Default 20.
    pub phase_patience: u64,
    /// With `phase`: the mean reward that is good enough not to be disturbed. Default 95 % of the reward weights' sum.
    pub phase_goal: Option<f64>,
    /// Sample from the `top_k` likeliest tokens; 0 from all. Default 0.
    pub top_k: usize,
    /// Sample from the likeliest tokens that make up this probability, in (0, 1]. Default 1.
    pub top_p: f32,
    /// Leave out tokens less likely than this times the likeliest, in [0, 1]. Default 0.
    pub min_p: f32,
    /// Penalty of tokens already seen, > 0; 1 is none. Default 1.
    pub repetition_penalty: f32,

    /// Weight of each reward function; `None` is 1 each.
    pub reward_weights: Option<Vec<f64>>,
    /// What advantages are divided by. Default `group`.
    pub scale_rewards: ScaleRewards,
    /// How several rewards become one advantage. Default `sum_then_normalize`.
    pub multi_objective_aggregation: Aggregation,
    /// Whether completions cut at the length limit are left out of the loss. Default false.
    pub mask_truncated_completions: bool,

    /// Which loss. Default `dapo`.
    pub loss_type: LossType,
    /// One ratio per token or per sequence (GSPO). Default `token`.
    pub importance_sampling_level: ImportanceSamplingLevel,
    /// The ratio is clipped below at `1 - epsilon`, in [0, 1). Default 0.2.
    pub epsilon: f64,
    /// The ratio is clipped above at `1 + epsilon_high`, >= 0; for `cispo` the cap itself. `None` is `epsilon`, for `cispo` 5.
    pub epsilon_high: Option<f64>,
    /// Upper bound of the ratio on both sides (INTELLECT-2), > 1 (`1 + epsilon_high` and more is usual). Default none.
    pub delta: Option<f64>,
    /// Weight of the divergence from the reference model, >= 0. Default 0: no reference is needed.
    pub beta: f64,
    /// Estimator of the divergence. Default `k3`.
    pub kl_estimator: KlEstimator,
    /// Whether the divergence is multiplied by the importance ratio. Default true.
    pub use_bias_correction_kl: bool,
    /// Steepness of `sapo` for positive advantages, > 0. Default 1.
    pub sapo_temperature_pos: f64,
    /// Steepness of `sapo` otherwise, > 0. Default 1.05.
    pub sapo_temperature_neg: f64,
    /// `k` of `vespo` for advantages >= 0. Default 2.
    pub vespo_k_pos: f64,
    /// `lambda` of `vespo` for advantages >= 0. Default 3.
    pub vespo_lambda_pos: f64,
    /// `k` of `vespo` otherwise. Default 3.
    pub vespo_k_neg: f64,
    /// `lambda` of `vespo` otherwise. Default 2.
    pub vespo_lambda_neg: f64,
    /// Share of tokens, the most uncertain, that carry the policy gradient, in (0, 1]. Default 1.
    pub top_entropy_quantile: f64,
    /// Coefficient of the entropy bonus, >= 0. Default 0.
    pub entropy_coef: f64,
    /// Whether the coefficient follows `entropy_target`. Default false.
    pub use_adaptive_entropy: bool,
    /// Entropy (nats per token) an adaptive coefficient holds. Default 0.2.
    pub entropy_target: f64,
    /// Change of an adaptive coefficient per step. Default 0.005.
    pub entropy_coef_delta: f64,
    /// Largest adaptive coefficient. Default 1.
    pub entropy_coef_max: f64,
    /// Smallest adaptive coefficient. Default 0.
    pub entropy_coef_min: f64,
    /// Drop sequences with negative advantage that are further than this off-policy (nats per token). Default none.
    pub off_policy_mask_threshold: Option<f64>,
    /// Correction for a sampler whose probabilities differ from the policy's. Default `off`.
    pub rollout_correction: RolloutCorrection,
    /// Lower bound of the rollout ratio. Default none.
    pub rollout_correction_min: Option<f64>,
    /// Upper bound of the rollout ratio. Default 3.
    pub rollout_correction_max: Option<f64>,

    /// Learning rate at the top of the schedule, >= 0. Default 1e-6 (for full fine-tuning; adapters take 1e-5 to 1e-3).
    pub learning_rate: f64,
    /// Shape of the schedule. Default `linear`, down to 0 at the last step.
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

    /// A checkpoint every so many steps (and at the end); 0 writes none. TRL's `save_steps`. Default 50.
    #[serde(alias = "save_steps")]
    pub checkpoint_every: u64,
    /// Checkpoints kept, >= 1. TRL's `save_total_limit`. Default 2.
    #[serde(alias = "save_total_limit")]
    pub keep_checkpoints: usize,
    /// An evaluation every so many steps (and at the end); 0 makes none. Default 0.
    pub eval_steps: u64,
    /// Whether to evaluate before the first step, where there is something to evaluate on. Default false.
    pub eval_on_start: bool,
    /// Whether every completion is written to `completions.jsonl`. Default true.
    pub log_completions: bool,
    /// Steps in a row without any spread of rewards after which a run with steps left stops; 0 never stops. Default 20.
    pub zero_spread_patience: u64,
    /// Largest difference between the log-probability recorded while sampling and the rescored one, > 0. Default 1e-5.
    pub sampling_logp_tolerance: f64,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        let (loss, entropy) = (LossSettings::default(), EntropySettings::default());
        let (adam, sampling) = (AdamWSettings::default(), Sampling::default());
        Self {
            seed: 42,
            max_steps: None,
            num_train_epochs: 3.0,
            prompts_per_step: 8,
            num_generations: 8,
            gradient_accumulation_steps: 1,
            steps_per_generation: None,
            num_iterations: 1,
            micro_batch_prompts: None,
            shuffle_dataset: true,
            max_completion_length: 512,
            temperature: Temperature::Fixed(sampling.temperature),
            phase_temperature_min: 0.7,
            phase_temperature_max: 1.3,
            phase_patience: 20,
            phase_goal: None,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition_penalty: sampling.repetition_penalty,
            reward_weights: None,
            scale_rewards: ScaleRewards::default(),
            multi_objective_aggregation: Aggregation::default(),
            mask_truncated_completions: false,
            loss_type: loss.loss_type,
            importance_sampling_level: loss.importance_sampling_level,
            epsilon: loss.epsilon_low,
            epsilon_high: None,
            delta: loss.delta,
            beta: loss.beta,
            kl_estimator: loss.kl_estimator,
            use_bias_correction_kl: loss.use_bias_correction_kl,
            sapo_temperature_pos: loss.sapo_temperature_pos,
            sapo_temperature_neg: loss.sapo_temperature_neg,
            vespo_k_pos: loss.vespo_k_pos,
            vespo_lambda_pos: loss.vespo_lambda_pos,
            vespo_k_neg: loss.vespo_k_neg,
            vespo_lambda_neg: loss.vespo_lambda_neg,
            top_entropy_quantile: loss.top_entropy_quantile,
            entropy_coef: entropy.entropy_coef,
            use_adaptive_entropy: entropy.use_adaptive_entropy,
            entropy_target: entropy.entropy_target,
            entropy_coef_delta: entropy.entropy_coef_delta,
            entropy_coef_max: entropy.entropy_coef_max,
            entropy_coef_min: entropy.entropy_coef_min,
            off_policy_mask_threshold: loss.off_policy_mask_threshold,
            rollout_correction: RolloutCorrection::Off,
            rollout_correction_min: None,
            rollout_correction_max: Some(3.0),
            learning_rate: 1e-6,
            lr_scheduler_type: LrSchedulerType::Linear,
            warmup_steps: 0,
            weight_decay: adam.weight_decay,
            adam_beta1: adam.beta1,
            adam_beta2: adam.beta2,
            adam_epsilon: adam.eps,
            max_grad_norm: 1.0,
            checkpoint_every: 50,
            keep_checkpoints: 2,
            eval_steps: 0,
            eval_on_start: false,
            log_completions: true,
            zero_spread_patience: 20,
            sampling_logp_tolerance: 1e-5,
        }
    }
}

/// One requirement of a setting: key, whether it holds, what was expected, what is there.
type Rule = (&'static str, bool, &'static str, String);

/// The first rule that does not hold, as an error.
pub(crate) fn first_violation(rules: Vec<Rule>) -> Result<(), Error> {
    match rules.into_iter().find(|(_, holds, ..)| !holds) {
        None => Ok(()),
        Some((key, _, expected, got)) => Err(Error::Config { key, expected: expected.to_string(), got }),
    }
}

impl GrpoConfig {
    /// Batches a generation is cut into.
    pub fn steps_per_generation(&self) -> usize {
        self.steps_per_generation.unwrap_or(self.gradient_accumulation_steps)
    }

    /// Prompts of one batch.
    pub fn prompts_per_batch(&self) -> usize {
        self.prompts_per_step / self.gradient_accumulation_steps.max(1)
    }

    /// Prompts of one generation.
    pub fn prompts_per_generation(&self) -> usize {
        self.prompts_per_batch() * self.steps_per_generation()
    }

    /// Batches visited until the next generation.
    pub fn batches_per_generation(&self) -> u64 {
        (self.steps_per_generation() * self.num_iterations) as u64
    }

    /// Whether a batch may be visited after the parameters changed, so that the ratio is not 1.
    pub fn needs_old_log_probs(&self) -> bool {
        !(self.gradient_accumulation_steps as u64).is_multiple_of(self.batches_per_generation())
    }

    /// Steps of the run, with `chunks_per_epoch` generations to an epoch.
    pub fn total_steps(&self, chunks_per_epoch: u64) -> u64 {
        self.max_steps.unwrap_or_else(|| {
            let batches = chunks_per_epoch * self.batches_per_generation();
            let steps_per_epoch = batches as f64 / self.gradient_accumulation_steps as f64;
            (self.num_train_epochs * steps_per_epoch).ceil().max(1.0) as u64
        })
    }

    /// How tokens are drawn at this temperature.
    pub fn sampling(&self, temperature: f32) -> Sampling {
        Sampling {
            temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
        }
    }

    /// The loss these settings describe.
    pub fn loss(&self) -> LossSettings {
        let default_high = if self.loss_type == LossType::Cispo { 5.0 } else { self.epsilon };
        LossSettings {
            loss_type: self.loss_type,
            importance_sampling_level: self.importance_sampling_level,
            epsilon_low: self.epsilon,
            epsilon_high: self.epsilon_high.unwrap_or(default_high),
            delta: self.delta,
            beta: self.beta,
            kl_estimator: self.kl_estimator,
            use_bias_correction_kl: self.use_bias_correction_kl,
            sapo_temperature_pos: self.sapo_temperature_pos,
            sapo_temperature_neg: self.sapo_temperature_neg,
            vespo_k_pos: self.vespo_k_pos,
            vespo_lambda_pos: self.vespo_lambda_pos,
            vespo_k_neg: self.vespo_k_neg,
            vespo_lambda_neg: self.vespo_lambda_neg,
            top_entropy_quantile: self.top_entropy_quantile,
            off_policy_mask_threshold: self.off_policy_mask_threshold,
            entropy_bonus: self.use_adaptive_entropy || self.entropy_coef != 0.0,
        }
    }

    /// The entropy bonus these settings describe.
    pub fn entropy(&self) -> EntropySettings {
        EntropySettings {
            entropy_coef: self.entropy_coef,
            use_adaptive_entropy: self.use_adaptive_entropy,
            entropy_target: self.entropy_target,
            entropy_coef_delta: self.entropy_coef_delta,
            entropy_coef_max: self.entropy_coef_max,
            entropy_coef_min: self.entropy_coef_min,
        }
    }

    /// The optimiser these settings describe.
    pub fn adamw(&self) -> AdamWSettings {
        AdamWSettings {
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            eps: self.adam_epsilon,
            weight_decay: self.weight_decay,
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first setting that is out of range, what it may be and what it is.
    pub fn validate(&self) -> Result<(), Error> {
        let count = |key, n: usize| (key, n >= 1, "at least 1", n.to_string());
        let above = |key, x: f64| (key, x > 0.0 && x.is_finite(), "a number above 0", x.to_string());
        let not_negative = |key, x: f64| (key, x >= 0.0 && x.is_finite(), "a number of 0 or more", x.to_string());
        let decay = |key, x: f64| (key, (0.0..1.0).contains(&x), "a number in [0, 1)", x.to_string());
        let share = |key, x: f64| (key, x > 0.0 && x <= 1.0, "a number in (0, 1]", x.to_string());
        let wide = |x: f32| f64::from(x);
        let accumulation = self.gradient_accumulation_steps;
        first_violation(vec![
            ("max_steps", self.max_steps != Some(0), "at least 1", "0".into()),
            above("num_train_epochs", self.num_train_epochs),
            count("prompts_per_step", self.prompts_per_step),
            (
                "num_generations",
                self.num_generations >= 2,
                "at least 2, for a completion is compared with the others of its prompt",
                self.num_generations.to_string(),
            ),
            count("gradient_accumulation_steps", accumulation),
            (
                "gradient_accumulation_steps",
                accumulation >= 1 && self.prompts_per_step.is_multiple_of(accumulation),
                "a divisor of prompts_per_step",
                format!("{accumulation} with prompts_per_step {}", self.prompts_per_step),
            ),
            count("steps_per_generation", self.steps_per_generation()),
            count("num_iterations", self.num_iterations),
            count("micro_batch_prompts", self.micro_batch_prompts.unwrap_or(1)),
            count("max_completion_length", self.max_completion_length),
            above("temperature", if let Temperature::Fixed(fixed) = self.temperature { wide(fixed) } else { 1.0 }),
            share("phase_temperature_min", self.phase_temperature_min),
            (
                "phase_temperature_max",
                self.phase_temperature_max >= 1.0 && self.phase_temperature_max.is_finite(),
                "a number of 1 or more",
                self.phase_temperature_max.to_string(),
            ),
            ("phase_patience", self.phase_patience != 1, "0, or at least 2", "1".into()),
            (
                "phase_goal",
                self.phase_goal.is_none_or(f64::is_finite),
                "a finite number",
                format!("{:?}", self.phase_goal.unwrap_or_default()),
            ),
            share("top_p", wide(self.top_p)),
            ("min_p", (0.0..=1.0).contains(&self.min_p), "a number in [0, 1]", self.min_p.to_string()),
            above("repetition_penalty", wide(self.repetition_penalty)),
            (
                "reward_weights",
                self.reward_weights.iter().flatten().all(|w| w.is_finite()),
                "finite numbers",
                format!("{:?}", self.reward_weights),
            ),
            decay("epsilon", self.epsilon),
            not_negative("epsilon_high", self.epsilon_high.unwrap_or(0.0)),
            (
                "delta",
                self.delta.is_none_or(|d| d > 1.0 && d.is_finite()),
                "a number above 1",
                format!("{:?}", self.delta.unwrap_or_default()),
            ),
            not_negative("beta", self.beta),
            above("sapo_temperature_pos", self.sapo_temperature_pos),
            above("sapo_temperature_neg", self.sapo_temperature_neg),
            not_negative("vespo_k_pos", self.vespo_k_pos),
            not_negative("vespo_lambda_pos", self.vespo_lambda_pos),
            not_negative("vespo_k_neg", self.vespo_k_neg),
            not_negative("vespo_lambda_neg", self.vespo_lambda_neg),
            share("top_entropy_quantile", self.top_entropy_quantile),
            not_negative("entropy_coef", self.entropy_coef),
            not_negative("entropy_target", self.entropy_target),
            not_negative("entropy_coef_delta", self.entropy_coef_delta),
            not_negative("entropy_coef_min", self.entropy_coef_min),
            (
                "entropy_coef_max",
                self.entropy_coef_max >= self.entropy_coef_min && self.entropy_coef_max.is_finite(),
                "a number not below entropy_coef_min",
                self.entropy_coef_max.to_string(),
            ),
            (
                "off_policy_mask_threshold",
                self.off_policy_mask_threshold.is_none_or(|x| !x.is_nan()),
                "a number",
                "NaN".into(),
            ),
            not_negative("rollout_correction_min", self.rollout_correction_min.unwrap_or(0.0)),
            above("rollout_correction_max", self.rollout_correction_max.unwrap_or(1.0)),
            not_negative("learning_rate", self.learning_rate),
            not_negative("weight_decay", self.weight_decay),
            decay("adam_beta1", self.adam_beta1),
            decay("adam_beta2", self.adam_beta2),
            above("adam_epsilon", self.adam_epsilon),
            not_negative("max_grad_norm", self.max_grad_norm),
            count("keep_checkpoints", self.keep_checkpoints),
            above("sampling_logp_tolerance", self.sampling_logp_tolerance),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_survive_a_round_trip() {
        let config = GrpoConfig::default();
        config.validate().unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<GrpoConfig>(&json).unwrap(), config);
        assert_eq!(serde_json::from_str::<GrpoConfig>("{}").unwrap(), config);
    }

    #[test]
    fn each_bad_value_names_its_key() {
        for (json, key) in [
            (r#"{"num_generations": 1}"#, "num_generations"),
            (r#"{"gradient_accumulation_steps": 3}"#, "gradient_accumulation_steps"),
            (r#"{"gradient_accumulation_steps": 0}"#, "gradient_accumulation_steps"),
            (r#"{"temperature": 0}"#, "temperature"),
            (r#"{"top_p": 1.5}"#, "top_p"),
            (r#"{"beta": -1}"#, "beta"),
            (r#"{"delta": 0.5}"#, "delta"),
            (r#"{"adam_beta2": 1}"#, "adam_beta2"),
            (r#"{"max_steps": 0}"#, "max_steps"),
            (r#"{"keep_checkpoints": 0}"#, "keep_checkpoints"),
            (r#"{"micro_batch_prompts": 0}"#, "micro_batch_prompts"),
            (r#"{"top_entropy_quantile": 0}"#, "top_entropy_quantile"),
        ] {
            let config: GrpoConfig = serde_json::from_str(json).unwrap();
            let error = config.validate().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{key}`: expected ")), "{json}: {error}");
        }
        let nan = GrpoConfig { learning_rate: f64::NAN, ..GrpoConfig::default() };
        assert!(nan.validate().unwrap_err().to_string().contains("learning_rate"));
    }

    #[test]
    fn unknown_keys_are_refused_and_trl_names_accepted() {
        let error = serde_json::from_str::<GrpoConfig>(r#"{"learning_rat": 1}"#).unwrap_err().to_string();
        assert!(error.contains("learning_rat"), "{error}");
        let config: GrpoConfig = serde_json::from_str(r#"{"save_steps": 7, "save_total_limit": 3}"#).unwrap();
        assert_eq!((config.checkpoint_every, config.keep_checkpoints), (7, 3));
    }

    #[test]
    fn batches_add_up() {
        let config = GrpoConfig {
            prompts_per_step: 8,
            gradient_accumulation_steps: 2,
            steps_per_generation: Some(6),
            num_iterations: 2,
            num_train_epochs: 1.0,
            ..GrpoConfig::default()
        };
        config.validate().unwrap();
        assert_eq!(config.prompts_per_batch(), 4);
        assert_eq!(config.prompts_per_generation(), 24);
        assert_eq!(config.batches_per_generation(), 12);
        assert_eq!(config.total_steps(5), 30);
        assert!(config.needs_old_log_probs());
        assert!(!GrpoConfig::default().needs_old_log_probs());
    }
}
