//! What clients ask about themselves, with their own keys: the paths and shapes that tools of LLM resale platforms know.
//!
//! The data plane serves this router beside the API. Its errors have a shape of their own,
//! `{"success":false,"message":"…"}`, and any web page may read its answers (CORS): what they show is whatever the key
//! in the request is worth, and no cookie opens them.
//!
//! A disabled, expired or exhausted key is answered: whoever holds it wants to know why it does not work. A revoked one is
//! nobody's.

mod billing;
mod caller;
mod log;
mod pricing;
mod public;
mod ratio;
mod token;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER,
};
use axum::http::{Extensions, HeaderName, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde::Serialize;
use tokio::sync::Semaphore;

pub use self::caller::{Caller, Lookup};
use self::public::Board;
use crate::config::Config;
use crate::store::{self, SharedStore};

/// So many answers may be read from the store at once: they are the only ones here that cost it anything, and it has
/// more important things to do.
const MOST_READS: usize = 16;

/// Where a request's client address is, in its extensions.
pub type ClientAddress = fn(&Extensions) -> Option<IpAddr>;

/// What the handlers share.
#[derive(Clone)]
struct Shared(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    store: SharedStore,
    lookup: Arc<dyn Lookup>,
    address: ClientAddress,
    board: Board,
    reads: Semaphore,
}

/// Every path; each is there with a slash at its end, too.
fn routes() -> [(&'static str, MethodRouter<Shared, Infallible>); 10] {
    [
        ("/api/usage/token", get(token::show)),
        ("/api/log/token", get(log::list)),
        ("/dashboard/billing/subscription", get(billing::subscription)),
        ("/v1/dashboard/billing/subscription", get(billing::subscription)),
        ("/dashboard/billing/usage", get(billing::usage)),
        ("/v1/dashboard/billing/usage", get(billing::usage)),
        ("/api/pricing", get(pricing::list)),
        ("/api/status", get(public::status)),
        ("/api/notice", get(public::notice)),
        ("/llms.txt", get(public::index)),
    ]
}

/// Whether a path is one of this router's, for whoever decides where a request goes.
pub fn is_here(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    let path = path
        .strip_prefix("/v1")
        .filter(|rest| rest.starts_with("/dashboard"))
        .unwrap_or(path);
    matches!(
        path,
        "/api/usage/token"
            | "/api/log/token"
            | "/dashboard/billing/subscription"
            | "/dashboard/billing/usage"
            | "/api/pricing"
            | "/api/status"
            | "/api/notice"
            | "/llms.txt"
    )
}

/// The router for a configuration; a reload makes another.
pub fn router(config: Arc<Config>, store: SharedStore, lookup: Arc<dyn Lookup>, address: ClientAddress) -> Router {
    let shared = Shared(Arc::new(Inner {
        config,
        store,
        lookup,
        address,
        board: Board::default(),
        reads: Semaphore::new(MOST_READS),
    }));
    let routes = routes().into_iter().fold(Router::new(), |router, (path, method)| {
        let method = method.options(preflight);
        router.route(path, method.clone()).route(&format!("{path}/"), method)
    });
    routes
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "There is no such path."))
        .layer(middleware::map_response(finish))
        .with_state(shared)
}

/// What a browser asks before it sends a request with a key.
async fn preflight() -> Response {
    const HEADERS: [(HeaderName, &str); 3] = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, OPTIONS"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, x-api-key, content-type"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, HEADERS).into_response()
}

/// Lets every page read the answer, and gives a body to what axum itself refuses.
async fn finish(mut response: Response) -> Response {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "This path is read with GET.").into_response();
    }
    response
        .headers_mut()
        .insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

impl Shared {
    fn config(&self) -> &Config {
        &self.0.config
    }

    /// A place among the reads from the store.
    fn read(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Refusal> {
        self.0.reads.try_acquire().map_err(|_| {
            Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many of these requests are under way; try again in a moment.",
            )
        })
    }
}

// === answers ===

/// An answer in JSON.
struct Shown<T>(T);

impl<T: Serialize> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        const HEADERS: [(HeaderName, &str); 2] = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
        match serde_json::to_vec(&self.0) {
            Ok(body) => (HEADERS, body).into_response(),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// Why a request is not answered.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    message: &'static str,
}

#[derive(Serialize)]
struct RefusalBody {
    success: bool,
    message: &'static str,
}

impl Refusal {
    const fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message }
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        tracing::warn!(%error, "a client's question about itself could not be answered");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This cannot be told at the moment; try again later.",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = RefusalBody {
            success: false,
            message: self.message,
        };
        let mut response = (self.status, Shown(body)).into_response();
        if matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_here_and_nothing_else() {
        for (path, _) in routes() {
            assert!(is_here(path) && is_here(&format!("{path}/")), "{path}");
        }
        for path in [
            "/",
            "",
            "/api",
            "/api/usage/token//",
            "/v1/api/pricing",
            "/v1/models",
            "/v1/llms.txt",
            "/v1",
        ] {
            assert!(!is_here(path), "{path}");
        }
    }
}
