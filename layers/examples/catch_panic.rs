//! A handler that panics costs one answer, not the connection.
//!
//! curl http://127.0.0.1:…/divide/7/0

use std::error::Error;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tollgate_layers::catch_panic::CatchPanicLayer;
use tollgate_layers::{Reason, Rejection};
use tower::ServiceBuilder;

async fn divide(Path((a, b)): Path<(u32, u32)>) -> String {
    (a / b).to_string()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new().route("/divide/{a}/{b}", get(divide)).layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(refused))
            .layer(CatchPanicLayer::new().on_panic(|message: &str| eprintln!("a handler panicked: {message}")))
            .map_response(|response: Response| {
                response.map(|body| body.map_err(|error| Rejection::from_error(error, Reason::Internal)))
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
