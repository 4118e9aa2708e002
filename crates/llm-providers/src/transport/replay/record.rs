//! Writing exchanges down.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, Request};

use super::exchange::{Exchange, Piece, asked, telling};
use crate::error::{Error, Result};
use crate::provider::BoxFuture;
use crate::transport::{Body, Transport};

/// Sends through another transport and writes each exchange to a file, one line of JSON each, for
/// [`ReplayTransport`](super::ReplayTransport).
///
/// Written are the request's method, path without query and body, and of the answer its status, the headers that this crate reads, and
/// the body in the pieces in which it came. Headers of requests are not written, and what stands in those marked as secret (this
/// crate's own keys are) is starred out wherever else it occurs. **Prompts and answers are written**: that is what a recording is.
///
/// A line is written when the body ends, breaks or is dropped. Requests that got no answer are not recorded. An exchange that could not
/// be written makes the next request fail.
pub struct RecordTransport {
    inner: Arc<dyn Transport>,
    log: Arc<Mutex<Log>>,
}

struct Log {
    file: File,
    failed: Option<io::Error>,
}

impl RecordTransport {
    /// Appends to the file `path`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] where the file cannot be opened.
    pub fn new(inner: Arc<dyn Transport>, path: impl AsRef<Path>) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|error| unwritable(&error))?;
        Ok(Self { inner, log: Arc::new(Mutex::new(Log { file, failed: None })) })
    }

    async fn send_recorded(&self, request: Request<Bytes>) -> Result<http::Response<Body>> {
        if let Some(error) = lock(&self.log).failed.take() {
            return Err(unwritable(&error));
        }
        let secrets = secrets(request.headers());
        let mut body = request.body().to_vec();
        star_out(&mut body, &secrets);
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let (head, body_of_answer) = self.inner.send(request).await?.into_parts();
        let exchange = Exchange {
            method,
            path,
            asked: asked(&body),
            status: head.status.as_u16(),
            headers: telling(&head.headers),
            pieces: Vec::new(),
            is_broken: false,
        };
        let body = Recorded { body: body_of_answer, exchange: Some(exchange), secrets, log: self.log.clone() };
        Ok(http::Response::from_parts(head, Box::pin(body)))
    }
}

impl Transport for RecordTransport {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>>> {
        Box::pin(self.send_recorded(request))
    }
}

impl fmt::Debug for RecordTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordTransport").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// A body that is written down as it is read.
struct Recorded {
    body: Body,
    exchange: Option<Exchange>,
    secrets: Vec<Vec<u8>>,
    log: Arc<Mutex<Log>>,
}

impl Recorded {
    fn write(&mut self) {
        let Some(mut exchange) = self.exchange.take() else { return };
        let mut whole: Vec<u8> = exchange.pieces.iter().flat_map(|piece| piece.0.iter().copied()).collect();
        // A secret may lie across a cut; stars as long as it leave the cuts where they were.
        star_out(&mut whole, &self.secrets);
        let mut whole = Bytes::from(whole);
        for piece in &mut exchange.pieces {
            piece.0 = whole.split_to(piece.0.len());
        }
        let mut log = lock(&self.log);
        let line = serde_json::to_vec(&exchange).map_err(io::Error::from);
        let written = line.and_then(|mut line| {
            line.push(b'\n');
            log.file.write_all(&line)
        });
        log.failed = written.err().or(log.failed.take());
    }
}

impl Stream for Recorded {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = ready!(self.body.as_mut().poll_next(context));
        if let Some(exchange) = &mut self.exchange {
            match &piece {
                Some(Ok(bytes)) => exchange.pieces.push(Piece(bytes.clone())),
                Some(Err(_)) => exchange.is_broken = true,
                None => {}
            }
        }
        if !matches!(piece, Some(Ok(_))) {
            self.write();
        }
        Poll::Ready(piece)
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.write();
    }
}

/// What stands in headers marked as secret: their values, and the words of those with several (`Bearer ...`).
fn secrets(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let marked = headers.values().filter(|value| value.is_sensitive());
    let words = marked.flat_map(|value| value.as_bytes().split(|byte| *byte == b' '));
    words.filter(|word| !word.is_empty() && *word != b"Bearer" && *word != b"Basic").map(<[u8]>::to_vec).collect()
}

fn star_out(bytes: &mut [u8], secrets: &[Vec<u8>]) {
    for secret in secrets {
        let places: Vec<usize> = memchr::memmem::find_iter(bytes, secret).collect();
        for place in places {
            bytes[place..place + secret.len()].fill(b'*');
        }
    }
}

fn unwritable(error: &io::Error) -> Error {
    Error::Configuration { setting: "recording".to_owned(), problem: error.to_string() }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
