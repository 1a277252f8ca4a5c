//! Errors in the shape that OpenAI's SDKs read, from a service that only says what was wrong.
//!
//! curl http://127.0.0.1:…/models/gpt-4o; curl http://127.0.0.1:…/models/none

use std::error::Error;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::Response;
use http_body_util::Full;
use tokio::net::TcpListener;
use tollgate_layers::respond::{OpenAi, RespondLayer};
use tollgate_layers::{Reason, Rejection};
use tower::{ServiceBuilder, service_fn};

async fn model(request: Request<Body>) -> Result<Response<Full<Bytes>>, Rejection> {
    match request.uri().path() {
        "/models/gpt-4o" => Ok(Response::new(Full::from("a model"))),
        _ => Err(Rejection::new(Reason::ModelNotFound).with_param("model")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = ServiceBuilder::new()
        .layer(RespondLayer::new(OpenAi::default()))
        .service(service_fn(model));
    let app = Router::new().fallback_service(service);
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
