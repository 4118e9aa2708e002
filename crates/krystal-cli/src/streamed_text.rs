//! A completion's text while it grows.

use krystal::lm::{Result, TokenStream, Tokenizer};

/// Turns tokens into pieces of text that can be shown at once: whole characters, and nothing that may turn out to be the
/// start of a stop string.
#[derive(Debug)]
pub(crate) struct StreamedText<'a> {
    stream: TokenStream<'a>,
    stop: &'a [String],
    held: String,
    stopped: bool,
}

impl<'a> StreamedText<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, stop: &'a [String]) -> Self {
        Self { stream: tokenizer.stream(true), stop, held: String::new(), stopped: false }
    }

    /// The text that `token` makes certain.
    pub(crate) fn push(&mut self, token: u32) -> Result<String> {
        let piece = self.stream.push(token)?;
        Ok(self.release(&piece, false))
    }

    /// The text that was held back.
    pub(crate) fn finish(mut self) -> Result<String> {
        let rest = self.stream.clone().finish()?;
        Ok(self.release(&rest, true))
    }

    fn release(&mut self, piece: &str, last: bool) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        let stop = || self.stop.iter().filter(|stop| !stop.is_empty());
        if let Some(end) = stop().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(end);
            return std::mem::take(&mut self.held);
        }
        let mut keep = 0;
        if !last {
            // The longest end of the text that a stop string starts with.
            for stop in stop() {
                let starts = stop.char_indices().skip(1).map(|(at, _)| at);
                keep = starts.filter(|at| self.held.ends_with(&stop[..*at])).fold(keep, usize::max);
            }
        }
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stop: &[&str], text: &str, expected: &[&str]) {
        let tokenizer = Tokenizer::characters("abcdefé\n", &[]).unwrap();
        let stop: Vec<String> = stop.iter().map(|s| (*s).to_owned()).collect();
        let mut streamed = StreamedText::new(&tokenizer, &stop);
        let tokens = tokenizer.encode(text, false).unwrap();
        let mut pieces: Vec<String> = tokens.iter().map(|token| streamed.push(*token).unwrap()).collect();
        pieces.push(streamed.finish().unwrap());
        assert_eq!(pieces, expected);
    }

    #[test]
    fn what_may_become_a_stop_string_waits() {
        check(&[], "abé", &["a", "b", "é", ""]);
        check(&["bc"], "abd", &["a", "", "bd", ""]);
        check(&["bc"], "abcd", &["a", "", "", "", ""]);
        check(&["bc"], "ab", &["a", "", "b"]);
        check(&["ab\n", "b"], "aab", &["", "a", "a", ""]);
        check(&["éa"], "ébéa", &["", "éb", "", "", ""]);
    }
}
