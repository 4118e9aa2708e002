//! The part of JSON Schema that Anthropic enforces, for answers and strict tools. What its compiler refuses (bounds of numbers and
//! lengths, other formats, open objects) is moved to the description; recursion is refused by the vendor and left for it to say.

use serde_json::{Map, Value};

use crate::json_schema::Dialect;

pub(super) const DIALECT: Dialect = Dialect { adjust, takes };

const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

fn adjust(schema: &mut Map<String, Value>) {
    if schema.get("type").is_some_and(|kind| kind == "object") || schema.contains_key("properties") {
        // The only value that is taken.
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    if !schema.contains_key("anyOf")
        && let Some(one_of) = schema.remove("oneOf")
    {
        schema.insert("anyOf".to_owned(), one_of);
    }
}

fn takes(keyword: &str, value: &Value) -> bool {
    match keyword {
        "format" => value.as_str().is_some_and(|format| FORMATS.contains(&format)),
        "minItems" => matches!(value.as_u64(), Some(0 | 1)),
        "additionalProperties" => value == false,
        "$ref" => value.as_str().is_some_and(|reference| reference.starts_with('#')),
        _ => [
            "type",
            "title",
            "description",
            "enum",
            "const",
            "default",
            "anyOf",
            "allOf",
            "properties",
            "required",
            "items",
            "pattern",
            "$defs",
            "definitions",
            "$schema",
        ]
        .contains(&keyword),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::json_schema::translate;

    #[test]
    fn what_is_refused_moves_to_the_description() {
        let schema = json!({
            "type": "object",
            "properties": {
                "age": {"type": "integer", "minimum": 0, "description": "In years."},
                "tags": {"type": "array", "minItems": 2, "items": {"type": "string", "format": "color"}},
                "kind": {"oneOf": [{"const": "a"}, {"type": "null"}]},
                "minimum": {"type": "string"},
            },
            "additionalProperties": {"type": "string"},
            "required": ["age"],
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "age": {"type": "integer", "description": "In years.\n\n{minimum: 0}"},
                "tags": {
                    "type": "array",
                    "items": {"type": "string", "description": "{format: \"color\"}"},
                    "description": "{minItems: 2}",
                },
                "kind": {"anyOf": [{"const": "a"}, {"type": "null"}]},
                "minimum": {"type": "string"},
            },
            "additionalProperties": false,
            "required": ["age"],
        });
        assert_eq!(translate(&schema, &DIALECT), expected);
        assert_eq!(translate(&expected, &DIALECT), expected);
    }
}
