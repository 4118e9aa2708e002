//! The parts of JSON Schema that Gemini takes.

use serde_json::{Map, Value};

use crate::json_schema::{Dialect, translate};

/// What `responseJsonSchema` and `parametersJsonSchema` take, as their documentation lists it.
const DIALECT: Dialect = Dialect { adjust, takes };

const TAKEN: [&str; 22] = [
    "$id",
    "$defs",
    "$ref",
    "$anchor",
    "type",
    "format",
    "title",
    "description",
    "enum",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "anyOf",
    "oneOf",
    "properties",
    "additionalProperties",
    "required",
    "propertyOrdering",
    "nullable",
];

/// Keywords of `parameters`, besides those whose value decides.
const OPEN_API: [&str; 16] = [
    "title",
    "description",
    "nullable",
    "minItems",
    "maxItems",
    "required",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "propertyOrdering",
    "properties",
    "items",
];

/// A schema as `responseJsonSchema` takes it.
pub(super) fn json_schema(schema: &Value) -> Value {
    translate(schema, &DIALECT)
}

/// A schema as `parameters` takes it, where that loses nothing but `$schema` and closed objects, which it does not know.
pub(super) fn open_api(schema: &Value) -> Option<Value> {
    let Value::Object(schema) = schema else { return None };
    let mut taken = Map::new();
    for (keyword, value) in schema {
        let value = match (keyword.as_str(), value) {
            ("$schema", _) | ("additionalProperties", Value::Bool(false)) => continue,
            ("type", Value::String(_)) => value.clone(),
            ("format", Value::String(format)) if is_format(schema, format) => value.clone(),
            ("enum", Value::Array(values)) if values.iter().all(Value::is_string) => value.clone(),
            ("properties", Value::Object(map)) => Value::Object(
                map.iter().map(|(name, schema)| Some((name.clone(), open_api(schema)?))).collect::<Option<_>>()?,
            ),
            ("items", item) => open_api(item)?,
            ("anyOf", Value::Array(schemas)) => Value::Array(schemas.iter().map(open_api).collect::<Option<_>>()?),
            (keyword, value) if OPEN_API.contains(&keyword) => value.clone(),
            _ => return None,
        };
        taken.insert(keyword.clone(), value);
    }
    Some(Value::Object(taken))
}

/// Strings have two formats, numbers theirs.
fn is_format(schema: &Map<String, Value>, format: &str) -> bool {
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => matches!(format, "enum" | "date-time"),
        Some("integer") => matches!(format, "int32" | "int64"),
        Some("number") => matches!(format, "float" | "double"),
        _ => false,
    }
}

fn adjust(schema: &mut Map<String, Value>) {
    if let Some(value) = schema.remove("const") {
        schema.entry("enum").or_insert_with(|| Value::Array(vec![value]));
    }
    // Under its old name, definitions are not looked up.
    if let Some(definitions) = schema.remove("definitions") {
        schema.entry("$defs").or_insert(definitions);
    }
    if let Some(Value::String(reference)) = schema.get_mut("$ref")
        && let Some(name) = reference.strip_prefix("#/definitions/")
    {
        *reference = format!("#/$defs/{name}");
    }
    // A single schema in allOf is how generators put a description beside a reference.
    if let Some(Value::Array(all)) = schema.get("allOf")
        && let [Value::Object(only)] = all.as_slice()
    {
        let only = only.clone();
        schema.remove("allOf");
        for (keyword, value) in only {
            schema.entry(keyword).or_insert(value);
        }
        return adjust(schema);
    }
    if schema.contains_key("$ref") {
        // Nothing may stand beside it but what begins with $.
        schema.retain(|keyword, _| keyword.starts_with('$'));
    }
}

fn takes(keyword: &str, value: &Value) -> bool {
    match keyword {
        "enum" => value.as_array().is_some_and(|values| values.iter().all(|v| v.is_string() || v.is_number())),
        _ => TAKEN.contains(&keyword),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_open_api_part_goes_as_it_is_and_the_rest_does_not() {
        let plain = json!({
            "type": "object",
            "properties": {
                "x": {"type": "integer", "format": "int64", "minimum": 0},
                "pattern": {"type": "string", "enum": ["a", "b"]},
                "list": {"type": "array", "items": {"type": "string", "pattern": "^a"}},
            },
            "required": ["x"],
        });
        assert_eq!(open_api(&plain), Some(plain.clone()));
        let mut closed = plain.clone();
        closed["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        closed["additionalProperties"] = json!(false);
        assert_eq!(open_api(&closed), Some(plain));
        for beyond in [
            json!({"$ref": "#/$defs/A"}),
            json!({"type": ["string", "null"]}),
            json!({"type": "string", "format": "uuid"}),
            json!({"enum": [1, 2]}),
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"type": "object", "properties": {"a": {"const": 1}}}),
            json!({"type": "object", "properties": {"a": true}}),
        ] {
            assert_eq!(open_api(&beyond), None, "{beyond}");
        }
    }

    #[test]
    fn json_schema_keeps_what_is_documented() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "kind": {"const": "a"},
                "name": {"type": "string", "pattern": "^a", "description": "A name."},
                "next": {"allOf": [{"$ref": "#/definitions/Node"}], "description": "gone"},
                "size": {"type": "integer", "exclusiveMinimum": 0},
            },
            "additionalProperties": false,
            "definitions": {"Node": {"type": "object", "properties": {"$schema": {"type": "string"}}}},
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "kind": {"enum": ["a"]},
                "name": {"type": "string", "description": "A name.\n\n{pattern: \"^a\"}"},
                "next": {"$ref": "#/$defs/Node"},
                "size": {"type": "integer", "description": "{exclusiveMinimum: 0}"},
            },
            "additionalProperties": false,
            "$defs": {"Node": {"type": "object", "properties": {"$schema": {"type": "string"}}}},
        });
        assert_eq!(json_schema(&schema), expected);
        assert_eq!(json_schema(&expected), expected);
    }
}
