//! An answer piece by piece. A whole answer is read as a single piece, so that both give the same message.

use std::collections::VecDeque;

use http::StatusCode;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::base64_bytes;
use crate::blocks::Blocks;
use crate::decode::SseDecoder;
use crate::error::{Error, Result};
use crate::event::{BlockStart, StreamEvent};
use crate::gemini::wire::{AnswerCall, AnswerData, AnswerPart, Candidate, Chunk, LogProb, LogProbsResult};
use crate::gemini::{NAME, response};
use crate::http_provider::LARGEST;
use crate::json;
use crate::message::{Content, File, Media, Opaque};
use crate::protocol::Decode;
use crate::response::{Stop, StopReason, TokenLogProb, Usage};

/// How ids begin that we give to calls without one.
pub(super) const MADE_ID: &str = "gemini_call_";

pub(super) struct Decoder {
    events: SseDecoder,
    answer: Answer,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { events: SseDecoder::new(LARGEST), answer: Answer::default() }
    }
}

impl Decode for Decoder {
    fn push(&mut self, bytes: &[u8], events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let Self { events: sse, answer } = self;
        sse.push(bytes, |event| {
            if event.is_comment {
                events.push_back(StreamEvent::Ping);
                return Ok(());
            }
            answer.take_all(event.data, events)
        })
    }

    fn finish(&mut self, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let rest = self.events.rest();
        // The last event may lack its empty line, not a part of its data.
        if serde_json::from_slice::<IgnoredAny>(rest).is_ok() {
            self.answer.take_all(rest, events)?;
        } else if !rest.is_empty() {
            return Err(incomplete("the rest of an event"));
        }
        self.answer.end(events)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Key {
    Text,
    Reasoning,
    Whole,
}

/// What has come of an answer.
#[derive(Default)]
pub(super) struct Answer {
    blocks: Blocks<Key>,
    /// The block that the next text of its kind continues.
    open: Option<Key>,
    started: bool,
    id: String,
    n_tool_calls: usize,
    /// The word for the end; taken back when more comes after it.
    finish_reason: Option<String>,
    block_reason: Option<String>,
    /// Code was written whose output has not come.
    is_running: bool,
    usage: Usage,
    raw_usage: String,
}

impl Answer {
    /// Takes a piece, or an array of pieces.
    pub(super) fn take_all(&mut self, data: &[u8], events: &mut VecDeque<StreamEvent>) -> Result<()> {
        for chunk in chunks(data)? {
            self.take(chunk, events)?;
        }
        Ok(())
    }

    fn take(&mut self, chunk: Chunk<'_>, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        if let Some(failure) = chunk.error {
            return Err(response::failed(StatusCode::OK, failure).into());
        }
        if !self.started {
            self.started = true;
            self.id = chunk.response_id.into_string();
            events.push_back(StreamEvent::Start { id: self.id.clone(), model: chunk.model_version.into_string() });
        }
        if let Some(feedback) = chunk.prompt_feedback {
            self.block_reason = response::block_reason(feedback).or(self.block_reason.take());
            metadata([("promptFeedback", Some(feedback))], events);
        }
        // Further answers to the same prompt are not read.
        let first = chunk.candidates.into_iter().flatten().find(|candidate| candidate.index.0.unwrap_or(0) == 0);
        if let Some(candidate) = first {
            self.take_candidate(candidate, events)?;
        }
        if let Some(usage) = chunk.usage_metadata {
            self.usage = response::usage(usage)?;
            usage.get().clone_into(&mut self.raw_usage);
            events.push_back(StreamEvent::Usage(self.usage.clone()));
        }
        Ok(())
    }

    fn take_candidate(&mut self, candidate: Candidate<'_>, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        for raw in candidate.content.and_then(|content| content.parts).into_iter().flatten() {
            self.take_part(raw, events)?;
        }
        if let Some(log_probs) = candidate.logprobs_result.map(token_log_probs).filter(|tokens| !tokens.is_empty()) {
            events.push_back(StreamEvent::LogProbs(log_probs));
        }
        let said = [
            ("finishMessage", candidate.finish_message),
            ("safetyRatings", candidate.safety_ratings),
            ("citationMetadata", candidate.citation_metadata),
            ("groundingMetadata", candidate.grounding_metadata),
            ("urlContextMetadata", candidate.url_context_metadata),
            ("avgLogprobs", candidate.avg_logprobs),
        ];
        metadata(said, events);
        if let Some(reason) = candidate.finish_reason.given() {
            self.finish_reason = Some(reason);
        }
        Ok(())
    }

    fn take_part(&mut self, raw: &RawValue, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let part: AnswerPart<'_> = json::parse(NAME, "a part of an answer", raw.get().as_bytes())?;
        let signed = part.thought_signature.given().map(|signature| json!({"thoughtSignature": signature}));
        let opaque = signed.map(|data| Opaque::new(NAME, data));
        if let Some(text) = part.text {
            if !text.is_empty() || opaque.is_some() {
                self.more();
                self.text(part.thought == Some(true), text.into_string(), opaque, events);
            }
            return Ok(());
        }
        self.more();
        self.close(events);
        if let Some(call) = part.function_call {
            self.call(call, opaque, events);
        } else if let Some(data) = part.inline_data {
            self.whole(media(data)?, events);
            if let Some(opaque) = opaque {
                self.whole(Content::Other(opaque), events);
            }
        } else {
            self.is_running = part.executable_code.is_some();
            let data = serde_json::from_str(raw.get()).unwrap_or_default();
            self.whole(Content::Other(Opaque::new(NAME, data)), events);
        }
        Ok(())
    }

    /// More comes, so what was said of the end was not it.
    fn more(&mut self) {
        self.finish_reason = None;
        self.is_running = false;
    }

    fn text(&mut self, is_thought: bool, text: String, opaque: Option<Opaque>, events: &mut VecDeque<StreamEvent>) {
        let (key, start) =
            if is_thought { (Key::Reasoning, BlockStart::Reasoning) } else { (Key::Text, BlockStart::Text) };
        if self.open != Some(key) {
            self.close(events);
            self.blocks.start(key, start, events);
            self.open = Some(key);
        }
        self.blocks.delta(&key, text, events);
        // A signature is for all that came before it in its block.
        if opaque.is_some() {
            self.blocks.end(&key, opaque, events);
            self.open = None;
        }
    }

    fn close(&mut self, events: &mut VecDeque<StreamEvent>) {
        if let Some(key) = self.open.take() {
            self.blocks.end(&key, None, events);
        }
    }

    /// A call comes whole.
    fn call(&mut self, call: AnswerCall<'_>, opaque: Option<Opaque>, events: &mut VecDeque<StreamEvent>) {
        let id = call.id.given().unwrap_or_else(|| {
            let answer: String = self.id.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
            format!("{MADE_ID}{answer}_{}", self.n_tool_calls)
        });
        self.n_tool_calls += 1;
        self.blocks.start(Key::Whole, BlockStart::ToolCall { id, name: call.name.into_string() }, events);
        self.blocks.delta(&Key::Whole, json::arguments(call.args), events);
        self.blocks.end(&Key::Whole, opaque, events);
    }

    fn whole(&mut self, content: Content, events: &mut VecDeque<StreamEvent>) {
        self.blocks.start(Key::Whole, BlockStart::Whole(Box::new(content)), events);
        self.blocks.end(&Key::Whole, None, events);
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let stop = match (self.finish_reason.take(), self.block_reason.take()) {
            (Some(reason), _) if self.is_running && reason == "STOP" => {
                return Err(incomplete("the output of its code"));
            }
            (Some(reason), _) => stop(reason, self.n_tool_calls),
            (None, Some(reason)) => Stop { reason: StopReason::ContentFilter, raw: Some(reason) },
            (None, None) => return Err(incomplete("a finishReason")),
        };
        self.close(events);
        if let Ok(raw) = serde_json::from_str(&self.raw_usage) {
            self.usage.raw = Some(raw);
            events.push_back(StreamEvent::Usage(std::mem::take(&mut self.usage)));
        }
        events.push_back(StreamEvent::End(stop));
        Ok(())
    }
}

fn incomplete(missing: &str) -> Error {
    Error::Incomplete { provider: NAME.to_owned(), missing: missing.to_owned() }
}

/// Without `alt=sse`, and in some errors, pieces come in an array.
fn chunks(data: &[u8]) -> Result<Vec<Chunk<'_>>> {
    if data.trim_ascii_start().starts_with(b"[") {
        return json::parse(NAME, "pieces of an answer", data);
    }
    Ok(vec![json::parse(NAME, "an answer", data)?])
}

fn metadata<const N: usize>(said: [(&str, Option<&RawValue>); N], events: &mut VecDeque<StreamEvent>) {
    let read = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).unwrap_or_default();
    let said: Map<_, _> = said.into_iter().filter_map(|(key, raw)| Some((key.to_owned(), read(raw?)))).collect();
    if !said.is_empty() {
        events.push_back(StreamEvent::Metadata(said));
    }
}

fn media(data: AnswerData<'_>) -> Result<Content> {
    let bytes = base64_bytes::decode(&data.data).ok_or_else(|| Error::Decode {
        provider: NAME.to_owned(),
        expected: "base64 in inlineData".to_owned(),
        found: "other text".to_owned(),
    })?;
    let media = Media::bytes(data.mime_type.into_string(), bytes);
    let is_image = media.media_type.starts_with("image/");
    Ok(if is_image { Content::Image(media) } else { Content::File(File::new(None, media)) })
}

fn stop(reason: String, n_tool_calls: usize) -> Stop {
    let common = match reason.as_str() {
        // FUNCTION_CALL is a word of servers that imitate Gemini.
        "STOP" | "FUNCTION_CALL" if n_tool_calls > 0 => StopReason::ToolCalls,
        "STOP" => StopReason::Stop,
        "MAX_TOKENS" => StopReason::Length,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => StopReason::ContentFilter,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MISSING_THOUGHT_SIGNATURE" => {
            StopReason::Error
        }
        _ => StopReason::Other,
    };
    Stop { reason: common, raw: Some(reason) }
}

/// The tokens with a probability; one without would be a lie.
fn token_log_probs(result: LogProbsResult<'_>) -> Vec<TokenLogProb> {
    let mut tops = result.top_candidates.into_iter().flatten();
    let chosen = result.chosen_candidates.into_iter().flatten().filter_map(|entry| {
        let top = tops.next().and_then(|top| top.candidates).into_iter().flatten();
        let mut token = token_log_prob(entry)?;
        token.top = top.filter_map(token_log_prob).collect();
        Some(token)
    });
    chosen.collect()
}

fn token_log_prob(entry: LogProb<'_>) -> Option<TokenLogProb> {
    let mut token = TokenLogProb::new(entry.token.into_string(), entry.log_probability?);
    token.id = entry.token_id.0.and_then(|id| u32::try_from(id).ok());
    Some(token)
}
