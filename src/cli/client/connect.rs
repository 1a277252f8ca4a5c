//! Where the admin API is, and a connection to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Every path of the API starts with it.
const BASE_PATH: &str = "/admin/v1";
/// How long a connection may take, with its TLS.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) type Send = SendRequest<Full<Bytes>>;

/// The URL of an admin API, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// As it was given, for messages.
    pub(super) url: String,
    /// The `Host` to name.
    pub(super) host: HeaderValue,
    /// The path before a call's own.
    pub(super) path: String,
    tls: bool,
    name: String,
    port: u16,
}

/// A stream of bytes, in clear or not.
trait Socket: AsyncRead + AsyncWrite + std::marker::Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + std::marker::Send + Unpin> Socket for T {}

// === impl Base ===

impl Base {
    /// Reads a URL such as `http://127.0.0.1:8081`; a path is a prefix that someone put before the API. The error is
    /// what is wrong with it.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{url:?}: {why}; it looks like http://127.0.0.1:8081");
        let uri: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong("neither http:// nor https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("no host"))?;
        if authority.as_str().contains('@') {
            return Err(
                "a name or a password has no place in the URL: the token comes from TOLLGATE_ADMIN_TOKEN".into(),
            );
        }
        if uri.query().is_some() {
            return Err(wrong("it has a query"));
        }
        let prefix = uri.path().trim_end_matches('/');
        let prefix = prefix.strip_suffix(BASE_PATH).unwrap_or(prefix);
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("not a URL"))?,
            path: format!("{prefix}{BASE_PATH}"),
            tls,
            name: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }

    /// A new connection. The error is why there is none.
    pub(super) async fn connect(&self) -> Result<Send, String> {
        let connecting = tokio::time::timeout(PATIENCE, self.connect_at_last());
        connecting
            .await
            .unwrap_or_else(|_| Err(format!("no connection within {} s", PATIENCE.as_secs())))
    }

    async fn connect_at_last(&self) -> Result<Send, String> {
        let tcp = TcpStream::connect((&*self.name, self.port)).await;
        let tcp = tcp.map_err(|error| error.to_string())?;
        let socket: Box<dyn Socket> = if self.tls {
            let name = ServerName::try_from(self.name.clone()).map_err(|error| error.to_string())?;
            let connected = TlsConnector::from(tls()?).connect(name, tcp).await;
            Box::new(connected.map_err(|error| error.to_string())?)
        } else {
            Box::new(tcp)
        };
        let (send, connection) = handshake(TokioIo::new(socket))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(send)
    }
}

/// TLS that trusts what the machine trusts, or what `SSL_CERT_FILE` names.
fn tls() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs()
        .map_err(|error| format!("the machine's root certificates cannot be read: {error}"))?;
    roots.add_parsable_certificates(found);
    if roots.is_empty() {
        return Err("the machine has no root certificates; SSL_CERT_FILE may name a file of them".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn urls() {
        for (url, name, port, path) in [
            ("http://127.0.0.1:8081", "127.0.0.1", 8081, "/admin/v1"),
            ("http://gw/", "gw", 80, "/admin/v1"),
            ("https://[::1]/ops/", "::1", 443, "/ops/admin/v1"),
            ("http://gw:1/admin/v1/", "gw", 1, "/admin/v1"),
        ] {
            let base = Base::parse(url).unwrap();
            assert_eq!((&*base.name, base.port, &*base.path), (name, port, path), "{url}");
        }
        for url in [
            "127.0.0.1:8081",
            "gw",
            "ftp://gw",
            "http://",
            "http://gw/?a=b",
            "",
            "a b",
        ] {
            assert!(Base::parse(url).unwrap_err().contains("http://127.0.0.1:8081"), "{url}");
        }
        let error = Base::parse("http://ops:secret@gw").unwrap_err();
        assert!(
            !error.contains("secret") && error.contains("TOLLGATE_ADMIN_TOKEN"),
            "{error}"
        );
    }
}
