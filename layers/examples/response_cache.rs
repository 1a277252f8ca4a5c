//! Equal questions are answered once.
//!
//! curl -i --json '{"a":1,"b":2}' http://127.0.0.1:…/; curl -i --json '{"b":2,"a":1}' http://127.0.0.1:…/

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::post;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tollgate_layers::buffer::{Budget, BufferLayer, Config, Held};
use tollgate_layers::response_cache::{ResponseCache, ResponseCacheLayer, Scope};
use tollgate_layers::{Reason, Rejection};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (calls, cache) = (AtomicU32::new(0), ResponseCache::new(64 << 20, Duration::from_mins(10)));
    // Nobody's answer is anybody's secret here. Where there are users, this is `Scope::Owner`.
    let everybody = |_: &Request<Held>| Some(Scope::Shared);
    let calls: &'static AtomicU32 = Box::leak(Box::new(calls));
    let answer = async || format!("call {}", calls.fetch_add(1, Ordering::Relaxed));
    let app = Router::new().route("/", post(answer)).layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(refused))
            .map_request(|request: Request| {
                request.map(|body| body.map_err(|error| Rejection::from_error(error, Reason::MalformedBody)))
            })
            .layer(BufferLayer::new(Config::new(1 << 20, Budget::new(1 << 26, 4))))
            .layer(ResponseCacheLayer::new(cache, everybody))
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
