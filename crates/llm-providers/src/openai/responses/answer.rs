//! What has come of an answer: items, and the blocks they are made of.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::wire::Whole;
use crate::blocks::Blocks;
use crate::error::Error;
use crate::event::{BlockStart, StreamEvent};
use crate::message::{Content, Opaque};
use crate::openai::log_probs::{self, Entry};
use crate::openai::{error, usage};
use crate::response::{Stop, StopReason};

/// A block, by its item's place in the output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Key {
    /// A part of a message.
    Part(u64, u64),
    Reasoning(u64),
    Call(u64),
    Whole(u64),
}

/// How a part of a reasoning is numbered: among the summaries, or among the texts.
type ReasoningPart = (bool, u64);

pub(super) struct Answer {
    pub(super) provider: String,
    started: bool,
    blocks: Blocks<Key>,
    /// What was said of each block.
    grown: Vec<Grown>,
    done_items: Vec<u64>,
    n_calls: usize,
    refused: bool,
}

struct Grown {
    key: Key,
    n_bytes: usize,
    last_part: Option<ReasoningPart>,
    has_log_probs: bool,
}

impl Answer {
    pub(super) fn new(provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            started: false,
            blocks: Blocks::default(),
            grown: Vec::new(),
            done_items: Vec::new(),
            n_calls: 0,
            refused: false,
        }
    }

    pub(super) fn start(&mut self, whole: &Whole, events: &mut VecDeque<StreamEvent>) {
        if !self.started {
            self.started = true;
            let (id, model) = (whole.id.clone().unwrap_or_default(), whole.model.clone().unwrap_or_default());
            events.push_back(StreamEvent::Start { id, model });
        }
    }

    /// Starts a block, behind the start of the answer, which some servers leave out.
    fn start_block(&mut self, key: Key, block: BlockStart, events: &mut VecDeque<StreamEvent>) {
        self.start(&Whole::default(), events);
        self.blocks.start(key, block, events);
    }

    /// A block, which starts if it has not.
    fn open(
        &mut self,
        key: Key,
        block: impl FnOnce(&mut Self) -> BlockStart,
        events: &mut VecDeque<StreamEvent>,
    ) -> &mut Grown {
        let place = self.grown.iter().rposition(|grown| grown.key == key).unwrap_or_else(|| {
            let block = block(self);
            self.start_block(key, block, events);
            self.grown.push(Grown { key, n_bytes: 0, last_part: None, has_log_probs: false });
            self.grown.len() - 1
        });
        &mut self.grown[place]
    }

    fn grow(&mut self, key: Key, block: BlockStart, delta: String, events: &mut VecDeque<StreamEvent>) {
        self.open(key, |_| block, events).n_bytes += delta.len();
        self.blocks.delta(&key, delta, events);
    }

    pub(super) fn text(&mut self, item: u64, part: u64, delta: String, events: &mut VecDeque<StreamEvent>) {
        self.grow(Key::Part(item, part), BlockStart::Text, delta, events);
    }

    pub(super) fn refusal(&mut self, item: u64, part: u64, delta: String, events: &mut VecDeque<StreamEvent>) {
        self.refused = true;
        self.grow(Key::Part(item, part), BlockStart::Refusal, delta, events);
    }

    pub(super) fn log_probs(
        &mut self,
        item: u64,
        part: u64,
        entries: Vec<Entry<'_>>,
        events: &mut VecDeque<StreamEvent>,
    ) {
        if !entries.is_empty() {
            self.open(Key::Part(item, part), |_| BlockStart::Text, events).has_log_probs = true;
            log_probs::push(entries, Vec::new(), None, events);
        }
    }

    /// A reasoning's parts are joined by empty lines.
    pub(super) fn reasoning(
        &mut self,
        item: u64,
        part: ReasoningPart,
        delta: String,
        events: &mut VecDeque<StreamEvent>,
    ) {
        if delta.is_empty() {
            return;
        }
        let key = Key::Reasoning(item);
        let grown = self.open(key, |_| BlockStart::Reasoning, events);
        let is_next = grown.n_bytes > 0 && grown.last_part != Some(part);
        grown.n_bytes += delta.len();
        grown.last_part = Some(part);
        let delta = if is_next { format!("\n\n{delta}") } else { delta };
        self.blocks.delta(&key, delta, events);
    }

    pub(super) fn arguments(&mut self, item: u64, delta: String, events: &mut VecDeque<StreamEvent>) {
        let key = Key::Call(item);
        // Its start brought the name.
        if self.blocks.is_open(&key) {
            self.open(key, |_| BlockStart::Text, events).n_bytes += delta.len();
            self.blocks.delta(&key, delta, events);
        }
    }

    /// An item begins.
    pub(super) fn item(&mut self, index: u64, item: &Value, events: &mut VecDeque<StreamEvent>) {
        match word(item, "type") {
            "reasoning" => {
                self.open(Key::Reasoning(index), |_| BlockStart::Reasoning, events);
            }
            "function_call" => {
                let start = |this: &mut Self| {
                    this.n_calls += 1;
                    let id = ["call_id", "id"].iter().map(|key| word(item, key)).find(|id| !id.is_empty());
                    let id = id.map_or_else(|| format!("call_{}", this.n_calls - 1), str::to_owned);
                    BlockStart::ToolCall { id, name: word(item, "name").to_owned() }
                };
                self.open(Key::Call(index), start, events);
            }
            _ => {}
        }
    }

    /// A part of a message begins.
    pub(super) fn part(&mut self, item: u64, index: u64, part: &Value, events: &mut VecDeque<StreamEvent>) {
        match word(part, "type") {
            "output_text" | "text" => self.text(item, index, String::new(), events),
            "refusal" => self.refusal(item, index, String::new(), events),
            _ => {}
        }
    }

    /// An item is whole: what of it has not been said is said.
    pub(super) fn item_done(&mut self, index: u64, item: Value, events: &mut VecDeque<StreamEvent>) {
        if self.done_items.contains(&index) {
            return;
        }
        self.done_items.push(index);
        self.item(index, &item, events);
        let n_said =
            |this: &Self, key: Key| this.grown.iter().find(|grown| grown.key == key).map_or(0, |grown| grown.n_bytes);
        match word(&item, "type") {
            "message" => self.message_done(index, item, events),
            "reasoning" => {
                let key = Key::Reasoning(index);
                if n_said(self, key) == 0 {
                    for (is_summary, list) in [(true, "summary"), (false, "content")] {
                        for (place, part) in parts(&item, list).iter().enumerate() {
                            let part_number = (is_summary, place as u64);
                            self.reasoning(index, part_number, word(part, "text").to_owned(), events);
                        }
                    }
                }
                self.blocks.end(&key, Some(Opaque::new(self.provider.as_str(), item)), events);
            }
            "function_call" => {
                let key = Key::Call(index);
                if n_said(self, key) == 0 {
                    let arguments = match item.get("arguments") {
                        Some(Value::String(text)) => text.clone(),
                        None | Some(Value::Null) => String::new(),
                        Some(other) => other.to_string(),
                    };
                    self.arguments(index, arguments, events);
                }
                let rest = without(item, &["type", "call_id", "name", "arguments"]);
                let opaque = (!rest.is_empty()).then(|| Opaque::new(self.provider.as_str(), json!({ "item": rest })));
                self.blocks.end(&key, opaque, events);
            }
            _ => {
                let content = Content::Other(Opaque::new(self.provider.as_str(), item));
                self.start_block(Key::Whole(index), BlockStart::Whole(Box::new(content)), events);
                self.blocks.end(&Key::Whole(index), None, events);
            }
        }
    }

    fn message_done(&mut self, index: u64, item: Value, events: &mut VecDeque<StreamEvent>) {
        let all = parts(&item, "content").to_vec();
        let message = without(item, &["content"]);
        for (place, part) in all.into_iter().enumerate() {
            let place = place as u64;
            let key = Key::Part(index, place);
            self.part(index, place, &part, events);
            let Some(grown) = self.grown.iter().find(|grown| grown.key == key) else {
                let content =
                    Content::Other(Opaque::new(self.provider.as_str(), json!({ "message": message, "part": part })));
                self.start_block(Key::Whole(index), BlockStart::Whole(Box::new(content)), events);
                self.blocks.end(&Key::Whole(index), None, events);
                continue;
            };
            let (is_said, has_log_probs) = (grown.n_bytes > 0, grown.has_log_probs);
            if !is_said {
                self.text(index, place, word(&part, "text").to_owned(), events);
                if word(&part, "type") == "refusal" {
                    self.refusal(index, place, word(&part, "refusal").to_owned(), events);
                }
            }
            if !has_log_probs && let Some(entries) = part.get("logprobs") {
                let entries = Vec::<Entry<'_>>::deserialize(entries).unwrap_or_default();
                self.log_probs(index, place, entries, events);
            }
            let mut data = json!({ "message": message });
            if let Some(annotations) =
                part.get("annotations").filter(|list| list.as_array().is_some_and(|list| !list.is_empty()))
            {
                data["annotations"] = annotations.clone();
            }
            self.blocks.end(&key, Some(Opaque::new(self.provider.as_str(), data)), events);
        }
    }

    /// The answer is whole.
    ///
    /// # Errors
    ///
    /// Where it failed.
    pub(super) fn end(&mut self, whole: Whole, data: &[u8], events: &mut VecDeque<StreamEvent>) -> Result<(), Error> {
        self.start(&whole, events);
        for (index, item) in whole.output.into_iter().flatten().enumerate() {
            self.item_done(index as u64, item, events);
        }
        self.blocks.end_all(events);
        if let Some(raw) = whole.usage.filter(Value::is_object) {
            events.push_back(StreamEvent::Usage(usage::read(raw)));
        }
        if whole.error.is_some() || whole.status.as_deref() == Some("failed") {
            return Err(error::in_stream(&self.provider, data).into());
        }
        let details = whole.incomplete_details.filter(Value::is_object);
        let why = details.as_ref().and_then(|details| details.get("reason")?.as_str()).map(str::to_owned);
        let notes = [("service_tier", whole.service_tier.map(Value::from)), ("incomplete_details", details)];
        let metadata: Map<String, Value> =
            notes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        if !metadata.is_empty() {
            events.push_back(StreamEvent::Metadata(metadata));
        }
        let reason = match (whole.status.as_deref(), why.as_deref()) {
            (Some("incomplete"), Some("max_output_tokens" | "max_tokens")) => StopReason::Length,
            (Some("incomplete"), Some("content_filter")) => StopReason::ContentFilter,
            (Some("completed") | None, _) if self.n_calls > 0 => StopReason::ToolCalls,
            (Some("completed") | None, _) if self.refused => StopReason::ContentFilter,
            (Some("completed") | None, _) => StopReason::Stop,
            _ => StopReason::Other,
        };
        events.push_back(StreamEvent::End(Stop { reason, raw: why.or(whole.status) }));
        Ok(())
    }
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn parts<'a>(item: &'a Value, key: &str) -> &'a [Value] {
    item.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn without(item: Value, keys: &[&str]) -> Map<String, Value> {
    let Value::Object(mut item) = item else { return Map::new() };
    item.retain(|key, value| !keys.contains(&key.as_str()) && !value.is_null());
    item
}
