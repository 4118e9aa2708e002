//! A decoder's tensors in the kernels' layout.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{Decoder, Projection};
use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::kernels::{Kernels, RopeTable};

/// A linear layer.
#[derive(Debug)]
pub(crate) struct Linear<K: Kernels> {
    pub(crate) weight: K::Matrix,
    pub(crate) bias: Option<K::Buffer>,
}

/// A block.
#[derive(Debug)]
pub(crate) struct LayerWeights<K: Kernels> {
    pub(crate) input_norm: K::Buffer,
    pub(crate) post_norm: K::Buffer,
    pub(crate) q_norm: Option<K::Buffer>,
    pub(crate) k_norm: Option<K::Buffer>,
    /// Indexed by [`Projection`].
    pub(crate) linear: [Linear<K>; 7],
}

impl<K: Kernels> Decoder<K> {
    /// Builds a decoder from named tensors in Hugging Face's names; `tensor` is asked for each once, with its shape.
    ///
    /// # Errors
    /// The first error that `tensor` returns.
    ///
    /// # Panics
    /// If a tensor has not as many values as its shape.
    pub fn from_tensors<'a, E>(
        kernels: K,
        config: ModelConfig,
        mut tensor: impl FnMut(&str, &[usize]) -> std::result::Result<Cow<'a, [f32]>, E>,
    ) -> std::result::Result<Self, E> {
        let mut tensor = |name: &str, shape: &[usize]| {
            let values = tensor(name, shape)?;
            assert_eq!(values.len(), shape.iter().product::<usize>(), "values of tensor `{name}` with shape {shape:?}");
            Ok(values)
        };
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let embedding = kernels.matrix(&tensor("model.embed_tokens.weight", &[vocab, hidden])?, vocab, hidden);
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let mut vector = |name: &str, len: usize| -> std::result::Result<K::Buffer, E> {
                Ok(kernels.upload(&tensor(&format!("model.layers.{layer}.{name}.weight"), &[len])?))
            };
            let input_norm = vector("input_layernorm", hidden)?;
            let post_norm = vector("post_attention_layernorm", hidden)?;
            let q_norm = config.qk_norm.then(|| vector("self_attn.q_norm", config.head_dim)).transpose()?;
            let k_norm = config.qk_norm.then(|| vector("self_attn.k_norm", config.head_dim)).transpose()?;
            let mut linear = Vec::with_capacity(7);
            for projection in Projection::ALL {
                let (n, k) = projection.shape(&config);
                let module = projection.module(layer);
                let weight = kernels.matrix(&tensor(&format!("{module}.weight"), &[n, k])?, n, k);
                let bias = match projection.has_bias(&config) {
                    true => Some(kernels.upload(&tensor(&format!("{module}.bias"), &[n])?)),
                    false => None,
                };
                linear.push(Linear { weight, bias });
            }
            let Ok(linear) = linear.try_into() else { unreachable!("seven projections") };
            layers.push(LayerWeights { input_norm, post_norm, q_norm, k_norm, linear });
        }
        let norm = kernels.upload(&tensor("model.norm.weight", &[hidden])?);
        let head = match config.tie_word_embeddings {
            true => None,
            false => Some(kernels.matrix(&tensor("lm_head.weight", &[vocab, hidden])?, vocab, hidden)),
        };
        let rope = Mutex::new(Arc::new(RopeTable::new(&[], 0)));
        Ok(Self { kernels, config, embedding, layers, norm, head, rope })
    }
}

impl<K: Kernels> Decoder<K> {
    /// Loads a Hugging Face folder: `config.json` and safetensors, one file or shards.
    ///
    /// # Errors
    /// Whatever is wrong with the folder: see [`Error`](crate::Error).
    pub fn open(kernels: K, directory: &Path) -> Result<Self> {
        let config = ModelConfig::load(directory)?;
        let checkpoint = Checkpoint::open(directory)?;
        checkpoint.expect_model(&config)?;
        Self::from_tensors(kernels, config, |name, shape| checkpoint.tensor(name, shape))
    }
}
