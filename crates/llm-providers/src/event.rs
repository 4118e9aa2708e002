//! What a stream is made of.

use std::fmt;

use serde_json::{Map, Value};

use crate::message::{Content, Opaque, Reasoning, Text, ToolCall};
use crate::response::{LogProbs, Response, Stop, TokenLogProb, Usage};

/// A piece of an answer.
///
/// Blocks are numbered from 0 in the order in which they start, and are keyed by that number: parallel tool calls may interleave.
/// Every block that starts ends, before [`StreamEvent::End`], which comes once and last. What comes after an error is not defined:
/// stop reading.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum StreamEvent {
    /// The answer begins: its id and the model's name, as far as known by then.
    Start {
        /// The vendor's id of the answer.
        id: String,
        /// The model that answers.
        model: String,
    },
    /// A block begins.
    BlockStart {
        /// Which.
        index: usize,
        /// What it will be.
        block: BlockStart,
    },
    /// A block grows.
    BlockDelta {
        /// Which.
        index: usize,
        /// By what: text, reasoning, a refusal or the arguments of a call, as its start said.
        delta: String,
    },
    /// A block is whole.
    BlockEnd {
        /// Which.
        index: usize,
        /// What the vendor wants to see again with it.
        opaque: Option<Opaque>,
    },
    /// Log-probabilities of further tokens.
    LogProbs(Vec<TokenLogProb>),
    /// The count of tokens so far: a snapshot, not an increment.
    Usage(Usage),
    /// What else the vendor said, by key; a later value replaces an earlier one.
    Metadata(Map<String, Value>),
    /// The server is alive and has nothing to say yet.
    Ping,
    /// The answer is whole.
    End(Stop),
}

impl StreamEvent {
    /// Whether this is a piece of the answer or its end, after which a call cannot be repeated unseen: all but the head (`Start`,
    /// `Usage`, `Metadata`) and signs of life.
    pub fn carries_content(&self) -> bool {
        !matches!(self, Self::Start { .. } | Self::Usage(_) | Self::Metadata(_) | Self::Ping)
    }
}

/// What a block will be.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum BlockStart {
    /// Text.
    Text,
    /// Reasoning.
    Reasoning,
    /// A refusal.
    Refusal,
    /// A call of a tool; its arguments follow as deltas.
    ToolCall {
        /// Which call.
        id: String,
        /// Which tool.
        name: String,
    },
    /// A block that comes whole: a vendor's own, an image.
    Whole(Box<Content>),
}

impl BlockStart {
    fn content(&self) -> Content {
        match self {
            Self::Text => Content::Text(Text::new("")),
            Self::Reasoning => Content::Reasoning(Reasoning::new("")),
            Self::Refusal => Content::Refusal(Text::new("")),
            Self::ToolCall { id, name } => Content::ToolCall(ToolCall::new(id.as_str(), name.as_str(), "")),
            Self::Whole(content) => (**content).clone(),
        }
    }
}

impl Response {
    /// Takes an event into what has been said so far.
    pub(crate) fn take(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Start { id, model } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
            }
            StreamEvent::BlockStart { block, .. } => self.message.content.push(block.content()),
            StreamEvent::BlockDelta { index, delta } => match self.message.content.get_mut(*index) {
                Some(Content::Text(text) | Content::Refusal(text)) => text.text.push_str(delta),
                Some(Content::Reasoning(reasoning)) => reasoning.text.push_str(delta),
                Some(Content::ToolCall(call)) => call.arguments.push_str(delta),
                _ => {}
            },
            StreamEvent::BlockEnd { index, opaque: Some(data) } => match self.message.content.get_mut(*index) {
                Some(Content::Text(Text { opaque, .. }) | Content::Refusal(Text { opaque, .. })) => {
                    *opaque = Some(data.clone());
                }
                Some(Content::Reasoning(reasoning)) => reasoning.opaque = Some(data.clone()),
                Some(Content::ToolCall(call)) => call.opaque = Some(data.clone()),
                _ => {}
            },
            StreamEvent::LogProbs(tokens) => {
                self.log_probs.get_or_insert_default().tokens.extend_from_slice(tokens);
            }
            StreamEvent::Usage(usage) => self.usage = usage.clone(),
            StreamEvent::Metadata(metadata) => {
                self.metadata.extend(metadata.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            StreamEvent::BlockEnd { opaque: None, .. } | StreamEvent::Ping => {}
            StreamEvent::End(stop) => {
                self.stop = stop.clone();
                if let Some(log_probs) = self.log_probs.take() {
                    self.log_probs = Some(LogProbs::new(log_probs.tokens, self.usage.output));
                }
            }
        }
    }

    /// The answer that these events give.
    pub(crate) fn of_events(events: impl IntoIterator<Item = StreamEvent>) -> Self {
        let mut response = Self::default();
        events.into_iter().for_each(|event| response.take(&event));
        response
    }

    /// This answer as the events of a stream that gives it.
    pub fn into_events(self) -> Vec<StreamEvent> {
        let mut events = vec![StreamEvent::Start { id: self.id, model: self.model }];
        for (index, content) in self.message.content.into_iter().enumerate() {
            let (block, delta, opaque) = match content {
                Content::Text(text) => (BlockStart::Text, text.text, text.opaque),
                Content::Reasoning(reasoning) => (BlockStart::Reasoning, reasoning.text, reasoning.opaque),
                Content::Refusal(text) => (BlockStart::Refusal, text.text, text.opaque),
                Content::ToolCall(ToolCall { id, name, arguments, opaque }) => {
                    (BlockStart::ToolCall { id, name }, arguments, opaque)
                }
                whole => (BlockStart::Whole(Box::new(whole)), String::new(), None),
            };
            events.push(StreamEvent::BlockStart { index, block });
            if !delta.is_empty() {
                events.push(StreamEvent::BlockDelta { index, delta });
            }
            events.push(StreamEvent::BlockEnd { index, opaque });
        }
        events.extend(self.log_probs.map(|log_probs| StreamEvent::LogProbs(log_probs.tokens)));
        if !self.metadata.is_empty() {
            events.push(StreamEvent::Metadata(self.metadata));
        }
        events.push(StreamEvent::Usage(self.usage));
        events.push(StreamEvent::End(self.stop));
        events
    }
}

impl fmt::Debug for StreamEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { id, model } => write!(f, "Start({id}, {model})"),
            Self::BlockStart { index, block } => write!(f, "BlockStart({index}, {block:?})"),
            Self::BlockDelta { index, delta } => write!(f, "BlockDelta({index}, {} bytes)", delta.len()),
            Self::BlockEnd { index, opaque } => write!(f, "BlockEnd({index}, {opaque:?})"),
            Self::LogProbs(tokens) => write!(f, "LogProbs({} tokens)", tokens.len()),
            Self::Usage(usage) => write!(f, "{usage:?}"),
            Self::Metadata(map) => write!(f, "Metadata({} keys)", map.len()),
            Self::Ping => write!(f, "Ping"),
            Self::End(stop) => write!(f, "End({:?})", stop.reason),
        }
    }
}

impl fmt::Debug for BlockStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => write!(f, "Text"),
            Self::Reasoning => write!(f, "Reasoning"),
            Self::Refusal => write!(f, "Refusal"),
            Self::ToolCall { name, .. } => write!(f, "ToolCall({name})"),
            Self::Whole(content) => write!(f, "{content:?}"),
        }
    }
}
