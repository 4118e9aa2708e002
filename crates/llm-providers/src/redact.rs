//! Striking out of a vendor's words what must not be shown.

use std::borrow::Cow;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::message::{Content, Message};
use crate::provider::EmbeddingRequest;
use crate::request::{OutputFormat, Request, Tool};

/// Bytes of a piece of text that is looked for; two neighbouring pieces have to occur.
const WINDOW: usize = 12;
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;
/// Longest message that is kept, in bytes.
const LONGEST: usize = 600;
const STRUCK: &str = "[...]";
/// Bits for each byte of a request: one message in some thousand loses a few words by chance.
const BITS_PER_BYTE: usize = 16;

/// What a request says, as a Bloom filter of its pieces. It may take other text for the request's, never the reverse.
pub(crate) struct RequestTexts {
    pieces: Vec<u64>,
    /// Texts too short for two pieces.
    short: Vec<String>,
}

/// How much memory may be spent on a request.
#[derive(Clone, Copy)]
pub(crate) enum Room {
    /// As much as it takes: an error is at hand.
    Ample,
    /// 4 KiB, for as long as a stream is open. Chance hits grow with the request's length; of one above 4 kB little of an error may stay.
    Small,
}

impl RequestTexts {
    pub(crate) fn of(request: &Request, room: Room) -> Self {
        let mut said = Said::default();
        for message in &request.messages {
            said.add_message(message);
        }
        for tool in &request.tools {
            match tool {
                Tool::Function(function) => {
                    said.add(function.description.as_deref().unwrap_or_default());
                    said.add_json(&function.parameters);
                }
                Tool::Vendor(opaque) => said.add_json(&opaque.data),
            }
        }
        if let OutputFormat::JsonSchema(schema) = &request.output {
            said.add_json(&schema.schema);
        }
        request.stop.iter().for_each(|stop| said.add(stop));
        request.extra.values().for_each(|value| said.add_json(value));
        Self::new(&said, room)
    }

    pub(crate) fn of_embedding(request: &EmbeddingRequest) -> Self {
        let mut said = Said::default();
        request.input.iter().for_each(|text| said.add(text));
        Self::new(&said, Room::Ample)
    }

    fn new(said: &Said<'_>, room: Room) -> Self {
        let length: usize = said.0.iter().map(|text| text.len()).sum();
        let most = match room {
            Room::Ample => 1 << 27,
            Room::Small => 1 << 15,
        };
        let bits = (length * BITS_PER_BYTE).next_power_of_two().clamp(1 << 10, most);
        let mut texts = Self { pieces: vec![0; bits / 64], short: Vec::new() };
        for text in &said.0 {
            if text.len() <= WINDOW {
                if text.trim().len() > 2 && texts.short.len() < 64 {
                    texts.short.push(text.to_string());
                }
                continue;
            }
            for (_, hash) in hashes(text.as_bytes()) {
                for bit in texts.bits(hash) {
                    texts.pieces[bit / 64] |= 1 << (bit % 64);
                }
            }
        }
        texts
    }

    /// Two places for each hash.
    fn bits(&self, hash: u64) -> [usize; 2] {
        let mask = self.pieces.len() * 64 - 1;
        [(hash >> 36) as usize & mask, (hash >> 8) as usize & mask]
    }

    fn has(&self, hash: u64) -> bool {
        self.bits(hash).iter().all(|bit| self.pieces[bit / 64] >> (bit % 64) & 1 == 1)
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
        let known: Vec<bool> = hashes(text.as_bytes()).map(|(_, hash)| self.has(hash)).collect();
        for (start, pair) in known.windows(2).enumerate() {
            if pair == [true, true] {
                struck[start..=start + WINDOW].fill(true);
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

/// Every text of a request.
#[derive(Default)]
struct Said<'a>(Vec<Cow<'a, str>>);

impl<'a> Said<'a> {
    fn add(&mut self, text: &'a str) {
        self.0.push(text.into());
    }

    fn add_message(&mut self, message: &'a Message) {
        message.content.iter().for_each(|content| self.add_content(content));
    }

    fn add_content(&mut self, content: &'a Content) {
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

    fn add_media(&mut self, media: &'a crate::message::Media) {
        use crate::message::MediaSource::{Bytes, Id, Url};
        match &media.source {
            Url(text) | Id(text) => self.add(text),
            // A vendor shows the beginning at most.
            Bytes(bytes) => self.0.push(crate::base64_bytes::encode(&bytes[..bytes.len().min(3 * 1024)]).into()),
        }
    }

    fn add_json(&mut self, value: &'a Value) {
        match value {
            Value::String(text) => self.add(text),
            Value::Array(values) => values.iter().for_each(|value| self.add_json(value)),
            Value::Object(map) => map.values().for_each(|value| self.add_json(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
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
fn hashes(bytes: &[u8]) -> impl Iterator<Item = (usize, u64)> {
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
        let mixed = hash.wrapping_mul(BASE);
        Some((start, (mixed ^ mixed >> 32).wrapping_mul(BASE)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn strike(prompt: &str, message: &str) -> String {
        let key = SecretString::from("sk-planted");
        RequestTexts::of(&Request::new("m", [Message::user(prompt)]), Room::Ample).strike(message, Some(&key))
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
    fn little_is_struck_out_by_chance() {
        let prompt: String = (0..700).map(|i| format!("sum {} ", i * 7919 % 10_007)).collect();
        let message =
            "The model produced output that does not match the expected format, and the server gave up on it.";
        for (room, prompt) in [(Room::Ample, &prompt[..]), (Room::Small, &prompt[..1500])] {
            let request = Request::new("m", [Message::user(prompt)]);
            let texts = RequestTexts::of(&request, room);
            let shown = texts.strike(&format!("{message} Near: {}", &prompt[500..600]), None);
            assert!(shown.starts_with(message) && shown.len() < message.len() + 20, "{shown}");
        }
        assert_eq!(strike(&prompt, message), message);
    }

    #[test]
    fn long_messages_are_cut() {
        let long = "word ".repeat(1000);
        assert!(strike("x", &long).len() < LONGEST + 10);
    }
}
