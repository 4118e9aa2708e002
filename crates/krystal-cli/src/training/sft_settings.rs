//! The flags of `krystal sft` that are the trainer's.

use krystal::grpo::SftConfig;

use crate::settings::Settings;

impl Settings for SftConfig {
    const HEADING: &'static str = "Training (names and defaults are TRL's where it has them)";
    const ELSEWHERE: &'static [&'static str] = &["seed"];
    /// For adapters; the struct's default is for full fine-tuning.
    const DEFAULTS: &'static [(&'static str, f64)] = &[("learning_rate", 2e-4)];
    const KEYS: &'static [(&'static str, &'static str)] = &[
        ("max_steps", "Steps of the run, instead of --num-train-epochs"),
        ("num_train_epochs", "Passes over the data"),
        ("batch_size", "Examples of a step"),
        ("micro_batch_size", "Most examples in one forward and backward pass; memory only"),
        ("shuffle_dataset", "Whether each epoch visits the examples in a new order"),
        ("learning_rate", "Learning rate at the top of the schedule; 2e-5 suits --train all, 1e-3 a fresh small model"),
        ("lr_scheduler_type", "linear, cosine, constant, constant_with_warmup"),
        ("warmup_steps", "Steps of rising learning rate"),
        ("weight_decay", "AdamW's weight decay"),
        ("adam_beta1", "AdamW's decay of the mean gradient"),
        ("adam_beta2", "AdamW's decay of the squared gradient"),
        ("adam_epsilon", "AdamW's epsilon"),
        ("max_grad_norm", "Largest norm of the gradient; 0 clips nothing"),
        ("checkpoint_every", "Steps between checkpoints; 0 writes none"),
        ("keep_checkpoints", "Checkpoints that are kept"),
    ];
}
