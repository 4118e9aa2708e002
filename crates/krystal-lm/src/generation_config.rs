//! `generation_config.json`: how a model's makers suggest to sample from it.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::{ModelConfig, shortest, tokens_to_json};
use crate::error::{Error, Result};
use crate::json_fields::{Fields, parse_object};

/// Fields that say nothing about which tokens come out.
const BOOKKEEPING: &[&str] = &[
    "_from_model_config",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "cache_implementation",
    "max_length",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "return_dict_in_generate",
    "transformers_version",
    "use_cache",
];

/// The suggestions of `generation_config.json`. Defaults are those of transformers.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationConfig {
    /// Whether to sample; `false` (the default) takes the likeliest token.
    pub do_sample: bool,
    /// Softmax temperature, 0 or more. Default 1.
    pub temperature: f32,
    /// Keep the `top_k` likeliest tokens; 0 keeps all. Default 50.
    pub top_k: usize,
    /// Keep the fewest tokens whose probability reaches `top_p`, in (0, 1]. Default 1.
    pub top_p: f32,
    /// Drop tokens less likely than `min_p` times the likeliest, in [0, 1]. Default 0.
    pub min_p: f32,
    /// Divides positive (multiplies negative) logits of tokens already seen, above 0. Default 1.
    pub repetition_penalty: f32,
    /// Most tokens to generate, where the file says.
    pub max_new_tokens: Option<usize>,
    /// Token that starts a sequence, where the file says.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a sequence; empty where the file does not say.
    pub eos_token_ids: Vec<u32>,
    /// Padding token, where the file says.
    pub pad_token_id: Option<u32>,
    /// Names of fields that have a value and shape what transformers would generate, but that this crate does not know
    /// (`num_beams`, ...), in the order of the file.
    pub unused: Vec<String>,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            max_new_tokens: None,
            bos_token_id: None,
            eos_token_ids: Vec::new(),
            pad_token_id: None,
            unused: Vec::new(),
        }
    }
}

impl GenerationConfig {
    /// Reads `generation_config.json` of a model folder; `None` where there is none.
    ///
    /// # Errors
    /// When the file cannot be read, is not a JSON object, or has a value out of range.
    pub fn load(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("generation_config.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::from_json(&text, &path).map(Some),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { action: "read", path, source }),
        }
    }

    /// Reads the text of a `generation_config.json`; `origin` names the file in errors.
    ///
    /// # Errors
    /// [`Error::Json`] and [`Error::InvalidField`].
    pub fn from_json(text: &str, origin: &Path) -> Result<Self> {
        let object = parse_object(text, origin)?;
        let mut fields = Fields::new(&object, origin);
        let default = Self::default();
        let mut number = |name: &'static str, default: f32, expected: &str, holds: fn(f32) -> bool| {
            let Some(found) = fields.number(name)? else {
                return Ok(default);
            };
            if holds(found as f32) { Ok(found as f32) } else { Err(fields.invalid(name, expected, &json!(found))) }
        };
        let temperature = number("temperature", default.temperature, "a number, 0 or more", |t| t >= 0.0)?;
        let top_p = number("top_p", default.top_p, "a number in (0, 1]", |p| p > 0.0 && p <= 1.0)?;
        let min_p = number("min_p", default.min_p, "a number in [0, 1]", |p| (0.0..=1.0).contains(&p))?;
        let repetition_penalty =
            number("repetition_penalty", default.repetition_penalty, "a number above 0", |r| r > 0.0)?;
        let top_k = match fields.value("top_k") {
            None => default.top_k,
            Some(value) => value
                .as_u64()
                .and_then(|k| usize::try_from(k).ok())
                .ok_or_else(|| fields.invalid("top_k", "a whole number, 0 or more", value))?,
        };
        let config = Self {
            do_sample: fields.flag("do_sample")?.unwrap_or(default.do_sample),
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            max_new_tokens: fields.size("max_new_tokens")?,
            bos_token_id: fields.token("bos_token_id")?,
            eos_token_ids: fields.tokens("eos_token_id")?.unwrap_or_default(),
            pad_token_id: fields.pad_token()?,
            unused: Vec::new(),
        };
        let unused = fields
            .unread()
            .filter(|(name, value)| !value.is_null() && !BOOKKEEPING.contains(&name.as_str()))
            .map(|(name, _)| name.clone())
            .collect();
        Ok(Self { unused, ..config })
    }

    /// What a freshly written model folder says: the special tokens of the model.
    pub fn for_model(config: &ModelConfig) -> Self {
        Self {
            bos_token_id: config.bos_token_id,
            eos_token_ids: config.eos_token_ids.clone(),
            pad_token_id: config.pad_token_id,
            ..Self::default()
        }
    }

    /// The `generation_config.json`: special tokens, and whatever differs from the defaults. `unused` is not written.
    pub fn to_json(&self) -> Value {
        let default = Self::default();
        let mut object = serde_json::Map::new();
        let mut put = |name: &str, value: Value, differs: bool| {
            if differs {
                object.insert(name.to_owned(), value);
            }
        };
        put("bos_token_id", json!(self.bos_token_id), self.bos_token_id.is_some());
        put("eos_token_id", tokens_to_json(&self.eos_token_ids), !self.eos_token_ids.is_empty());
        put("pad_token_id", json!(self.pad_token_id), self.pad_token_id.is_some());
        put("do_sample", json!(self.do_sample), self.do_sample != default.do_sample);
        for (name, value, default) in [
            ("temperature", self.temperature, default.temperature),
            ("top_p", self.top_p, default.top_p),
            ("min_p", self.min_p, default.min_p),
            ("repetition_penalty", self.repetition_penalty, default.repetition_penalty),
        ] {
            put(name, json!(shortest(value)), value != default);
        }
        put("top_k", json!(self.top_k), self.top_k != default.top_k);
        put("max_new_tokens", json!(self.max_new_tokens), self.max_new_tokens.is_some());
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<GenerationConfig> {
        GenerationConfig::from_json(text, Path::new("generation_config.json"))
    }

    #[test]
    fn reads_what_instruct_models_ship() -> Result<()> {
        let config = read(
            r#"{"bos_token_id": 151643, "do_sample": true, "eos_token_id": [151645, 151643], "pad_token_id": 151643,
                "repetition_penalty": 1.1, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
                "transformers_version": "4.37.0"}"#,
        )?;
        let expected = GenerationConfig {
            do_sample: true,
            temperature: 0.7,
            top_k: 20,
            top_p: 0.8,
            repetition_penalty: 1.1,
            bos_token_id: Some(151_643),
            eos_token_ids: vec![151_645, 151_643],
            pad_token_id: Some(151_643),
            ..GenerationConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!(read(&config.to_json().to_string())?, config);
        Ok(())
    }

    #[test]
    fn absent_and_null_fields_have_the_defaults_of_transformers() -> Result<()> {
        assert_eq!(read("{}")?, GenerationConfig::default());
        assert_eq!(read(r#"{"temperature": null, "eos_token_id": null, "top_k": null}"#)?, GenerationConfig::default());
        Ok(())
    }

    #[test]
    fn lists_what_it_does_not_know() -> Result<()> {
        let config = read(r#"{"num_beams": 4, "use_cache": true, "suppress_tokens": null, "top_h": 0.4}"#)?;
        assert_eq!(config.unused, ["num_beams", "top_h"]);
        Ok(())
    }

    #[test]
    fn refuses_values_out_of_range() {
        for (text, field) in [
            (r#"{"temperature": -1}"#, "temperature"),
            (r#"{"top_p": 0}"#, "top_p"),
            (r#"{"min_p": 1.5}"#, "min_p"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
            (r#"{"top_k": -1}"#, "top_k"),
            (r#"{"eos_token_id": [1, "a"]}"#, "eos_token_id"),
            (r#"{"max_new_tokens": 0}"#, "max_new_tokens"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("generation_config.json: field `{field}`: expected ")), "{message}");
        }
    }
}
