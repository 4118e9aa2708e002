//! Reading a stream. It ends with `response.completed` or `response.incomplete`, without `[DONE]`.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::Answer;
use super::wire::{Event, Whole};
use crate::decode::{SseDecoder, SseEvent};
use crate::error::{Error, Result};
use crate::event::StreamEvent;
use crate::http_provider::LARGEST;
use crate::json::{self, Str};
use crate::openai::error;
use crate::protocol::Decode;

/// Reads events.
pub(in crate::openai) struct Decoder {
    sse: SseDecoder,
    answer: Answer,
    ended: bool,
}

impl Decoder {
    pub(in crate::openai) fn new(provider: &str) -> Self {
        Self { sse: SseDecoder::new(LARGEST), answer: Answer::new(provider), ended: false }
    }
}

impl Decode for Decoder {
    fn push(&mut self, bytes: &[u8], events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let Self { sse, answer, ended } = self;
        if *ended {
            return Ok(());
        }
        sse.push(bytes, |event| {
            if !*ended {
                *ended = answer.event(event, events)?;
            }
            Ok(())
        })
    }

    fn finish(&mut self, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        // The last event may lack its empty line, but not a byte of its JSON.
        let rest = self.sse.rest();
        if !self.ended && serde_json::from_slice::<Event<'_>>(rest).is_ok() {
            self.ended = self.answer.event(SseEvent { name: "", data: rest, is_comment: false }, events)?;
        }
        if self.ended {
            return Ok(());
        }
        let missing = "response.completed".to_owned();
        Err(Error::Incomplete { provider: self.answer.provider.clone(), missing })
    }
}

impl Answer {
    /// Whether the answer is whole now.
    fn event(&mut self, event: SseEvent<'_>, events: &mut VecDeque<StreamEvent>) -> Result<bool> {
        if event.is_comment {
            events.push_back(StreamEvent::Ping);
            return Ok(false);
        }
        let data = event.data;
        if data.trim_ascii().is_empty() || data.starts_with(b"[DONE]") {
            return Ok(false);
        }
        let wire: Event<'_> = self.read(data)?;
        let kind = if wire.kind.is_empty() { event.name } else { &wire.kind.0 };
        let item = wire.output_index.unwrap_or(0);
        let part = wire.content_index.unwrap_or(0);
        let delta = || match wire.delta {
            Some(raw) => Ok(self.read::<Str<'_>>(raw.get().as_bytes())?.0.into_owned()),
            None => Ok::<_, Error>(String::new()),
        };
        match kind {
            "response.output_text.delta" => {
                let delta = delta()?;
                self.text(item, part, delta, events);
                self.log_probs(item, part, wire.logprobs, events);
            }
            "response.refusal.delta" => {
                let delta = delta()?;
                self.refusal(item, part, delta, events);
            }
            "response.reasoning_summary_text.delta" => {
                let delta = delta()?;
                self.reasoning(item, (true, wire.summary_index.unwrap_or(0)), delta, events);
            }
            "response.reasoning_text.delta" => {
                let delta = delta()?;
                self.reasoning(item, (false, part), delta, events);
            }
            "response.function_call_arguments.delta" => {
                let delta = delta()?;
                self.arguments(item, delta, events);
            }
            "response.output_item.added" => {
                let value = self.value(wire.item)?;
                self.item(item, &value, events);
            }
            "response.output_item.done" => {
                let value = self.value(wire.item)?;
                self.item_done(item, value, events);
            }
            "response.content_part.added" => {
                let value = self.value(wire.part)?;
                self.part(item, part, &value, events);
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                if let Some(raw) = wire.response {
                    let whole: Whole = self.read(raw.get().as_bytes())?;
                    self.start(&whole, events);
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let Some(raw) = wire.response else { return Err(self.other_form("a response")) };
                let mut whole: Whole = self.read(raw.get().as_bytes())?;
                whole.status.get_or_insert_with(|| kind.trim_start_matches("response.").to_owned());
                self.end(whole, raw.get().as_bytes(), events)?;
                return Ok(true);
            }
            "error" | "response.error" => return Err(error::in_stream(&self.provider, data).into()),
            _ if wire.error.is_some() && wire.response.is_none() => {
                return Err(error::in_stream(&self.provider, data).into());
            }
            _ => {}
        }
        Ok(false)
    }

    fn value(&self, raw: Option<&RawValue>) -> Result<Value> {
        raw.map_or(Ok(Value::Null), |raw| self.read(raw.get().as_bytes()))
    }

    fn read<'a, T: Deserialize<'a>>(&self, data: &'a [u8]) -> Result<T> {
        json::parse(&self.provider, "an event of a response", data)
    }

    fn other_form(&self, expected: &str) -> Error {
        Error::Decode {
            provider: self.provider.clone(),
            expected: expected.to_owned(),
            found: "an event without it".to_owned(),
        }
    }
}
