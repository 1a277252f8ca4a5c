//! `/usage/rows`: every request, newest first.

use std::net::IpAddr;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Of;
use crate::admin::Api;
use crate::admin::failure::{Answer, ErrorBody, Result, ok};
use crate::admin::list::{FromText, List, page};
use crate::admin::read::Query;
use crate::admin::times::{Bound, Time};
use crate::admin::values::{Ident, Usd};
use crate::store::{Id, Row, RowAttempt, UsageFilter};

/// Which rows.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::admin) struct RowsQuery {
    /// The one request of this id.
    request_id: Option<String>,
    /// Of this key, by id or name.
    key: Option<String>,
    /// Of this account, by id or name.
    account: Option<String>,
    /// Of this model, as asked for.
    model: Option<String>,
    /// Of this group.
    group: Option<String>,
    /// From when on: RFC 3339, a date, unix seconds, or a span back from now as `24h` or `7d`.
    #[param(value_type = Option<String>)]
    since: Option<Bound>,
    /// Until when, alike.
    #[param(value_type = Option<String>)]
    until: Option<Bound>,
    /// How many, 1 to 1000; 50 when left out.
    #[param(value_type = Option<u32>)]
    limit: Option<FromText<u32>>,
    /// The cursor that the page before told as `next`.
    #[param(value_type = Option<String>)]
    before: Option<FromText<Id>>,
}

/// One request.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct RowView {
    id: Ident,
    time: Time,
    request_id: String,
    account: Ident,
    key: Ident,
    group: String,
    endpoint: String,
    /// The model that was asked for.
    model: String,
    /// The model that answered.
    served: Option<String>,
    attempts: Vec<AttemptView>,
    status: u16,
    /// Why it was refused or failed.
    reason: Option<String>,
    streamed: bool,
    prompt_tokens: u64,
    cached_tokens: u64,
    cache_write_tokens: u64,
    completion_tokens: u64,
    reasoning_tokens: u64,
    audio_input_tokens: u64,
    audio_output_tokens: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// Milliseconds to the first byte of the answer.
    first_ms: Option<u64>,
    /// Milliseconds in all.
    total_ms: u64,
    /// The price it was charged by.
    #[schema(value_type = Option<Object>)]
    price: Option<Value>,
    charge: Usd,
    charge_credits: i64,
    /// What it cost beyond what could be taken.
    written_off: Usd,
    written_off_credits: i64,
    /// The cap on the answer that the client asked for, in tokens.
    cap_asked: Option<u64>,
    /// The cap that was sent.
    cap_applied: Option<u64>,
    estimated: bool,
    disconnected: bool,
    cut_short: bool,
    from_cache: bool,
    #[schema(value_type = Option<String>)]
    ip: Option<IpAddr>,
    tag: Option<String>,
    user: Option<String>,
    /// The backend's own id of the request.
    backend_request_id: Option<String>,
}

/// One attempt on a backend.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct AttemptView {
    backend: String,
    /// Null: it did not answer.
    status: Option<u16>,
    /// Milliseconds until its head, or its failure.
    ms: u64,
}

/// Lists requests, newest first.
#[utoipa::path(get, path = "/admin/v1/usage/rows", tag = "usage", operation_id = "list_usage_rows", params(RowsQuery),
    responses((status = 200, body = List<RowView>), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn rows(
    State(api): State<Api>,
    Query(query, mut problems): Query<RowsQuery>,
) -> Result<Answer<List<RowView>>> {
    let asked = page(query.limit, query.before, &mut problems);
    let of = Of {
        key: query.key,
        account: query.account,
        model: query.model,
        group: query.group,
        since: query.since,
        until: query.until,
    };
    let filter = UsageFilter {
        request_id: query.request_id,
        ..of.filter(&api, &mut problems).await?
    };
    let found = api.store().rows(&filter, asked.of_store()).await?;
    ok(asked.list(found, |row| row.id, |row| RowView::new(&api, row)))
}

impl RowView {
    fn new(api: &Api, row: Row) -> Self {
        let price = row
            .price
            .map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
        Self {
            id: Ident(row.id),
            time: Time(row.time),
            request_id: row.request_id,
            account: Ident(row.account),
            key: Ident(row.key),
            group: row.group,
            endpoint: row.endpoint,
            model: row.model,
            served: row.served,
            attempts: row.attempts.into_iter().map(AttemptView::new).collect(),
            status: row.status,
            reason: row.reason,
            streamed: row.streamed,
            prompt_tokens: row.tokens.prompt,
            cached_tokens: row.tokens.cached,
            cache_write_tokens: row.tokens.cache_write,
            completion_tokens: row.tokens.completion,
            reasoning_tokens: row.tokens.reasoning,
            audio_input_tokens: row.tokens.audio_input,
            audio_output_tokens: row.tokens.audio_output,
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
            first_ms: row.first_ms,
            total_ms: row.total_ms,
            price,
            charge: Usd(row.charge),
            charge_credits: api.whole(row.charge),
            written_off: Usd(row.written_off),
            written_off_credits: api.whole(row.written_off),
            cap_asked: row.cap_asked,
            cap_applied: row.cap_applied,
            estimated: row.estimated,
            disconnected: row.disconnected,
            cut_short: row.cut_short,
            from_cache: row.from_cache,
            ip: row.ip,
            tag: row.tag,
            user: row.user,
            backend_request_id: row.backend_request_id,
        }
    }
}

impl AttemptView {
    fn new(attempt: RowAttempt) -> Self {
        Self {
            backend: attempt.backend,
            status: attempt.status,
            ms: attempt.ms,
        }
    }
}
