//! Lines of a byte stream that comes in pieces.

use crate::error::{Error, Result};

/// Cuts bytes into lines. A line within a piece is not copied.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// A carriage return ended the last piece: a line feed at the start of the next belongs to it.
    after_return: bool,
}

impl Lines {
    /// Gives every line that ends in `bytes` to `take`, without its end, which is a line feed, and with `returns` also a carriage
    /// return or both. A line that has no end yet may have up to `limit` bytes.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        returns: bool,
        limit: usize,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.after_return && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            self.after_return = false;
        }
        loop {
            let end = if returns { memchr::memchr2(b'\n', b'\r', bytes) } else { memchr::memchr(b'\n', bytes) };
            let Some(end) = end else { break };
            let line = &bytes[..end];
            let was_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if was_return {
                match bytes.first() {
                    Some(b'\n') => bytes = &bytes[1..],
                    Some(_) => {}
                    None => self.after_return = true,
                }
            }
            if self.partial.is_empty() {
                take(line)?;
            } else {
                self.extend(line, limit)?;
                let whole = std::mem::take(&mut self.partial);
                let taken = take(&whole);
                // The allocation serves the next line that is cut.
                self.partial = whole;
                self.partial.clear();
                taken?;
            }
        }
        self.extend(bytes, limit)
    }

    /// What has come of a line without its end.
    pub(super) fn rest(&self) -> &[u8] {
        &self.partial
    }

    fn extend(&mut self, bytes: &[u8], limit: usize) -> Result<()> {
        if self.partial.len() + bytes.len() > limit {
            return Err(Error::TooLarge { what: "a line of the stream", limit });
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}
