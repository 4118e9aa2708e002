//! Which fragment belongs to which call of a tool.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::Key;
use super::wire;
use crate::blocks::Blocks;
use crate::event::{BlockStart, StreamEvent};
use crate::message::Opaque;

/// The calls of an answer.
///
/// A fragment belongs to the call of its index. Servers that give none, or the same for all, are understood by what else a first fragment
/// has: an id or a name.
#[derive(Default)]
pub(super) struct Calls {
    calls: Vec<Call>,
}

struct Call {
    index: Option<i64>,
    /// As the server gave it; empty if it gave none.
    id: String,
    name: String,
    /// Arguments that came before the name did.
    early: String,
    started: bool,
    extra: Option<Value>,
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Takes an entry of a chunk, or of a whole answer, where each is a call of its own.
    pub(super) fn take(
        &mut self,
        entry: wire::ToolCall<'_>,
        is_whole: bool,
        blocks: &mut Blocks<Key>,
        events: &mut VecDeque<StreamEvent>,
    ) -> Result<(), serde_json::Error> {
        let function = entry.function.unwrap_or(wire::Function { name: Default::default(), arguments: None });
        let place = match self.place(entry.index, &entry.id.0, &function.name.0) {
            Some(place) if !is_whole => place,
            _ => {
                self.calls.push(Call {
                    index: entry.index,
                    id: String::new(),
                    name: String::new(),
                    early: String::new(),
                    started: false,
                    extra: None,
                });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[place];
        if let Some(extra) = entry.extra_content {
            call.extra = Some(serde_json::from_str(extra.get())?);
        }
        if !call.started {
            if call.id.is_empty() {
                call.id = entry.id.0.into_owned();
            }
            call.name = function.name.0.into_owned();
            if !call.name.is_empty() {
                call.start(place, blocks, events);
            }
        }
        if let Some(arguments) = function.arguments {
            let arguments = arguments_text(arguments)?;
            if call.started {
                blocks.delta(&Key::Call(place), arguments.into_owned(), events);
            } else {
                call.early.push_str(&arguments);
            }
        }
        Ok(())
    }

    /// The call that an entry goes on with; `None`: a new one.
    fn place(&self, index: Option<i64>, id: &str, name: &str) -> Option<usize> {
        let place = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index)?,
            None if !id.is_empty() => return self.calls.iter().rposition(|call| call.id == id),
            None if !name.is_empty() => return None,
            None => self.calls.len().checked_sub(1)?,
        };
        let call = &self.calls[place];
        let is_another = |known: &str, given: &str| !known.is_empty() && !given.is_empty() && known != given;
        if is_another(&call.id, id) || is_another(&call.name, name) {
            // All calls have the same index. The id may be that of an earlier one.
            return self.calls.iter().rposition(|call| !id.is_empty() && call.id == id);
        }
        Some(place)
    }

    /// Ends all calls.
    pub(super) fn end(&mut self, provider: &str, blocks: &mut Blocks<Key>, events: &mut VecDeque<StreamEvent>) {
        for (place, call) in self.calls.iter_mut().enumerate() {
            if !call.started {
                call.start(place, blocks, events);
            }
            let extra = call.extra.take().map(|extra| Opaque::new(provider, json!({ "extra_content": extra })));
            blocks.end(&Key::Call(place), extra, events);
        }
    }
}

impl Call {
    fn start(&mut self, place: usize, blocks: &mut Blocks<Key>, events: &mut VecDeque<StreamEvent>) {
        let id = if self.id.is_empty() { format!("call_{place}") } else { self.id.clone() };
        blocks.start(Key::Call(place), BlockStart::ToolCall { id, name: self.name.clone() }, events);
        blocks.delta(&Key::Call(place), std::mem::take(&mut self.early), events);
        self.started = true;
    }
}

/// The arguments as a text of JSON, whichever way they came.
fn arguments_text(raw: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    let raw = raw.get();
    if raw.starts_with('"') {
        serde_json::from_str::<crate::json::Str<'_>>(raw).map(|text| text.0)
    } else {
        Ok(raw.into())
    }
}
