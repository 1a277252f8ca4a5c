//! A decision as a closure: only JSON is taken.
//!
//! curl --json '{}' http://127.0.0.1:…/; curl -d 'a=b' http://127.0.0.1:…/

use std::error::Error;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::routing::post;
use tokio::net::TcpListener;
use tollgate_layers::require::RequireLayer;
use tollgate_layers::{Reason, Rejection};
use tower::ServiceBuilder;

fn json(request: &mut Request) -> Result<(), Rejection> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
        return Ok(());
    }
    Err(Rejection::new(Reason::UnsupportedEncoding).with_message("Please send JSON."))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new().route("/", post("thanks")).layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(refused))
            .layer(RequireLayer::new(json)),
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
