//! The whole gateway, from its configuration.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tollgate::config::{Config, Loader};
use tollgate::serve::Gateway;
use tollgate::telemetry::Telemetry;

use super::raw::{Head, Wire};

const KEY: &str = "sk-whole";

pub(crate) fn config(text: &str) -> Config {
    Loader::new([]).parse(text).unwrap()
}

pub(crate) fn start(text: &str) -> Gateway {
    Gateway::start(config(text), Telemetry::new(None)).unwrap()
}

/// One backend, one model `m`, one key, and an admin listener; `server` and `backend` go into their tables.
pub(crate) fn routed(base_url: &str, server: &str, backend: &str) -> String {
    let hash = Sha256::digest(KEY).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n{server}\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\
         [[backend]]\nname = \"b\"\nbase_url = \"{base_url}\"\npass_headers = [\"x-tollgate-script\"]\n{backend}\n\
         [[model]]\nname = \"m\"\nroute = [{{ backend = \"b\", model = \"m\" }}]\n\
         [group.default]\nmodels = [\"*\"]\n\
         [[key]]\nname = \"k\"\ngroup = \"default\"\nsha256 = \"{hash}\"\n"
    )
}

/// Sends a chat request; `script` is for the scripted backend.
pub(crate) async fn start_chat(wire: &mut Wire, stream: bool, script: &str) {
    let body = format!(r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"Hi"}}]}}"#);
    wire.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         x-tollgate-script: {script}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
}

/// An answer that says how long it is.
pub(crate) async fn answer(wire: &mut Wire) -> (Head, Bytes) {
    let head = wire.head().await.unwrap();
    let length = head.field("content-length").unwrap().parse().unwrap();
    let body = wire.exactly(length).await.unwrap();
    (head, body)
}

/// One request on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut wire = Wire::connect(address).await;
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    let (head, body) = answer(&mut wire).await;
    (head.status(), String::from_utf8(body.to_vec()).unwrap())
}
