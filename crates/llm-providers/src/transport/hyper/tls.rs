//! Whom to believe.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::config::{Certificates, Pem};
use crate::error::{Error, Result};

/// Settings of TLS, made when they are first needed: plain addresses work where there is no certificate at all.
#[derive(Debug)]
pub(super) struct Tls {
    with_system: bool,
    own: Vec<CertificateDer<'static>>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// Reads the caller's certificates.
    pub(super) fn new(certificates: &Certificates) -> Result<Self> {
        let (with_system, own) = match certificates {
            Certificates::System => (true, Vec::new()),
            Certificates::SystemAnd(pem) => (true, read(pem)?),
            Certificates::Only(pem) => (false, read(pem)?),
        };
        Ok(Self { with_system, own, config: OnceLock::new() })
    }

    pub(super) fn config(&self) -> Result<Arc<ClientConfig>> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let mut roots = RootCertStore::empty();
        if self.with_system {
            // Some of a system's certificates are too old to be read, as a rule.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for certificate in &self.own {
            roots.add(certificate.clone()).map_err(|error| wrong(&error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("the system has none; name a file with those of authorities"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&error.to_string()))?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(self.config.get_or_init(|| Arc::new(config)).clone())
    }
}

fn read(pem: &Pem) -> Result<Vec<CertificateDer<'static>>> {
    let (place, bytes) = match pem {
        Pem::Bytes(bytes) => ("the bytes given".to_owned(), bytes.to_vec()),
        Pem::File(path) => {
            let bytes = std::fs::read(path).map_err(|error| wrong(&format!("{}: {error}", path.display())))?;
            (path.display().to_string(), bytes)
        }
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(wrong(&format!("{place}: expected PEM with at least one certificate"))),
    }
}

fn wrong(problem: &str) -> Error {
    Error::Configuration { setting: "certificates".to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for pem in [Pem::Bytes("nonsense".into()), Pem::File("/nowhere/ca.pem".into())] {
            let error = Tls::new(&Certificates::Only(pem)).unwrap_err();
            assert!(matches!(&error, Error::Configuration { setting, .. } if setting == "certificates"), "{error}");
        }
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let tls = Tls::new(&Certificates::Only(Pem::Bytes(broken.into()))).unwrap();
        assert!(matches!(tls.config(), Err(Error::Configuration { .. })));
    }
}
