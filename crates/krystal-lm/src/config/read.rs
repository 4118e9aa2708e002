//! From `config.json` to [`ModelConfig`].

use std::path::Path;

use serde_json::{Value, json};

use super::family::Family;
use super::{IGNORED_FIELDS, ModelConfig, rope};
use crate::error::{Error, Result};
use crate::generation_config::GenerationConfig;
use crate::json_fields::{Fields, parse_object};

/// Layer from which qwen2 and qwen3 slide where a file does not say, as in transformers.
const DEFAULT_MAX_WINDOW_LAYERS: u64 = 28;
/// No model comes near; keeps a damaged file from asking for all memory.
const MOST_LAYERS: usize = 10_000;

/// Fields that belong to parts this crate does not have, each with the values that switch the part off.
type Off = fn(&Value) -> bool;
const MUST_BE_OFF: &[(&str, &str, Off)] = &[
    ("hidden_act", "silu", |v| v == "silu"),
    ("attention_dropout", "0", is_zero),
    ("pretraining_tp", "1", |v| v.as_f64() == Some(1.0)),
    ("partial_rotary_factor", "1", |v| v.as_f64() == Some(1.0)),
    ("quantization_config", "null", |_| false),
    ("quantization", "null", |_| false),
    ("compression_config", "null", |_| false),
    ("num_experts", "null or 0", is_zero),
    ("num_local_experts", "null or 0", is_zero),
    ("num_experts_per_tok", "null or 0", is_zero),
    ("n_routed_experts", "null or 0", is_zero),
    ("attn_logit_softcapping", "null", |_| false),
    ("final_logit_softcapping", "null", |_| false),
    ("attn_output_gate", "false", is_false),
    ("rope_interleaved", "false", is_false),
    ("use_mrope", "false", is_false),
    ("use_qk_norm", "false", is_false),
    ("qk_layernorm", "false", is_false),
    ("is_encoder_decoder", "false", is_false),
    ("add_cross_attention", "false", is_false),
    ("tie_encoder_decoder", "false", is_false),
    ("cross_attention_hidden_size", "null", |_| false),
    ("pruned_heads", "none", |v| v.as_object().is_some_and(|heads| heads.is_empty())),
    ("per_layer_config", "null", |_| false),
    // Names code that comes with the model instead of the family's own.
    ("auto_map", "null", |_| false),
];

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_false(value: &Value) -> bool {
    *value == Value::Bool(false)
}

impl ModelConfig {
    /// Reads `config.json` of a model folder. Where the folder has a `generation_config.json` that names end-of-sequence
    /// tokens, they replace those of `config.json`, as when transformers generates.
    ///
    /// # Errors
    /// As [`ModelConfig::from_json`], and when a file cannot be read.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::MissingFile { path: path.clone(), hint: "a model folder describes its model there" }
            }
            _ => Error::Io { action: "read", path: path.clone(), source },
        })?;
        let mut config = Self::from_json(&text, &path)?;
        if let Some(generation) = GenerationConfig::load(directory)?
            && !generation.eos_token_ids.is_empty()
        {
            config.eos_token_ids = generation.eos_token_ids;
            config.validate_as_read_from(&directory.join("generation_config.json"))?;
        }
        Ok(config)
    }

    /// Reads the text of a `config.json`; `origin` names the file in errors.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::MissingField`] and [`Error::InvalidField`] for a damaged file;
    /// [`Error::UnsupportedField`] and [`Error::UnknownField`] for a model that this crate does not compute.
    pub fn from_json(text: &str, origin: &Path) -> Result<Self> {
        let object = parse_object(text, origin)?;
        let mut fields = Fields::new(&object, origin);
        let config = read_fields(&mut fields)?;
        fields.finish(IGNORED_FIELDS)?;
        config.validate_as_read_from(origin)?;
        Ok(config)
    }

    /// Names of the fields of a `config.json` that are accepted and not used, in the order of the file; all of them are
    /// in [`IGNORED_FIELDS`].
    ///
    /// # Errors
    /// As [`ModelConfig::from_json`].
    pub fn ignored_fields(text: &str, origin: &Path) -> Result<Vec<String>> {
        let object = parse_object(text, origin)?;
        let mut fields = Fields::new(&object, origin);
        read_fields(&mut fields)?;
        fields.finish(IGNORED_FIELDS)?;
        Ok(fields.unread().map(|(name, _)| name.clone()).collect())
    }
}

fn read_fields(fields: &mut Fields<'_>) -> Result<ModelConfig> {
    let model_type = fields.text("model_type")?.ok_or_else(|| fields.missing("model_type"))?;
    let family = Family::named(model_type)
        .ok_or_else(|| fields.unsupported("model_type", &json!(model_type), Family::SUPPORTED))?;
    let architecture = family.architecture();
    fields.refuse_unless("architectures", architecture, |names| {
        names.as_array().is_some_and(|names| names.iter().all(|name| name == architecture))
    })?;
    for &(name, supported, is_off) in MUST_BE_OFF {
        fields.refuse_unless(name, supported, is_off)?;
    }

    let hidden_size = fields.required_size("hidden_size")?;
    let num_hidden_layers = fields.required_size("num_hidden_layers")?;
    if num_hidden_layers > MOST_LAYERS {
        return Err(fields.invalid("num_hidden_layers", format!("at most {MOST_LAYERS}"), &json!(num_hidden_layers)));
    }
    let num_attention_heads = fields.required_size("num_attention_heads")?;
    let num_key_value_heads = read_key_value_heads(fields, family, num_attention_heads)?;
    let head_dim = read_head_dim(fields, family, hidden_size, num_attention_heads)?;
    let (rope_theta, rope_scaling) = rope::read(fields)?;
    let (qkv_bias, o_bias, mlp_bias) = read_biases(fields, family)?;
    let (default_bos, default_eos) = family.default_bos_eos();
    let bos_token_id = if fields.raw("bos_token_id").is_none() { default_bos } else { fields.token("bos_token_id")? };
    let eos_token_ids = if fields.raw("eos_token_id").is_none() {
        default_eos.into_iter().collect()
    } else {
        fields.tokens("eos_token_id")?.unwrap_or_default()
    };
    Ok(ModelConfig {
        model_type: model_type.to_owned(),
        vocab_size: fields.required_size("vocab_size")?,
        hidden_size,
        intermediate_size: fields.required_size("intermediate_size")?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope_theta,
        rope_scaling,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        qkv_bias,
        o_bias,
        mlp_bias,
        qk_norm: family == Family::Qwen3,
        sliding_window: read_windows(fields, family, num_hidden_layers)?,
        max_position_embeddings: fields
            .size("max_position_embeddings")?
            .unwrap_or_else(|| family.default_max_positions()),
        bos_token_id,
        eos_token_ids,
        pad_token_id: fields.pad_token()?,
    })
}

/// Null means one per query head; an absent field means so in llama alone.
fn read_key_value_heads(fields: &mut Fields<'_>, family: Family, num_attention_heads: usize) -> Result<usize> {
    if fields.raw("num_key_value_heads").is_none() && family != Family::Llama {
        return Err(fields.missing("num_key_value_heads"));
    }
    Ok(fields.size("num_key_value_heads")?.unwrap_or(num_attention_heads))
}

fn read_head_dim(fields: &mut Fields<'_>, family: Family, hidden_size: usize, heads: usize) -> Result<usize> {
    let default = match fields.raw("head_dim") {
        Some(Value::Null) if family == Family::Qwen3 => {
            return Err(fields.invalid("head_dim", "a whole number", &Value::Null));
        }
        _ => family.default_head_dim(),
    };
    if let Some(head_dim) = fields.size("head_dim")?.or(default) {
        return Ok(head_dim);
    }
    if !hidden_size.is_multiple_of(heads) {
        let expected = format!("a divisor of hidden_size ({hidden_size}), or a head_dim");
        return Err(fields.invalid("num_attention_heads", expected, &json!(heads)));
    }
    Ok(hidden_size / heads)
}

/// Biases of (q, k and v), of o, and of the feed-forward block.
fn read_biases(fields: &mut Fields<'_>, family: Family) -> Result<(bool, bool, bool)> {
    Ok(match family {
        Family::Llama => {
            let attention = fields.flag("attention_bias")?.unwrap_or(false);
            (attention, attention, fields.flag("mlp_bias")?.unwrap_or(false))
        }
        Family::Qwen3 => {
            fields.refuse_unless("mlp_bias", "false", is_false)?;
            let attention = fields.flag("attention_bias")?.unwrap_or(false);
            (attention, attention, false)
        }
        Family::Mistral => {
            fields.refuse_unless("attention_bias", "false", is_false)?;
            fields.refuse_unless("mlp_bias", "false", is_false)?;
            (false, false, false)
        }
        Family::Qwen2 => {
            // The family always has them and transformers does not read the field.
            fields.refuse_unless("attention_bias", "true", |bias| *bias == Value::Bool(true))?;
            fields.refuse_unless("mlp_bias", "false", is_false)?;
            (true, false, false)
        }
    })
}

/// The window of each layer.
fn read_windows(fields: &mut Fields<'_>, family: Family, layers: usize) -> Result<Vec<Option<usize>>> {
    let slides = read_layer_types(fields, layers)?;
    let default_window = match family {
        Family::Llama => {
            fields.refuse_unless("sliding_window", "null", |_| false)?;
            fields.refuse_unless("use_sliding_window", "false", is_false)?;
            None
        }
        Family::Mistral => {
            fields.refuse_unless("use_sliding_window", "null", |_| false)?;
            // Transformers takes 4096 where the field is absent and none where it is null.
            if fields.raw("sliding_window").is_none() { Some(4096) } else { fields.size("sliding_window")? }
        }
        Family::Qwen2 | Family::Qwen3 => {
            let uses = fields.flag("use_sliding_window")?.unwrap_or(false);
            let window =
                if fields.raw("sliding_window").is_none() { Some(4096) } else { read_qwen_window(fields, uses)? };
            window.filter(|_| uses)
        }
    };
    let first_sliding = match family {
        Family::Llama | Family::Mistral => 0,
        Family::Qwen2 | Family::Qwen3 => match fields.value("max_window_layers") {
            None => DEFAULT_MAX_WINDOW_LAYERS,
            Some(value) => {
                value.as_u64().ok_or_else(|| fields.invalid("max_window_layers", "a whole number of layers", value))?
            }
        },
    };
    let windows: Vec<_> = (0..layers).map(|layer| default_window.filter(|_| layer as u64 >= first_sliding)).collect();
    let Some(slides) = slides else {
        return Ok(windows);
    };
    if family.is_qwen() {
        if default_window.is_none() && slides.contains(&true) {
            let supported = "full_attention, as sliding_window is off";
            return Err(fields.unsupported("layer_types", &json!("sliding_attention"), supported));
        }
        return Ok(slides.iter().map(|slides| default_window.filter(|_| *slides)).collect());
    }
    // Transformers reads no layer_types in llama and mistral: it may only say what is so anyway.
    if slides.iter().zip(&windows).any(|(slides, window)| *slides != window.is_some()) {
        let supported = if default_window.is_some() { "sliding_attention" } else { "full_attention" };
        return Err(fields.unsupported("layer_types", &json!(slides), &format!("{supported} in every layer")));
    }
    Ok(windows)
}

/// The window of qwen2 and qwen3, which may be any number while it is not used.
fn read_qwen_window(fields: &mut Fields<'_>, uses: bool) -> Result<Option<usize>> {
    if uses { fields.size("sliding_window") } else { Ok(None) }
}

/// Which layers slide, where the file lists them.
fn read_layer_types(fields: &mut Fields<'_>, layers: usize) -> Result<Option<Vec<bool>>> {
    let Some(value) = fields.value("layer_types") else {
        return Ok(None);
    };
    let Some(types) = value.as_array() else {
        return Err(fields.invalid("layer_types", "a list", value));
    };
    if types.len() != layers {
        let expected = format!("one entry for each of the {layers} layers");
        return Err(fields.invalid("layer_types", expected, &json!(format!("{} entries", types.len()))));
    }
    let mut slides = Vec::with_capacity(layers);
    for kind in types {
        slides.push(match kind.as_str() {
            Some("full_attention") => false,
            Some("sliding_attention") => true,
            _ => {
                return Err(fields.unsupported("layer_types", kind, "full_attention, sliding_attention"));
            }
        });
    }
    Ok(Some(slides))
}
