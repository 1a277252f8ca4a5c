//! Counts the tokens that answers say they used.
//!
//! curl http://127.0.0.1:…/chat; curl http://127.0.0.1:…/used; curl http://127.0.0.1:…/gzip

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::Response;
use axum::routing::get;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tollgate_layers::meter::{MeterLayer, Outcome, Plan};
use tollgate_layers::{Reason, Rejection};
use tower::ServiceBuilder;

const ANSWER: &str = r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let used = Arc::new(AtomicU64::new(0));
    let sum = used.clone();
    let policy = move |_: &Request| {
        let sum = sum.clone();
        Some(Plan::new(move |outcome: Outcome| {
            let tokens = outcome
                .usage
                .map_or_else(|| outcome.estimated_completion(), |usage| usage.total);
            sum.fetch_add(tokens, Ordering::Relaxed);
        }))
    };
    let app = Router::new()
        .route("/chat", get(([(header::CONTENT_TYPE, "application/json")], ANSWER)))
        // What cannot be read cannot be metered.
        .route("/gzip", get(([(header::CONTENT_ENCODING, "gzip")], "…")))
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(async |e: Rejection| {
                    (e.status(), e.message().to_owned())
                }))
                .layer(MeterLayer::new(policy))
                .map_response(|response: Response| {
                    response.map(|body| body.map_err(|error| Rejection::from_error(error, Reason::UpstreamFailed)))
                }),
        )
        .route(
            "/used",
            get(async |State(used): State<Arc<AtomicU64>>| used.load(Ordering::Relaxed).to_string()),
        )
        .with_state(used);
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
