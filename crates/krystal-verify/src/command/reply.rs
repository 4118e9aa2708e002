//! A line of a reward program's output.

use serde_json::{Map, Value};

use crate::Verdict;

/// What one line says.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The request it answers, where it says so.
    pub(crate) id: Option<u64>,
    pub(crate) verdict: Verdict,
}

/// Reads a line, or says what was expected and what came.
pub(crate) fn parse(line: &[u8]) -> Result<Reply, String> {
    let mut object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| format!("expected a JSON object ({error})"))?;
    let id = match object.shift_remove("id") {
        None | Some(Value::Null) => None,
        Some(id) => Some(id.as_u64().ok_or_else(|| format!("expected `id` to be that of a request, found {id}"))?),
    };
    let reason = match object.shift_remove("reason") {
        Some(Value::String(reason)) => Some(reason),
        Some(other) => {
            object.insert("reason".to_owned(), other);
            None
        }
        None => None,
    };
    let mut verdict = match object.shift_remove("score") {
        Some(Value::Null) => Verdict::abstain(reason.unwrap_or_else(|| "the program gave no verdict".to_owned())),
        Some(Value::Number(score)) => {
            let score = score.as_f64().filter(|score| score.is_finite());
            let verdict = Verdict::score(score.ok_or("expected `score` to be a finite number")?);
            match reason {
                Some(reason) => verdict.with("reason", reason),
                None => verdict,
            }
        }
        Some(other) => return Err(format!("expected `score` to be a number or null, found {other}")),
        None => return Err("expected a key `score`".to_owned()),
    };
    verdict.extra.extend(object);
    Ok(Reply { id, verdict })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replies() {
        let reply = parse(br#"{"id":3,"score":0.5,"note":"x"}"#).expect("a reply");
        assert_eq!((reply.id, reply.verdict), (Some(3), Verdict::score(0.5).with("note", "x")));
        let reply = parse(br#"{"score":null,"reason":"no oracle"}"#).expect("a reply");
        assert_eq!((reply.id, reply.verdict.reason()), (None, Some("no oracle")));
        for (line, reason) in [
            ("", "expected a JSON object"),
            ("0.5", "expected a JSON object"),
            ("{}", "expected a key `score`"),
            (r#"{"score":"1"}"#, "expected `score` to be a number or null, found \"1\""),
            (r#"{"score":1e999}"#, "expected"),
            (r#"{"score":1,"id":-1}"#, "expected `id`"),
            (r#"{"score":1} x"#, "expected a JSON object"),
        ] {
            let message = parse(line.as_bytes()).expect_err(line);
            assert!(message.contains(reason), "{line}: {message}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(line in any::<Vec<u8>>(), text in any::<String>()) {
            let _ = parse(&line);
            let _ = parse(text.as_bytes());
            let _ = parse(format!(r#"{{"score":{text}}}"#).as_bytes());
        }
    }
}
