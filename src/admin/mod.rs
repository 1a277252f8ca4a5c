//! The admin listener: health, readiness and metrics, and the admin API under `/admin/v1`.
//!
//! The API is one file a resource, with the shapes of its requests and answers beside its handlers; `api` lists every
//! route, and the OpenAPI document at `/admin/openapi.json` is made from the same list. Whoever calls is an `auth` token
//! of the configuration; what a change means to requests that are served meanwhile is behind [`Live`].
//!
//! `self_service` is what clients ask with their own keys. It is not of this listener: the data plane serves it.

mod accounts;
mod api;
mod audit;
mod auth;
mod codes;
mod failure;
mod find;
mod health;
mod keys;
mod list;
mod live;
mod notices;
mod openapi;
mod read;
mod seal;
mod secret;
pub mod self_service;
mod setup;
mod times;
mod usage;
mod values;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

pub use self::api::Api;
pub use self::live::{Live, NobodyServes};
pub use self::secret::client_key;
pub use self::setup::Setup;
use crate::telemetry::{Now, Telemetry};

/// What the admin listener reads of the running gateway.
pub trait Status: Send + Sync + 'static {
    /// Why the gateway should get no new requests, if it should not.
    fn not_ready(&self) -> Option<&'static str>;
    /// What is wrong although requests are served.
    fn degraded(&self) -> Option<&'static str>;
    /// What is counted at this moment.
    fn now(&self) -> Now;
}

/// What the handlers of health share.
#[derive(Clone)]
struct Shared {
    status: Arc<dyn Status>,
    telemetry: Telemetry,
}

/// The routes of the admin listener that need no store; [`Api::router`] is merged into it where there is one.
pub fn router(status: Arc<dyn Status>, telemetry: Telemetry) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .with_state(Shared { status, telemetry })
}
