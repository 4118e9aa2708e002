//! Decoding token by token.

use super::Tokenizer;
use crate::error::Result;

/// What an incomplete character decodes to.
const REPLACEMENT: char = '\u{FFFD}';

/// Decodes a sequence token by token. The pieces, with what [`TokenStream::finish`] returns, add up to what
/// [`Tokenizer::decode`] makes of the whole; no piece ends within a character.
///
/// A token may hold part of a character, and a decoder may treat the first token differently (dropping its leading
/// space). So a window of tokens is decoded anew each time, from a place where the text so far ended with a whole
/// character, and what it adds is returned unless it may still be completed.
#[derive(Debug, Clone)]
pub struct TokenStream<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    /// Tokens decoded together: those of the last piece, then those that came after.
    window: Vec<u32>,
    /// How many tokens of `window` belong to the last piece.
    old_tokens: usize,
    /// How many bytes of the window's text have been returned.
    returned: usize,
}

impl<'t> TokenStream<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, window: Vec::new(), old_tokens: 0, returned: 0 }
    }

    /// Takes the next token; returns the text it completes, often empty.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window, self.skip_special)?;
        let whole = text.trim_end_matches(REPLACEMENT).len();
        let Some(piece) = text.get(self.returned..whole).filter(|piece| !piece.is_empty()) else {
            return Ok(String::new());
        };
        let piece = piece.to_owned();
        self.returned = whole;
        if whole == text.len() {
            // The text ends with a whole character: a new window can start after the last piece.
            self.window.drain(..self.old_tokens);
            self.old_tokens = self.window.len();
            self.returned = self.tokenizer.decode(&self.window, self.skip_special)?.len();
        }
        Ok(piece)
    }

    /// Ends the sequence; returns the text held back, which is empty unless the last character is incomplete.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(self) -> Result<String> {
        let text = self.tokenizer.decode(&self.window, self.skip_special)?;
        Ok(text.get(self.returned..).unwrap_or_default().to_owned())
    }
}
