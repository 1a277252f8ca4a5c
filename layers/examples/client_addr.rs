//! Whose request it is, behind a proxy on this machine and not behind one that merely says so.
//!
//! curl -H 'x-forwarded-for: 6.6.6.6, 192.0.2.1' http://127.0.0.1:…/

use std::error::Error;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::Extensions;
use axum::routing::get;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tollgate_layers::client_addr::{ClientAddr, ClientAddrLayer};

async fn address(Extension(ClientAddr(address)): Extension<ClientAddr>) -> String {
    address.to_string()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let peer = |extensions: &Extensions| {
        let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(peer.ip())
    };
    let proxies = ["127.0.0.0/8".parse()?];
    let app = Router::new()
        .route("/", get(address))
        .layer(ClientAddrLayer::new(proxies, peer))
        .into_make_service_with_connect_info::<SocketAddr>();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
