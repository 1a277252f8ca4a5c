//! The certificate that listeners show.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora_core::listeners::tls::Acceptor;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate that is served until it is replaced.
pub struct CertStore(ArcSwap<CertifiedKey>);

/// A chain and its key, checked to belong together.
pub struct Certificate(CertifiedKey);

/// A certificate and a key that cannot be used together. It says nothing of the key.
#[derive(Debug)]
pub struct TlsError(rustls::Error);

// === impl CertStore ===

impl CertStore {
    /// Serves `chain`, end entity first.
    pub fn new(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        let Certificate(certified) = Self::certificate(chain, key)?;
        Ok(Self(ArcSwap::from_pointee(certified)))
    }

    /// Checks a certificate, for [`Self::replace`].
    pub fn certificate(
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
    ) -> Result<Certificate, TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider)
            .map(Certificate)
            .map_err(TlsError)
    }

    /// Serves another certificate from here on.
    pub fn replace(&self, Certificate(certified): Certificate) {
        self.0.store(Arc::new(certified));
    }

    /// What shakes hands with clients: TLS 1.2 and 1.3, and HTTP/2 or HTTP/1.1 by ALPN.
    pub(super) fn acceptor(self: Arc<Self>) -> Result<Acceptor, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError)?
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Acceptor::from_server_config(Arc::new(config)))
    }
}

impl ResolvesServerCert for CertStore {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for CertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertStore").finish_non_exhaustive()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

// === impl TlsError ===

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate and its key cannot be used: {}", self.0)
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
