//! `adapter_config.json`.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Number, Value};

use crate::{Error, LoraAdapter, LoraConfig, PatternMap, TargetModules};

/// What a file says.
pub(super) struct StoredConfig {
    pub(super) lora: LoraConfig,
    /// Whether modules that `target_modules` names may have no factors.
    pub(super) partial: bool,
}

/// Fields that change nothing about the adapted model, whatever their value: where it came from, how it was trained or first
/// drawn, and parameters of methods that other fields switch on.
const HARMLESS: [&str; 14] = [
    "auto_mapping",
    "base_model_name_or_path",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "monteclora_config",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "velora_config",
];

/// Fields read below.
const READ: [&str; 13] = [
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// The configuration in the text of the file at `path`.
pub(super) fn parse(path: &Path, text: &[u8]) -> Result<StoredConfig, Error> {
    let fields: Map<String, Value> = serde_json::from_slice(text)
        .map_err(|error| Error::ConfigSyntax { path: path.to_owned(), reason: error.to_string() })?;
    refuse_what_is_not_plain_lora(path, &fields)?;

    refuse_the_head(path, fields.get("target_modules"))?;
    let lora = lora_config(&fields).map_err(|error| error.in_file(path))?;
    let partial = ["exclude_modules", "layers_to_transform"].iter().any(|field| !is_off(fields.get(*field)));
    Ok(StoredConfig { lora, partial })
}

fn lora_config(fields: &Map<String, Value>) -> Result<LoraConfig, Error> {
    let lora = LoraConfig {
        r: match fields.get("r") {
            Some(value) => rank("r", value)?,
            None => return Err(Error::field("r", "a rank", "nothing")),
        },
        lora_alpha: match fields.get("lora_alpha") {
            Some(value) => alpha("lora_alpha", value)?,
            None => return Err(Error::field("lora_alpha", "a number", "nothing")),
        },
        use_rslora: match fields.get("use_rslora") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(value)) => *value,
            Some(other) => return Err(Error::field("use_rslora", "true or false", shortened(other))),
        },
        target_modules: targets(fields.get("target_modules"))?,
        rank_pattern: patterns("rank_pattern", fields.get("rank_pattern"), rank)?,
        alpha_pattern: patterns("alpha_pattern", fields.get("alpha_pattern"), alpha)?,
    };
    lora.validate()?;
    Ok(lora)
}

fn refuse_what_is_not_plain_lora(path: &Path, fields: &Map<String, Value>) -> Result<(), Error> {
    let unsupported = |field: &str, value: Option<&Value>, supported: &str| Error::Unsupported {
        path: path.to_owned(),
        field: field.to_owned(),
        found: value.map_or_else(|| "missing".to_owned(), shortened),
        supported: supported.to_owned(),
    };
    let value = |field: &str| fields.get(field).filter(|value| !value.is_null());

    if value("peft_type").and_then(Value::as_str) != Some("LORA") {
        return Err(unsupported("peft_type", fields.get("peft_type"), "\"LORA\""));
    }
    if let Some(task) = value("task_type").filter(|task| task.as_str() != Some("CAUSAL_LM")) {
        return Err(unsupported("task_type", Some(task), "\"CAUSAL_LM\""));
    }
    if let Some(bias) = value("bias").filter(|bias| bias.as_str() != Some("none")) {
        return Err(unsupported("bias", Some(bias), "\"none\""));
    }
    if let Some(init) = value("init_lora_weights") {
        // pissa, olora, corda, loftq and lora_ga change the base weights as well, which the file does not carry.
        let plain = init.is_boolean() || matches!(init.as_str(), Some("gaussian" | "eva" | "orthogonal"));
        if !plain {
            return Err(unsupported(
                "init_lora_weights",
                Some(init),
                "true, false, \"gaussian\", \"eva\" or \"orthogonal\"; others change the base model",
            ));
        }
    }
    // Everything else that is switched on, known (use_dora, lora_bias, modules_to_save, layer_replication,
    // trainable_token_indices, fan_in_fan_out, target_parameters, ...) or not, may change what the adapter computes.
    for (field, value) in fields {
        let known = HARMLESS.contains(&field.as_str()) || READ.contains(&field.as_str());
        if !known && !is_off(Some(value)) {
            return Err(unsupported(field, Some(value), "only null, false or empty"));
        }
    }
    Ok(())
}

fn is_off(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Bool(true) | Value::Number(_)) => false,
    }
}

fn rank(field: &'static str, value: &Value) -> Result<usize, Error> {
    value
        .as_u64()
        .and_then(|rank| usize::try_from(rank).ok())
        .ok_or_else(|| Error::field(field, "a whole number", shortened(value)))
}

fn alpha(field: &'static str, value: &Value) -> Result<f64, Error> {
    value.as_f64().ok_or_else(|| Error::field(field, "a number", shortened(value)))
}

fn patterns<T>(
    field: &'static str,
    value: Option<&Value>,
    number: impl Fn(&'static str, &Value) -> Result<T, Error>,
) -> Result<PatternMap<T>, Error> {
    match value {
        None | Some(Value::Null) => Ok(PatternMap::default()),
        Some(Value::Object(entries)) => {
            entries.iter().map(|(pattern, value)| Ok((pattern.clone(), number(field, value)?))).collect()
        }
        Some(other) => Err(Error::field(field, "an object from patterns to numbers", shortened(other))),
    }
}

fn targets(value: Option<&Value>) -> Result<TargetModules, Error> {
    let names = match value {
        Some(Value::String(text)) => return Ok(text.as_str().into()),
        Some(Value::Array(items)) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    names.map(TargetModules::Names).ok_or_else(|| {
        let found = value.map_or_else(|| "nothing".to_owned(), shortened);
        Error::field("target_modules", "a list of module names, a regular expression or \"all-linear\"", found)
    })
}

/// Factors of the head or the embedding are other formulas; a list that asks for them is refused even where no tensor does.
fn refuse_the_head(path: &Path, targets: Option<&Value>) -> Result<(), Error> {
    let names = targets.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in names {
        if ["lm_head", "embed_tokens"].contains(&name.rsplit('.').next().unwrap_or(name)) {
            return Err(Error::Unsupported {
                path: path.to_owned(),
                field: "target_modules".to_owned(),
                found: format!("a list with \"{name}\""),
                supported: "linear layers of the decoder blocks".to_owned(),
            });
        }
    }
    Ok(())
}

/// A value as JSON in a few words.
fn shortened(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The file's text: the keys that PEFT and vLLM both need, sorted, as `json.dumps(indent=2, sort_keys=True)` lays them out.
///
/// No key of our own: older versions of PEFT refuse keys they do not know.
pub(super) fn encode(adapter: &LoraAdapter, base_model: Option<&str>) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Stored<'a> {
        alpha_pattern: Map<String, Value>,
        base_model_name_or_path: Option<&'a str>,
        bias: &'a str,
        fan_in_fan_out: bool,
        inference_mode: bool,
        init_lora_weights: bool,
        lora_alpha: Value,
        lora_dropout: f64,
        modules_to_save: Option<()>,
        peft_type: &'a str,
        r: usize,
        rank_pattern: &'a PatternMap<usize>,
        revision: Option<()>,
        target_modules: Value,
        task_type: &'a str,
        use_dora: bool,
        use_rslora: bool,
    }

    let config = &adapter.config;
    let target_modules = match &config.target_modules {
        // vLLM wants names. All linear layers are exactly those that end as one of the adapted ones do.
        TargetModules::AllLinear => {
            let mut names: Vec<&str> =
                adapter.modules.iter().filter_map(|module| module.name.rsplit('.').next()).collect();
            names.sort_unstable();
            names.dedup();
            Value::from(names)
        }
        TargetModules::Names(names) => Value::from(names.clone()),
        TargetModules::Regex(pattern) => Value::from(pattern.as_str()),
    };
    let stored = Stored {
        alpha_pattern: config
            .alpha_pattern
            .iter()
            .map(|(pattern, alpha)| (pattern.to_owned(), python_number(*alpha)))
            .collect(),
        base_model_name_or_path: base_model,
        bias: "none",
        fan_in_fan_out: false,
        inference_mode: true,
        init_lora_weights: true,
        lora_alpha: python_number(config.lora_alpha),
        lora_dropout: 0.0,
        modules_to_save: None,
        peft_type: "LORA",
        r: config.r,
        rank_pattern: &config.rank_pattern,
        revision: None,
        target_modules,
        task_type: "CAUSAL_LM",
        use_dora: false,
        use_rslora: config.use_rslora,
    };
    serde_json::to_string_pretty(&stored).map_err(|error| Error::field("adapter_config.json", "valid JSON", error))
}

/// PEFT types alpha as an integer: write `16`, not `16.0`, where it is one.
fn python_number(value: f64) -> Value {
    // 2^53: below it every whole f64 is its integer.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        Value::from(value as i64)
    } else {
        Number::from_f64(value).map_or(Value::Null, Value::Number)
    }
}
