//! `/notices`: what the operator announces.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Actor;
use super::failure::{Answer, ErrorBody, Failure, Result, created, ok};
use super::list::{List, PageQuery};
use super::read::{Body, Named, Query};
use super::times::Time;
use super::values::Ident;
use crate::store::{Id, Notice};

/// The longest announcement, in characters.
const MOST_TEXT: usize = 20_000;

/// What makes an announcement.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateNotice {
    /// Markdown; 1 to 20000 characters.
    #[schema(required)]
    text: Option<String>,
}

/// An announcement.
#[derive(Serialize, ToSchema)]
pub(super) struct NoticeView {
    id: Ident,
    text: String,
    created: Time,
}

/// Lists announcements, newest first.
#[utoipa::path(get, path = "/admin/v1/notices", tag = "notices", operation_id = "list_notices", params(PageQuery),
    responses((status = 200, body = List<NoticeView>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(query, mut problems): Query<PageQuery>,
) -> Result<Answer<List<NoticeView>>> {
    let asked = query.page(&mut problems);
    problems.none()?;
    let found = api.store().notices(asked.of_store()).await?;
    ok(asked.list(found, |notice| notice.id, NoticeView::new))
}

/// Announces.
#[utoipa::path(post, path = "/admin/v1/notices", tag = "notices", operation_id = "create_notice",
    request_body = CreateNotice,
    responses((status = 201, body = NoticeView), (status = "default", body = ErrorBody)))]
pub(super) async fn create(
    State(api): State<Api>,
    by: Actor,
    Body(body, mut problems): Body<CreateNotice>,
) -> Result<Answer<NoticeView>> {
    let text = problems.required("text", body.text);
    if text
        .as_ref()
        .is_some_and(|text| text.trim().is_empty() || text.chars().count() > MOST_TEXT)
    {
        problems.add("text", "write 1 to 20000 characters");
    }
    let text = problems.or(text)?;
    let view = NoticeView::new(api.store().create_notice(text).await?);
    api.record(&by, "notice.create", Some(view.id.0), [None, Some(&view)])
        .await;
    created(view)
}

/// Withdraws an announcement.
#[utoipa::path(delete, path = "/admin/v1/notices/{id}", tag = "notices", operation_id = "delete_notice",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = Deleted), (status = "default", body = ErrorBody)))]
pub(super) async fn delete(State(api): State<Api>, by: Actor, Named(id): Named) -> Result<Answer<Deleted>> {
    let id: Id = id.parse().map_err(|_| Failure::not_found("notice"))?;
    api.store().delete_notice(id).await?;
    let deleted = Deleted { id: Ident(id) };
    api.record(&by, "notice.delete", Some(id), [Some(&deleted), None]).await;
    ok(deleted)
}

/// What is no more.
#[derive(Serialize, ToSchema)]
pub(super) struct Deleted {
    id: Ident,
}

impl NoticeView {
    fn new(notice: Notice) -> Self {
        Self {
            id: Ident(notice.id),
            text: notice.text,
            created: Time(notice.created),
        }
    }
}
