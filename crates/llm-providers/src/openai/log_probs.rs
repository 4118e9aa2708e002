//! Log-probabilities, the same in both interfaces.

use std::collections::VecDeque;

use serde::Deserialize;

use super::sequence;
use crate::event::StreamEvent;
use crate::json::Str;
use crate::response::TokenLogProb;

#[derive(Deserialize)]
pub(super) struct Entry<'a> {
    #[serde(default, borrow)]
    token: Str<'a>,
    /// llama.cpp.
    #[serde(default)]
    id: Option<u32>,
    #[serde(default)]
    bytes: Option<Vec<u8>>,
    /// Null for a probability of zero, which JSON cannot say.
    #[serde(default)]
    logprob: Option<f64>,
    #[serde(default, borrow, deserialize_with = "sequence::list")]
    top_logprobs: Vec<Entry<'a>>,
}

impl From<Entry<'_>> for TokenLogProb {
    fn from(entry: Entry<'_>) -> Self {
        // What vLLM writes for the token, where asked to.
        let written_id = || entry.token.0.strip_prefix("token_id:")?.parse().ok();
        Self {
            id: entry.id.or_else(written_id),
            bytes: entry.bytes,
            log_prob: entry.logprob.unwrap_or(f64::NEG_INFINITY),
            top: entry.top_logprobs.into_iter().map(Self::from).collect(),
            token: entry.token.0.into_owned(),
        }
    }
}

/// Gives the entries of the text and of a refusal. `ids`: vLLM's, which say as much as there are entries or are of something else.
pub(super) fn push(
    content: Vec<Entry<'_>>,
    refusal: Vec<Entry<'_>>,
    ids: Option<Vec<u32>>,
    events: &mut VecDeque<StreamEvent>,
) {
    let mut tokens: Vec<TokenLogProb> = content.into_iter().chain(refusal).map(TokenLogProb::from).collect();
    if let Some(ids) = ids.filter(|ids| ids.len() == tokens.len()) {
        for (token, id) in tokens.iter_mut().zip(ids) {
            token.id.get_or_insert(id);
        }
    }
    if !tokens.is_empty() {
        events.push_back(StreamEvent::LogProbs(tokens));
    }
}
