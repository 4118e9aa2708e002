//! Striking out of a vendor's words what must not be shown.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::message::{Content, Message};
use crate::provider::EmbeddingRequest;
use crate::request::{OutputFormat, Request, Tool};

/// Bytes of a piece of text that is recognised.
const WINDOW: usize = 12;
const BITS: usize = 1 << 15;
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;
/// Longest message that is kept, in bytes.
const LONGEST: usize = 600;
const STRUCK: &str = "[...]";

/// What a request says, as a set of hashes of its pieces: 4 KiB however long it is. It may take other text for the request's (the
/// likelier the longer the request is), never the reverse.
pub(crate) struct RequestTexts {
    pieces: Box<[u64; BITS / 64]>,
    /// Texts shorter than a piece.
    short: Vec<String>,
}

impl RequestTexts {
    pub(crate) fn of(request: &Request) -> Self {
        let mut texts = Self { pieces: Box::new([0; BITS / 64]), short: Vec::new() };
        for message in &request.messages {
            texts.add_message(message);
        }
        for tool in &request.tools {
            match tool {
                Tool::Function(function) => {
                    texts.add(function.description.as_deref().unwrap_or_default());
                    texts.add_json(&function.parameters);
                }
                Tool::Vendor(opaque) => texts.add_json(&opaque.data),
            }
        }
        if let OutputFormat::JsonSchema(schema) = &request.output {
            texts.add_json(&schema.schema);
        }
        request.stop.iter().for_each(|stop| texts.add(stop));
        request.extra.values().for_each(|value| texts.add_json(value));
        texts
    }

    pub(crate) fn of_embedding(request: &EmbeddingRequest) -> Self {
        let mut texts = Self { pieces: Box::new([0; BITS / 64]), short: Vec::new() };
        request.input.iter().for_each(|text| texts.add(text));
        texts
    }

    fn add_message(&mut self, message: &Message) {
        message.content.iter().for_each(|content| self.add_content(content));
    }

    fn add_content(&mut self, content: &Content) {
        match content {
            Content::Text(text) | Content::Refusal(text) => self.add(&text.text),
            Content::Reasoning(reasoning) => self.add(&reasoning.text),
            Content::ToolCall(call) => self.add(&call.arguments),
            Content::ToolResult(result) => result.content.iter().for_each(|content| self.add_content(content)),
            Content::Other(opaque) => self.add_json(&opaque.data),
            Content::Image(media) => self.add_media(media),
            Content::File(file) => {
                self.add(file.name.as_deref().unwrap_or_default());
                self.add_media(&file.media);
            }
        }
    }

    fn add_media(&mut self, media: &crate::message::Media) {
        use crate::message::MediaSource::{Bytes, Id, Url};
        match &media.source {
            Url(text) | Id(text) => self.add(text),
            // A vendor shows the beginning at most.
            Bytes(bytes) => self.add(&crate::base64_bytes::encode(&bytes[..bytes.len().min(3 * 1024)])),
        }
    }

    fn add_json(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.add(text),
            Value::Array(values) => values.iter().for_each(|value| self.add_json(value)),
            Value::Object(map) => map.values().for_each(|value| self.add_json(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn add(&mut self, text: &str) {
        if text.len() < WINDOW {
            if text.trim().len() > 2 && self.short.len() < 64 {
                self.short.push(text.to_owned());
            }
            return;
        }
        for (_, hash) in hashes(text.as_bytes()) {
            self.pieces[hash % BITS / 64] |= 1 << (hash % 64);
        }
    }

    fn has(&self, hash: usize) -> bool {
        self.pieces[hash % BITS / 64] >> (hash % 64) & 1 == 1
    }

    /// `message` on one line, without what occurs in the request and without `secret`, cut to a length that can be read.
    pub(crate) fn strike(&self, message: &str, secret: Option<&SecretString>) -> String {
        let mut text: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(secret) = secret.map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, STRUCK);
        }
        text = strike_keys(&text);
        for short in &self.short {
            text = text.replace(short.as_str(), STRUCK);
        }
        let mut struck = vec![false; text.len()];
        for (start, hash) in hashes(text.as_bytes()) {
            if self.has(hash) {
                struck[start..start + WINDOW].fill(true);
            }
        }
        let mut kept = String::new();
        let mut last_struck = false;
        for (start, character) in text.char_indices() {
            let out = struck[start..start + character.len_utf8()].contains(&true);
            match (out, last_struck) {
                (false, _) => kept.push(character),
                (true, false) => kept.push_str(STRUCK),
                (true, true) => {}
            }
            last_struck = out;
            if kept.len() > LONGEST {
                kept.push_str("..");
                break;
            }
        }
        kept
    }
}

/// Words that look like keys: vendors show parts of a wrong key, with stars in its middle.
fn strike_keys(text: &str) -> String {
    let is_key = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        ["sk-", "AIza", "gsk_", "xai-", "hf_"].iter().any(|start| word.starts_with(start)) || word.contains("****")
    };
    let words: Vec<&str> = text.split(' ').map(|word| if is_key(word) { STRUCK } else { word }).collect();
    words.join(" ")
}

/// The hash of every piece, with its place. White space counts as one blank.
fn hashes(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    const LEAVING: u64 = {
        let (mut power, mut i) = (1_u64, 0);
        while i < WINDOW {
            power = power.wrapping_mul(BASE);
            i += 1;
        }
        power
    };
    let mut hash = 0_u64;
    bytes.iter().enumerate().filter_map(move |(end, byte)| {
        hash = hash.wrapping_mul(BASE).wrapping_add(u64::from(*byte));
        let start = (end + 1).checked_sub(WINDOW)?;
        if start > 0 {
            hash = hash.wrapping_sub(u64::from(bytes[start - 1]).wrapping_mul(LEAVING));
        }
        // The last byte moves low bits alone: a product carries them up.
        Some((start, (hash.wrapping_mul(BASE) >> 32) as usize))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn strike(prompt: &str, message: &str) -> String {
        let key = SecretString::from("sk-planted");
        RequestTexts::of(&Request::new("m", [Message::user(prompt)])).strike(message, Some(&key))
    }

    #[test]
    fn what_was_asked_is_struck_out_and_the_rest_stays() {
        let prompt = "My password is hunter2 and nobody may know it.";
        for (message, expected) in [
            ("max_tokens must be at least 1", "max_tokens must be at least 1"),
            ("invalid input: 'password is hunter2 and nobody' at 3", "invalid input: '[...]' at 3"),
            ("Incorrect API key provided: sk-pl****ted.", "Incorrect API key provided: [...]"),
            ("the key sk-planted is wrong", "the key [...] is wrong"),
        ] {
            assert_eq!(strike(prompt, message), expected);
        }
        assert_eq!(strike("hunter2", "what is hunter2?"), "what is [...]?");
        assert_eq!(strike("Größe über alles, sagt Jürgen", "bad: Größe über alles!"), "bad: [...]!");
    }

    #[test]
    fn long_messages_are_cut() {
        let long = "word ".repeat(1000);
        assert!(strike("x", &long).len() < LONGEST + 10);
    }
}
