//! A service that says at once when it is full: one request in flight, and a kibibyte of what requests claim.
//!
//! curl http://127.0.0.1:…/endless & curl -i http://127.0.0.1:…/

use std::error::Error;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use axum::routing::get;
use http_body_util::channel::Channel;
use tokio::net::TcpListener;
use tollgate_layers::Rejection;
use tollgate_layers::overload::{InFlight, OverloadLayer};
use tower::ServiceBuilder;

/// Answers for as long as the client listens.
async fn endless() -> Body {
    let (mut sender, body) = Channel::<Bytes>::new(1);
    tokio::spawn(async move { while sender.send_data(Bytes::from_static(b".\n")).await.is_ok() {} });
    Body::new(body)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let room = InFlight::new(1, 1024);
    let app = Router::new()
        .route("/", get("hello").post("thanks"))
        .route("/endless", get(endless))
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(refused))
                .layer(OverloadLayer::new(room)),
        );
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
