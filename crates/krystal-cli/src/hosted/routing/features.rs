//! What a router sees of a question: numbers that cost nothing to know.

use std::collections::BTreeSet;

use krystal::grpo::data::{Prompt, Record};
use serde_json::Value;

/// Columns that may name the kind of a problem, the first that there is.
const KIND_COLUMNS: [&str; 5] = ["task", "subject", "category", "type", "level"];
/// More kinds than this are told apart by nothing.
const MOST_KINDS: usize = 16;

/// A 1, the length, the shares of digits and of signs, and the kind of the problem, all from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Features {
    rows: Vec<Vec<f64>>,
}

impl Features {
    /// Those of every record.
    pub(crate) fn of(records: &[Record]) -> Self {
        let kind = |record: &Record| {
            let value = KIND_COLUMNS.iter().find_map(|column| record.columns.get(*column))?;
            match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            }
        };
        let mut kinds: BTreeSet<String> = records.iter().filter_map(kind).collect();
        if !(2..=MOST_KINDS).contains(&kinds.len()) {
            kinds.clear();
        }
        let row = |record: &Record| {
            let text = last_turn(&record.prompt);
            let n = text.chars().count().max(1) as f64;
            let share = |is: fn(char) -> bool| text.chars().filter(|c| is(*c)).count() as f64 / n;
            let mut row = vec![
                1.0,
                ((1.0 + n).ln() / 10.0).min(1.0),
                share(|c| c.is_numeric()),
                share(|c| !c.is_alphanumeric() && !c.is_whitespace()),
            ];
            let own = kind(record);
            row.extend(kinds.iter().map(|kind| if own.as_ref() == Some(kind) { 1.0 } else { 0.0 }));
            row
        };
        Self { rows: records.iter().map(row).collect() }
    }

    /// Numbers of each question.
    pub(crate) fn dim(&self) -> usize {
        self.rows.first().map_or(1, Vec::len)
    }

    /// Those of some questions.
    pub(crate) fn only(&self, chosen: &[usize]) -> Self {
        Self { rows: chosen.iter().map(|i| self.rows[*i].clone()).collect() }
    }

    /// Those of one question.
    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.rows[i]
    }
}

fn last_turn(prompt: &Prompt) -> &str {
    match prompt {
        Prompt::Text(text) => text,
        Prompt::Messages(turns) => turns.last().map_or("", |turn| turn.content.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn questions_are_told_apart() {
        let record = |prompt: &str, columns: Value| Record {
            prompt: Prompt::Text(prompt.into()),
            columns: columns.as_object().unwrap().clone(),
        };
        let records = [
            record("12+34=", json!({"task": "sums"})),
            record("Who wrote Emma?", json!({"task": "books"})),
            record("", json!({})),
        ];
        let features = Features::of(&records);
        assert_eq!(features.dim(), 6);
        let (sum, book, empty) = (features.row(0), features.row(1), features.row(2));
        assert_eq!((sum[2], sum[3], &sum[4..]), (4.0 / 6.0, 2.0 / 6.0, &[0.0, 1.0][..]));
        assert_eq!((book[2], &book[4..]), (0.0, &[1.0, 0.0][..]));
        assert!(book[1] > sum[1] && empty[4..] == [0.0, 0.0]);
        assert!(records.iter().enumerate().all(|(i, _)| features.row(i).iter().all(|x| (0.0..=1.0).contains(x))));
    }
}
