//! The backend's side: what it is sent, over which connection, and what its answers do.

mod http1;
mod http2;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use tollgate::proxy::{HttpVersion, Origin, OriginSettings};

use crate::support::bridge::{Gateway, PATIENT, proxy, settings};
use crate::support::client::{Ask, Client, Speaks};

fn reaching(settings: OriginSettings) -> Gateway {
    speaking(Speaks::KeepAlive, settings)
}

fn speaking(speaks: Speaks, settings: OriginSettings) -> Gateway {
    Gateway::serve(speaks, PATIENT, proxy(Arc::new(Origin::new(settings).unwrap())))
}

/// Prior knowledge of HTTP/2.
fn prior(address: SocketAddr) -> OriginSettings {
    OriginSettings {
        http: HttpVersion::Http2,
        ..settings(address)
    }
}

/// A status, a body, and whether the backend's connection was used before.
async fn chat(gateway: &Gateway, script: &str) -> (u16, String, Option<String>) {
    let mut client = Client::connect(gateway, Speaks::KeepAlive).await;
    let (head, body) = client.call(&Ask::chat(false, script)).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    (head.status, text, head.field("x-reused").map(str::to_owned))
}
