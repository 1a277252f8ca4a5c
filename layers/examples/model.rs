//! Which model a request asks for, read from its body without parsing it into a tree.
//!
//! curl -d '{"model":"gpt-4o","messages":[]}' http://127.0.0.1:…/

use std::error::Error;

use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Extension, Router};
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tollgate_layers::buffer::{Budget, BufferLayer, Config, Held};
use tollgate_layers::model::{Keys, ModelLayer, ModelRequest};
use tollgate_layers::{Reason, Rejection};
use tower::ServiceBuilder;

async fn model(Extension(asked): Extension<ModelRequest>) -> String {
    format!("{}, streamed: {}", asked.model, asked.stream)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new().route("/", post(model)).layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(refused))
            .map_request(|request: Request| {
                request.map(|body| body.map_err(|error| Rejection::from_error(error, Reason::MalformedBody)))
            })
            .layer(BufferLayer::new(Config::new(1 << 20, Budget::new(1 << 26, 4))))
            .layer(ModelLayer::new(Keys::default()))
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
