//! Names and shapes of a model's tensors, as Hugging Face has them.

use super::ModelConfig;

impl ModelConfig {
    /// Every tensor of the model with its shape, row-major, in the order in which transformers lists a model's
    /// parameters: embedding; per block q, k, v and o (each weight before its bias), q and k norms, gate, up and down,
    /// the two norms; final norm; head unless it is the embedding. Weights are `(outputs, inputs)`.
    pub fn tensor_names(&self) -> Vec<(String, Vec<usize>)> {
        let hidden = self.hidden_size;
        let inner = self.intermediate_size;
        let query_width = self.num_attention_heads * self.head_dim;
        let key_value_width = self.num_key_value_heads * self.head_dim;
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            let mut put = |name: &str, shape: &[usize]| {
                tensors.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            };
            for (name, outputs, inputs, bias) in [
                ("self_attn.q_proj", query_width, hidden, self.qkv_bias),
                ("self_attn.k_proj", key_value_width, hidden, self.qkv_bias),
                ("self_attn.v_proj", key_value_width, hidden, self.qkv_bias),
                ("self_attn.o_proj", hidden, query_width, self.o_bias),
            ] {
                put(&format!("{name}.weight"), &[outputs, inputs]);
                if bias {
                    put(&format!("{name}.bias"), &[outputs]);
                }
            }
            if self.qk_norm {
                put("self_attn.q_norm.weight", &[self.head_dim]);
                put("self_attn.k_norm.weight", &[self.head_dim]);
            }
            for (name, outputs, inputs) in
                [("mlp.gate_proj", inner, hidden), ("mlp.up_proj", inner, hidden), ("mlp.down_proj", hidden, inner)]
            {
                put(&format!("{name}.weight"), &[outputs, inputs]);
                if self.mlp_bias {
                    put(&format!("{name}.bias"), &[outputs]);
                }
            }
            put("input_layernorm.weight", &[hidden]);
            put("post_attention_layernorm.weight", &[hidden]);
        }
        tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tie_word_embeddings {
            tensors.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        tensors
    }
}
