//! Newline-delimited JSON.

use crate::decode::lines::Lines;
use crate::error::Result;

/// Reads lines of JSON from pieces cut anywhere. Empty lines are passed over.
#[derive(Debug)]
pub struct NdjsonDecoder {
    lines: Lines,
    limit: usize,
}

impl NdjsonDecoder {
    /// A decoder of lines of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { lines: Lines::default(), limit }
    }

    /// Takes the next bytes and gives every line that they complete to `take`, without its end.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`](crate::Error::TooLarge), and what `take` returns.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.lines.push(bytes, false, self.limit, |line| match line.trim_ascii() {
            b"" => Ok(()),
            line => take(line),
        })
    }

    /// The last line, which needs no end: what has come of it.
    pub fn rest(&self) -> &[u8] {
        self.lines.rest().trim_ascii()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_whatever_the_cuts() {
        let body = b"{\"a\":1}\r\n\n{\"b\":\"\xC3\xA9\"}\n  \n{\"c\":3}";
        for cut in 0..=body.len() {
            let mut decoder = NdjsonDecoder::new(100);
            let mut lines = Vec::new();
            for piece in [&body[..cut], &body[cut..]] {
                decoder
                    .push(piece, |line| {
                        lines.push(line.to_vec());
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(lines, [b"{\"a\":1}".to_vec(), b"{\"b\":\"\xC3\xA9\"}".to_vec()]);
            assert_eq!(decoder.rest(), b"{\"c\":3}");
        }
        assert!(NdjsonDecoder::new(5).push(b"123456", |_| Ok(())).is_err());
    }
}
