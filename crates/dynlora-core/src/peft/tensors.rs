//! `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::tensor_file::{self, NamedTensor};
use crate::{Error, LoraModule};

const PREFIX: &str = "base_model.model.";
const SUFFIX_A: &str = ".lora_A.weight";
const SUFFIX_B: &str = ".lora_B.weight";

pub(super) fn key_a(module: &str) -> String {
    format!("{PREFIX}{module}{SUFFIX_A}")
}

pub(super) fn key_b(module: &str) -> String {
    format!("{PREFIX}{module}{SUFFIX_B}")
}

/// The two stored factors of a module.
pub(super) struct Pair<'a> {
    a: TensorView<'a>,
    b: TensorView<'a>,
}

impl Pair<'_> {
    /// `A`, which must have shape `(rank, d_in)`.
    pub(super) fn a(&self, path: &Path, module: &str, shape: [usize; 2]) -> Result<Vec<f32>, Error> {
        values(path, &key_a(module), &self.a, shape)
    }

    /// `B`, which must have shape `(d_out, rank)`.
    pub(super) fn b(&self, path: &Path, module: &str, shape: [usize; 2]) -> Result<Vec<f32>, Error> {
        values(path, &key_b(module), &self.b, shape)
    }

    /// `d_in` and `d_out`, if the two shapes agree on a rank.
    pub(super) fn widths(&self, path: &Path, module: &str) -> Result<(usize, usize), Error> {
        let wrong = |tensor: String, expected: [usize; 2], found: &[usize]| Error::Shape {
            path: path.to_owned(),
            tensor,
            expected,
            found: found.to_vec(),
        };
        match (self.a.shape(), self.b.shape()) {
            ([a_rank, d_in], [d_out, b_rank]) if a_rank == b_rank => Ok((*d_in, *d_out)),
            ([rank, _], [d_out, ..]) => Err(wrong(key_b(module), [*d_out, *rank], self.b.shape())),
            ([rank, _], []) => Err(wrong(key_b(module), [0, *rank], &[])),
            (other, _) => {
                let rank = self.b.shape().last().copied().unwrap_or(0);
                Err(wrong(key_a(module), [rank, other.last().copied().unwrap_or(0)], other))
            }
        }
    }
}

/// Every module's factors, by module name.
pub(super) fn pairs<'a>(path: &Path, bytes: &'a [u8]) -> Result<BTreeMap<String, Pair<'a>>, Error> {
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|error| Error::Tensors { path: path.to_owned(), reason: error.to_string() })?;
    let mut a_factors = BTreeMap::new();
    let mut b_factors = BTreeMap::new();
    for (key, view) in tensors.iter() {
        let module = key.strip_prefix(PREFIX);
        let (factors, module) = if let Some(module) = module.and_then(|key| key.strip_suffix(SUFFIX_A)) {
            (&mut a_factors, module)
        } else if let Some(module) = module.and_then(|key| key.strip_suffix(SUFFIX_B)) {
            (&mut b_factors, module)
        } else {
            return Err(unsupported(path, key, what_it_seems(key)));
        };
        if ["lm_head", "embed_tokens"].contains(&module.rsplit('.').next().unwrap_or(module)) {
            return Err(unsupported(path, key, "a factor of the head or the embedding"));
        }
        factors.insert(module.to_owned(), view);
    }
    let unpaired = |tensor: String, missing: String| Error::UnpairedTensor { path: path.to_owned(), tensor, missing };
    let mut pairs = BTreeMap::new();
    for (module, a) in a_factors {
        match b_factors.remove(&module) {
            Some(b) => pairs.insert(module, Pair { a, b }),
            None => return Err(unpaired(key_a(&module), key_b(&module))),
        };
    }
    match b_factors.first_key_value() {
        Some((module, _)) => Err(unpaired(key_b(module), key_a(module))),
        None => Ok(pairs),
    }
}

fn unsupported(path: &Path, tensor: &str, what: &'static str) -> Error {
    Error::UnsupportedTensor { path: path.to_owned(), tensor: tensor.to_owned(), what }
}

fn what_it_seems(key: &str) -> &'static str {
    if key.contains("lora_embedding_") {
        "a factor of an embedding"
    } else if key.contains("lora_magnitude_vector") {
        "a magnitude of DoRA"
    } else if key.ends_with(".bias") {
        "a bias"
    } else {
        "no LoRA factor known here"
    }
}

fn values(path: &Path, tensor: &str, view: &TensorView<'_>, shape: [usize; 2]) -> Result<Vec<f32>, Error> {
    if view.shape() != shape {
        return Err(Error::Shape {
            path: path.to_owned(),
            tensor: tensor.to_owned(),
            expected: shape,
            found: view.shape().to_vec(),
        });
    }
    let bytes = view.data();
    // safetensors has checked that shape, type and length agree.
    let (words, _) = bytes.as_chunks::<2>();
    match view.dtype() {
        Dtype::F32 => Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        Dtype::F16 => Ok(words.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()),
        Dtype::BF16 => Ok(words.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect()),
        other => Err(Error::Dtype { path: path.to_owned(), tensor: tensor.to_owned(), found: format!("{other:?}") }),
    }
}

/// The file's bytes: f32, the metadata that PEFT writes and `metadata`.
pub(super) fn encode(path: &Path, modules: &[LoraModule], metadata: &[(&str, String)]) -> Result<Vec<u8>, Error> {
    let mut tensors = Vec::with_capacity(2 * modules.len());
    for module in modules {
        tensors.push(NamedTensor::f32(key_a(&module.name), vec![module.rank, module.d_in], &module.a));
        tensors.push(NamedTensor::f32(key_b(&module.name), vec![module.d_out, module.rank], &module.b));
    }
    let mut texts = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    texts.extend(metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    tensor_file::encode(path, &texts, tensors)
}
