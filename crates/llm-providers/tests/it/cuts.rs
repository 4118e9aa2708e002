//! Streams cut anywhere.

use std::collections::VecDeque;

use llm_providers::{Decode, Error, EventStream, Protocol, Response, ResponseStream, StreamEvent};
use rand::RngExt;

/// Bodies of up to this many bytes are cut at every byte, larger ones at 200 places drawn at random.
const SMALL: usize = 4096;

/// What a stream in these pieces gives.
pub(crate) fn answer(protocol: &impl Protocol, pieces: &[&[u8]]) -> Result<Response, Error> {
    let mut decoder = protocol.decoder();
    let mut events = VecDeque::new();
    let ended = feed(&mut *decoder, pieces, &mut events);
    let events: Vec<_> = events.into_iter().map(Ok).chain(ended.err().map(Err)).collect();
    let events: EventStream = Box::pin(futures_util::stream::iter(events));
    futures_util::FutureExt::now_or_never(ResponseStream::new(protocol.name(), events).response()).unwrap()
}

fn feed(decoder: &mut dyn Decode, pieces: &[&[u8]], events: &mut VecDeque<StreamEvent>) -> Result<(), Error> {
    for piece in pieces {
        decoder.push(piece, events)?;
    }
    decoder.finish(events)
}

/// Where a body is cut.
pub(crate) fn places(body: &[u8], seed: u64) -> Vec<usize> {
    if body.len() <= SMALL {
        return (0..=body.len()).collect();
    }
    let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(seed);
    (0..200).map(|_| rng.random_range(0..=body.len())).collect()
}

/// Checks that the cuts change nothing, and gives the answer.
pub(crate) fn check_cuts(protocol: &impl Protocol, body: &[u8], name: &str) -> Response {
    let whole = answer(protocol, &[body]).unwrap_or_else(|error| panic!("{name}: {error}"));
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    assert!(answer(protocol, &bytes).is_ok_and(|response| response == whole), "{name}: one byte at a time");
    for place in places(body, 1) {
        let (head, tail) = body.split_at(place);
        assert!(answer(protocol, &[head, tail]).is_ok_and(|response| response == whole), "{name}: cut at {place}");
    }
    whole
}

/// Checks that a stream that ends before `end`, the place behind its protocol's last word, is incomplete.
pub(crate) fn check_truncations(protocol: &impl Protocol, body: &[u8], end: usize, name: &str) {
    for place in places(&body[..end - 1], 2) {
        match answer(protocol, &[&body[..place]]) {
            Err(Error::Incomplete { .. }) => {}
            Err(error) => panic!("{name}: ends at {place} of {}: {error}", body.len()),
            Ok(_) => panic!("{name}: ends at {place} of {} and counts as whole", body.len()),
        }
    }
}
