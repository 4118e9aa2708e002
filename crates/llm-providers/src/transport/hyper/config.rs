//! Settings of the transport.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;

/// Settings of a [`HyperTransport`](super::HyperTransport).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HyperConfig {
    /// How long a connection may take: the look-up of the name, TCP, a proxy, TLS. Default: 5 s, as the vendors' own clients.
    pub connect_timeout: Duration,
    /// Which proxy to go through. Default: what the environment says.
    pub proxy: Proxy,
    /// Whose certificates to believe. Default: the system's.
    pub certificates: Certificates,
    /// How long an idle connection is kept for the next request. Default: 60 s.
    pub idle_timeout: Duration,
    /// How many idle connections are kept to one host. Default: 32; 0: none.
    pub max_idle_per_host: usize,
    /// The header `user-agent`. Default: `llm-providers/` and its version.
    pub user_agent: String,
}

impl Default for HyperConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            proxy: Proxy::Environment,
            certificates: Certificates::System,
            idle_timeout: Duration::from_secs(60),
            max_idle_per_host: 32,
            user_agent: concat!("llm-providers/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl HyperConfig {
    /// With a bound on the time for a connection.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// With a proxy, or none.
    #[must_use]
    pub fn with_proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// With other certificates than the system's.
    #[must_use]
    pub fn with_certificates(mut self, certificates: Certificates) -> Self {
        self.certificates = certificates;
        self
    }

    /// With how long, and how many, idle connections are kept.
    #[must_use]
    pub fn with_idle(mut self, timeout: Duration, max_per_host: usize) -> Self {
        self.idle_timeout = timeout;
        self.max_idle_per_host = max_per_host;
        self
    }

    /// With a name of one's own.
    #[must_use]
    pub fn with_user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }
}

/// Which proxy to go through. Plain addresses go through an HTTP proxy as they are, `https` through a tunnel; SOCKS 4 and 5 take both.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Proxy {
    /// As `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say (in small letters too), read once. This machine itself
    /// (`localhost`, 127.0.0.0/8, `::1`) is always reached directly.
    Environment,
    /// None.
    None,
    /// This one, for everything but `except`.
    Address {
        /// `http://host:port`, `https:`, `socks5:`, `socks5h:` (the proxy looks names up), `socks4:` or `socks4a:`, with
        /// `name:password@` where the proxy wants it.
        url: SecretString,
        /// Hosts, domains and networks to reach directly, as in `NO_PROXY`: `localhost,.example.org,10.0.0.0/8`.
        except: String,
    },
}

impl Proxy {
    /// A proxy for everything.
    pub fn address(url: impl Into<String>) -> Self {
        Self::Address { url: url.into().into(), except: String::new() }
    }
}

/// Whose certificates to believe.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Certificates {
    /// Those that the system believes, read when the first `https` address is asked for (`SSL_CERT_FILE` and `SSL_CERT_DIR` count).
    System,
    /// Those, and these.
    SystemAnd(Pem),
    /// These alone.
    Only(Pem),
}

/// Certificates of authorities as PEM.
#[derive(Clone)]
#[non_exhaustive]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// Here.
    Bytes(Bytes),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
        }
    }
}
