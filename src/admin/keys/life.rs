//! Whether a key is alive.

use axum::extract::State;

use super::{KeyView, OneKeyQuery, changed};
use crate::admin::Api;
use crate::admin::auth::Actor;
use crate::admin::failure::{Answer, ErrorBody, Result};
use crate::admin::read::{Named, Query};
use crate::store::{KeyChange, KeyStatus};

/// Refuses a key until it is enabled again.
#[utoipa::path(post, path = "/admin/v1/keys/{id}/disable", tag = "keys", operation_id = "disable_key",
    params(("id" = String, Path, description = "Its id, or its name when only one has it"), OneKeyQuery),
    responses((status = 200, body = KeyView), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn disable(
    State(api): State<Api>,
    by: Actor,
    Named(named): Named,
    Query(query, problems): Query<OneKeyQuery>,
) -> Result<Answer<KeyView>> {
    problems.none()?;
    set(&api, &by, &named, &query, ("key.disable", KeyStatus::Disabled)).await
}

/// Lets a disabled key be used again.
#[utoipa::path(post, path = "/admin/v1/keys/{id}/enable", tag = "keys", operation_id = "enable_key",
    params(("id" = String, Path, description = "Its id, or its name when only one has it"), OneKeyQuery),
    responses((status = 200, body = KeyView), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn enable(
    State(api): State<Api>,
    by: Actor,
    Named(named): Named,
    Query(query, problems): Query<OneKeyQuery>,
) -> Result<Answer<KeyView>> {
    problems.none()?;
    set(&api, &by, &named, &query, ("key.enable", KeyStatus::Enabled)).await
}

/// Ends a key for good; it is still listed.
#[utoipa::path(post, path = "/admin/v1/keys/{id}/revoke", tag = "keys", operation_id = "revoke_key",
    params(("id" = String, Path, description = "Its id, or its name when only one has it"), OneKeyQuery),
    responses((status = 200, body = KeyView), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn revoke(
    State(api): State<Api>,
    by: Actor,
    Named(named): Named,
    Query(query, problems): Query<OneKeyQuery>,
) -> Result<Answer<KeyView>> {
    problems.none()?;
    set(&api, &by, &named, &query, ("key.revoke", KeyStatus::Revoked)).await
}

/// Ends a key and hides it; what it was charged stays.
#[utoipa::path(delete, path = "/admin/v1/keys/{id}", tag = "keys", operation_id = "delete_key",
    params(("id" = String, Path, description = "Its id, or its name when only one has it"), OneKeyQuery),
    responses((status = 200, body = KeyView), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn delete(
    State(api): State<Api>,
    by: Actor,
    Named(named): Named,
    Query(query, problems): Query<OneKeyQuery>,
) -> Result<Answer<KeyView>> {
    problems.none()?;
    set(&api, &by, &named, &query, ("key.delete", KeyStatus::Deleted)).await
}

async fn set(
    api: &Api,
    by: &Actor,
    named: &str,
    query: &OneKeyQuery,
    (action, status): (&'static str, KeyStatus),
) -> Result<Answer<KeyView>> {
    let before = api.key(named, query.account.as_deref()).await?;
    let account = api.store().account(before.account).await?;
    let after = api.store().change_key(before.id, KeyChange::Status(status)).await?;
    changed(api, by, action, [&before, &after], &account).await
}
