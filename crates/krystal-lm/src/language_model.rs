//! Everything that a model folder holds.

use std::path::Path;

use crate::chat_template::{ChatOptions, ChatTemplate, chat_message};
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Tensor};
use crate::error::{Error, Result};
use crate::generation_config::GenerationConfig;
use crate::kernels::cpu::Cpu;
use crate::model_folder::save_model;
use crate::tokenizer::Tokenizer;

/// A decoder with its tokenizer, chat template and generation settings: a Hugging Face folder in memory.
#[derive(Debug)]
pub struct LanguageModel {
    /// The weights.
    pub decoder: Decoder<Cpu>,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Conversations to text, where the folder has a template.
    pub chat_template: Option<ChatTemplate>,
    /// What the folder suggests for sampling.
    pub generation: GenerationConfig,
}

impl LanguageModel {
    /// Loads a folder.
    ///
    /// # Errors
    /// Whatever is wrong with its files, one line each: see [`Error`].
    pub fn open(directory: &Path) -> Result<Self> {
        let tokenizer = Tokenizer::load(directory)?;
        let chat_template = ChatTemplate::load(directory)?;
        let decoder = Decoder::open(Cpu, directory)?;
        let generation = match GenerationConfig::load(directory)? {
            Some(generation) => generation,
            None => GenerationConfig::for_model(decoder.config()),
        };
        let highest = tokenizer.vocab_size();
        if highest > decoder.config().vocab_size {
            return Err(Error::InvalidField {
                path: directory.join("config.json"),
                field: "vocab_size".to_owned(),
                expected: format!("at least the {highest} tokens of tokenizer.json"),
                found: decoder.config().vocab_size.to_string(),
            });
        }
        Ok(Self { decoder, tokenizer, chat_template, generation })
    }

    /// A model from named tensors, in any order, all of those of [`ModelConfig::tensor_names`].
    ///
    /// # Errors
    /// [`Error::MissingTensor`] for one that is not given, [`Error::Tensor`] for one of another shape.
    pub fn from_tensors(config: ModelConfig, tensors: &[Tensor], tokenizer: Tokenizer) -> Result<Self> {
        let generation = GenerationConfig::for_model(&config);
        let decoder = decoder_from(config, tensors)?;
        Ok(Self { decoder, tokenizer, chat_template: None, generation })
    }

    /// Tokens that end a completion: those of `generation_config.json`, else of `config.json`, else the tokenizer's.
    pub fn eos_token_ids(&self) -> Vec<u32> {
        for ids in [&self.generation.eos_token_ids, &self.decoder.config().eos_token_ids] {
            if !ids.is_empty() {
                return ids.clone();
            }
        }
        self.tokenizer.eos().into_iter().collect()
    }

    /// The tokens of a plain-text prompt, with whatever the tokenizer starts texts with.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode(text, true)
    }

    /// The tokens of a conversation of `(role, content)` turns, ending where the assistant is to speak. Without a chat template
    /// the folder cannot say how a conversation is written, which is an error.
    ///
    /// # Errors
    /// [`Error::MissingFile`] without a chat template; whatever the template refuses.
    pub fn encode_chat<'m>(&self, turns: impl IntoIterator<Item = (&'m str, &'m str)>) -> Result<Vec<u32>> {
        let Some(template) = &self.chat_template else {
            return Err(Error::MissingFile {
                path: Path::new("chat_template.jinja").to_owned(),
                hint: "the model has no chat template, so prompts must be plain text",
            });
        };
        let messages: Vec<_> = turns.into_iter().map(|(role, content)| chat_message(role, content)).collect();
        let options = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
        self.tokenizer.encode(&template.render(&messages, &options)?, false)
    }
}

/// A decoder from named tensors in any order.
///
/// # Errors
/// [`Error::MissingTensor`] for one that is not given, [`Error::Tensor`] for one of another shape.
pub fn decoder_from(config: ModelConfig, tensors: &[Tensor]) -> Result<Decoder<Cpu>> {
    let index: std::collections::BTreeMap<&str, &Tensor> = tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    Decoder::from_tensors(Cpu, config, |name, shape| match index.get(name) {
        Some(tensor) if tensor.shape == shape && tensor.values.len() == shape.iter().product::<usize>() => {
            Ok(std::borrow::Cow::Borrowed(tensor.values.as_slice()))
        }
        Some(tensor) => Err(Error::Tensor {
            path: Path::new("tensors in memory").to_owned(),
            tensor: name.to_owned(),
            expected: format!("shape {shape:?}"),
            found: format!("{:?} with {} values", tensor.shape, tensor.values.len()),
        }),
        None => Err(Error::MissingTensor { path: Path::new("tensors in memory").to_owned(), tensor: name.to_owned() }),
    })
}

/// Writes weights, configuration and tokenizer as a folder that [`LanguageModel::open`] and transformers load.
///
/// # Errors
/// When writing fails, or the tensors are not those of the configuration.
pub fn save_language_model(
    directory: &Path,
    config: &ModelConfig,
    tensors: &[Tensor],
    tokenizer: &Tokenizer,
) -> Result<()> {
    save_model(directory, config, tensors.iter().map(|t| (t.name.clone(), t.shape.clone(), t.values.as_slice())))?;
    tokenizer.save(directory)
}
