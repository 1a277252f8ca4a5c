//! `/codes`: batches of redemption codes. A code in clear is in the answer that made it, and nowhere else.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Actor;
use super::failure::{Answer, ErrorBody, Failure, Result, created, ok};
use super::list::{FromText, List, page};
use super::read::{Body, Named, Query};
use super::secret::{Clear, code_hash};
use super::times::{Expires, Time};
use super::values::{Ident, Usd, text};
use crate::store::{Code, Id, Millis, NewCodes};

/// A batch has at most so many codes.
const MOST: u32 = 1_000;

/// What makes a batch.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateCodes {
    /// 1 to 1000.
    #[schema(required)]
    count: Option<u32>,
    /// What each is worth; above 0.
    #[schema(required)]
    amount: Option<Usd>,
    expires: Option<Expires>,
    note: Option<String>,
}

/// A batch that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct Batch {
    batch: Ident,
    codes: Vec<NewCode>,
}

/// A code in clear, this once.
#[derive(Serialize, ToSchema)]
pub(super) struct NewCode {
    id: Ident,
    #[schema(example = "1A2B-3C4D-5E6F-7G8H-9J0K-1M2N")]
    code: Clear,
}

/// A batch as it is written down.
#[derive(Serialize)]
struct BatchRecord {
    batch: Ident,
    count: usize,
    amount: Usd,
    expires: Option<Time>,
    note: Option<String>,
}

/// A code: never the code itself.
#[derive(Serialize, ToSchema)]
pub(super) struct CodeView {
    id: Ident,
    batch: Ident,
    /// Its first characters.
    prefix: String,
    amount: Usd,
    amount_credits: i64,
    /// Null: never.
    expires: Option<Time>,
    note: Option<String>,
    status: CodeStatus,
    redeemed: Option<RedeemedView>,
    created: Time,
}

/// Whether a code may still be redeemed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CodeStatus {
    Open,
    Redeemed,
    Revoked,
    Expired,
}

/// Who redeemed a code, and when.
#[derive(Serialize, ToSchema)]
pub(super) struct RedeemedView {
    account: Ident,
    time: Time,
}

/// How many codes were revoked: those of them that had not been redeemed.
#[derive(Serialize, ToSchema)]
pub(super) struct Revoked {
    revoked: u64,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CodesQuery {
    /// Only those of this batch.
    #[param(value_type = Option<String>)]
    batch: Option<FromText<Id>>,
    /// How many, 1 to 1000; 50 when left out.
    #[param(value_type = Option<u32>)]
    limit: Option<FromText<u32>>,
    /// The cursor that the page before told as `next`.
    #[param(value_type = Option<String>)]
    before: Option<FromText<Id>>,
}

/// Lists codes, newest first.
#[utoipa::path(get, path = "/admin/v1/codes", tag = "codes", operation_id = "list_codes", params(CodesQuery),
    responses((status = 200, body = List<CodeView>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(query, mut problems): Query<CodesQuery>,
) -> Result<Answer<List<CodeView>>> {
    let asked = page(query.limit, query.before, &mut problems);
    problems.none()?;
    let found = api.store().codes(query.batch.map(|id| id.0), asked.of_store()).await?;
    let now = Millis::now();
    ok(asked.list(found, |code| code.id, |code| CodeView::new(&api, code, now)))
}

/// Makes a batch of codes. They are shown this once.
#[utoipa::path(post, path = "/admin/v1/codes", tag = "codes", operation_id = "create_codes", request_body = CreateCodes,
    responses((status = 201, body = Batch), (status = "default", body = ErrorBody)))]
pub(super) async fn create(
    State(api): State<Api>,
    by: Actor,
    Body(body, mut problems): Body<CreateCodes>,
) -> Result<Answer<Batch>> {
    let count = problems.required("count", body.count);
    if count.is_some_and(|count| !(1..=MOST).contains(&count)) {
        problems.add("count", "write 1 to 1000");
    }
    let amount = problems.required("amount", body.amount);
    let amount = amount.and_then(|amount| problems.take("amount", amount.positive()));
    let note = body.note.and_then(|note| problems.take("note", text(note)));
    let (count, amount) = problems.or(count.zip(amount))?;
    let expires = body.expires.and_then(|expires| expires.0);

    let clear: std::result::Result<Vec<_>, _> = (0..count).map(|_| Clear::code()).collect();
    let clear = clear.map_err(|_| Failure::internal())?;
    let new = NewCodes {
        codes: clear
            .iter()
            .map(|code| (code_hash(code.expose()), code.first()))
            .collect(),
        amount,
        expires,
        note: note.clone(),
    };
    let made = api.store().create_codes(new).await?;
    let batch = Ident(made.first().ok_or_else(Failure::internal)?.batch);
    let record = BatchRecord {
        batch,
        count: made.len(),
        amount: Usd(amount),
        expires: expires.map(Time),
        note,
    };
    api.record(&by, "code.create", Some(batch.0), [None, Some(&record)])
        .await;
    let codes = made.into_iter().zip(clear).map(|(made, code)| NewCode {
        id: Ident(made.id),
        code,
    });
    created(Batch {
        batch,
        codes: codes.collect(),
    })
}

/// Revokes a code, or what is left of a batch.
#[utoipa::path(post, path = "/admin/v1/codes/{id}/revoke", tag = "codes", operation_id = "revoke_codes",
    params(("id" = String, Path, description = "The id of a code or of a batch")),
    responses((status = 200, body = Revoked), (status = "default", body = ErrorBody)))]
pub(super) async fn revoke(State(api): State<Api>, by: Actor, Named(id): Named) -> Result<Answer<Revoked>> {
    let id: Id = id.parse().map_err(|_| Failure::not_found("code or batch"))?;
    let revoked = Revoked {
        revoked: api.store().revoke_codes(id).await?,
    };
    api.record(&by, "code.revoke", Some(id), [None, Some(&revoked)]).await;
    ok(revoked)
}

impl CodeView {
    fn new(api: &Api, code: Code, now: Millis) -> Self {
        let status = if code.redeemed.is_some() {
            CodeStatus::Redeemed
        } else if code.revoked {
            CodeStatus::Revoked
        } else if code.expires.is_some_and(|end| end <= now) {
            CodeStatus::Expired
        } else {
            CodeStatus::Open
        };
        Self {
            id: Ident(code.id),
            batch: Ident(code.batch),
            prefix: code.prefix,
            amount: Usd(code.amount),
            amount_credits: api.whole(code.amount),
            expires: code.expires.map(Time),
            note: code.note,
            status,
            redeemed: code.redeemed.map(|redeemed| RedeemedView {
                account: Ident(redeemed.account),
                time: Time(redeemed.time),
            }),
            created: Time(code.created),
        }
    }
}
