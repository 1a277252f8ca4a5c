//! What a reload takes, and what a failed one leaves alone.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tollgate::backend::Running;

use crate::support::bridge::{Certs, scripted_tls};
use crate::support::gateway::{Gateway, Setup, chat};
use crate::support::raw::Wire;

/// Copies what `from` has issued for `localhost` to where the configuration looks for it.
fn renew(from: &Certs, dir: &Path) {
    let (cert, key) = from.issue("localhost");
    fs::copy(cert, dir.join("cert.pem")).unwrap();
    fs::copy(key, dir.join("key.pem")).unwrap();
}

fn tls(dir: &Path, cert: &str, key: &str) -> Setup {
    let [cert, key] = [cert, key].map(|name| dir.join(name).display().to_string());
    Setup::over("127.0.0.1:1".parse().unwrap()).text(&format!("[server.tls]\ncert = '{cert}'\nkey = '{key}'"))
}

/// Whether a client that trusts `certs` alone is served.
async fn serves(gateway: &Gateway, certs: &Certs) {
    let mut wire = Wire::connect_tls(gateway.address(), certs.client(&[b"http/1.1"])).await;
    wire.send("GET /x HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(wire.head().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_renewed_certificate_is_served_from_the_same_files_and_from_others() {
    let (first, second, third) = (Certs::new(), Certs::new(), Certs::new());
    let dir = tempfile::tempdir().unwrap();
    renew(&first, dir.path());
    let setup = tls(dir.path(), "cert.pem", "key.pem");
    let mut gateway = setup.clone().start();
    serves(&gateway, &first).await;

    renew(&second, dir.path());
    gateway.inner.reload(setup.config()).await.unwrap();
    serves(&gateway, &second).await;

    let (cert, key) = third.issue("localhost");
    let setup = tls(dir.path(), cert.to_str().unwrap(), key.to_str().unwrap());
    gateway.inner.reload(setup.config()).await.unwrap();
    serves(&gateway, &third).await;
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let (first, second) = (Certs::new(), Certs::new());
    let dir = tempfile::tempdir().unwrap();
    renew(&first, dir.path());
    let setup = tls(dir.path(), "cert.pem", "key.pem");
    let mut gateway = setup.clone().start();

    renew(&second, dir.path());
    // No header can carry this name.
    let mut bad = setup.clone().backend_at("bad", "http://127.0.0.1:1", "").config();
    Arc::get_mut(&mut bad.backends[1]).unwrap().base_url.host = "a\nb".into();
    gateway.inner.reload(bad).await.unwrap_err();
    serves(&gateway, &first).await;
    assert_eq!(gateway.inner.config().backends.len(), 1);

    gateway.inner.reload(setup.clone().config()).await.unwrap();
    serves(&gateway, &second).await;
}

// === certificates towards a backend ===

fn over_tls(backend: &Running, dir: &Path, client: bool) -> Setup {
    let dir = dir.display();
    let identity = if client {
        format!("client_cert = '{dir}/cert.pem'\nclient_key = '{dir}/key.pem'")
    } else {
        String::new()
    };
    let lines = format!("ca = '{dir}/ca.pem'\n{identity}");
    let url = format!("https://localhost:{}/v1", backend.local_addr().port());
    Setup::default().backend_at("main", &url, &lines)
}

async fn status(gateway: &Gateway) -> u16 {
    gateway.call(&chat(false, "tokens=1")).await.head.status
}

#[tokio::test]
async fn a_backends_renewed_authority_is_trusted() {
    let (old, new) = (Certs::new(), Certs::new());
    let backend = scripted_tls(&new, &[], false).await;
    let dir = tempfile::tempdir().unwrap();
    fs::copy(old.ca(), dir.path().join("ca.pem")).unwrap();
    let setup = over_tls(&backend, dir.path(), false);
    let mut gateway = setup.clone().start();
    assert_eq!(status(&gateway).await, 502);

    fs::copy(new.ca(), dir.path().join("ca.pem")).unwrap();
    gateway.inner.reload(setup.clone().config()).await.unwrap();
    assert_eq!(status(&gateway).await, 200);

    // And what was not renewed keeps its connections.
    let before = backend.stats().now().connections;
    gateway.inner.reload(setup.clone().config()).await.unwrap();
    assert_eq!(status(&gateway).await, 200);
    assert_eq!(backend.stats().now().connections, before);
}

#[tokio::test]
async fn a_renewed_client_certificate_is_shown() {
    let (old, new) = (Certs::new(), Certs::new());
    let backend = scripted_tls(&new, &[], true).await;
    let dir = tempfile::tempdir().unwrap();
    fs::copy(new.ca(), dir.path().join("ca.pem")).unwrap();
    renew(&old, dir.path());
    let setup = over_tls(&backend, dir.path(), true);
    let mut gateway = setup.clone().start();
    assert_eq!(status(&gateway).await, 502);

    renew(&new, dir.path());
    gateway.inner.reload(setup.clone().config()).await.unwrap();
    assert_eq!(status(&gateway).await, 200);
}
