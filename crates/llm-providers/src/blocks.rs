//! Numbering the blocks of a stream.

use std::collections::VecDeque;

use crate::event::{BlockStart, StreamEvent};
use crate::message::Opaque;

/// The open blocks of a stream, by what its vendor tells them apart with.
#[derive(Debug)]
pub(crate) struct Blocks<K> {
    open: Vec<(K, usize)>,
    started: usize,
}

impl<K> Default for Blocks<K> {
    fn default() -> Self {
        Self { open: Vec::new(), started: 0 }
    }
}

impl<K: PartialEq> Blocks<K> {
    /// Whether the block `key` is open.
    pub(crate) fn is_open(&self, key: &K) -> bool {
        self.open.iter().any(|(open, _)| open == key)
    }

    /// Starts the block `key`.
    pub(crate) fn start(&mut self, key: K, block: BlockStart, events: &mut VecDeque<StreamEvent>) {
        let index = self.started;
        self.started += 1;
        self.open.push((key, index));
        events.push_back(StreamEvent::BlockStart { index, block });
    }

    /// Lets the block `key` grow; false where it is not open.
    pub(crate) fn delta(&mut self, key: &K, delta: String, events: &mut VecDeque<StreamEvent>) -> bool {
        let Some((_, index)) = self.open.iter().find(|(open, _)| open == key) else { return false };
        if !delta.is_empty() {
            events.push_back(StreamEvent::BlockDelta { index: *index, delta });
        }
        true
    }

    /// Ends the block `key`, if it is open.
    pub(crate) fn end(&mut self, key: &K, opaque: Option<Opaque>, events: &mut VecDeque<StreamEvent>) {
        if let Some(place) = self.open.iter().position(|(open, _)| open == key) {
            let (_, index) = self.open.remove(place);
            events.push_back(StreamEvent::BlockEnd { index, opaque });
        }
    }

    /// Ends all open blocks, in the order in which they started.
    pub(crate) fn end_all(&mut self, events: &mut VecDeque<StreamEvent>) {
        let ends = self.open.drain(..).map(|(_, index)| StreamEvent::BlockEnd { index, opaque: None });
        events.extend(ends);
    }

    /// How many blocks have started.
    pub(crate) fn started(&self) -> usize {
        self.started
    }
}
