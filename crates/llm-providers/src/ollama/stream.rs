//! An answer line by line. A whole answer is read as a single line, so that both give the same message.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use crate::blocks::Blocks;
use crate::decode::NdjsonDecoder;
use crate::error::{Error, Result};
use crate::event::{BlockStart, StreamEvent};
use crate::http_provider::LARGEST;
use crate::json::{self, Count};
use crate::ollama::wire::{Line, LineToolCall, LogProb};
use crate::ollama::{NAME, response};
use crate::protocol::Decode;
use crate::response::{Stop, StopReason, TokenLogProb, Usage};

pub(super) struct Decoder {
    lines: NdjsonDecoder,
    answer: Answer,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { lines: NdjsonDecoder::new(LARGEST), answer: Answer::default() }
    }
}

impl Decode for Decoder {
    fn push(&mut self, bytes: &[u8], events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let Self { lines, answer } = self;
        lines.push(bytes, |line| {
            if answer.done {
                return Ok(());
            }
            answer.take(json::parse(NAME, "a line of /api/chat", line)?, events)
        })
    }

    fn finish(&mut self, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        let rest = self.lines.rest();
        if !self.answer.done && !rest.is_empty() {
            // The last line needs no end; one that was cut off is no JSON.
            let Ok(line) = json::parse(NAME, "a line of /api/chat", rest) else { return Err(self.answer.incomplete()) };
            self.answer.take(line, events)?;
        }
        if self.answer.done { Ok(()) } else { Err(self.answer.incomplete()) }
    }
}

#[derive(PartialEq)]
enum Key {
    Reasoning,
    Text,
    ToolCall,
}

/// What has come of an answer.
#[derive(Default)]
pub(super) struct Answer {
    blocks: Blocks<Key>,
    started: bool,
    n_tool_calls: usize,
    done: bool,
}

impl Answer {
    pub(super) fn take(&mut self, mut line: Line<'_>, events: &mut VecDeque<StreamEvent>) -> Result<()> {
        if let Some(error) = line.error.filter(|error| error.get() != "null") {
            return Err(response::error_in_stream(error).into());
        }
        if !self.started {
            self.started = true;
            // Ollama has no id of an answer.
            events.push_back(StreamEvent::Start { id: String::new(), model: line.model.0.as_ref().to_owned() });
        }
        if let Some(message) = line.message.take() {
            self.grow(Key::Reasoning, BlockStart::Reasoning, message.thinking, events);
            if !message.content.is_empty() {
                self.blocks.end(&Key::Reasoning, None, events);
                self.grow(Key::Text, BlockStart::Text, message.content, events);
            }
            for call in message.tool_calls.into_iter().flatten() {
                self.call(call, events);
            }
        }
        if let Some(log_probs) = line.logprobs.take().filter(|log_probs| !log_probs.is_empty()) {
            events.push_back(StreamEvent::LogProbs(log_probs.into_iter().map(token_log_prob).collect()));
        }
        if line.done == Some(true) {
            self.done = true;
            self.blocks.end_all(events);
            if !line.created_at.is_empty() {
                let created_at = ("created_at".to_owned(), Value::from(&*line.created_at));
                events.push_back(StreamEvent::Metadata(Map::from_iter([created_at])));
            }
            events.push_back(StreamEvent::Usage(usage(&line)));
            events.push_back(StreamEvent::End(stop(&line.done_reason, self.n_tool_calls)));
        }
        Ok(())
    }

    fn grow(&mut self, key: Key, block: BlockStart, delta: json::Str<'_>, events: &mut VecDeque<StreamEvent>) {
        if delta.is_empty() {
            return;
        }
        let delta = delta.into_string();
        if self.blocks.is_open(&key) {
            self.blocks.delta(&key, delta, events);
        } else {
            let index = self.blocks.started();
            self.blocks.start(key, block, events);
            events.push_back(StreamEvent::BlockDelta { index, delta });
        }
    }

    /// A call comes whole.
    fn call(&mut self, call: LineToolCall<'_>, events: &mut VecDeque<StreamEvent>) {
        let id = call.id.given().unwrap_or_else(|| format!("call_{}", self.n_tool_calls));
        self.n_tool_calls += 1;
        let start = BlockStart::ToolCall { id, name: call.function.name.into_string() };
        self.blocks.end(&Key::Reasoning, None, events);
        self.blocks.start(Key::ToolCall, start, events);
        self.blocks.delta(&Key::ToolCall, json::arguments(call.function.arguments), events);
        self.blocks.end(&Key::ToolCall, None, events);
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn incomplete(&self) -> Error {
        Error::Incomplete { provider: NAME.to_owned(), missing: "a line with done: true".to_owned() }
    }
}

fn stop(reason: &str, n_tool_calls: usize) -> Stop {
    let common = match reason {
        // The word is the same whether tools are to be called or not.
        "stop" | "" if n_tool_calls > 0 => StopReason::ToolCalls,
        "stop" | "" => StopReason::Stop,
        "length" => StopReason::Length,
        _ => StopReason::Other,
    };
    Stop { reason: common, raw: (!reason.is_empty()).then(|| reason.to_owned()) }
}

/// Ollama leaves counts of 0 out.
fn usage(line: &Line<'_>) -> Usage {
    let said = [
        ("total_duration", line.total_duration),
        ("load_duration", line.load_duration),
        ("prompt_eval_count", line.prompt_eval_count),
        ("prompt_eval_duration", line.prompt_eval_duration),
        ("eval_count", line.eval_count),
        ("eval_duration", line.eval_duration),
    ];
    Usage {
        input: Some(line.prompt_eval_count.0.unwrap_or(0)),
        output: Some(line.eval_count.0.unwrap_or(0)),
        raw: Some(raw_counts(said)),
        ..Usage::default()
    }
}

pub(super) fn raw_counts<const N: usize>(counts: [(&str, Count); N]) -> Value {
    let said = counts.into_iter().filter_map(|(key, count)| Some((key.to_owned(), Value::from(count.0?))));
    Value::Object(said.collect())
}

fn token_log_prob(entry: LogProb<'_>) -> TokenLogProb {
    TokenLogProb {
        token: entry.token.into_string(),
        id: None,
        bytes: entry.bytes,
        log_prob: entry.logprob,
        top: entry.top_logprobs.into_iter().flatten().map(token_log_prob).collect(),
    }
}
