//! How bytes travel.

use std::fmt::Debug;
use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;

use crate::error::Result;
use crate::provider::BoxFuture;

/// The body of an answer, in the pieces in which it comes. Nothing is read before it is asked for; dropping it closes the connection.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// Sends requests. Open to implementations elsewhere: another HTTP client, a recording, a proxy of one's own.
///
/// # Contract
///
/// - Every status is an answer, not an error.
/// - Redirections are not followed: a key must not go where nobody sent it.
/// - Dropping the future or the body stops the request.
/// - Errors are [`Error::Connect`](crate::Error::Connect) before the request has left, [`Error::Transport`](crate::Error::Transport)
///   after; both name scheme, host and port alone.
pub trait Transport: Debug + Send + Sync + 'static {
    /// Sends a request; the future is done when the head of the answer is there.
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>>>;
}
