//! A judge's verdict, read strictly: a grade that has to be guessed is none.

use krystal::llm::StopReason;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::hosted::Answer;

/// The best grade; the worst is 0.
pub(super) const MOST: u8 = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdict {
    score: u8,
    #[serde(default, rename = "reason")]
    _reason: String,
}

/// The schema that answers are to follow.
pub(super) fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "reason": { "type": "string" },
            "score": { "type": "integer", "minimum": 0, "maximum": MOST },
        },
        "required": ["reason", "score"],
        "additionalProperties": false,
    })
}

/// The grade, or why there is none: one JSON object with a whole number in the range, white space around it aside.
pub(super) fn read(answer: &Answer) -> Result<u8, String> {
    match answer.stop {
        StopReason::Stop | StopReason::StopSequence | StopReason::Other => {}
        StopReason::Length => return Err("the verdict was cut: raise --judge-max-tokens".to_owned()),
        StopReason::ContentFilter => return Err("the judge declined".to_owned()),
        ref other => return Err(format!("the judge stopped for {other:?}")),
    }
    let verdict: Verdict = serde_json::from_str(answer.text.trim())
        .map_err(|_| "the verdict is not the JSON object asked for".to_owned())?;
    if verdict.score > MOST {
        return Err(format!("the verdict's score is {}, beyond {MOST}", verdict.score));
    }
    Ok(verdict.score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_strictly() {
        for (text, expected) in [
            (r#"{"reason": "right", "score": 10}"#, Some(10)),
            (" {\"score\":0}\n", Some(0)),
            (r#"{"reason": "x", "score": 11}"#, None),
            (r#"{"reason": "x", "score": -1}"#, None),
            (r#"{"reason": "x", "score": 7.5}"#, None),
            (r#"{"reason": "x", "score": "7"}"#, None),
            (r#"{"reason": "x", "score": 7, "score": 10}"#, None),
            (r#"{"reason": "x", "score": 7, "grade": 10}"#, None),
            (r#"{"reason": "x", "score": 7} {"score": 10}"#, None),
            ("```json\n{\"score\": 7}\n```", None),
            ("The score is 7.", None),
            ("7", None),
            ("", None),
        ] {
            let answer = Answer { text: text.to_owned(), ..Answer::example(StopReason::Stop) };
            assert_eq!(read(&answer).ok(), expected, "{text}");
        }
        let whole = r#"{"score": 7}"#.to_owned();
        for stop in [StopReason::Length, StopReason::ContentFilter, StopReason::ToolCalls] {
            assert!(read(&Answer { text: whole.clone(), ..Answer::example(stop) }).is_err());
        }
    }
}
