//! Playing exchanges.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};

use super::difference::differences;
use super::exchange::{Exchange, asked};
use crate::error::{Error, Phase, Result};
use crate::provider::BoxFuture;
use crate::transport::{Body, Transport};

/// Most places that an error names.
const NAMED: usize = 6;

/// Answers from a recording that a [`RecordTransport`](super::RecordTransport) made: no network, no key.
///
/// A request gets the first answer not yet given to one of the same method, path and JSON body (the order of keys does not matter);
/// when all were given, the last again. Queries and headers are not compared.
pub struct ReplayTransport {
    exchanges: Vec<Exchange>,
    n_given: Mutex<Vec<u32>>,
    cuts: Cuts,
    ending: Ending,
}

/// Into which pieces bodies are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cuts {
    /// As they were recorded.
    #[default]
    Recorded,
    /// One piece.
    Whole,
    /// A piece for every byte.
    EveryByte,
    /// Pieces of 1 to 64 bytes, by this seed (splitmix64): the same for every body.
    Random(u64),
}

/// How bodies end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Ending {
    /// As they were recorded.
    #[default]
    Recorded,
    /// After this many bytes, as if that were all.
    Cut(usize),
    /// After this many bytes, with a broken connection.
    Broken(usize),
}

impl ReplayTransport {
    /// Reads a recording.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] where the file cannot be read or a line is no exchange.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let wrong = |problem: String| Error::Configuration { setting: "recording".to_owned(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let exchanges = lines.map(|(i, line)| {
            serde_json::from_str(line).map_err(|error| {
                wrong(format!("line {}, column {}: expected a recorded exchange", i + 1, error.column()))
            })
        });
        let exchanges: Vec<Exchange> = exchanges.collect::<Result<_>>()?;
        let n_given = Mutex::new(vec![0; exchanges.len()]);
        Ok(Self { exchanges, n_given, cuts: Cuts::default(), ending: Ending::default() })
    }

    /// With other cuts than the recorded ones.
    #[must_use]
    pub fn with_cuts(mut self, cuts: Cuts) -> Self {
        self.cuts = cuts;
        self
    }

    /// With another end than the recorded one.
    #[must_use]
    pub fn with_ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    fn answer(&self, request: &Request<Bytes>) -> Result<http::Response<Body>> {
        let exchange = self.find(request)?;
        let mut response = http::Response::new(self.body(exchange, request));
        *response.status_mut() = StatusCode::from_u16(exchange.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in &exchange.headers {
            if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
                response.headers_mut().append(name, value);
            }
        }
        Ok(response)
    }

    fn find(&self, request: &Request<Bytes>) -> Result<&Exchange> {
        let unrecorded = |problem: String| Error::Unrecorded { what: "the recording".to_owned(), problem };
        let path = request.uri().path();
        let same_place = |exchange: &Exchange| exchange.method == request.method().as_str() && exchange.path == path;
        let asked = asked(request.body());
        let mut n_given = self.n_given.lock().unwrap_or_else(PoisonError::into_inner);
        let matching: Vec<usize> = (0..self.exchanges.len())
            .filter(|i| same_place(&self.exchanges[*i]) && self.exchanges[*i].asked == asked)
            .collect();
        let next = matching.iter().copied().find(|i| n_given[*i] == 0).or(matching.last().copied());
        if let Some(next) = next {
            n_given[next] += 1;
            return Ok(&self.exchanges[next]);
        }
        let nearest = self.exchanges.iter().filter(|exchange| same_place(exchange));
        // Bodies of another kind differ in one place, and are the farthest.
        let alike = |exchange: &&Exchange| exchange.asked.is_object() == asked.is_object();
        let nearest = nearest.map(|exchange| (!alike(&exchange), differences(&exchange.asked, &asked)));
        let nearest = nearest.min_by_key(|(is_other, differing)| (*is_other, differing.len()));
        Err(unrecorded(match nearest {
            Some((_, mut differing)) => {
                let n_more = differing.len().saturating_sub(NAMED);
                differing.truncate(NAMED);
                if n_more > 0 {
                    differing.push(format!("{n_more} more"));
                }
                format!("in the nearest one, {}", differing.join(", "))
            }
            None => format!("nothing was recorded of {} {path}", request.method()),
        }))
    }

    fn body(&self, exchange: &Exchange, request: &Request<Bytes>) -> Body {
        let recorded = exchange.pieces.iter().map(|piece| piece.0.clone());
        let (pieces, is_broken) = match self.ending {
            Ending::Recorded => (recorded.collect(), exchange.is_broken),
            Ending::Cut(length) => (cut_off(recorded, length), false),
            Ending::Broken(length) => (cut_off(recorded, length), true),
        };
        let broken = is_broken.then(|| {
            let uri = request.uri();
            Err(Error::Transport {
                endpoint: format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or_default()),
                phase: Phase::Body,
                source: "recorded so".into(),
            })
        });
        let pieces = self.cuts.apply(pieces).into_iter().map(Ok);
        Box::pin(futures_util::stream::iter(pieces.chain(broken)))
    }
}

impl Transport for ReplayTransport {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>>> {
        Box::pin(async move { self.answer(&request) })
    }
}

impl fmt::Debug for ReplayTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplayTransport({} exchanges)", self.exchanges.len())
    }
}

impl Cuts {
    fn apply(self, pieces: Vec<Bytes>) -> Vec<Bytes> {
        if self == Self::Recorded {
            return pieces;
        }
        let mut whole = BytesMut::new();
        pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        let mut whole = whole.freeze();
        let mut state = if let Self::Random(seed) = self { seed } else { 0 };
        let mut cut = Vec::new();
        while !whole.is_empty() {
            let length = match self {
                Self::EveryByte => 1,
                Self::Random(_) => 1 + (splitmix64(&mut state) % 64) as usize,
                Self::Whole | Self::Recorded => whole.len(),
            };
            cut.push(whole.split_to(length.min(whole.len())));
        }
        cut
    }
}

fn cut_off(pieces: impl Iterator<Item = Bytes>, length: usize) -> Vec<Bytes> {
    let mut left = length;
    let cut = pieces.map(|piece| {
        let piece = piece.slice(..piece.len().min(left));
        left -= piece.len();
        piece
    });
    cut.filter(|piece| !piece.is_empty()).collect()
}

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
