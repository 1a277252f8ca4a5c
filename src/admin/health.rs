//! Whether the process lives, whether it wants requests, and what it has counted.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderName, StatusCode};

use super::Shared;

/// The content type of the OpenMetrics text format.
const OPENMETRICS: [(HeaderName, &str); 1] = [(
    CONTENT_TYPE,
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
)];

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: 200 while new requests are welcome, with what is wrong all the same; else 503 and why.
pub(super) async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    match shared.status.not_ready() {
        None => (
            StatusCode::OK,
            match shared.status.degraded() {
                None => "ready\n".to_owned(),
                Some(what) => format!("ready, but {what}\n"),
            },
        ),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// `GET /metrics`: the text that Prometheus scrapes.
pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    match shared.telemetry.scrape(shared.status.now()) {
        Ok(text) => (OPENMETRICS, text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
