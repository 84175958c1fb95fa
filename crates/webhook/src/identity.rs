//! The certificate and key that the webhook shows to its clients, and when they are valid.
//!
//! In: PEM texts from the Secret or from files. Out: an [`Identity`], checked: the key belongs to the certificate.
//! [`Shown`] has the one in use. A new one applies to the next handshake; connections that are open stay.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::parse_x509_certificate;

/// A certificate with its key.
#[derive(Debug)]
pub(crate) struct Identity {
    key: Arc<CertifiedKey>,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

/// Why PEM texts are no identity.
#[derive(Debug, Clone, Error)]
pub(crate) enum IdentityError {
    #[error("it has no certificate that can be read")]
    Certificate,
    #[error("it has no private key that can be read")]
    Key,
    #[error("the private key does not belong to the certificate: {0}")]
    Pair(rustls::Error),
}

impl Identity {
    /// Reads a certificate, with those that signed it, and its key.
    ///
    /// # Errors
    /// When one of both cannot be read, or they do not belong together.
    pub(crate) fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|_| IdentityError::Certificate)?;
        let (not_before, not_after) = chain
            .first()
            .and_then(|first| validity(first))
            .ok_or(IdentityError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::Key)?;
        let key =
            CertifiedKey::from_der(chain, key, &default_provider()).map_err(IdentityError::Pair)?;
        Ok(Self {
            key: Arc::new(key),
            not_before,
            not_after,
        })
    }

    /// Whether it is valid at a time.
    pub(crate) fn is_valid(&self, now: i64) -> bool {
        (self.not_before..self.not_after).contains(&now)
    }
}

/// From when to when a certificate is valid.
pub(crate) fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let validity = certificate.validity();
    Some((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let passed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    passed.map_or(0, |passed| {
        i64::try_from(passed.as_secs()).unwrap_or(i64::MAX)
    })
}

/// The identity in use.
#[derive(Debug, Default)]
pub(crate) struct Shown(ArcSwapOption<Identity>);

impl Shown {
    pub(crate) fn set(&self, identity: Identity) {
        self.0.store(Some(Arc::new(identity)));
    }

    pub(crate) fn get(&self) -> Option<Arc<Identity>> {
        self.0.load_full()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0
            .load()
            .as_ref()
            .map(|identity| Arc::clone(&identity.key))
    }
}

/// TLS 1.2 and 1.3 without sessions to resume, so each connection shows the identity in use.
///
/// # Errors
/// When the library has no such versions; this is a defect.
pub(crate) fn server_config(shown: Arc<Shown>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
