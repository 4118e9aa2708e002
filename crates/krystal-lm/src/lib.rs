#![doc = include_str!("../README.md")]

// Hugging Face folders in and out.
mod atomic_file;
pub mod chat_template;
pub mod checkpoint;
pub mod config;
pub mod error;
#[cfg(test)]
mod fixture;
pub mod generation_config;
mod json_fields;
mod mapped_file;
pub mod model_folder;
mod safetensors_file;
pub mod tokenizer;
mod tokenizer_config;

pub use chat_template::{ChatOptions, ChatTemplate, Date, chat_message};
pub use checkpoint::Checkpoint;
pub use config::{IGNORED_FIELDS, ModelConfig, RopeScaling};
pub use error::{Error, Result};
pub use generation_config::GenerationConfig;
pub use model_folder::save_model;
pub use safetensors_file::DType;
pub use tokenizer::{TokenStream, Tokenizer, copy_tokenizer_files};

// The model.
pub mod decoder;
pub mod generate;
pub mod kernels;
pub mod language_model;
pub mod lora;
mod lora_backend;

pub use decoder::{
    ActivityPlan, Chunks, CompletionScores, Decoder, Gradients, Group, GroupTape, Keep, MicroBatch, Projection, Scores,
    Tape, Tensor, TokenBatch, initial_tensors,
};
pub use generate::{
    Finish, GenerateError, GenerateOptions, Generated, PromptRequest, StopStrings, generate, generate_streaming,
};
pub use language_model::{LanguageModel, decoder_from, save_language_model};
pub use lora::{LoraWeights, module_shapes};
pub use lora_backend::{LmBackend, ScoredBatch, stack_gradient};
