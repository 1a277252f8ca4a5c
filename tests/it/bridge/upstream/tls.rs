//! Connections over TLS: whom the gateway trusts, and what it shows.

use std::time::Duration;

use tollgate::backend::Running;
use tollgate::proxy::{OriginSettings, TlsFiles};

use super::{chat, reaching};
use crate::support::bridge::{Certs, scripted_tls, settings};
use crate::support::raw::RawBackend;
use crate::support::within;

fn with_tls(backend: &Running, ca: Option<&Certs>, client: Option<&Certs>) -> OriginSettings {
    OriginSettings {
        host: "localhost".into(),
        tls: Some(TlsFiles {
            ca: ca.map(Certs::ca),
            client: client.map(|certs| certs.issue("gateway")),
        }),
        ..settings(backend.local_addr())
    }
}

#[tokio::test]
async fn tls_with_a_private_authority() {
    let certs = Certs::new();
    for alpn in [&[&b"h2"[..], b"http/1.1"][..], &[b"http/1.1"], &[]] {
        let backend = scripted_tls(&certs, alpn, false).await;
        let gateway = reaching(with_tls(&backend, Some(&certs), None));
        for _ in 0..3 {
            assert_eq!(chat(&gateway, "tokens=1").await.0, 200, "{alpn:?}");
        }
        assert_eq!(backend.stats().now().connections, 1);
        // The backend's own view of the version: only HTTP/1 has a host field.
        let is_h2 = !backend.requests()[0].headers.contains_key("host");
        assert_eq!(is_h2 || alpn.len() == 2, alpn.len() == 2);
        gateway.is_quiet().await;
    }
}

#[tokio::test]
async fn tls_with_an_authority_that_is_not_trusted() {
    let (certs, other) = (Certs::new(), Certs::new());
    let backend = scripted_tls(&certs, &[], false).await;
    for ca in [None, Some(&other)] {
        let gateway = reaching(with_tls(&backend, ca, None));
        assert_eq!(chat(&gateway, "").await.1, "connect");
    }
    assert_eq!(backend.stats().now().requests, 0);
}

#[tokio::test]
async fn tls_with_a_client_certificate() {
    let certs = Certs::new();
    let backend = scripted_tls(&certs, &[b"http/1.1"], true).await;
    let gateway = reaching(with_tls(&backend, Some(&certs), Some(&certs)));
    assert_eq!(chat(&gateway, "tokens=1").await.0, 200);
    let without = reaching(with_tls(&backend, Some(&certs), None));
    // TLS 1.3 tells a client only after its handshake, so this can look like either.
    assert_eq!(chat(&without, "").await.0, 502);
    assert_eq!(backend.stats().now().requests, 1);
}

#[tokio::test]
async fn a_connection_that_takes_too_long_is_told_apart() {
    // It accepts, and never shakes hands.
    let backend = RawBackend::bind().await;
    let certs = Certs::new();
    let gateway = reaching(OriginSettings {
        host: "localhost".into(),
        tls: Some(TlsFiles {
            ca: Some(certs.ca()),
            client: None,
        }),
        connect_timeout: Duration::from_millis(100),
        ..settings(backend.address)
    });
    let answer = tokio::spawn(async move { (chat(&gateway, "").await.1, gateway.is_quiet().await).0 });
    let _held = backend.accept().await;
    assert_eq!(within(answer).await.unwrap(), "connect timeout");
}
