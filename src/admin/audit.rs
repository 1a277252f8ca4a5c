//! `/audit`: who changed what.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::failure::{Answer, ErrorBody, Result, ok};
use super::list::{FromText, List, page};
use super::read::Query;
use super::times::Time;
use super::values::Ident;
use crate::store::{Audit, Id};

/// A change that someone made.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditView {
    id: Ident,
    time: Time,
    /// The token's name.
    by: String,
    /// What was done, as `key.create`.
    action: String,
    /// The id of what it was done to.
    target: Option<Ident>,
    /// As it was.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// As it was then.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// The id of what was changed.
    #[param(value_type = Option<String>)]
    target: Option<FromText<Id>>,
    /// How many, 1 to 1000; 50 when left out.
    #[param(value_type = Option<u32>)]
    limit: Option<FromText<u32>>,
    /// The cursor that the page before told as `next`.
    #[param(value_type = Option<String>)]
    before: Option<FromText<Id>>,
}

impl AuditView {
    fn new(audit: Audit) -> Self {
        let json = |text: Option<String>| text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
        Self {
            id: Ident(audit.id),
            time: Time(audit.time),
            by: audit.by,
            action: audit.action,
            target: audit.target.map(Ident),
            before: json(audit.before),
            after: json(audit.after),
        }
    }
}

/// Lists changes, newest first.
#[utoipa::path(get, path = "/admin/v1/audit", tag = "audit", operation_id = "list_audit", params(AuditQuery),
    responses((status = 200, body = List<AuditView>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(query, mut problems): Query<AuditQuery>,
) -> Result<Answer<List<AuditView>>> {
    let asked = page(query.limit, query.before, &mut problems);
    problems.none()?;
    let found = api
        .store()
        .audits(query.target.map(|id| id.0), asked.of_store())
        .await?;
    ok(asked.list(found, |audit| audit.id, AuditView::new))
}
