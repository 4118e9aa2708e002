//! Where a vendor's server is, and what every request to it carries.

use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri};
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Result};

/// A base address, a key, and headers for every request. `Debug` shows no secret.
#[derive(Clone)]
pub struct Endpoint {
    /// Without a slash at its end.
    base: String,
    uri: Uri,
    /// The key, if there is one.
    pub(crate) key: Option<SecretString>,
    headers: HeaderMap,
}

impl Endpoint {
    /// A server at an address such as `https://api.openai.com/v1`; a path is kept, a slash at its end is not.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] for anything but an address with `http` or `https`, a host, and neither name nor password.
    pub fn new(base: &str) -> Result<Self> {
        let wrong = |problem: String| Error::Configuration { setting: "base URL".to_owned(), problem };
        let base = base.trim().trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| wrong("expected an address such as http://host:port/v1".to_owned()))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
                Err(wrong("name and password in the address would end up in logs; use a key or a header".to_owned()))
            }
            (Some("http" | "https"), Some(_)) if uri.query().is_none() => {
                Ok(Self { base: base.to_owned(), uri, key: None, headers: HeaderMap::new() })
            }
            _ => Err(wrong("expected an address such as http://host:port/v1".to_owned())),
        }
    }

    /// With a key.
    #[must_use]
    pub fn with_key(mut self, key: Option<SecretString>) -> Self {
        self.key = key;
        self
    }

    /// With a header on every request; its value counts as secret.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] where name or value cannot stand in a header.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self> {
        let wrong = |problem: &str| Error::Configuration { setting: "header".to_owned(), problem: problem.to_owned() };
        let key = HeaderName::try_from(name).map_err(|_| wrong("a name has letters, digits and -"))?;
        self.headers.insert(key, secret_value(value).map_err(|()| wrong("a value has no control characters"))?);
        Ok(self)
    }

    /// The address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Host and port.
    pub fn server(&self) -> (&str, u16) {
        let port = self.uri.port_u16().unwrap_or(if self.uri.scheme_str() == Some("https") { 443 } else { 80 });
        (self.uri.host().unwrap_or_default(), port)
    }

    /// A request with a body of JSON. `auth`: the header that carries the key, and what stands before it.
    pub(crate) fn post(
        &self,
        path: &str,
        accept: &'static str,
        auth: Auth,
        body: Vec<u8>,
    ) -> Result<http::Request<Bytes>> {
        self.request(Method::POST, path, accept, auth, Bytes::from(body))
    }

    /// A request without a body.
    pub(crate) fn get(&self, path: &str, auth: Auth) -> Result<http::Request<Bytes>> {
        self.request(Method::GET, path, "application/json", auth, Bytes::new())
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        accept: &'static str,
        auth: Auth,
        body: Bytes,
    ) -> Result<http::Request<Bytes>> {
        let wrong = |setting: &str, problem: &str| Error::Configuration {
            setting: setting.to_owned(),
            problem: problem.to_owned(),
        };
        let mut request = http::Request::new(body);
        *request.uri_mut() = format!("{}{path}", self.base)
            .parse()
            .map_err(|_| wrong("model", "expected a name that can stand in an address"))?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(key) = &self.key {
            let value = secret_value(&format!("{}{}", auth.prefix, key.expose_secret()));
            headers.insert(auth.header, value.map_err(|()| wrong("API key", "a key has no control characters"))?);
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        *request.method_mut() = method;
        Ok(request)
    }
}

/// How a vendor wants its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Auth {
    pub(crate) header: &'static str,
    pub(crate) prefix: &'static str,
}

impl Auth {
    pub(crate) const BEARER: Self = Self { header: "authorization", prefix: "Bearer " };
}

fn secret_value(text: &str) -> Result<HeaderValue, ()> {
    let mut value = HeaderValue::try_from(text).map_err(|_| ())?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for (base, server) in [
            ("https://api.openai.com/v1/", Some(("api.openai.com", 443))),
            ("http://127.0.0.1:8080", Some(("127.0.0.1", 8080))),
            ("http://host", Some(("host", 80))),
            ("host:80", None),
            ("ftp://host", None),
            ("https://name:word@host", None),
            ("https://host/v1?key=1", None),
            ("", None),
        ] {
            let endpoint = Endpoint::new(base);
            assert_eq!(endpoint.as_ref().ok().map(Endpoint::server), server, "{base}");
        }
    }

    #[test]
    fn no_key_is_shown() {
        let endpoint = Endpoint::new("http://host").unwrap().with_key(Some("planted-key".into()));
        let endpoint = endpoint.with_header("x-extra", "planted-header").unwrap();
        let request = endpoint.post("/x", "*/*", Auth::BEARER, Vec::new()).unwrap();
        let shown = format!("{endpoint:?} {request:?}");
        assert!(!shown.contains("planted"), "{shown}");
        assert_eq!(request.headers()["authorization"], "Bearer planted-key");
        let error = endpoint.with_key(Some("planted\nkey".into())).get("/", Auth::BEARER).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("planted"));
    }
}
