//! What the four families differ in.

/// A supported `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

impl Family {
    /// Supported `model_type`s, for messages.
    pub(super) const SUPPORTED: &str = "llama, mistral, qwen2, qwen3";

    pub(super) fn named(model_type: &str) -> Option<Self> {
        match model_type {
            "llama" => Some(Self::Llama),
            "mistral" => Some(Self::Mistral),
            "qwen2" => Some(Self::Qwen2),
            "qwen3" => Some(Self::Qwen3),
            _ => None,
        }
    }

    /// The class in `architectures`.
    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    pub(super) fn is_qwen(self) -> bool {
        matches!(self, Self::Qwen2 | Self::Qwen3)
    }

    /// `max_position_embeddings` where a file does not say, as in transformers.
    pub(super) fn default_max_positions(self) -> usize {
        match self {
            Self::Llama => 2048,
            Self::Mistral => 131_072,
            Self::Qwen2 | Self::Qwen3 => 32_768,
        }
    }

    /// `head_dim` where a file does not say, as in transformers; `None` means `hidden_size / num_attention_heads`.
    pub(super) fn default_head_dim(self) -> Option<usize> {
        (self == Self::Qwen3).then_some(128)
    }

    /// `bos_token_id` and `eos_token_id` where a file does not name the fields, as in transformers.
    pub(super) fn default_bos_eos(self) -> (Option<u32>, Option<u32>) {
        if self.is_qwen() { (None, None) } else { (Some(1), Some(2)) }
    }
}
