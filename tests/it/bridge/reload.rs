//! What a reload takes, and what a failed one leaves alone.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use tollgate::backend::{Backend, Running, Script};
use tollgate::serve::Gateway;

use crate::support::bridge::Certs;
use crate::support::raw::Wire;
use crate::support::whole::{self, config, start};

/// Copies what `from` has issued for `localhost` to where the configuration looks for it.
fn renew(from: &Certs, dir: &Path) {
    let (cert, key) = from.issue("localhost");
    fs::copy(cert, dir.join("cert.pem")).unwrap();
    fs::copy(key, dir.join("key.pem")).unwrap();
}

fn tls(dir: &Path, cert: &str, key: &str) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[server.tls]\ncert = '{}'\nkey = '{}'\n",
        path(cert),
        path(key)
    )
}

/// Whether a client that trusts `certs` alone is served.
async fn serves(gateway: &Gateway, certs: &Certs) {
    let mut wire = Wire::connect_tls(gateway.addresses().http[0], certs.client(&[b"http/1.1"])).await;
    wire.send("GET /x HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(wire.head().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_renewed_certificate_is_served_from_the_same_files_and_from_others() {
    let (first, second, third) = (Certs::new(), Certs::new(), Certs::new());
    let dir = tempfile::tempdir().unwrap();
    renew(&first, dir.path());
    let mut gateway = start(&tls(dir.path(), "cert.pem", "key.pem"));
    serves(&gateway, &first).await;

    renew(&second, dir.path());
    gateway.reload(config(&tls(dir.path(), "cert.pem", "key.pem"))).unwrap();
    serves(&gateway, &second).await;

    let (cert, key) = third.issue("localhost");
    gateway
        .reload(config(&tls(dir.path(), cert.to_str().unwrap(), key.to_str().unwrap())))
        .unwrap();
    serves(&gateway, &third).await;
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let (first, second) = (Certs::new(), Certs::new());
    let dir = tempfile::tempdir().unwrap();
    renew(&first, dir.path());
    let text = tls(dir.path(), "cert.pem", "key.pem");
    let mut gateway = start(&text);

    renew(&second, dir.path());
    // No header can carry this name.
    let mut bad = config(&format!(
        "{text}[[backend]]\nname = \"b\"\nbase_url = \"http://127.0.0.1:1\"\n"
    ));
    Arc::get_mut(&mut bad.backends[0]).unwrap().base_url.host = "a\nb".into();
    gateway.reload(bad).unwrap_err();
    serves(&gateway, &first).await;
    assert!(gateway.config().backends.is_empty());

    gateway.reload(config(&text)).unwrap();
    serves(&gateway, &second).await;
}

// === certificates towards a backend ===

async fn backend(certs: &Certs, demands: bool) -> Running {
    let acceptor = tokio_rustls::TlsAcceptor::from(certs.server(&[], demands));
    let backend = Backend::bind("127.0.0.1:0".parse().unwrap(), Script::default());
    backend
        .await
        .unwrap()
        .with_acceptor(move |socket| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(socket).await }
        })
        .spawn()
}

fn over_tls(backend: &Running, dir: &Path, client: bool) -> String {
    let dir = dir.display();
    let mut settings = format!("ca = '{dir}/ca.pem'\n");
    if client {
        let _ = writeln!(settings, "client_cert = '{dir}/cert.pem'\nclient_key = '{dir}/key.pem'");
    }
    let base_url = format!("https://localhost:{}/v1", backend.local_addr().port());
    whole::routed(&base_url, "", &settings)
}

async fn chat(gateway: &Gateway) -> u16 {
    let mut wire = Wire::connect(gateway.addresses().http[0]).await;
    whole::start_chat(&mut wire, false, "tokens=1").await;
    whole::answer(&mut wire).await.0.status()
}

#[tokio::test]
async fn a_backends_renewed_authority_is_trusted() {
    let (old, new) = (Certs::new(), Certs::new());
    let backend = backend(&new, false).await;
    let dir = tempfile::tempdir().unwrap();
    fs::copy(old.ca(), dir.path().join("ca.pem")).unwrap();
    let text = over_tls(&backend, dir.path(), false);
    let mut gateway = start(&text);
    assert_eq!(chat(&gateway).await, 502);

    fs::copy(new.ca(), dir.path().join("ca.pem")).unwrap();
    gateway.reload(config(&text)).unwrap();
    assert_eq!(chat(&gateway).await, 200);

    // And what was not renewed keeps its connections.
    let before = backend.stats().now().connections;
    gateway.reload(config(&text)).unwrap();
    assert_eq!(chat(&gateway).await, 200);
    assert_eq!(backend.stats().now().connections, before);
}

#[tokio::test]
async fn a_renewed_client_certificate_is_shown() {
    let (old, new) = (Certs::new(), Certs::new());
    let backend = backend(&new, true).await;
    let dir = tempfile::tempdir().unwrap();
    fs::copy(new.ca(), dir.path().join("ca.pem")).unwrap();
    renew(&old, dir.path());
    let text = over_tls(&backend, dir.path(), true);
    let mut gateway = start(&text);
    assert_eq!(chat(&gateway).await, 502);

    renew(&new, dir.path());
    gateway.reload(config(&text)).unwrap();
    assert_eq!(chat(&gateway).await, 200);
}
