//! Only clients of some networks may call.
//!
//! curl http://127.0.0.1:…/; curl -H 'x-forwarded-for: 203.0.113.9' http://127.0.0.1:…/

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::ConnectInfo;
use axum::http::{Extensions, StatusCode};
use axum::routing::get;
use tokio::net::TcpListener;
use tollgate_layers::Rejection;
use tollgate_layers::client_addr::ClientAddrLayer;
use tollgate_layers::ip_allow::{IpAllowLayer, IpSet};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Nonsense is refused here, not when somebody calls.
    let allowed: Arc<IpSet> = Arc::new("127.0.0.0/8, 192.0.2.0/24 ::1".parse()?);
    let peer = |extensions: &Extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip());
    let proxies = ["127.0.0.0/8".parse()?];
    let app = Router::new()
        .route("/", get("hello"))
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(refused))
                .layer(ClientAddrLayer::new(proxies, peer))
                .layer(IpAllowLayer::new(allowed)),
        )
        .into_make_service_with_connect_info::<SocketAddr>();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// What a client is told when a layer refuses.
async fn refused(rejection: Rejection) -> (StatusCode, String) {
    (rejection.status(), rejection.message().to_owned())
}
