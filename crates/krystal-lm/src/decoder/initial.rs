//! Weights by name: of a model from scratch, and of a decoder.

use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;

use super::{Decoder, Projection};
use crate::config::ModelConfig;
use crate::kernels::Kernels;

/// A named tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Hugging Face's name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

/// Fresh weights, in the order of [`ModelConfig::tensor_names`]: matrices `N(0, 1 / inputs)` (so that a layer keeps the scale
/// of its input, whatever its width), embeddings `N(0, 1)` divided by `sqrt(hidden_size)` when they are the head as well,
/// norms 1, biases 0. The last matrix of each residual branch is divided by `sqrt(2 layers)`, as in GPT-2.
///
/// Tensor `i` draws from stream `(seed, Purpose::Weights, i, 0)`.
pub fn initial_tensors(config: &ModelConfig, seed: u64) -> Vec<Tensor> {
    let residual = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
    config
        .tensor_names()
        .into_iter()
        .enumerate()
        .map(|(i, (name, shape))| {
            let len = shape.iter().product();
            let values = match shape.as_slice() {
                [_, inputs] => {
                    let mut deviation = 1.0 / (*inputs as f64).sqrt();
                    if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") {
                        deviation *= residual;
                    }
                    if name == "model.embed_tokens.weight" && !config.tie_word_embeddings {
                        deviation = 1.0;
                    }
                    normal(seed, i as u64, len, deviation)
                }
                _ => vec![if name.contains("norm") { 1.0 } else { 0.0 }; len],
            };
            Tensor { name, shape, values }
        })
        .collect()
}

/// Normal draws by Box and Muller (1958), a pair at a time.
fn normal(seed: u64, stream: u64, len: usize, deviation: f64) -> Vec<f32> {
    let mut rng = stream_rng(seed, Purpose::Weights, stream, 0);
    let mut values = Vec::with_capacity(len + 1);
    while values.len() < len {
        let u: f64 = 1.0 - rng.random::<f64>();
        let v: f64 = rng.random();
        let radius = deviation * (-2.0 * u.ln()).sqrt();
        let (sin, cos) = (2.0 * std::f64::consts::PI * v).sin_cos();
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(len);
    values
}

impl<K: Kernels> Decoder<K> {
    /// The weights as they were loaded, in the order of [`ModelConfig::tensor_names`].
    pub fn tensors(&self) -> Vec<Tensor> {
        let kernels = self.kernels();
        self.config()
            .tensor_names()
            .into_iter()
            .map(|(name, shape)| {
                let values = self.values_of(kernels, &name);
                Tensor { name, shape, values }
            })
            .collect()
    }

    fn values_of(&self, kernels: &K, name: &str) -> Vec<f32> {
        match name {
            "model.embed_tokens.weight" => return kernels.matrix_rows(self.embedding()),
            "lm_head.weight" => return kernels.matrix_rows(self.head()),
            "model.norm.weight" => return kernels.download(self.norm()),
            _ => {}
        }
        let (layer, part) = name
            .strip_prefix("model.layers.")
            .and_then(|rest| rest.split_once('.'))
            .expect("`tensor_names` names no other tensors");
        let weights = &self.layers()[layer.parse::<usize>().expect("a layer's index")];
        let (module, kind) = part.rsplit_once('.').expect("weight or bias");
        let norm = match module {
            "input_layernorm" => Some(&weights.input_norm),
            "post_attention_layernorm" => Some(&weights.post_norm),
            "self_attn.q_norm" => weights.q_norm.as_ref(),
            "self_attn.k_norm" => weights.k_norm.as_ref(),
            _ => None,
        };
        if let Some(norm) = norm {
            return kernels.download(norm);
        }
        let projection = Projection::ALL.into_iter().find(|p| p.path() == module).expect("one of seven projections");
        let linear = &weights.linear[projection as usize];
        match (kind, &linear.bias) {
            ("bias", Some(bias)) => kernels.download(bias),
            _ => kernels.matrix_rows(&linear.weight),
        }
    }
}
