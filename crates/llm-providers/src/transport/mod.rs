//! How bytes travel.

#[cfg(feature = "http")]
mod hyper;
mod replay;

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_core::Stream;

use crate::error::Result;
use crate::provider::BoxFuture;

#[cfg(feature = "http")]
pub use self::hyper::{Certificates, HyperConfig, HyperTransport, Pem, Proxy};
pub use self::replay::{Cuts, Ending, RecordTransport, ReplayTransport};

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

/// Among the extensions of a response: the reader of a stream says through it that the answer is whole, so that a body dropped just
/// before its end (vendors say `[DONE]`, and the end of the body comes a packet later) does not cost the connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Finished(Arc<AtomicBool>);

impl Finished {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    #[cfg(feature = "http")]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
