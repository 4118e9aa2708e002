//! From [`ModelConfig`] to `config.json`, and what a valid one is.

use std::path::Path;

use serde_json::{Value, json};

use super::family::Family;
use super::{ModelConfig, RopeScaling, rope};
use crate::error::{Error, Result};

impl ModelConfig {
    /// The `config.json` of this model, float32, in the style of transformers 4, which transformers 5 reads as well.
    /// [`ModelConfig::from_json`] gives the same model back where [`ModelConfig::validate`] holds.
    pub fn to_json(&self) -> Value {
        let family = Family::named(&self.model_type);
        let mut object = serde_json::Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        put("architectures", json!(family.map(|family| [family.architecture()])));
        put("model_type", json!(self.model_type));
        put("vocab_size", json!(self.vocab_size));
        put("hidden_size", json!(self.hidden_size));
        put("intermediate_size", json!(self.intermediate_size));
        put("num_hidden_layers", json!(self.num_hidden_layers));
        put("num_attention_heads", json!(self.num_attention_heads));
        put("num_key_value_heads", json!(self.num_key_value_heads));
        put("head_dim", json!(self.head_dim));
        put("hidden_act", json!("silu"));
        put("rms_norm_eps", json!(shortest(self.rms_norm_eps)));
        put("rope_theta", json!(self.rope_theta));
        put("rope_scaling", rope::scaling_to_json(&self.rope_scaling));
        put("max_position_embeddings", json!(self.max_position_embeddings));
        put("tie_word_embeddings", json!(self.tie_word_embeddings));
        put("attention_dropout", json!(0.0));
        match family {
            Some(Family::Llama) => {
                put("attention_bias", json!(self.qkv_bias));
                put("mlp_bias", json!(self.mlp_bias));
            }
            Some(Family::Mistral) => {
                put("sliding_window", json!(self.sliding_window.first().copied().flatten()));
            }
            Some(Family::Qwen2 | Family::Qwen3) => {
                if family == Some(Family::Qwen3) {
                    put("attention_bias", json!(self.qkv_bias));
                }
                let window = self.sliding_window.iter().flatten().next();
                let kind = |window: &Option<usize>| {
                    if window.is_some() { "sliding_attention" } else { "full_attention" }
                };
                put("use_sliding_window", json!(window.is_some()));
                put("sliding_window", json!(window));
                // What transformers before 4.52, which reads no layer_types, goes by.
                let first_sliding = self.sliding_window.iter().position(Option::is_some);
                put("max_window_layers", json!(first_sliding.unwrap_or(self.num_hidden_layers)));
                put("layer_types", self.sliding_window.iter().map(kind).collect());
            }
            None => {}
        }
        put("bos_token_id", json!(self.bos_token_id));
        put("eos_token_id", tokens_to_json(&self.eos_token_ids));
        put("pad_token_id", json!(self.pad_token_id));
        put("torch_dtype", json!("float32"));
        put("use_cache", json!(true));
        Value::Object(object)
    }

    /// Checks that sizes are usable and agree, and that the model is one that its family's `config.json` can describe.
    ///
    /// # Errors
    /// [`Error::UnsupportedField`] or [`Error::InvalidField`], naming the field, with `config.json` as the path.
    pub fn validate(&self) -> Result<()> {
        self.validate_as_read_from(Path::new("config.json"))
    }

    pub(super) fn validate_as_read_from(&self, path: &Path) -> Result<()> {
        let invalid = |field: &str, expected: String, found: Value| {
            Err(Error::InvalidField {
                path: path.to_owned(),
                field: field.to_owned(),
                expected,
                found: found.to_string(),
            })
        };
        let Some(family) = Family::named(&self.model_type) else {
            return Err(Error::UnsupportedField {
                path: path.to_owned(),
                field: "model_type".to_owned(),
                value: json!(self.model_type).to_string(),
                supported: Family::SUPPORTED.to_owned(),
            });
        };

        // Products of two sizes then fit, in bytes, into 64 bits.
        let most = i32::MAX as usize;
        let query_width = self.num_attention_heads.checked_mul(self.head_dim);
        for (field, size) in [
            ("vocab_size", Some(self.vocab_size)),
            ("hidden_size", Some(self.hidden_size)),
            ("intermediate_size", Some(self.intermediate_size)),
            ("num_hidden_layers", Some(self.num_hidden_layers)),
            ("num_attention_heads", Some(self.num_attention_heads)),
            ("num_key_value_heads", Some(self.num_key_value_heads)),
            ("head_dim", Some(self.head_dim)),
            ("max_position_embeddings", Some(self.max_position_embeddings)),
            ("num_attention_heads * head_dim", query_width),
        ] {
            if !size.is_some_and(|size| (1..=most).contains(&size)) {
                return invalid(field, format!("a whole number from 1 to {most}"), json!(size));
            }
        }
        if !self.head_dim.is_multiple_of(2) {
            return invalid("head_dim", "an even number".to_owned(), json!(self.head_dim));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let expected = format!("a divisor of num_attention_heads ({})", self.num_attention_heads);
            return invalid("num_key_value_heads", expected, json!(self.num_key_value_heads));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps.is_finite()) {
            return invalid("rms_norm_eps", "a finite number above 0".to_owned(), json!(self.rms_norm_eps));
        }
        self.validate_rope(path)?;
        self.validate_windows(path, family)?;

        // (qkv_bias, o_bias, mlp_bias, qk_norm)
        let parts = (self.qkv_bias, self.o_bias, self.mlp_bias, self.qk_norm);
        let possible = match family {
            Family::Llama => self.qkv_bias == self.o_bias && !self.qk_norm,
            Family::Mistral => parts == (false, false, false, false),
            Family::Qwen2 => parts == (true, false, false, false),
            Family::Qwen3 => self.qkv_bias == self.o_bias && !self.mlp_bias && self.qk_norm,
        };
        if !possible {
            let expected = format!("biases and norms that {} can have", self.model_type);
            return invalid("qkv_bias, o_bias, mlp_bias, qk_norm", expected, json!(parts));
        }
        let named = [("bos_token_id", self.bos_token_id), ("pad_token_id", self.pad_token_id)];
        let ends = self.eos_token_ids.iter().map(|&id| ("eos_token_id", Some(id)));
        for (field, id) in named.into_iter().chain(ends) {
            if id.is_some_and(|id| id as usize >= self.vocab_size) {
                return invalid(field, format!("a token id below vocab_size ({})", self.vocab_size), json!(id));
            }
        }
        Ok(())
    }

    fn validate_rope(&self, path: &Path) -> Result<()> {
        let invalid = |field: &str, expected: &str, found: f64| {
            Err(Error::InvalidField {
                path: path.to_owned(),
                field: field.to_owned(),
                expected: expected.to_owned(),
                found: json!(found).to_string(),
            })
        };
        let is_positive = |number: f64| number > 0.0 && number.is_finite();
        if !is_positive(self.rope_theta) {
            return invalid("rope_theta", "a finite number above 0", self.rope_theta);
        }
        let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } =
            self.rope_scaling
        else {
            return Ok(());
        };
        if !(factor >= 1.0 && factor.is_finite()) {
            return invalid("rope_scaling.factor", "a finite number, 1 or more", factor);
        }
        if !is_positive(low_freq_factor) {
            return invalid("rope_scaling.low_freq_factor", "a finite number above 0", low_freq_factor);
        }
        if !(high_freq_factor > low_freq_factor && high_freq_factor.is_finite()) {
            return invalid("rope_scaling.high_freq_factor", "a finite number above low_freq_factor", high_freq_factor);
        }
        if original_max_position_embeddings == 0 {
            return invalid("rope_scaling.original_max_position_embeddings", "a number above 0", 0.0);
        }
        Ok(())
    }

    fn validate_windows(&self, path: &Path, family: Family) -> Result<()> {
        let windows = &self.sliding_window;
        let mut sliding = windows.iter().flatten();
        let first = sliding.next();
        let expected = if windows.len() != self.num_hidden_layers {
            format!("one entry for each of the {} layers", self.num_hidden_layers)
        } else if first == Some(&0) || sliding.any(|window| Some(window) != first) {
            "the same window, above 0, in every layer that slides".to_owned()
        } else if family == Family::Llama && first.is_some() {
            "no window in llama".to_owned()
        } else if family == Family::Mistral && windows.iter().any(|window| window.as_ref() != first) {
            "the same in every layer of mistral".to_owned()
        } else {
            return Ok(());
        };
        let found = json!(windows).to_string();
        Err(Error::InvalidField { path: path.to_owned(), field: "sliding_window".to_owned(), expected, found })
    }
}

/// Null, the token, or the list of tokens.
pub(crate) fn tokens_to_json(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [id] => json!(id),
        ids => json!(ids),
    }
}

/// The f64 with the fewest digits that is `value` as an f32: `1e-5`, not `9.999999747378752e-6`.
pub(crate) fn shortest(value: f32) -> f64 {
    match value.to_string().parse::<f64>() {
        Ok(short) if short as f32 == value => short,
        _ => f64::from(value),
    }
}
