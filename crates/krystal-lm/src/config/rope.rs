//! The rotary fields of `config.json`, in the style of transformers 4 (`rope_theta`, `rope_scaling`) and of 5
//! (`rope_parameters`).

use serde_json::{Value, json};

use super::RopeScaling;
use crate::error::Result;
use crate::json_fields::Fields;

/// `rope_theta` of all four families where a file does not say.
const DEFAULT_THETA: f64 = 10_000.0;

/// Reads base and scaling, refusing contradictions between the two styles.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<(f64, RopeScaling)> {
    let top_theta = fields.positive("rope_theta")?;
    let mut found: Option<(f64, RopeScaling)> = None;
    for name in ["rope_parameters", "rope_scaling"] {
        let Some(value) = fields.value(name) else {
            continue;
        };
        let mut nested = fields.nested(name, value)?;
        let (theta, scaling) = read_object(&mut nested)?;
        let rope = (theta.or(top_theta).unwrap_or(DEFAULT_THETA), scaling);
        if let (Some(inner), Some(outer)) = (theta, top_theta)
            && inner != outer
        {
            return Err(fields.invalid(name, format!("the same rope_theta as outside it ({outer})"), value));
        }
        match &found {
            Some(other) if *other != rope => {
                return Err(fields.invalid(name, "the same as rope_parameters", value));
            }
            _ => found = Some(rope),
        }
    }
    Ok(found.unwrap_or((top_theta.unwrap_or(DEFAULT_THETA), RopeScaling::Default)))
}

fn read_object(fields: &mut Fields<'_>) -> Result<(Option<f64>, RopeScaling)> {
    if let Some((name, value)) = fields.unread().find(|(_, value)| value.is_object()) {
        return Err(fields.unsupported(name, value, "one set of rotary parameters for all layers"));
    }
    let theta = fields.positive("rope_theta")?;
    fields.refuse_unless("partial_rotary_factor", "1", |factor| factor.as_f64() == Some(1.0))?;
    // `type` is the name of before transformers 4.43.
    let old = fields.text("type")?;
    let new = fields.text("rope_type")?;
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        return Err(fields.invalid("type", format!("the same as rope_type ({new:?})"), &json!(old)));
    }
    let scaling = match new.or(old).unwrap_or("default") {
        "default" => RopeScaling::Default,
        "llama3" => RopeScaling::Llama3 {
            factor: fields.required_positive("factor")?,
            low_freq_factor: fields.required_positive("low_freq_factor")?,
            high_freq_factor: fields.required_positive("high_freq_factor")?,
            original_max_position_embeddings: fields.required_size("original_max_position_embeddings")?,
        },
        other => return Err(fields.unsupported("rope_type", &json!(other), "default, llama3")),
    };
    fields.finish(&[])?;
    Ok((theta, scaling))
}

/// `rope_scaling` as transformers 4 and 5 both read it.
pub(super) fn scaling_to_json(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::Default => Value::Null,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_position_embeddings,
        }),
    }
}
