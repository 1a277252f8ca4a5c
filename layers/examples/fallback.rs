//! Two backends: when the first fails before its answer begins, the second is asked.
//!
//! curl -d 'hello' http://127.0.0.1:…/; curl -H 'x-down: both' -d 'hello' http://127.0.0.1:…/

use std::error::Error;

use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tollgate_layers::buffer::{Budget, BufferLayer, Config, Held};
use tollgate_layers::fallback::{FallbackLayer, Policy};
use tollgate_layers::{Reason, Rejection};
use tower::ServiceBuilder;

#[derive(Clone)]
struct Backends;

impl Policy for Backends {
    type Candidate = &'static str;

    fn candidates(&self, _: &Request<Held>) -> Result<Vec<&'static str>, Rejection> {
        Ok(vec!["first", "second"])
    }

    fn prepare(&self, backend: &&'static str, request: &mut Request<Held>) -> Result<(), Rejection> {
        request.extensions_mut().insert(*backend);
        Ok(())
    }
}

/// Stands for the call to a backend. The first one is down.
async fn send(Extension(backend): Extension<&'static str>, headers: HeaderMap, body: String) -> (StatusCode, String) {
    if backend == "first" || headers.contains_key("x-down") {
        return (StatusCode::BAD_GATEWAY, String::new());
    }
    (StatusCode::OK, format!("{backend}: {body}"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new().route("/", post(send)).layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(async |e: Rejection| {
                (e.status(), e.message().to_owned())
            }))
            .map_request(|request: Request| {
                request.map(|body| body.map_err(|error| Rejection::from_error(error, Reason::MalformedBody)))
            })
            .layer(BufferLayer::new(Config::new(1 << 20, Budget::new(1 << 26, 4))))
            .layer(FallbackLayer::new(Backends))
            .map_response(|response: Response| {
                response.map(|body| body.map_err(|error| Rejection::from_error(error, Reason::UpstreamFailed)))
            })
            .map_request(|request: Request<Held>| request.map(Body::new)),
    );
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
