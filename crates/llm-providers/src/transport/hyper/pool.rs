//! Connections that are kept for the next request.

use std::collections::HashMap;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::uri::{Authority, Scheme};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection as Driver, SendRequest};
use tokio::time::Instant;

use super::connect::Io;

/// Most of a body that is read to save a connection, in pieces.
const WORTH_READING: usize = 4;
/// What happened to a connection in so short a time may not be known yet, and needs no asking.
const FRESH: Duration = Duration::from_millis(1);

/// A connection and what drives it. There is no task behind it: whoever waits for the answer drives it, so that a dropped request
/// leaves nothing behind, and a connection may outlive the runtime it was made in.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver<Box<dyn Io>, Full<Bytes>>,
    is_over: bool,
}

impl Connection {
    pub(super) async fn new(io: Box<dyn Io>, builder: &Builder) -> hyper::Result<Self> {
        let (sender, driver) = builder.handshake(io).await?;
        Ok(Self { sender, driver, is_over: false })
    }

    /// Reads and writes what it can; true if there is nothing left to wait for.
    fn drive(&mut self, context: &mut Context<'_>) -> bool {
        // Errors come out where the answer is read.
        self.is_over = self.is_over || Pin::new(&mut self.driver).poll(context).is_ready();
        self.is_over
    }

    /// Sends a request and reads the head of the answer. What did not leave comes back with the error.
    pub(super) async fn send(
        &mut self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, TrySendError<http::Request<Full<Bytes>>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            self.drive(context);
            answer.as_mut().poll(context)
        })
        .await
    }

    /// The next piece of the answer's body; `None` at its end.
    pub(super) fn poll_body(
        &mut self,
        body: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Bytes>>> {
        let mut driven = false;
        loop {
            match Pin::new(&mut *body).poll_frame(context) {
                // Trailers say nothing here.
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                    _ => driven = false,
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if driven => return Poll::Pending,
                Poll::Pending => {
                    self.drive(context);
                    driven = true;
                }
            }
        }
    }

    /// Whether another request can be sent.
    pub(super) fn is_ready(&mut self, context: &mut Context<'_>) -> bool {
        !self.drive(context) && self.sender.is_ready()
    }
}

/// Where connections go to.
pub(super) type Key = (Scheme, Authority);

struct Idle {
    connection: Connection,
    /// What may be left of the last answer.
    rest: Option<Incoming>,
    since: Instant,
}

/// Idle connections, the one used last on top.
pub(super) struct Pool {
    idle: Mutex<HashMap<Key, Vec<Idle>>>,
    timeout: Duration,
    max_per_host: usize,
}

impl Pool {
    pub(super) fn new(timeout: Duration, max_per_host: usize) -> Self {
        Self { idle: Mutex::default(), timeout, max_per_host }
    }

    /// A connection that is still good.
    pub(super) async fn take(&self, key: &Key) -> Option<Connection> {
        while let Some(mut idle) = self.pop(key) {
            if idle.since.elapsed() > FRESH {
                // The runtime may have slept since (`block_on` for each call) and not know that the server has hung up.
                tokio::task::yield_now().await;
            }
            if poll_fn(|context| Poll::Ready(idle.is_good(context))).await {
                return Some(idle.connection);
            }
        }
        None
    }

    fn pop(&self, key: &Key) -> Option<Idle> {
        let mut idle = self.lock();
        let of_host = idle.get_mut(key)?;
        let expired = of_host.partition_point(|idle| idle.since.elapsed() > self.timeout);
        let expired: Vec<Idle> = of_host.drain(..expired).collect();
        let last = of_host.pop();
        if of_host.is_empty() {
            idle.remove(key);
        }
        drop(idle);
        // Connections are closed without the lock.
        drop(expired);
        last
    }

    /// Keeps a connection whose answer was read, up to `rest`.
    pub(super) fn put(&self, key: Key, connection: Connection, rest: Option<Incoming>) {
        let idle = Idle { connection, rest, since: Instant::now() };
        let mut all = self.lock();
        let of_host = all.entry(key).or_default();
        if of_host.len() < self.max_per_host {
            of_host.push(idle);
        } else {
            drop(all);
            drop(idle);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn is_good(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(rest) = &mut self.rest {
            let ended = (0..=WORTH_READING)
                .map(|_| self.connection.poll_body(rest, context))
                .find(|piece| !matches!(piece, Poll::Ready(Some(Ok(_)))));
            if !matches!(ended, Some(Poll::Ready(None))) {
                return false;
            }
        }
        self.connection.is_ready(context)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_idle: usize = self.lock().values().map(Vec::len).sum();
        write!(f, "Pool({n_idle} idle)")
    }
}
