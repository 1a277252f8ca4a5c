//! Answers must be whole in time.
//!
//! curl http://127.0.0.1:…/; curl http://127.0.0.1:…/never

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::http::{Extensions, StatusCode};
use axum::response::Response;
use axum::routing::get;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tollgate_layers::timeout::{TimeoutLayer, Timeouts};
use tollgate_layers::{Reason, Rejection};
use tower::ServiceBuilder;

fn limits(_: &Extensions) -> Timeouts {
    Timeouts {
        total: Some(Duration::from_millis(500)),
        ..Timeouts::default()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new()
        .route("/", get("hello"))
        .route("/never", get(std::future::pending::<()>))
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(refused))
                .layer(TimeoutLayer::new(limits))
                .map_response(|response: Response| {
                    response.map(|body| body.map_err(|error| Rejection::from_error(error, Reason::UpstreamFailed)))
                }),
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
