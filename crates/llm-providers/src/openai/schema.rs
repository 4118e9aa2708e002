//! Schemas as OpenAI's strict mode takes them.

use serde_json::{Map, Value, json};

use crate::request::JsonSchema;

/// Assertions that strict mode refuses and a sentence can say.
const SAID_IN_WORDS: [&str; 8] = [
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "propertyNames",
    "contains",
    "minContains",
    "maxContains",
    "unevaluatedItems",
];

/// Keywords that assert nothing and that strict mode refuses.
const ANNOTATIONS: [&str; 3] = ["default", "examples", "$comment"];

/// The format of an answer, without its envelope.
pub(super) fn format(format: &JsonSchema) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("name".to_owned(), format.name.as_str().into());
    if let Some(description) = &format.description {
        object.insert("description".to_owned(), description.as_str().into());
    }
    let schema = if format.strict == Some(true) { strict(&format.schema) } else { format.schema.clone() };
    object.insert("schema".to_owned(), schema);
    format.strict.map(|strict| object.insert("strict".to_owned(), strict.into()));
    object
}

/// A schema with what strict mode wants, as OpenAI's own clients do it:
///
/// - Objects with `properties` are closed, and all their properties are required. What follows that follows the caller's schema too; a
///   property that the model may leave out has to allow null.
/// - `default`, `examples` and `$comment` are left out. `oneOf` becomes `anyOf`. `allOf` of one schema is joined with what stands beside
///   it. A `$ref` with something beside it becomes an `anyOf` of one.
/// - Assertions that strict mode refuses and a sentence can say (`uniqueItems`, ..) go into the description: they are asked for, not
///   enforced.
///
/// Anything else it refuses (`not`, `if`, `patternProperties`, objects of free keys) stays, so that OpenAI says so.
pub(super) fn strict(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(root) = &mut schema {
        let is_object = root.get("type").is_some_and(|kind| kind == "object");
        if is_object && !root.contains_key("properties") && !root.contains_key("additionalProperties") {
            root.insert("properties".to_owned(), json!({}));
        }
    }
    tighten(&mut schema);
    schema
}

fn tighten(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    join_all_of(schema);
    ANNOTATIONS.iter().for_each(|key| {
        schema.shift_remove(*key);
    });
    say_in_words(schema);
    if !schema.contains_key("anyOf") {
        if let Some(one_of) = schema.shift_remove("oneOf") {
            schema.insert("anyOf".to_owned(), one_of);
        } else if schema.len() > 1
            && let Some(reference) = schema.shift_remove("$ref")
        {
            schema.insert("anyOf".to_owned(), json!([{ "$ref": reference }]));
        }
    }
    close(schema);
    for key in ["properties", "$defs", "definitions"] {
        if let Some(Value::Object(schemas)) = schema.get_mut(key) {
            schemas.values_mut().for_each(tighten);
        }
    }
    for key in ["anyOf", "oneOf", "allOf", "prefixItems"] {
        if let Some(Value::Array(schemas)) = schema.get_mut(key) {
            schemas.iter_mut().for_each(tighten);
        }
    }
    if let Some(items) = schema.get_mut("items") {
        tighten(items);
    }
}

fn close(schema: &mut Map<String, Value>) {
    let Some(Value::Object(properties)) = schema.get("properties") else { return };
    let names: Vec<Value> = properties.keys().map(|name| name.as_str().into()).collect();
    let required = schema.get("required").and_then(Value::as_array);
    // The order of the caller's list, where it has them all already.
    if required.is_none_or(|required| names.iter().any(|name| !required.contains(name))) {
        schema.insert("required".to_owned(), names.into());
    }
    let is_open = schema.get("additionalProperties").is_none_or(|additional| *additional == true);
    if is_open {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
}

fn join_all_of(schema: &mut Map<String, Value>) {
    let Some(Value::Array(schemas)) = schema.get("allOf") else { return };
    let [Value::Object(only)] = schemas.as_slice() else { return };
    if only.keys().any(|key| schema.contains_key(key)) {
        return;
    }
    let only = only.clone();
    schema.shift_remove("allOf");
    schema.extend(only);
}

fn say_in_words(schema: &mut Map<String, Value>) {
    let said: Vec<String> =
        SAID_IN_WORDS.iter().filter_map(|key| Some(format!("{key}: {}", schema.shift_remove(*key)?))).collect();
    if said.is_empty() {
        return;
    }
    let words = format!("({})", said.join(", "));
    let description = match schema.get("description").and_then(Value::as_str) {
        Some(description) if !description.is_empty() => format!("{description} {words}"),
        _ => words,
    };
    schema.insert("description".to_owned(), description.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: Value, expected: Value) {
        assert_eq!(strict(&schema), expected);
        assert_eq!(strict(&expected), expected, "once more");
    }

    #[test]
    fn objects_are_closed_and_complete() {
        check(
            json!({ "type": "object", "properties": { "a": { "type": "string", "default": "x" }, "b": { "type": "object",
                "properties": { "c": {} } } }, "required": ["b"] }),
            json!({ "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "object",
                "properties": { "c": {} }, "required": ["c"], "additionalProperties": false } },
                "required": ["a", "b"], "additionalProperties": false }),
        );
        let none = json!({ "type": "object", "properties": {}, "required": [], "additionalProperties": false });
        check(json!({ "type": "object" }), none);
        let order =
            json!({ "properties": { "a": {}, "b": {} }, "required": ["b", "a"], "additionalProperties": false });
        check(order.clone(), order);
    }

    #[test]
    fn what_cannot_be_said_stays() {
        for schema in [
            json!({ "type": "object", "additionalProperties": { "type": "number" } }),
            json!({ "not": { "type": "string" } }),
            json!({ "allOf": [{ "type": "string" }, { "minLength": 3 }] }),
            json!({ "anyOf": [{ "type": "object" }] }),
            json!(true),
        ] {
            check(schema.clone(), schema);
        }
    }

    #[test]
    fn unions_and_references_are_said_otherwise() {
        check(
            json!({ "oneOf": [{ "const": 1 }, { "const": 2 }] }),
            json!({ "anyOf": [{ "const": 1 }, { "const": 2 }] }),
        );
        check(json!({ "allOf": [{ "$ref": "#/$defs/a" }] }), json!({ "$ref": "#/$defs/a" }));
        check(
            json!({ "$ref": "#/$defs/a", "description": "d", "default": 1 }),
            json!({ "description": "d", "anyOf": [{ "$ref": "#/$defs/a" }] }),
        );
        check(
            json!({ "items": { "$ref": "#/$defs/a" }, "$defs": { "a": { "properties": { "x": {} } } } }),
            json!({ "items": { "$ref": "#/$defs/a" }, "$defs": { "a": { "properties": { "x": {} }, "required": ["x"],
                "additionalProperties": false } } }),
        );
    }

    #[test]
    fn refused_assertions_become_words() {
        check(
            json!({ "type": "array", "items": {}, "uniqueItems": true, "minItems": 1, "description": "Names." }),
            json!({ "type": "array", "items": {}, "minItems": 1, "description": "Names. (uniqueItems: true)" }),
        );
    }
}
