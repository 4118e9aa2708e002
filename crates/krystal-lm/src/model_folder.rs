//! Model folders written so that transformers, peft and vLLM load them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::atomic_file;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::generation_config::GenerationConfig;
use crate::safetensors_file;

/// Writes a model folder: `model.safetensors` (f32, in the order of [`ModelConfig::tensor_names`]), `config.json` and
/// `generation_config.json`. The folder is made where missing; each file is replaced whole or not at all, the weights
/// first. The tokenizer is written by [`Tokenizer::save`] or copied by [`copy_tokenizer_files`].
///
/// `tensors` are names, shapes and row-major values, in any order.
///
/// # Errors
/// When the configuration is not valid, when the tensors are not exactly those of the model, and when writing fails.
///
/// [`Tokenizer::save`]: crate::tokenizer::Tokenizer::save
/// [`copy_tokenizer_files`]: crate::tokenizer::copy_tokenizer_files
pub fn save_model<'t>(
    directory: &Path,
    config: &ModelConfig,
    tensors: impl IntoIterator<Item = (String, Vec<usize>, &'t [f32])>,
) -> Result<()> {
    config.validate()?;
    let path = directory.join("model.safetensors");
    let wrong = |tensor: &str, expected: String, found: String| Error::Tensor {
        path: path.clone(),
        tensor: tensor.to_owned(),
        expected,
        found,
    };
    let mut given: BTreeMap<String, (Vec<usize>, &[f32])> = BTreeMap::new();
    for (name, shape, values) in tensors {
        if given.contains_key(&name) {
            return Err(wrong(&name, "one tensor of this name".to_owned(), "two".to_owned()));
        }
        given.insert(name, (shape, values));
    }
    let mut ordered = Vec::with_capacity(given.len());
    for (name, expected) in config.tensor_names() {
        let Some((shape, values)) = given.remove(&name) else {
            return Err(Error::MissingTensor { path, tensor: name });
        };
        if shape != expected {
            return Err(wrong(&name, format!("shape {expected:?}"), format!("{shape:?}")));
        }
        let count: usize = shape.iter().product();
        if values.len() != count {
            return Err(wrong(&name, format!("{count} values for shape {shape:?}"), values.len().to_string()));
        }
        ordered.push((name, shape, values));
    }
    if !given.is_empty() {
        return Err(Error::UnexpectedTensors { path, tensors: given.into_keys().collect() });
    }
    atomic_file::create_folder(directory)?;
    safetensors_file::write(&path, &ordered)?;
    atomic_file::write_json(&directory.join("config.json"), &config.to_json())?;
    let generation = GenerationConfig::for_model(config).to_json();
    atomic_file::write_json(&directory.join("generation_config.json"), &generation)
}

#[cfg(test)]
mod tests;
