//! Server-sent events.

use crate::decode::lines::Lines;
use crate::error::{Error, Result};

/// Reads server-sent events (WHATWG HTML, section 9.2.6) from pieces cut anywhere.
///
/// Lines end with `\n`, `\r` or both; comments are told apart, since they show that the server is alive; an event that the stream's end
/// cuts off is not given, as the standard says. `id` and `retry` are left out: a completion cannot be resumed.
///
/// ```
/// use llm_providers::decode::SseDecoder;
///
/// let mut seen = Vec::new();
/// let mut decoder = SseDecoder::new(1 << 20);
/// for piece in ["data: {\"a\"", ":1}\r", "\n\r\ndata: [DONE]\n\n"] {
///     decoder.push(piece.as_bytes(), |event| {
///         seen.push(String::from_utf8_lossy(event.data).into_owned());
///         Ok(())
///     })?;
/// }
/// assert_eq!(seen, ["{\"a\":1}", "[DONE]"]);
/// # Ok::<(), llm_providers::Error>(())
/// ```
#[derive(Debug)]
pub struct SseDecoder {
    lines: Lines,
    event: Event,
    limit: usize,
}

/// An event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// Its type, empty if none was given.
    pub name: &'a str,
    /// Its data, lines joined by `\n`. UTF-8 is the reader's to check.
    pub data: &'a [u8],
    /// It was a comment: the server is alive.
    pub is_comment: bool,
}

#[derive(Debug, Default)]
struct Event {
    started: bool,
    name: String,
    data: Vec<u8>,
    has_data: bool,
}

impl SseDecoder {
    /// A decoder of events of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { lines: Lines::default(), event: Event::default(), limit }
    }

    /// Takes the next bytes and gives every event that they complete to `take`.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], and what `take` returns.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(SseEvent<'_>) -> Result<()>) -> Result<()> {
        let Self { lines, event, limit } = self;
        lines.push(bytes, true, *limit, |line| event.line(line, *limit, &mut take))
    }

    /// The data of an event of one line whose empty line has not come: what a server that ends its body carelessly says last.
    pub fn rest(&self) -> &[u8] {
        match (self.event.has_data, self.lines.rest()) {
            (true, b"") => &self.event.data,
            (false, line) => {
                let data = line.strip_prefix(b"data:").unwrap_or_default();
                data.strip_prefix(b" ").unwrap_or(data)
            }
            (true, _) => b"",
        }
    }
}

impl Event {
    fn line(&mut self, mut line: &[u8], limit: usize, take: &mut impl FnMut(SseEvent<'_>) -> Result<()>) -> Result<()> {
        if !self.started {
            self.started = true;
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            if !self.has_data {
                self.name.clear();
                return Ok(());
            }
            let taken = take(SseEvent { name: &self.name, data: &self.data, is_comment: false });
            self.name.clear();
            self.data.clear();
            self.has_data = false;
            return taken;
        }
        let colon = memchr::memchr(b':', line);
        let field = &line[..colon.unwrap_or(line.len())];
        let value = colon.map_or(&line[line.len()..], |colon| &line[colon + 1..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.data.len() + value.len() + 1 > limit {
                    return Err(Error::TooLarge { what: "an event of the stream", limit });
                }
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            b"event" => {
                self.name.clear();
                self.name.push_str(&String::from_utf8_lossy(value));
            }
            b"" => take(SseEvent { name: "", data: value, is_comment: true })?,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<(String, String, bool)> {
        let mut seen = Vec::new();
        let mut decoder = SseDecoder::new(1000);
        for piece in pieces {
            let push = decoder.push(piece, |event| {
                let data = String::from_utf8_lossy(event.data).into_owned();
                seen.push((event.name.to_owned(), data, event.is_comment));
                Ok(())
            });
            push.unwrap();
        }
        seen
    }

    #[test]
    fn the_examples_of_the_standard_are_read() {
        let event = |name: &str, data: &str| (name.to_owned(), data.to_owned(), false);
        let stock = b"data: YHOO\ndata: +2\ndata: 10\n\n";
        assert_eq!(events(&[stock]), [event("", "YHOO\n+2\n10")]);
        let four = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n";
        let comment = (String::new(), "test stream".to_owned(), true);
        assert_eq!(events(&[four]), [comment, event("", "first event"), event("", "second event")]);
        assert_eq!(events(&[b"data\n\ndata\ndata\n\ndata:"]), [event("", ""), event("", "\n")]);
        assert_eq!(events(&[b"data:test\n\ndata: test\n\n"]), [event("", "test"), event("", "test")]);
        assert_eq!(events(&[b"event: add\ndata: 1\n\nevent: x\n\ndata: 2\n\n"]), [event("add", "1"), event("", "2")]);
    }

    #[test]
    fn cuts_and_line_ends_change_nothing() {
        let body = "\u{feff}event: a\ndata: {\"x\": \"é\"}\n\n: ping\n\ndata: 1\ndata:2\n\n\n\ndata: [DONE]\n\n";
        let expected = events(&[body.as_bytes()]);
        assert_eq!(expected.len(), 4);
        for end in ["\n", "\r", "\r\n"] {
            let body = body.replace('\n', end).into_bytes();
            let single: Vec<&[u8]> = body.chunks(1).collect();
            assert_eq!(events(&single), expected, "{end:?}");
            for cut in 0..=body.len() {
                assert_eq!(events(&[&body[..cut], &body[cut..]]), expected, "{end:?} at {cut}");
            }
        }
    }

    #[test]
    fn an_event_without_its_empty_line_can_be_seen() {
        for (body, rest) in [
            ("data: [DONE]", "[DONE]"),
            ("data: 1\n\ndata:[DONE]\n", "[DONE]"),
            ("data: 1\n\n", ""),
            ("data: 1\ndata: 2", ""),
            ("event: x", ""),
        ] {
            let mut decoder = SseDecoder::new(100);
            decoder.push(body.as_bytes(), |_| Ok(())).unwrap();
            assert_eq!(decoder.rest(), rest.as_bytes(), "{body:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let mut decoder = SseDecoder::new(10);
        let take = |_: SseEvent<'_>| Ok(());
        assert!(decoder.push(b"data: 12345678901", take).is_err());
        let mut decoder = SseDecoder::new(10);
        assert!(decoder.push(b"data: 123\ndata: 456\n", take).is_ok());
        assert!(decoder.push(b"data: 789\ndata: 012\n", take).is_err());
    }
}
