//! What must hold of a decoder, whatever bytes come.

use std::collections::VecDeque;

use futures_util::FutureExt;
use llm_providers::{BlockStart, Decode, EventStream, Protocol, ResponseStream, StreamEvent};

/// Ways of cutting `data`: at once, byte by byte, and twice in pieces whose lengths the data itself draws.
pub fn cuts(data: &[u8]) -> [Vec<&[u8]>; 4] {
    [vec![data], data.chunks(1).collect(), drawn_pieces(data, 1), drawn_pieces(data, 2)]
}

fn drawn_pieces(mut data: &[u8], seed: u64) -> Vec<&[u8]> {
    // FNV-1a, then xorshift.
    let start = 0xCBF2_9CE4_8422_2325 ^ seed;
    let mut state = data.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)) | 1;
    let mut pieces = Vec::new();
    while !data.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (piece, rest) = data.split_at(data.len().min((state % 24) as usize));
        pieces.push(piece);
        data = rest;
    }
    pieces
}

/// The events of a stream and the error it ends with.
type Decoded = (Vec<StreamEvent>, Option<String>);

fn decode(decoder: &mut dyn Decode, pieces: &[&[u8]]) -> Decoded {
    let mut events = VecDeque::new();
    let pushed = pieces.iter().try_for_each(|piece| decoder.push(piece, &mut events));
    let ended = pushed.and_then(|()| decoder.finish(&mut events));
    (events.into(), ended.err().map(|error| error.to_string()))
}

/// Checks a protocol's decoder. `may_end`: whether the protocol's last word is among the bytes.
///
/// # Panics
///
/// Where something does not hold.
pub fn check(protocol: &impl Protocol, data: &[u8], may_end: impl Fn(&[u8]) -> bool) {
    let [first, others @ ..] = cuts(data).map(|pieces| decode(&mut *protocol.decoder(), &pieces));
    for other in others {
        assert_eq!(first.1, other.1, "the error depends on the cuts");
        assert!(first.0 == other.0, "the events depend on the cuts");
    }
    let (events, error) = first;
    let has_ended = check_order(&events, error.is_some());
    assert!(!has_ended || may_end(data), "an end without the protocol's last word");
    check_response(protocol.name(), events, has_ended, error.is_some());
}

/// The blocks start one after the other, grow while they are open, and end before the end, which is last. Whether it came.
fn check_order(events: &[StreamEvent], has_failed: bool) -> bool {
    let mut open = Vec::new();
    let mut n_starts = 0;
    for (place, event) in events.iter().enumerate() {
        match event {
            StreamEvent::Start { .. } => {
                n_starts += 1;
                assert!(n_starts == 1 && open.is_empty(), "a second start, or a late one");
            }
            StreamEvent::BlockStart { index, block } => {
                assert_eq!(*index, open.len(), "blocks are numbered in their order");
                open.push(Some(matches!(block, BlockStart::Whole(_))));
            }
            StreamEvent::BlockDelta { index, delta } => {
                assert_eq!(open.get(*index), Some(&Some(false)), "what grows is open and grows by text");
                assert!(!delta.is_empty(), "an empty piece");
            }
            StreamEvent::BlockEnd { index, .. } => {
                let block = open.get_mut(*index).and_then(Option::take);
                assert!(block.is_some(), "what ends is open");
            }
            StreamEvent::End(_) => {
                assert_eq!(place, events.len() - 1, "the end is last");
                assert!(open.iter().all(Option::is_none), "blocks end before the end");
                assert!(!has_failed, "an error after the end");
                return true;
            }
            _ => {}
        }
    }
    assert!(has_failed, "neither an end nor an error");
    false
}

/// What is gathered from the stream is an answer if and only if the end came.
fn check_response(provider: &str, events: Vec<StreamEvent>, has_ended: bool, has_failed: bool) {
    let deltas: usize = events
        .iter()
        .map(|event| if let StreamEvent::BlockDelta { delta, .. } = event { delta.len() } else { 0 })
        .sum();
    let texts = events.into_iter().map(Ok);
    let events: EventStream = Box::pin(futures_util::stream::iter(texts));
    let response = ResponseStream::new(provider, events).response().now_or_never().expect("nothing to wait for");
    assert_eq!(response.is_ok(), has_ended && !has_failed);
    if let Ok(response) = response {
        let said = response.text().len() + response.message.reasoning().len();
        assert!(said <= deltas, "more was gathered than said");
    }
}

/// Whether `word` is among the bytes, or may be, written with escapes.
pub fn contains(data: &[u8], word: &str) -> bool {
    data.windows(word.len()).any(|window| window == word.as_bytes()) || data.windows(2).any(|window| window == b"\\u")
}

#[cfg(test)]
mod tests {
    use llm_providers::{Stop, StopReason};

    use super::*;

    fn end() -> StreamEvent {
        StreamEvent::End(Stop { reason: StopReason::Stop, raw: None })
    }

    fn text(index: usize) -> StreamEvent {
        StreamEvent::BlockStart { index, block: BlockStart::Text }
    }

    fn delta(index: usize) -> StreamEvent {
        StreamEvent::BlockDelta { index, delta: "a".to_owned() }
    }

    fn block_end(index: usize) -> StreamEvent {
        StreamEvent::BlockEnd { index, opaque: None }
    }

    #[test]
    fn disorder_is_found() {
        let good = [text(0), text(1), delta(0), block_end(1), delta(0), block_end(0), end()];
        assert!(check_order(&good, false));
        assert!(!check_order(&good[..3], true));
        for bad in [
            vec![text(1), block_end(1), end()],
            vec![text(0), end()],
            vec![text(0), block_end(0), delta(0), end()],
            vec![text(0), block_end(0), block_end(0), end()],
            vec![delta(0), end()],
            vec![end(), end()],
            vec![text(0), block_end(0)],
        ] {
            assert!(std::panic::catch_unwind(|| check_order(&bad, false)).is_err(), "{bad:?}");
        }
        assert!(std::panic::catch_unwind(|| check_order(&good, true)).is_err());
    }

    #[test]
    fn pieces_are_the_whole() {
        let data: Vec<u8> = (0..=255).collect();
        for pieces in cuts(&data) {
            assert_eq!(pieces.concat(), data);
        }
    }
}
