//! What a model answered.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::message::{Message, Role};

/// A whole answer. The same whether it came at once or as a stream.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Response {
    /// The vendor's id of the answer, where it has one.
    pub id: String,
    /// The model that answered, which may be more precise than the one asked for.
    pub model: String,
    /// What it said.
    pub message: Message,
    /// Why it stopped.
    pub stop: Stop,
    /// What it cost in tokens.
    pub usage: Usage,
    /// Log-probabilities, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_probs: Option<LogProbs>,
    /// What else the vendor said about the answer: fingerprints, tiers, ratings.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl Default for Response {
    /// Nothing said yet: the stop reason is [`StopReason::Incomplete`].
    fn default() -> Self {
        Self {
            id: String::new(),
            model: String::new(),
            message: Message::new(Role::Assistant, Vec::new()),
            stop: Stop { reason: StopReason::Incomplete, raw: None },
            usage: Usage::default(),
            log_probs: None,
            metadata: Map::new(),
        }
    }
}

impl Response {
    /// The text of the answer; see [`Message::text`].
    pub fn text(&self) -> String {
        self.message.text()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("id", &self.id)
            .field("model", &self.model)
            .field("message", &self.message)
            .field("stop", &self.stop.reason)
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

/// Why an answer ended, in common words and the vendor's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// In common words.
    pub reason: StopReason,
    /// The vendor's word, where it gave one.
    pub raw: Option<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// The model was done.
    Stop,
    /// One of the stop texts came (vendors that do not tell say `Stop`).
    StopSequence,
    /// The bound on tokens, or the model's context, was reached.
    Length,
    /// Tools are to be called.
    ToolCalls,
    /// The vendor or the model declined.
    ContentFilter,
    /// The vendor interrupted a long turn; send the conversation again to go on.
    Pause,
    /// The vendor reported that generating failed.
    Error,
    /// The answer is not there yet: only in what [`ResponseStream::so_far`](crate::ResponseStream::so_far) gives.
    Incomplete,
    /// A word this version does not know; see [`Stop::raw`].
    Other,
}

/// Tokens of a call, counted by the vendor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt, those from a cache included. `None`: not said.
    pub input: Option<u64>,
    /// Of those, read from a cache.
    pub cached_input: Option<u64>,
    /// Of those, written to a cache.
    pub cache_write: Option<u64>,
    /// Tokens of the answer, reasoning included.
    pub output: Option<u64>,
    /// Of those, reasoning.
    pub reasoning: Option<u64>,
    /// As the vendor said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<Value>,
}

impl Usage {
    /// Input and output together, as far as said.
    pub fn total(&self) -> u64 {
        self.input.unwrap_or(0) + self.output.unwrap_or(0)
    }
}

/// Log-probabilities of an answer's tokens.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogProbs {
    /// One entry per token, as far as the vendor gives them.
    pub tokens: Vec<TokenLogProb>,
    /// Whether there is exactly one entry for each token of the answer, with its id: only then may ratios of probabilities be formed
    /// over tokens. llama.cpp merges tokens whose bytes are not UTF-8 by themselves, Ollama gives no ids.
    pub aligned: bool,
}

impl LogProbs {
    /// Entries, judged against the vendor's count of the answer's tokens.
    pub fn new(tokens: Vec<TokenLogProb>, output_tokens: Option<u64>) -> Self {
        let aligned = output_tokens == Some(tokens.len() as u64) && tokens.iter().all(|token| token.id.is_some());
        Self { tokens, aligned }
    }
}

impl fmt::Debug for LogProbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogProbs({} tokens, aligned: {})", self.tokens.len(), self.aligned)
    }
}

/// A token and how likely it was.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TokenLogProb {
    /// The token's text, with replacement characters where its bytes are not UTF-8.
    pub token: String,
    /// Its number in the vocabulary, where the vendor tells.
    pub id: Option<u32>,
    /// Its bytes, where the vendor tells.
    pub bytes: Option<Vec<u8>>,
    /// Natural logarithm of its probability.
    pub log_prob: f64,
    /// The most likely tokens at this place, most likely first, where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TokenLogProb>,
}

impl TokenLogProb {
    /// A token with its log-probability.
    pub fn new(token: impl Into<String>, log_prob: f64) -> Self {
        Self { token: token.into(), id: None, bytes: None, log_prob, top: Vec::new() }
    }
}

impl fmt::Debug for TokenLogProb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {}", self.token.len(), self.log_prob)
    }
}
