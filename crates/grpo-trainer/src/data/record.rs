//! A record: a prompt and whatever columns the reward needs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or what the chat template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

/// A prompt as it stands in the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// Plain text, tokenised as it is.
    Text(String),
    /// A conversation, rendered by the model's chat template.
    Messages(Vec<Message>),
}

/// One line of a data file.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What the model is given.
    pub prompt: Prompt,
    /// Every other column, handed to the reward function as it is.
    pub columns: Map<String, Value>,
}

impl Record {
    /// Whose data it is: the column `agent` where it is a whole number, else 0.
    pub fn agent(&self) -> u64 {
        self.columns.get("agent").and_then(Value::as_u64).unwrap_or(0)
    }
}
