//! An answer event by event.

use std::collections::VecDeque;

use http::StatusCode;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::anthropic::NAME;
use crate::anthropic::response::{self, Counts, called_by, redacted, signed, value, with_citations};
use crate::anthropic::wire::{AnswerBlock, Delta, Event};
use crate::blocks::Blocks;
use crate::decode::SseDecoder;
use crate::error::{Error, Result};
use crate::event::{BlockStart, StreamEvent};
use crate::http_provider::LARGEST;
use crate::json::{self, Str};
use crate::message::{Content, Opaque};
use crate::protocol::Decode;
use crate::response::Stop;

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
            if answer.done {
                return Ok(());
            }
            if event.is_comment {
                events.push_back(StreamEvent::Ping);
                return Ok(());
            }
            answer.take(event.data, events)
        })
    }

    fn finish(&mut self, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let rest = self.events.rest();
        // The last event may lack its empty line, not a part of its data.
        if !self.answer.done && serde_json::from_slice::<IgnoredAny>(rest).is_ok() {
            self.answer.take(rest, events)?;
        }
        if self.answer.done {
            return Ok(());
        }
        Err(Error::Incomplete { provider: NAME.to_owned(), missing: "message_stop".to_owned() })
    }
}

/// What has come of an answer.
#[derive(Default)]
struct Answer {
    blocks: Blocks<usize>,
    /// What is kept of a block until it ends, by the vendor's index.
    open: Vec<(usize, Open)>,
    counts: Counts,
    started: bool,
    stop: Option<Stop>,
    done: bool,
}

enum Open {
    Text {
        citations: Vec<Value>,
    },
    Reasoning {
        opaque: Option<Opaque>,
    },
    ToolCall {
        start: String,
        has_arguments: bool,
        opaque: Option<Opaque>,
    },
    /// One of the vendor's own: it is given when it is whole.
    Other {
        block: Map<String, Value>,
        input: String,
    },
}

impl Answer {
    fn take(&mut self, data: &[u8], events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let event: Event<'_> = json::parse(NAME, "an event of a message", data)?;
        match &*event.r#type {
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    self.delta(event.index.unwrap_or(0), delta, data, events)?;
                }
            }
            "content_block_start" => {
                if let Some(raw) = event.content_block {
                    self.begin(events, Str::default(), Str::default());
                    self.start(event.index.unwrap_or(0), raw.get(), events)?;
                }
            }
            "content_block_stop" => self.end(event.index.unwrap_or(0), events),
            "ping" => events.push_back(StreamEvent::Ping),
            "message_start" => {
                if let Some(head) = event.message {
                    self.counts.take(head.usage);
                    self.begin(events, head.id, head.model);
                    events.push_back(StreamEvent::Usage(self.counts.usage()));
                }
            }
            "message_delta" => {
                self.counts.take(event.usage);
                events.push_back(StreamEvent::Usage(self.counts.usage()));
                if let Some(delta) = event.delta {
                    self.stop = Some(response::stop(&delta.stop_reason));
                    let metadata = response::metadata(&delta.stop_sequence, delta.stop_details, delta.container);
                    if !metadata.is_empty() {
                        events.push_back(StreamEvent::Metadata(metadata));
                    }
                }
            }
            "message_stop" => {
                self.begin(events, Str::default(), Str::default());
                while let Some((index, _)) = self.open.first() {
                    self.end(*index, events);
                }
                self.done = true;
                events.push_back(StreamEvent::End(self.stop.take().unwrap_or_else(|| response::stop(""))));
            }
            _ => {
                if let Some(failure) = event.error {
                    return Err(response::failed(StatusCode::OK, failure, event.request_id).into());
                }
            }
        }
        Ok(())
    }

    /// Says once that the answer begins.
    fn begin(&mut self, events: &mut VecDeque<StreamEvent>, id: Str<'_>, model: Str<'_>) {
        if !self.started {
            self.started = true;
            events.push_back(StreamEvent::Start { id: id.into_string(), model: model.into_string() });
        }
    }

    fn start(&mut self, index: usize, raw: &str, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        self.end(index, events);
        let block: AnswerBlock<'_> = json::parse(NAME, "a block of a message", raw.as_bytes())?;
        let (open, start, text) = match &*block.r#type {
            "text" => {
                let citations = match block.citations.map(value) {
                    Some(Value::Array(citations)) => citations,
                    _ => Vec::new(),
                };
                (Open::Text { citations }, BlockStart::Text, block.text)
            }
            "thinking" => (Open::Reasoning { opaque: signed(&block.signature) }, BlockStart::Reasoning, block.thinking),
            "redacted_thinking" => {
                (Open::Reasoning { opaque: redacted(&block.data) }, BlockStart::Reasoning, Str::default())
            }
            "tool_use" => {
                let (start, opaque) = (json::arguments(block.input), called_by(block.caller));
                let name = block.name.into_string();
                let open = Open::ToolCall { start, has_arguments: false, opaque };
                (open, BlockStart::ToolCall { id: block.id.into_string(), name }, Str::default())
            }
            _ => {
                let block = serde_json::from_str(raw).unwrap_or_default();
                self.open.push((index, Open::Other { block, input: String::new() }));
                return Ok(());
            }
        };
        self.blocks.start(index, start, events);
        self.blocks.delta(&index, text.into_string(), events);
        self.open.push((index, open));
        Ok(())
    }

    fn delta(&mut self, index: usize, delta: Delta<'_>, data: &[u8], events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let Some((_, open)) = self.open.iter_mut().find(|(open, _)| *open == index) else {
            return Err(Error::Decode {
                provider: NAME.to_owned(),
                expected: "deltas of blocks that have begun".to_owned(),
                found: format!("a delta of block {index}"),
            });
        };
        let text = match open {
            Open::Text { citations } => {
                citations.extend(delta.citation.map(value));
                delta.text
            }
            Open::Reasoning { opaque } => {
                if let Some(signed) = signed(&delta.signature) {
                    *opaque = Some(signed);
                }
                delta.thinking
            }
            Open::ToolCall { has_arguments, .. } => {
                *has_arguments |= !delta.partial_json.is_empty();
                delta.partial_json
            }
            Open::Other { block, input } => {
                input.push_str(&delta.partial_json);
                grow(block, data);
                return Ok(());
            }
        };
        self.blocks.delta(&index, text.into_string(), events);
        Ok(())
    }

    fn end(&mut self, index: usize, events: &mut VecDeque<StreamEvent>) {
        let Some(place) = self.open.iter().position(|(open, _)| *open == index) else { return };
        let opaque = match self.open.remove(place).1 {
            Open::Text { citations } => with_citations(citations.into()),
            Open::Reasoning { opaque } => opaque,
            Open::ToolCall { start, has_arguments, opaque } => {
                // Arguments that never came in pieces are those of the start: the empty object, as a rule.
                if !has_arguments {
                    self.blocks.delta(&index, start, events);
                }
                opaque
            }
            Open::Other { mut block, input } => {
                if !input.is_empty() {
                    let input = serde_json::from_str(&input).unwrap_or(Value::String(input));
                    block.insert("input".to_owned(), input);
                }
                let whole = Content::Other(Opaque::new(NAME, Value::Object(block)));
                self.blocks.start(index, BlockStart::Whole(Box::new(whole)), events);
                None
            }
        };
        self.blocks.end(&index, opaque, events);
    }
}

/// Lets a block of the vendor's own grow by a delta, whatever its type: strings are appended, citations gathered, other values
/// replaced.
fn grow(block: &mut Map<String, Value>, data: &[u8]) {
    let Ok(Value::Object(mut event)) = serde_json::from_slice(data) else { return };
    let Some(Value::Object(delta)) = event.remove("delta") else { return };
    for (key, value) in delta.into_iter().filter(|(key, _)| key != "type" && key != "partial_json") {
        match (block.get_mut(&key), value) {
            (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
            (_, value) if key == "citation" => {
                let citations = block.entry("citations").or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(citations) = citations {
                    citations.push(value);
                }
            }
            (_, value) => {
                block.insert(key, value);
            }
        }
    }
}
