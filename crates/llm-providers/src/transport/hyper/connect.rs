//! From an address to a connection: proxies, TLS, the deadline.

use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use secrecy::ExposeSecret;
use tower_service::Service;

use super::config::{HyperConfig, Proxy};
use super::endpoint_of;
use super::tls::Tls;
use crate::error::{Deadline, Error, Result};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A connection, whatever it goes through.
pub(super) trait Io: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Io for T {}

/// How an address is reached.
#[derive(Debug, Clone)]
pub(super) enum Route {
    Direct,
    /// Through an HTTP proxy that reads the request.
    Forward(Intercept),
    /// Through an HTTP proxy that passes bytes on.
    Tunnel(Intercept),
    Socks(Intercept),
}

pub(super) struct Connector {
    http: HttpConnector,
    proxies: Option<Matcher>,
    spares_loopback: bool,
    tls: Tls,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(config: &HyperConfig) -> Result<Self> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(Duration::from_secs(60)));
        let proxies = match &config.proxy {
            Proxy::None => None,
            Proxy::Environment => Some(from_environment()?),
            Proxy::Address { url, except } => {
                check("proxy", url.expose_secret())?;
                Some(Matcher::builder().all(url.expose_secret()).no(except.as_str()).build())
            }
        };
        Ok(Self {
            http,
            proxies,
            spares_loopback: matches!(config.proxy, Proxy::Environment),
            tls: Tls::new(&config.certificates)?,
            timeout: config.connect_timeout,
        })
    }

    pub(super) fn route(&self, uri: &Uri) -> Route {
        let Some(proxies) = &self.proxies else { return Route::Direct };
        if self.spares_loopback && uri.host().is_some_and(is_loopback) {
            return Route::Direct;
        }
        let Some(proxy) = proxies.intercept(uri) else { return Route::Direct };
        match proxy.uri().scheme_str() {
            Some("http" | "https") if uri.scheme() == Some(&Scheme::HTTPS) => Route::Tunnel(proxy),
            Some("http" | "https") => Route::Forward(proxy),
            _ => Route::Socks(proxy),
        }
    }

    pub(super) async fn connect(&self, uri: &Uri, route: &Route) -> Result<Box<dyn Io>> {
        match tokio::time::timeout(self.timeout, self.connect_by(uri, route)).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::Timeout { deadline: Deadline::Connect, after: self.timeout }),
        }
    }

    async fn connect_by(&self, uri: &Uri, route: &Route) -> Result<Box<dyn Io>> {
        let http = self.http.clone();
        match route {
            Route::Direct => self.over(http, uri, uri).await,
            Route::Forward(proxy) => self.over(http, proxy.uri(), uri).await,
            Route::Tunnel(proxy) if proxy.uri().scheme() == Some(&Scheme::HTTPS) => {
                let https = HttpsConnector::from((http, self.tls.config()?));
                self.over(tunnel(proxy, https), uri, uri).await
            }
            Route::Tunnel(proxy) => self.over(tunnel(proxy, http), uri, uri).await,
            Route::Socks(proxy) => {
                let scheme = proxy.uri().scheme_str().unwrap_or_default();
                let address = with_port(proxy.uri(), 1080);
                if scheme.starts_with("socks4") {
                    return self.over(SocksV4::new(address, http).local_dns(scheme == "socks4"), uri, uri).await;
                }
                let mut socks = SocksV5::new(address, http).local_dns(scheme == "socks5");
                if let Some((name, password)) = proxy.raw_auth() {
                    socks = socks.with_auth(name.to_owned(), password.to_owned());
                }
                self.over(socks, uri, uri).await
            }
        }
    }

    /// A connection to `to` by `connector`, with TLS where the address says so. Errors speak of `uri`.
    async fn over<C>(&self, connector: C, to: &Uri, uri: &Uri) -> Result<Box<dyn Io>>
    where
        C: Service<Uri, Error: Into<BoxError>, Future: Send + 'static>,
        C::Response: Connection + Read + Write + Send + Unpin + 'static,
    {
        if to.scheme() == Some(&Scheme::HTTPS) {
            let https = HttpsConnector::from((connector, self.tls.config()?));
            Ok(Box::new(call(https, to, uri).await?))
        } else {
            Ok(Box::new(call(connector, to, uri).await?))
        }
    }
}

async fn call<C: Service<Uri, Error: Into<BoxError>>>(mut connector: C, to: &Uri, uri: &Uri) -> Result<C::Response> {
    let connected = async {
        poll_fn(|context| connector.poll_ready(context)).await?;
        connector.call(to.clone()).await
    };
    connected.await.map_err(|error: C::Error| Error::Connect { endpoint: endpoint_of(uri), source: error.into() })
}

fn tunnel<C>(proxy: &Intercept, connector: C) -> Tunnel<C> {
    let tunnel = Tunnel::new(proxy.uri().clone(), connector);
    match proxy.basic_auth() {
        Some(auth) => tunnel.with_auth(auth.clone()),
        None => tunnel,
    }
}

fn with_port(uri: &Uri, port: u16) -> Uri {
    if uri.port().is_some() {
        return uri.clone();
    }
    let whole = format!("{}://{}:{port}/", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
    whole.parse().unwrap_or_else(|_| uri.clone())
}

/// The environment's proxies. One that cannot be read is refused: going around it would show requests to whom they are not for.
fn from_environment() -> Result<Matcher> {
    for names in [["ALL_PROXY", "all_proxy"], ["HTTPS_PROXY", "https_proxy"], ["HTTP_PROXY", "http_proxy"]] {
        let set = names.into_iter().find_map(|name| Some((name, std::env::var(name).ok()?)));
        if let Some((name, value)) = set.filter(|(_, value)| !value.is_empty()) {
            check(name, &value)?;
        }
    }
    Ok(Matcher::from_env())
}

/// Refuses an address that a matcher would pass over in silence. The error does not show it: it may have a password.
fn check(setting: &str, url: &str) -> Result<()> {
    let matcher = Matcher::builder().all(url).build();
    match matcher.intercept(&Uri::from_static("http://host/")) {
        Some(_) => Ok(()),
        None => Err(Error::Configuration {
            setting: setting.to_owned(),
            problem: "expected an address such as http://host:port or socks5://host:port".to_owned(),
        }),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().map_or(bare == "localhost" || bare.ends_with(".localhost"), |ip| ip.is_loopback())
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The matcher leaves credentials out.
        f.debug_struct("Connector").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(proxy: Proxy, uri: &'static str) -> String {
        let connector = Connector::new(&HyperConfig::default().with_proxy(proxy)).unwrap();
        let route = connector.route(&Uri::from_static(uri));
        let shown = format!("{connector:?} {route:?}");
        assert!(!shown.contains("planted"), "{shown}");
        match route {
            Route::Direct => "direct".to_owned(),
            Route::Forward(proxy) => format!("forward {}", proxy.uri()),
            Route::Tunnel(proxy) => format!("tunnel {}", proxy.uri()),
            Route::Socks(proxy) => format!("socks {}", with_port(proxy.uri(), 1080)),
        }
    }

    #[test]
    fn routes_follow_the_settings() {
        let proxy = || Proxy::address("http://name:planted@proxy:3128");
        assert_eq!(route(proxy(), "http://host/v1"), "forward http://proxy:3128/");
        assert_eq!(route(proxy(), "https://host/v1"), "tunnel http://proxy:3128/");
        assert_eq!(route(Proxy::address("socks5://proxy"), "https://host/v1"), "socks socks5://proxy:1080/");
        assert_eq!(route(Proxy::None, "https://host/v1"), "direct");
        let except = |except: &str| Proxy::Address { url: "http://proxy".into(), except: except.to_owned() };
        assert_eq!(route(except(".example.org"), "https://api.example.org/"), "direct");
        assert_eq!(route(except("10.0.0.0/8"), "http://10.1.2.3/"), "direct");
        assert_eq!(route(except("10.0.0.0/8"), "http://11.1.2.3/"), "forward http://proxy/");
    }

    #[test]
    fn an_address_that_cannot_be_read_is_refused_without_showing_it() {
        for url in ["", "ftp://planted@host", "http://name:planted word@host"] {
            let error = Connector::new(&HyperConfig::default().with_proxy(Proxy::address(url))).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(matches!(error, Error::Configuration { .. }) && !shown.contains("planted"), "{shown}");
        }
    }

    #[test]
    fn this_machine_is_known() {
        for host in ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.org", "128.0.0.1", "[::2]", "mylocalhost"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
