//! The flags of `krystal train` that are the trainer's.

use krystal::grpo::GrpoConfig;

use crate::settings::Settings;

impl Settings for GrpoConfig {
    const HEADING: &'static str = "GRPO (names and defaults are TRL's where it has them)";
    const ELSEWHERE: &'static [&'static str] = &["seed", "reward_weights"];
    /// For adapters; the struct's default is for full fine-tuning.
    const DEFAULTS: &'static [(&'static str, f64)] = &[("learning_rate", 1e-4)];
    const KEYS: &'static [(&'static str, &'static str)] = &[
        ("max_steps", "Steps of the run, instead of --num-train-epochs"),
        ("num_train_epochs", "Passes over the data"),
        ("prompts_per_step", "Prompts of a step"),
        ("num_generations", "Completions per prompt"),
        ("gradient_accumulation_steps", "Batches whose gradients are added before a step"),
        ("steps_per_generation", "Batches that a generation is cut into"),
        ("num_iterations", "Times that a generation is learned from"),
        ("micro_batch_prompts", "Most prompts in one forward and backward pass; memory only"),
        ("shuffle_dataset", "Whether each epoch visits the prompts in a new order"),
        ("max_completion_length", "Most tokens of a completion"),
        (
            "temperature",
            "Softmax temperature of sampling and scoring, or phase: cooled while gradients shrink, reheated on a stall",
        ),
        ("phase_temperature_min", "With phase: the coldest, in (0, 1]"),
        ("phase_temperature_max", "With phase: the hottest, 1 or more"),
        ("phase_patience", "With phase: steps without a better mean reward after which it reheats; 0 never does"),
        ("phase_goal", "With phase: mean reward that is not disturbed; 95 % of the weights' sum where not given"),
        ("top_k", "Draw from the likeliest tokens; 0 means all"),
        ("top_p", "Draw from the fewest tokens whose probability reaches this"),
        ("min_p", "Leave out tokens less likely than this times the likeliest"),
        ("repetition_penalty", "Make tokens that were seen less likely; 1 changes nothing"),
        ("scale_rewards", "What advantages are divided by: group, batch, none"),
        ("multi_objective_aggregation", "How rewards are joined: sum_then_normalize, normalize_then_sum"),
        ("mask_truncated_completions", "Leave completions that were cut out of the loss"),
        ("loss_type", "grpo, bnpo, dr_grpo, dapo, cispo, sapo, luspo, vespo"),
        ("importance_sampling_level", "One ratio per token or per sequence"),
        ("epsilon", "The ratio is clipped below at 1 - epsilon"),
        ("epsilon_high", "The ratio is clipped above at 1 + epsilon_high; epsilon where not given, 5 for cispo"),
        ("delta", "Upper bound of the ratio on both sides"),
        ("beta", "Weight of the divergence from the reference model, which is the model without its adapter"),
        ("kl_estimator", "k1, k2, k3"),
        ("use_bias_correction_kl", "Multiply the divergence by the importance ratio"),
        ("sapo_temperature_pos", "Steepness of sapo for positive advantages"),
        ("sapo_temperature_neg", "Steepness of sapo for other advantages"),
        ("vespo_k_pos", "k of vespo for advantages of 0 and more"),
        ("vespo_lambda_pos", "lambda of vespo for advantages of 0 and more"),
        ("vespo_k_neg", "k of vespo for other advantages"),
        ("vespo_lambda_neg", "lambda of vespo for other advantages"),
        ("top_entropy_quantile", "Share of tokens, the most uncertain, that are learned from"),
        ("entropy_coef", "Weight of the entropy bonus"),
        ("use_adaptive_entropy", "Let the weight of the entropy bonus follow --entropy-target"),
        ("entropy_target", "Entropy that is held, in nats per token"),
        ("entropy_coef_delta", "Change of an adaptive weight per step"),
        ("entropy_coef_max", "Largest adaptive weight"),
        ("entropy_coef_min", "Smallest adaptive weight"),
        ("off_policy_mask_threshold", "Drop bad completions that are further off-policy than this, in nats per token"),
        ("rollout_correction", "off, token_truncate, token_mask, sequence_truncate, sequence_mask"),
        ("rollout_correction_min", "Lower bound of the rollout ratio"),
        ("rollout_correction_max", "Upper bound of the rollout ratio, or none"),
        ("learning_rate", "Learning rate at the top of the schedule; 1e-6 suits --train all"),
        ("lr_scheduler_type", "linear, cosine, constant, constant_with_warmup"),
        ("warmup_steps", "Steps of rising learning rate"),
        ("weight_decay", "AdamW's weight decay"),
        ("adam_beta1", "AdamW's decay of the mean gradient"),
        ("adam_beta2", "AdamW's decay of the squared gradient"),
        ("adam_epsilon", "AdamW's epsilon"),
        ("max_grad_norm", "Largest norm of the gradient; 0 clips nothing"),
        ("checkpoint_every", "Steps between checkpoints; 0 writes none"),
        ("keep_checkpoints", "Checkpoints that are kept"),
        ("eval_steps", "Steps between evaluations; 0 evaluates before and after the run alone"),
        ("eval_on_start", "Evaluate before the run even where --eval-steps is given"),
        ("log_completions", "Write every completion to completions.jsonl"),
        ("zero_spread_patience", "Stop after so many steps in which nothing could be learned; 0 never stops"),
        ("sampling_logp_tolerance", "Largest difference between sampled and rescored log-probabilities"),
    ];
}
