//! JSON Lines: one record per line.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

use super::{Message, Prompt, Record};
use crate::error::Error;

/// Reads every record of a JSONL file.
///
/// `prompt_column` names the column of the prompt; `None` takes `prompt` or, where a record has none, `question`. The
/// prompt is text or a list of messages with `role` and `content`; every other column is kept for the reward. Empty lines
/// are skipped, as is a byte order mark.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read, [`Error::Data`] with the line's number where a line is no record, and
/// [`Error::NoRecords`] where none is.
pub fn read_jsonl(path: &Path, prompt_column: Option<&str>) -> Result<Vec<Record>, Error> {
    let io = |source| Error::Io { action: "read", path: path.to_path_buf(), source };
    let mut reader = BufReader::new(std::fs::File::open(path).map_err(io)?);
    let mut records = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(io)? == 0 {
            break;
        }
        let bad = |problem: String| Error::Data { path: path.to_path_buf(), line, problem };
        let text = std::str::from_utf8(&bytes).map_err(|e| bad(format!("expected UTF-8, got {e}")))?;
        let text = if line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        if !text.trim().is_empty() {
            records.push(parse_record(text, prompt_column).map_err(bad)?);
        }
    }
    if records.is_empty() { Err(Error::NoRecords { path: path.to_path_buf() }) } else { Ok(records) }
}

/// Reads one line; the error says what was expected and what came.
pub fn parse_record(line: &str, prompt_column: Option<&str>) -> Result<Record, String> {
    let value: Value = serde_json::from_str(line.trim()).map_err(|e| format!("expected a JSON object, got {e}"))?;
    let Value::Object(mut columns) = value else {
        return Err(format!("expected a JSON object, got {}", kind(&value)));
    };
    let column = match prompt_column {
        Some(name) => name,
        None if !columns.contains_key("prompt") && columns.contains_key("question") => "question",
        None => "prompt",
    };
    let Some(prompt) = columns.shift_remove(column) else {
        return Err(format!("expected a column `{column}`, got {}", names(&columns)));
    };
    Ok(Record { prompt: parse_prompt(column, prompt)?, columns })
}

fn parse_prompt(column: &str, value: Value) -> Result<Prompt, String> {
    match value {
        Value::String(text) if text.is_empty() => Err(format!("expected `{column}` to hold text, got an empty string")),
        Value::String(text) => Ok(Prompt::Text(text)),
        Value::Array(turns) if turns.is_empty() => {
            Err(format!("expected `{column}` to hold messages, got an empty list"))
        }
        Value::Array(turns) => {
            let messages = turns.into_iter().enumerate().map(|(i, turn)| {
                let text = |key: &str| match turn.get(key) {
                    Some(Value::String(text)) => Ok(text.clone()),
                    Some(other) => {
                        Err(format!("expected `{key}` of message {i} of `{column}` to be text, got {}", kind(other)))
                    }
                    None => Err(format!("expected message {i} of `{column}` to have a `{key}`, got {turn}")),
                };
                Ok(Message { role: text("role")?, content: text("content")? })
            });
            messages.collect::<Result<_, String>>().map(Prompt::Messages)
        }
        other => Err(format!("expected `{column}` to be text or a list of messages, got {}", kind(&other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn names(columns: &Map<String, Value>) -> String {
    if columns.is_empty() {
        return "no columns".into();
    }
    columns.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Record, String> {
        parse_record(line, None)
    }

    #[test]
    fn keeps_every_other_column() {
        let record = parse(r#"{"answer": "4", "prompt": "2+2=", "level": 1}"#).unwrap();
        assert_eq!(record.prompt, Prompt::Text("2+2=".into()));
        assert_eq!(serde_json::to_string(&record.columns).unwrap(), r#"{"answer":"4","level":1}"#);
    }

    #[test]
    fn question_stands_in_for_a_missing_prompt_only() {
        assert_eq!(parse(r#"{"question": "q", "answer": "a"}"#).unwrap().prompt, Prompt::Text("q".into()));
        let both = parse(r#"{"question": "q", "prompt": "p"}"#).unwrap();
        assert_eq!(both.prompt, Prompt::Text("p".into()));
        assert_eq!(both.columns["question"], "q");
        assert_eq!(parse_record(r#"{"x": "p"}"#, Some("x")).unwrap().prompt, Prompt::Text("p".into()));
    }

    #[test]
    fn reads_conversations() {
        let record = parse(r#"{"prompt": [{"role": "user", "content": "hi"}]}"#).unwrap();
        assert_eq!(record.prompt, Prompt::Messages(vec![Message { role: "user".into(), content: "hi".into() }]));
    }

    #[test]
    fn says_what_is_wrong() {
        for (line, expected) in [
            ("{\"prompt\": ", "expected a JSON object, got EOF"),
            ("[1]", "expected a JSON object, got a list"),
            ("{\"a\": 1}", "expected a column `prompt`, got `a`"),
            ("{}", "expected a column `prompt`, got no columns"),
            ("{\"prompt\": 3}", "expected `prompt` to be text or a list of messages, got a number"),
            ("{\"prompt\": \"\"}", "expected `prompt` to hold text, got an empty string"),
            ("{\"prompt\": [{\"role\": \"user\"}]}", "expected message 0 of `prompt` to have a `content`"),
            (
                "{\"prompt\": [{\"role\": 1, \"content\": \"x\"}]}",
                "expected `role` of message 0 of `prompt` to be text",
            ),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.starts_with(expected), "{line}: {error}");
        }
    }

    #[test]
    fn names_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        std::fs::write(&path, "\u{feff}{\"prompt\": \"a\"}\n\n{\"prompt\": \"b\"}\r\nnot json\n").unwrap();
        let error = read_jsonl(&path, None).unwrap_err().to_string();
        assert!(error.contains("data.jsonl:4: expected a JSON object"), "{error}");
        std::fs::write(&path, b"{\"prompt\": \"a\"}\n{\"prompt\": \"\xff\"}\n").unwrap();
        let error = read_jsonl(&path, None).unwrap_err().to_string();
        assert!(error.contains("data.jsonl:2: expected UTF-8"), "{error}");
        std::fs::write(&path, "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}").unwrap();
        assert_eq!(read_jsonl(&path, None).unwrap().len(), 2);
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(read_jsonl(&path, None), Err(Error::NoRecords { .. })));
        assert!(matches!(read_jsonl(&folder.path().join("none"), None), Err(Error::Io { .. })));
    }
}
