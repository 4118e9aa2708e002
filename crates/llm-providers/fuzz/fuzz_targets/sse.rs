#![no_main]
//! Server-sent events, against a reading of the whole body as the standard words it.

use libfuzzer_sys::fuzz_target;
use llm_providers::decode::SseDecoder;
use llm_providers_fuzz::cuts;

/// Name, data, whether it is a comment.
type Event = (String, Vec<u8>, bool);

/// Lines end with a line feed, a carriage return, or both; what has no end is no line.
fn lines(data: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let (mut start, mut place) = (0, 0);
    while place < data.len() {
        let n_end = match &data[place..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => 0,
        };
        if n_end > 0 {
            lines.push(&data[start..place]);
            start = place + n_end;
        }
        place += n_end.max(1);
    }
    lines
}

fn read(data: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let (mut name, mut texts) = (String::new(), Vec::<&[u8]>::new());
    let data = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
    for line in lines(data) {
        if line.is_empty() {
            if !texts.is_empty() {
                events.push((name.clone(), texts.join(&b'\n'), false));
            }
            name.clear();
            texts.clear();
            continue;
        }
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let field = halves.next().unwrap_or_default();
        let value = halves.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"" => events.push((String::new(), value.to_vec(), true)),
            b"data" => texts.push(value),
            b"event" => name = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
    }
    events
}

fuzz_target!(|data: &[u8]| {
    let expected = read(data);
    for pieces in cuts(data) {
        let mut seen: Vec<Event> = Vec::new();
        let mut decoder = SseDecoder::new(1 << 20);
        for piece in pieces {
            let pushed = decoder.push(piece, |event| {
                seen.push((event.name.to_owned(), event.data.to_vec(), event.is_comment));
                Ok(())
            });
            pushed.expect("below the limit");
        }
        assert_eq!(seen, expected);
        let _ = decoder.rest();
    }
});
