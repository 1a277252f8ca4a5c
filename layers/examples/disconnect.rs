//! Work that goes on to its end although its client has gone, for at most a minute.
//!
//! curl -m 1 http://127.0.0.1:…/work; curl http://127.0.0.1:…/finish; curl http://127.0.0.1:…/state

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tollgate_layers::disconnect::{Drain, DrainLayer, OnDisconnect};
use tollgate_layers::{Reason, Rejection};
use tower::ServiceBuilder;

/// What has begun, and what has finished.
type Work = Arc<(Notify, AtomicU32, AtomicU32)>;

async fn work(State(work): State<Work>) {
    work.1.fetch_add(1, Ordering::Relaxed);
    work.0.notified().await;
    work.2.fetch_add(1, Ordering::Relaxed);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let drain = Drain::new(Duration::from_mins(1), Arc::new(Semaphore::new(64)));
    let app = Router::new()
        .route("/work", get(work))
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(async |e: Rejection| {
                    (e.status(), e.message().to_owned())
                }))
                .layer(DrainLayer::new(move |_: &Request| OnDisconnect::Drain(drain.clone())))
                .map_response(|response: Response| {
                    response.map(|body| body.map_err(|error| Rejection::from_error(error, Reason::Internal)))
                }),
        )
        .route("/finish", get(async |State(work): State<Work>| work.0.notify_one()))
        .route(
            "/state",
            get(async |State(work): State<Work>| format!("{:?}, {:?}", work.1, work.2)),
        )
        .with_state(Work::default());
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
