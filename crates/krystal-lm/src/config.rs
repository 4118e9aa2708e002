//! `config.json` of the supported families, read into one description of a decoder.
//!
//! A field is either used, or on the list [`IGNORED_FIELDS`], or must have the value that means "off", or is refused by
//! name: a model that computes something else can never be loaded in silence.

mod family;
mod ignored_fields;
mod read;
mod rope;
mod tensors;
#[cfg(test)]
mod tests;
mod write;

pub use ignored_fields::IGNORED_FIELDS;
pub(crate) use write::{shortest, tokens_to_json};

/// Which rotary frequencies a model uses.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// `theta^(-2i/d)` as it is.
    Default,
    /// The frequency-dependent stretch of Llama 3.1 (`rope_type: llama3`).
    Llama3 {
        /// How far low frequencies are stretched.
        factor: f64,
        /// Below `original / low_freq_factor` wavelengths are kept.
        low_freq_factor: f64,
        /// Above `original / high_freq_factor` wavelengths are stretched.
        high_freq_factor: f64,
        /// Context length the model was first trained for.
        original_max_position_embeddings: usize,
    },
}

/// A decoder-only transformer of the Llama kind: RMSNorm, rotary positions, grouped-query attention, SwiGLU.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// `model_type`: `llama`, `mistral`, `qwen2` or `qwen3`.
    pub model_type: String,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head; not always `hidden_size / num_attention_heads`. Even.
    pub head_dim: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are changed.
    pub rope_scaling: RopeScaling,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether q, k and v have biases (qwen2; llama and qwen3 with `attention_bias`).
    pub qkv_bias: bool,
    /// Whether o has a bias (llama and qwen3 with `attention_bias`).
    pub o_bias: bool,
    /// Whether gate, up and down have biases (llama with `mlp_bias`).
    pub mlp_bias: bool,
    /// Whether q and k are RMS-normalised per head before the rotation (qwen3).
    pub qk_norm: bool,
    /// For each layer, how many positions back a query sees, itself included; `None` sees all.
    pub sliding_window: Vec<Option<usize>>,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: usize,
    /// Token that starts a sequence, where there is one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a sequence.
    pub eos_token_ids: Vec<u32>,
    /// Padding token, where there is one.
    pub pad_token_id: Option<u32>,
}
