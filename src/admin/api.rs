//! The admin API: what its handlers share, and the list of its routes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{self, Actor};
use super::failure::Failure;
use super::{Live, Setup, accounts, audit, codes, keys, notices, openapi, usage};
use crate::money::{Credits, Nanos};
use crate::store::{self, Error, Id, Owner, SharedStore};

/// How often what the store refuses is tried again after free money was called back: what was called back may be taken
/// again before it can be used.
const RECALLS: usize = 2;

/// The admin API of a store. Clones share it.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    store: SharedStore,
    live: Arc<dyn Live>,
    setup: ArcSwap<Setup>,
}

impl Api {
    /// Serves this store; `live` makes changes count in this process.
    pub fn new(setup: Setup, store: SharedStore, live: Arc<dyn Live>) -> Self {
        let setup = ArcSwap::from_pointee(setup);
        Self(Arc::new(Inner { store, live, setup }))
    }

    /// Goes on with another configuration. Requests under way finish on the old one.
    pub fn reload(&self, setup: Setup) {
        self.0.setup.store(Arc::new(setup));
    }

    /// Every route under `/admin`.
    pub fn router(&self) -> Router {
        let (router, document) = routes().split_for_parts();
        let document = openapi::text(&document);
        router
            .route("/admin/v1", any(no_such_path))
            .route("/admin/v1/{*rest}", any(no_such_path))
            .layer(middleware::from_fn_with_state(self.clone(), auth::check))
            // Beside the API: whoever wants to know how to ask has no token yet.
            .route("/admin/openapi.json", get(async move || openapi::serve(&document)))
            .layer(middleware::map_response(error_of_routing))
            .layer(middleware::from_fn(to_the_end))
            .with_state(self.clone())
    }

    pub(super) fn store(&self) -> &SharedStore {
        &self.0.store
    }

    pub(super) fn live(&self) -> &dyn Live {
        &*self.0.live
    }

    pub(super) fn setup(&self) -> Arc<Setup> {
        self.0.setup.load_full()
    }

    pub(super) fn credits(&self) -> Credits {
        self.0.setup.load().credits
    }

    /// An amount as credits.
    pub(super) fn whole(&self, amount: Nanos) -> i64 {
        self.credits().whole(amount)
    }

    /// Does what needs money of an account, or quota of one of its keys, that no process holds.
    pub(super) async fn after_recall<T, F>(
        &self,
        account: Id,
        owner: Owner,
        act: impl Fn() -> F + Sync,
    ) -> store::Result<T>
    where
        F: Future<Output = store::Result<T>> + Send,
    {
        for _ in 1..RECALLS {
            self.live().recall(account, owner).await;
            match act().await {
                Err(Error::Refused(_)) => {}
                done => return done,
            }
        }
        self.live().recall(account, owner).await;
        act().await
    }

    /// Writes down who changed what. The change is made by then: that this fails does not undo it, and is told to the log.
    pub(super) async fn record<T: Serialize>(
        &self,
        by: &Actor,
        action: &'static str,
        target: Option<Id>,
        [before, after]: [Option<&T>; 2],
    ) {
        let text = |value: Option<&T>| value.and_then(|value| serde_json::to_string(value).ok());
        let target_text = target.map(|id| id.to_string()).unwrap_or_default();
        tracing::info!(by = by.name(), action, target = target_text, "changed by the admin API");
        let written = self
            .store()
            .audit(by.name(), action, target, text(before), text(after))
            .await;
        if let Err(error) = written {
            tracing::error!(%error, by = by.name(), action, target = target_text, "a change could not be written down");
        }
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// Every route, each with its part of the OpenAPI document.
fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(accounts::list, accounts::create))
        .routes(routes!(accounts::show, accounts::edit))
        .routes(routes!(accounts::wallet::topup))
        .routes(routes!(accounts::wallet::adjust))
        .routes(routes!(accounts::wallet::redeem))
        .routes(routes!(accounts::wallet::entries))
        .routes(routes!(accounts::wallet::verify))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show, keys::edit, keys::life::delete))
        .routes(routes!(keys::life::disable))
        .routes(routes!(keys::life::enable))
        .routes(routes!(keys::life::revoke))
        .routes(routes!(keys::renew::rotate))
        .routes(routes!(keys::renew::reveal))
        .routes(routes!(codes::list, codes::create))
        .routes(routes!(codes::revoke))
        .routes(routes!(usage::sums))
        .routes(routes!(usage::rows::rows))
        .routes(routes!(notices::list, notices::create))
        .routes(routes!(notices::delete))
        .routes(routes!(audit::list))
}

async fn no_such_path() -> Failure {
    Failure::not_found("path")
}

/// Gives a body to what axum itself refuses: a method that a path does not take.
async fn error_of_routing(response: Response) -> Response {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        return Failure::wrong_method().into_response();
    }
    response
}

/// Runs a request apart from its connection: a change whose client leaves is made whole, with its audit entry, and a
/// panic costs one answer.
async fn to_the_end(request: Request, next: Next) -> Response {
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "a request of the admin API panicked");
            Failure::internal().into_response()
        }
    }
}
