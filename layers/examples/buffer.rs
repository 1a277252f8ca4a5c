//! Bodies held in memory under a cap for each and a budget for all, so that they can be read twice.
//!
//! curl -d 'hello' http://127.0.0.1:…/

use std::error::Error;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::post;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tollgate_layers::buffer::{Budget, BufferLayer, Config, Held};
use tollgate_layers::{Reason, Rejection};
use tower::ServiceBuilder;

const CAP: usize = 16;

async fn echo(body: String) -> String {
    body
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let budget = Budget::new(1 << 20, 4);
    let app = Router::new().route("/", post(echo)).layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(refused))
            .map_request(|request: Request| {
                request.map(|body| body.map_err(|error| Rejection::from_error(error, Reason::MalformedBody)))
            })
            .layer(BufferLayer::new(Config::new(CAP, budget)))
            // Here the body is whole: look at it, keep a clone of it, send it twice.
            .map_request(|request: Request<Held>| request.map(Body::new)),
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
