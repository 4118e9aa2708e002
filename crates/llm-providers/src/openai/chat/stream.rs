//! Reading a stream.

use std::collections::VecDeque;

use super::answer::{Answer, EXPECTED};
use super::wire::Chunk;
use crate::decode::{SseDecoder, SseEvent};
use crate::error::Result;
use crate::event::StreamEvent;
use crate::http_provider::LARGEST;
use crate::json;
use crate::openai::StreamEnd;
use crate::protocol::Decode;

/// Reads chunks.
pub(in crate::openai) struct Decoder {
    sse: SseDecoder,
    answer: Answer,
    end: StreamEnd,
    ended: bool,
}

impl Decoder {
    pub(in crate::openai) fn new(provider: &str, end: StreamEnd) -> Self {
        Self { sse: SseDecoder::new(LARGEST), answer: Answer::new(provider, false), end, ended: false }
    }
}

impl Decode for Decoder {
    fn push(&mut self, bytes: &[u8], events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let Self { sse, answer, ended, .. } = self;
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
        if self.ended {
            return Ok(());
        }
        let rest = self.sse.rest();
        if is_done(rest) {
            self.ended = true;
            return self.answer.end(events);
        }
        if self.end == StreamEnd::FinishReason {
            // The last event may lack its empty line, but not a byte of its JSON.
            let is_whole = json::parse::<Chunk<'_>>("", "", rest).is_ok();
            if is_whole {
                self.answer.event(SseEvent { name: "", data: rest, is_comment: false }, events)?;
            }
            if (is_whole || rest.is_empty()) && self.answer.finish().is_some_and(|word| !word.is_empty()) {
                self.ended = true;
                return self.answer.end(events);
            }
        }
        let missing = match self.answer.finish() {
            Some(_) => "[DONE], though its finish_reason came (see StreamEnd::FinishReason)",
            None => "finish_reason and [DONE]",
        };
        Err(self.answer.incomplete(missing))
    }
}

impl Answer {
    /// Whether the answer is whole now.
    fn event(&mut self, event: SseEvent<'_>, events: &mut VecDeque<StreamEvent>) -> Result<bool> {
        if event.is_comment {
            events.push_back(StreamEvent::Ping);
            return Ok(false);
        }
        if is_done(event.data) {
            self.end(events)?;
            return Ok(true);
        }
        if event.data.trim_ascii().is_empty() {
            return Ok(false);
        }
        let chunk: Chunk<'_> = json::parse(self.provider(), EXPECTED, event.data)?;
        if event.name == "error" && chunk.error.is_none() {
            return Err(self.api_error(event.data));
        }
        self.chunk(chunk, event.data, events)?;
        Ok(false)
    }
}

fn is_done(data: &[u8]) -> bool {
    data.starts_with(b"[DONE]")
}
