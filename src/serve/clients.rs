//! What the admin API and clients' own questions have to do with the process that serves.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::http::Extensions;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tollgate_layers::client_addr::ClientAddr;
use tower::ServiceExt as _;

use super::Books;
use crate::admin::{Live, self_service};
use crate::config::Config;
use crate::directory::Member;
use crate::stack::Beside;
use crate::store::{self, Account, Changes, Id, Key, Millis, Owner};

impl Books {
    /// What a configuration's listeners answer to clients about themselves.
    pub(super) fn beside(&self, config: &Config) -> Beside {
        let config = Arc::new(config.clone());
        let lookup = Arc::new(self.clone());
        let router = self_service::router(config, Arc::clone(&self.store), lookup, address);
        Beside::new("self_service", self_service::is_here, move |request| {
            Box::pin(answer(router.clone(), request))
        })
    }
}

fn address(facts: &Extensions) -> Option<IpAddr> {
    facts.get::<ClientAddr>().map(|address| address.0)
}

/// The router's answer, whole: these are short.
async fn answer(router: Router, request: Request<()>) -> Response<Bytes> {
    let request = request.map(|()| axum::body::Body::empty());
    let Ok(response) = router.oneshot(request).await;
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await.map_or_else(
        |error| {
            tracing::error!(%error, "an answer broke off");
            parts.status = StatusCode::INTERNAL_SERVER_ERROR;
            Bytes::new()
        },
        http_body_util::Collected::to_bytes,
    );
    Response::from_parts(parts, body)
}

#[async_trait]
impl self_service::Lookup for Books {
    async fn find(&self, hash: &[u8; 32]) -> store::Result<Option<self_service::Caller>> {
        let Some(principal) = self.directory.get(hash) else {
            return Ok(None);
        };
        let Member::Stored { id, holder, .. } = &principal.member else {
            return Ok(None);
        };
        let (key, account) = tokio::try_join!(self.store.key(*id), self.store.account(holder.id))?;
        Ok(Some(self_service::Caller::stored(key, account, Millis::now())))
    }
}

#[async_trait]
impl Live for Books {
    async fn changed(&self, accounts: &[Account], keys: &[Key]) {
        // In the order of their revisions, which what is told here need not have.
        if let Err(error) = self.directory.refresh().await {
            tracing::warn!(%error, "a change could not be read back; it holds as it was told");
            self.directory.apply(&Changes {
                accounts: accounts.to_vec(),
                keys: keys.to_vec(),
                revision: 0,
            });
        }
    }

    async fn recall(&self, account: Id, owner: Owner) {
        match owner {
            Owner::Account(id) => self.ledger.recall(id).await,
            Owner::Key(key) => self.ledger.recall_key(account, key).await,
        };
    }
}
