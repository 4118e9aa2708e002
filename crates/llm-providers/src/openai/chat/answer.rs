//! What has come of an answer.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::calls::Calls;
use super::reasoning_details::ReasoningDetails;
use super::wire::{self, Chunk, Content, Delta};
use crate::blocks::Blocks;
use crate::error::{Error, Result};
use crate::event::{BlockStart, StreamEvent};
use crate::message::{self, Opaque};
use crate::openai::{error, log_probs, usage};
use crate::response::{Stop, StopReason};

/// What an answer is called in errors.
pub(super) const EXPECTED: &str = "a chat completion";

/// What a block of an answer is: one of each, but for the calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Key {
    Text,
    Reasoning,
    Refusal,
    /// By its place among the calls.
    Call(usize),
    Whole,
}

/// What has come of an answer.
pub(super) struct Answer {
    provider: String,
    /// It comes at once, not in chunks.
    is_whole: bool,
    started: bool,
    blocks: Blocks<Key>,
    calls: Calls,
    refused: bool,
    /// The name of the field that the reasoning came in.
    reasoning_field: Option<&'static str>,
    details: ReasoningDetails,
    annotations: Vec<Value>,
    /// Words of the vendor, each once.
    words: Vec<(&'static str, String)>,
    timings: Option<Value>,
    counted: bool,
    /// The vendor's word for why it stopped. Some send an empty one all the while.
    finish: Option<String>,
}

impl Answer {
    pub(super) fn new(provider: &str, is_whole: bool) -> Self {
        Self {
            provider: provider.to_owned(),
            is_whole,
            started: false,
            blocks: Blocks::default(),
            calls: Calls::default(),
            refused: false,
            reasoning_field: None,
            details: ReasoningDetails::default(),
            annotations: Vec::new(),
            words: Vec::new(),
            timings: None,
            counted: false,
            finish: None,
        }
    }

    pub(super) fn provider(&self) -> &str {
        &self.provider
    }

    /// The vendor's word for why it stopped, as far as it came.
    pub(super) fn finish(&self) -> Option<&str> {
        self.finish.as_deref()
    }

    /// Takes a chunk, or a whole answer. `data`: the same in bytes.
    pub(super) fn chunk(&mut self, chunk: Chunk<'_>, data: &[u8], events: &mut VecDeque<StreamEvent>) -> Result<()> {
        if chunk.error.is_some() || chunk.object.0 == "error" || chunk.detail.is_some() && !chunk.choices.listed {
            return Err(self.api_error(data));
        }
        if !self.started && (chunk.choices.choice.is_some() || !chunk.id.is_empty()) {
            self.started = true;
            let (id, model) = (chunk.id.0.into_owned(), chunk.model.0.into_owned());
            events.push_back(StreamEvent::Start { id, model });
        }
        let mut choice_usage = None;
        if let Some(choice) = chunk.choices.choice {
            choice_usage = choice.usage;
            // Perplexity sends both: what is new, and what there is.
            let message = choice.message.filter(|_| self.is_whole || choice.delta.is_none());
            let delta = match message {
                Some(message) => Some(Box::new(self.read(message)?)),
                None => choice.delta,
            };
            if let Some(delta) = delta {
                self.delta(*delta, events)?;
            }
            if let Some(log_probs) = choice.logprobs {
                let log_probs: wire::LogProbs<'_> = self.read(log_probs)?;
                let ids = choice.token_ids.map(|ids| self.read(ids)).transpose()?;
                log_probs::push(log_probs.content, log_probs.refusal, ids, events);
            }
            if let Some(word) = choice.finish_reason
                && (self.finish.is_none() || !word.is_empty())
            {
                self.finish = Some(word.0.into_owned());
            }
            self.note("native_finish_reason", &choice.native_finish_reason.0);
        }
        self.note("system_fingerprint", &chunk.system_fingerprint.0);
        self.note("service_tier", &chunk.service_tier.0);
        self.note("provider", &chunk.provider.0);
        if let Some(timings) = chunk.timings {
            self.timings = Some(self.read(timings)?);
        }
        for raw in [choice_usage, chunk.x_groq.and_then(|groq| groq.usage), chunk.usage].into_iter().flatten() {
            let raw = self.read(raw)?;
            self.counted = true;
            events.push_back(StreamEvent::Usage(usage::read(raw)));
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta<'_>, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let reasoning = [("reasoning_content", delta.reasoning_content), ("reasoning", delta.reasoning)];
        // Where both come they say the same.
        if let Some((field, text)) = reasoning.into_iter().find(|(_, text)| !text.is_empty()) {
            self.reasoning_field.get_or_insert(field);
            self.grow(Key::Reasoning, text.0.into_owned(), events);
        }
        if let Some(details) = delta.reasoning_details {
            let details: Vec<Map<String, Value>> = self.read(details)?;
            for detail in details {
                self.open(Key::Reasoning, events);
                if self.is_whole { self.details.push(detail) } else { self.details.join(detail) }
            }
        }
        match delta.content {
            Content::Text(text) if text.is_empty() => {}
            Content::Text(text) => self.grow(Key::Text, text.0.into_owned(), events),
            Content::Parts(parts) => self.parts(parts, Key::Text, events),
        }
        if !delta.refusal.is_empty() {
            self.refused = true;
            self.grow(Key::Refusal, delta.refusal.0.into_owned(), events);
        }
        for raw in [("images", delta.images), ("audio", delta.audio)] {
            if let (key, Some(raw)) = raw {
                let data: Value = self.read(raw)?;
                if data.as_array().is_none_or(|list| !list.is_empty()) {
                    let content = message::Content::Other(Opaque::new(self.provider.as_str(), json!({ key: data })));
                    self.blocks.start(Key::Whole, BlockStart::Whole(Box::new(content)), events);
                    self.blocks.end(&Key::Whole, None, events);
                }
            }
        }
        if let Some(annotations) = delta.annotations {
            match self.read(annotations)? {
                Value::Array(list) => self.annotations.extend(list),
                other => self.annotations.push(other),
            }
        }
        if let Some(calls) = delta.tool_calls {
            for call in self.read::<Vec<wire::ToolCall<'_>>>(calls)? {
                self.call(call, events)?;
            }
        }
        if let Some(function) = delta.function_call {
            let function = Some(self.read(function)?);
            let call = wire::ToolCall { index: Some(0), id: Default::default(), function, extra_content: None };
            self.call(call, events)?;
        }
        Ok(())
    }

    fn call(&mut self, call: wire::ToolCall<'_>, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let taken = self.calls.take(call, self.is_whole, &mut self.blocks, events);
        taken.map_err(|error| self.not_json(&error))
    }

    fn parts(&mut self, parts: Vec<wire::Part<'_>>, key: Key, events: &mut VecDeque<StreamEvent>) {
        for part in parts {
            if !part.text.is_empty() {
                self.grow(key, part.text.0.into_owned(), events);
            }
            if !part.refusal.is_empty() {
                self.refused = true;
                self.grow(Key::Refusal, part.refusal.0.into_owned(), events);
            }
            match part.thinking.map(|thinking| *thinking) {
                None => {}
                Some(Content::Text(text)) => self.grow(Key::Reasoning, text.0.into_owned(), events),
                Some(Content::Parts(parts)) => self.parts(parts, Key::Reasoning, events),
            }
        }
    }

    fn grow(&mut self, key: Key, text: String, events: &mut VecDeque<StreamEvent>) {
        self.open(key, events);
        self.blocks.delta(&key, text, events);
    }

    fn open(&mut self, key: Key, events: &mut VecDeque<StreamEvent>) {
        if !self.blocks.is_open(&key) {
            let block = match key {
                Key::Reasoning => BlockStart::Reasoning,
                Key::Refusal => BlockStart::Refusal,
                _ => BlockStart::Text,
            };
            self.blocks.start(key, block, events);
        }
    }

    /// The answer is whole.
    pub(super) fn end(&mut self, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        if self.finish.is_none() {
            return Err(self.incomplete("finish_reason"));
        }
        self.finish_blocks(events);
        events.push_back(StreamEvent::End(self.stop()));
        Ok(())
    }

    /// Why it stopped. Servers that copy the protocol say `stop` where they call tools, and so does OpenAI for a tool that was forced.
    pub(super) fn stop(&mut self) -> Stop {
        let raw = self.finish.take();
        let reason = match raw.as_deref() {
            Some("stop" | "") if !self.calls.is_empty() => StopReason::ToolCalls,
            Some("stop" | "") if self.refused => StopReason::ContentFilter,
            Some("stop" | "" | "eos" | "end_turn") => StopReason::Stop,
            Some("stop_sequence") => StopReason::StopSequence,
            Some("length" | "max_tokens" | "model_length") => StopReason::Length,
            Some("tool_calls" | "function_call" | "tool_use") => StopReason::ToolCalls,
            Some("content_filter") => StopReason::ContentFilter,
            Some("error") => StopReason::Error,
            _ => StopReason::Other,
        };
        Stop { reason, raw }
    }

    /// Everything but the end.
    pub(super) fn finish_blocks(&mut self, events: &mut VecDeque<StreamEvent>) {
        let opaque = if !self.details.is_empty() {
            Some(json!({ "reasoning_details": self.details.take() }))
        } else {
            self.reasoning_field.map(|field| json!({ "field": field }))
        };
        let opaque = opaque.map(|data| Opaque::new(self.provider.as_str(), data));
        self.blocks.end(&Key::Reasoning, opaque, events);
        self.calls.end(&self.provider, &mut self.blocks, events);
        self.blocks.end_all(events);
        if !self.counted
            && let Some(counts) = self.timings.as_ref().and_then(usage::of_timings)
        {
            events.push_back(StreamEvent::Usage(counts));
        }
        let words = std::mem::take(&mut self.words).into_iter().map(|(key, word)| (key, word.into()));
        let timings = self.timings.take().map(|timings| ("timings", timings));
        let annotations = (!self.annotations.is_empty()).then(|| std::mem::take(&mut self.annotations).into());
        let annotations = annotations.map(|annotations| ("annotations", annotations));
        let metadata: Map<String, Value> =
            words.chain(timings).chain(annotations).map(|(key, value)| (key.to_owned(), value)).collect();
        if !metadata.is_empty() {
            events.push_back(StreamEvent::Metadata(metadata));
        }
    }

    fn note(&mut self, key: &'static str, word: &str) {
        if word.is_empty() {
            return;
        }
        match self.words.iter_mut().find(|(noted, _)| *noted == key) {
            Some((_, old)) if old == word => {}
            Some((_, old)) => word.clone_into(old),
            None => self.words.push((key, word.to_owned())),
        }
    }

    fn read<'a, T: Deserialize<'a>>(&self, raw: &'a RawValue) -> Result<T> {
        serde_json::from_str(raw.get()).map_err(|error| self.not_json(&error))
    }

    pub(super) fn api_error(&self, data: &[u8]) -> Error {
        error::in_stream(&self.provider, data).into()
    }

    fn not_json(&self, error: &serde_json::Error) -> Error {
        Error::of_json(&self.provider, EXPECTED, error)
    }

    pub(super) fn incomplete(&self, missing: &str) -> Error {
        Error::Incomplete { provider: self.provider.clone(), missing: missing.to_owned() }
    }
}
