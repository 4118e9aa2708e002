//! JSON Schema as a vendor takes it.

use serde_json::{Map, Value};

/// What a vendor takes of JSON Schema.
pub(crate) struct Dialect {
    /// Says a schema, without those below it, in the vendor's words as far as they mean the same.
    pub(crate) adjust: fn(&mut Map<String, Value>),
    /// Whether the vendor takes a keyword with this value.
    pub(crate) takes: fn(keyword: &str, value: &Value) -> bool,
}

/// Keywords that bind nobody: they go without a word.
const ANNOTATIONS: [&str; 10] =
    ["$schema", "$id", "$comment", "$anchor", "title", "default", "examples", "deprecated", "readOnly", "writeOnly"];

/// `schema` with the keywords that the vendor takes. What it does not take is appended to the description as Anthropic's own client
/// does, so that the model at least reads it.
pub(crate) fn translate(schema: &Value, dialect: &Dialect) -> Value {
    let Value::Object(schema) = schema else { return schema.clone() };
    let mut schema = schema.clone();
    (dialect.adjust)(&mut schema);
    let mut taken = Map::new();
    let mut left = Vec::new();
    for (keyword, value) in schema {
        if (dialect.takes)(&keyword, &value) {
            let value = below(&keyword, value, dialect);
            taken.insert(keyword, value);
        } else if !ANNOTATIONS.contains(&keyword.as_str()) {
            left.push(format!("{keyword}: {value}"));
        }
    }
    if !left.is_empty() {
        let note = format!("{{{}}}", left.join(", "));
        let description = match taken.get("description").and_then(Value::as_str) {
            Some(description) => format!("{description}\n\n{note}"),
            None => note,
        };
        taken.insert("description".to_owned(), description.into());
    }
    Value::Object(taken)
}

/// The schemas that stand in a keyword's value.
fn below(keyword: &str, value: Value, dialect: &Dialect) -> Value {
    match (keyword, value) {
        ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(map)) => {
            map.into_iter().map(|(name, schema)| (name, translate(&schema, dialect))).collect()
        }
        ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(schemas)) => {
            schemas.iter().map(|schema| translate(schema, dialect)).collect()
        }
        ("items" | "additionalProperties" | "not" | "contains", schema @ Value::Object(_)) => {
            translate(&schema, dialect)
        }
        (_, value) => value,
    }
}
