//! The admin listener: health, readiness and metrics.

mod health;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::telemetry::Telemetry;

/// What the admin listener reads of the running gateway.
pub trait Status: Send + Sync + 'static {
    /// Why the gateway should get no new requests, if it should not.
    fn not_ready(&self) -> Option<&'static str>;
    /// Requests in flight.
    fn in_flight(&self) -> usize;
    /// Bytes of request bodies held.
    fn buffered(&self) -> usize;
}

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    status: Arc<dyn Status>,
    telemetry: Telemetry,
}

/// Every route of the admin listener.
pub fn router(status: Arc<dyn Status>, telemetry: Telemetry) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .with_state(Shared { status, telemetry })
}
