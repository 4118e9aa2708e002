//! HTTP/1.1 over TCP and TLS.

mod config;
mod connect;
mod pool;
mod tls;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::uri::Authority;
use http::{Request, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;

pub use self::config::{Certificates, HyperConfig, Pem, Proxy};
use self::connect::{Connector, Route};
use self::pool::{Connection, Key, Pool};
use super::{Body, Finished, Transport};
use crate::error::{Error, Phase, Result};
use crate::provider::BoxFuture;

/// Largest piece that is read at once, and largest head of an answer, in bytes. hyper's own bound is 400 kB, for every open stream.
const BUFFER: usize = 16 << 10;

/// HTTP/1.1 over TCP and TLS, by hyper and rustls.
///
/// Connections are kept and used again. There is no task behind them: whoever waits for an answer drives its connection, so dropping a
/// request or a body closes the connection at once, and nothing runs on. A request leaves again by itself in one case only: the kept
/// connection it was given to turned out to be closed before a byte of it was sent.
///
/// ```
/// use llm_providers::transport::{HyperConfig, HyperTransport, Proxy};
///
/// let transport = HyperTransport::new(HyperConfig::default().with_proxy(Proxy::None))?;
/// # Ok::<(), llm_providers::Error>(())
/// ```
#[derive(Debug)]
pub struct HyperTransport {
    connector: Connector,
    builder: Builder,
    pool: Arc<Pool>,
    user_agent: HeaderValue,
}

impl HyperTransport {
    /// A transport with these settings.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] where the proxy, the certificates or the name cannot be read.
    pub fn new(config: HyperConfig) -> Result<Self> {
        let mut builder = Builder::new();
        builder.max_buf_size(BUFFER);
        let user_agent = HeaderValue::try_from(&config.user_agent).map_err(|_| Error::Configuration {
            setting: "user agent".to_owned(),
            problem: "a header has no control characters".to_owned(),
        })?;
        Ok(Self {
            connector: Connector::new(&config)?,
            builder,
            pool: Arc::new(Pool::new(config.idle_timeout, config.max_idle_per_host)),
            user_agent,
        })
    }

    async fn send_once(&self, request: Request<Bytes>) -> Result<http::Response<Body>> {
        let uri = request.uri().clone();
        let (Some(scheme), Some(authority)) = (uri.scheme().cloned(), uri.authority().cloned()) else {
            return Err(Error::Configuration {
                setting: "address".to_owned(),
                problem: "expected one with scheme and host".to_owned(),
            });
        };
        let route = self.connector.route(&uri);
        let mut request = self.shape(request, &authority, &route)?;
        let key = (scheme, authority);
        loop {
            let (mut connection, was_kept) = match self.pool.take(&key).await {
                Some(connection) => (connection, true),
                None => {
                    let io = self.connector.connect(&uri, &route).await?;
                    let connection = Connection::new(io, &self.builder).await;
                    (connection.map_err(|error| failure(error, Phase::Send, &uri))?, false)
                }
            };
            match connection.send(request).await {
                Ok(response) => {
                    let (mut head, incoming) = response.into_parts();
                    let finished = Finished::default();
                    head.extensions.insert(finished.clone());
                    let pool = self.pool.clone();
                    let body =
                        Pieces { incoming: Some(incoming), connection: Some(connection), pool, key, uri, finished };
                    return Ok(http::Response::from_parts(head, Box::pin(body)));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if was_kept => request = unsent,
                    _ => return Err(failure(error.into_error(), Phase::Send, &uri)),
                },
            }
        }
    }

    /// The request as it goes over the wire.
    fn shape(&self, request: Request<Bytes>, authority: &Authority, route: &Route) -> Result<Request<Full<Bytes>>> {
        let mut request = request.map(Full::new);
        let headers = request.headers_mut();
        headers.entry(USER_AGENT).or_insert_with(|| self.user_agent.clone());
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::from_str(host).map_err(|_| Error::Configuration {
            setting: "address".to_owned(),
            problem: "expected a host that can stand in a header".to_owned(),
        })?;
        headers.insert(HOST, host);
        if let Route::Forward(proxy) = route {
            if let Some(auth) = proxy.basic_auth() {
                headers.insert(PROXY_AUTHORIZATION, auth.clone());
            }
        } else {
            *request.uri_mut() = request.uri().path_and_query().map_or_else(Uri::default, |path| path.clone().into());
        }
        Ok(request)
    }
}

impl Transport for HyperTransport {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>>> {
        Box::pin(self.send_once(request))
    }
}

/// The body of an answer and the connection it comes by.
struct Pieces {
    incoming: Option<Incoming>,
    connection: Option<Connection>,
    pool: Arc<Pool>,
    key: Key,
    uri: Uri,
    finished: Finished,
}

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let (Some(connection), Some(incoming)) = (&mut this.connection, &mut this.incoming) else {
            return Poll::Ready(None);
        };
        match ready!(connection.poll_body(incoming, context)) {
            Some(Ok(bytes)) => Poll::Ready(Some(Ok(bytes))),
            Some(Err(error)) => {
                (this.connection, this.incoming) = (None, None);
                Poll::Ready(Some(Err(failure(error, Phase::Body, &this.uri))))
            }
            None => {
                let is_ready = connection.is_ready(context);
                this.incoming = None;
                if let Some(connection) = this.connection.take().filter(|_| is_ready) {
                    this.pool.put(this.key.clone(), connection, None);
                }
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if let (true, Some(connection)) = (self.finished.is_set(), self.connection.take()) {
            self.pool.put(self.key.clone(), connection, self.incoming.take());
        }
    }
}

fn failure(error: hyper::Error, phase: Phase, uri: &Uri) -> Error {
    let endpoint = endpoint_of(uri);
    if error.is_parse() {
        Error::Decode { provider: endpoint, expected: "HTTP/1.1".to_owned(), found: error.to_string() }
    } else {
        Error::Transport { endpoint, phase, source: error.into() }
    }
}

/// Scheme, host and port.
fn endpoint_of(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    format!("{scheme}://{}:{port}", uri.host().unwrap_or_default())
}
