//! Integration tests of krystal-lm.

mod activity;
mod bigram;
mod callers_bugs;
mod finite_difference;
mod generation;
mod generation_rules;
mod golden;
mod instruction_sets;
mod layers_as_one;
mod lora_backend;
mod merged;
mod micro_batches;
mod random_model;
mod sampling;
mod shared;
mod shared_prefix;
mod twin;
