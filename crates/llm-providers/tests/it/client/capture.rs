//! A subscriber that keeps spans and events.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

pub(crate) type Fields = BTreeMap<String, String>;

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) spans: Vec<(&'static str, Fields)>,
    /// Each with the span in which it was, by its place.
    pub(crate) events: Vec<(Option<usize>, Fields)>,
    entered: Vec<usize>,
}

/// Clones share what is kept.
#[derive(Clone, Default)]
pub(crate) struct Capture(Arc<Mutex<Kept>>);

impl Capture {
    /// What is kept of everything under a target of this crate while `f` runs.
    pub(crate) fn of<T>(f: impl FnOnce() -> T) -> (T, Kept) {
        let capture = Self::default();
        let result = tracing::subscriber::with_default(capture.clone(), f);
        let kept = std::mem::take(&mut *capture.0.lock().unwrap());
        (result, kept)
    }
}

struct Read<'a>(&'a mut Fields);

impl Visit for Read<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("llm_providers")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::new();
        attributes.record(&mut Read(&mut fields));
        let mut kept = self.0.lock().unwrap();
        kept.spans.push((attributes.metadata().name(), fields));
        Id::from_u64(kept.spans.len() as u64)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        values.record(&mut Read(&mut self.0.lock().unwrap().spans[id.into_u64() as usize - 1].1));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Read(&mut fields));
        let mut kept = self.0.lock().unwrap();
        let span = kept.entered.last().copied();
        kept.events.push((span, fields));
    }

    fn enter(&self, id: &Id) {
        self.0.lock().unwrap().entered.push(id.into_u64() as usize - 1);
    }

    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().entered.pop();
    }
}
