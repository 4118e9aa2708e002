//! Strings that end a completion.

use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// Looks for stop strings in the text of a growing completion.
#[derive(Debug)]
pub struct StopStrings<'a> {
    tokenizer: &'a Tokenizer,
    strings: Vec<String>,
    longest: usize,
}

impl<'a> StopStrings<'a> {
    /// Stops at the first of `strings`; empty ones are ignored.
    pub fn new(tokenizer: &'a Tokenizer, strings: impl IntoIterator<Item = String>) -> Self {
        let strings: Vec<String> = strings.into_iter().filter(|s| !s.is_empty()).collect();
        let longest = strings.iter().map(String::len).max().unwrap_or(0);
        Self { tokenizer, strings, longest }
    }

    /// Whether the last token completed a stop string.
    ///
    /// A token is at least one byte of text (special tokens are none), so the text of the last `longest + 8` tokens holds any
    /// string that the last one could have completed; the eight more keep a split character whole.
    pub(super) fn reached(&self, tokens: &[u32]) -> bool {
        if self.strings.is_empty() {
            return false;
        }
        let tail = &tokens[tokens.len().saturating_sub(self.longest + 8)..];
        self.tokenizer.decode(tail, true).is_ok_and(|text| self.strings.iter().any(|s| text.contains(s.as_str())))
    }

    /// The text of a completion up to the first stop string, which is left out.
    ///
    /// # Errors
    /// When the tokens cannot be decoded.
    pub fn text(&self, tokens: &[u32]) -> Result<String> {
        let mut text = self.tokenizer.decode(tokens, true)?;
        if let Some(end) = self.strings.iter().filter_map(|s| text.find(s.as_str())).min() {
            text.truncate(end);
        }
        Ok(text)
    }
}
