//! The reference answer and the candidate's, as two types that cannot be swapped.

use std::fmt;

use serde_json::{Map, Value};

use crate::math::{self, Quantity, Unreadable};

/// The reference answer. Only a gold can accept an answer: there is no function in which the two could trade places.
#[derive(Debug, Clone)]
pub struct Gold(Quantity);

/// A candidate's answer.
#[derive(Debug, Clone)]
pub struct Answer(Quantity);

impl Gold {
    /// Reads a reference: the answer its marker introduces (`#### 72`, `A: 72`, `\boxed{72}`), or else the whole text,
    /// which must then be one quantity.
    ///
    /// # Errors
    /// [`Unreadable`] where the reference is not a single number; the verdict must then be an abstention.
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        math::read_gold(text).map(Self)
    }

    /// Whether the answer equals this gold, exactly; see [`Quantity::equals`].
    pub fn accepts(&self, answer: &Answer) -> bool {
        self.0.equals(&answer.0)
    }

    /// The reference as a quantity.
    pub fn quantity(&self) -> &Quantity {
        &self.0
    }
}

impl Answer {
    /// Reads the final answer of a completion: the last `\boxed{...}`, `#### ...`, `A: ...` or `answer is ...` after the
    /// last `</think>`; without one of those the last number.
    ///
    /// # Errors
    /// [`Unreadable`] where there is none, or what stands there is not a single number.
    pub fn read(completion: &str) -> Result<Self, Unreadable> {
        math::read_answer(completion).map(Self)
    }

    /// Reads the last number of a completion, wherever it stands.
    ///
    /// # Errors
    /// [`Unreadable`] where there is none, or it is a part of something else (`2x`, `12:30`).
    pub fn last_number(completion: &str) -> Result<Self, Unreadable> {
        math::last_number(completion).map(Self)
    }

    /// The answer as a quantity.
    pub fn quantity(&self) -> &Quantity {
        &self.0
    }
}

impl fmt::Display for Gold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the reference stands in a data record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GoldColumn {
    /// The first of `answer`, `ground_truth`, `target`, `solution` that the record has.
    #[default]
    Usual,
    /// A named column.
    Named(String),
}

impl GoldColumn {
    const USUAL: [&'static str; 4] = ["answer", "ground_truth", "target", "solution"];

    /// The reference's text: a string as it is, a number as JSON writes it. Otherwise the reason for abstaining.
    pub(crate) fn text(&self, columns: &Map<String, Value>) -> Result<String, String> {
        let (name, value) = match self {
            Self::Named(name) => (name.as_str(), columns.get(name)),
            Self::Usual => {
                let found = Self::USUAL.iter().find(|name| columns.contains_key(**name));
                (found.copied().unwrap_or("answer"), found.and_then(|name| columns.get(*name)))
            }
        };
        match value {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(other) => Err(format!("column `{name}`: expected text or a number, found {}", kind(other))),
            None if *self == Self::Usual => Err(format!("no column named any of: {}", Self::USUAL.join(", "))),
            None => Err(format!("no column named `{name}`")),
        }
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
