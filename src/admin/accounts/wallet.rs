//! An account's money: what comes in, what is set right, and the entries that prove it.

use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AccountView;
use super::entry::EntryView;
use crate::admin::Api;
use crate::admin::auth::Actor;
use crate::admin::failure::{Answer, ErrorBody, Failure, Result, ok};
use crate::admin::list::{FromText, List, PageQuery};
use crate::admin::read::{Body, Named, Problems, Query};
use crate::admin::secret::code_hash;
use crate::admin::setup::Setup;
use crate::admin::times::shown_day;
use crate::admin::values::{Usd, name, text};
use crate::money::Nanos;
use crate::store::{Account, Entry, Id, Millis, Owner, Topup};

/// The source of promotional credit.
const PROMOTION: &str = "promotion";
/// The source of money when nobody says.
const MANUAL: &str = "manual";
/// The longest `Idempotency-Key`, in bytes.
const MOST_KEY: usize = 255;

/// Money that comes in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct TopupBody {
    /// Above 0.
    #[schema(required)]
    amount: Option<Usd>,
    /// The channel; `manual` when left out.
    source: Option<String>,
    /// The channel's own unique name of the payment: told twice, it counts once.
    external_ref: Option<String>,
    note: Option<String>,
    /// Promotional credit: its source is `promotion`, and it has no bonus.
    promotional: Option<bool>,
}

/// Sets a balance right.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct AdjustBody {
    /// Below 0 it takes from what is free; more than that is refused.
    #[schema(required)]
    amount: Option<Usd>,
    #[schema(required)]
    reason: Option<String>,
}

/// Redeems a code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct RedeemBody {
    #[schema(required)]
    code: Option<String>,
}

/// An account after money came in, and what was written down.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct ToppedUp {
    account: AccountView,
    entries: Vec<EntryView>,
}

/// An account after one entry.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Entered {
    account: AccountView,
    entry: EntryView,
}

/// What became of an account's sum.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct VerifiedView {
    /// Whether balance = sum.
    ok: bool,
    balance: Usd,
    balance_credits: i64,
    /// The sum of its entries, and of the charges of days still open.
    sum: Usd,
    sum_credits: i64,
    /// The last closed day, from whose end it was summed; null, from the first entry.
    since: Option<String>,
    /// How many entries and open charges were summed.
    entries: u64,
    /// What processes hold of it.
    allotted: Usd,
    allotted_credits: i64,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::admin) struct VerifyQuery {
    /// From the first entry, not from the last close.
    #[param(value_type = Option<bool>)]
    full: Option<FromText<bool>>,
}

/// Adds money, and its bonus.
#[utoipa::path(post, path = "/admin/v1/accounts/{id}/topup", tag = "accounts", operation_id = "topup_account",
    params(("id" = String, Path, description = "Its id or name"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and amount again change nothing")),
    request_body = TopupBody,
    responses((status = 200, body = ToppedUp), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn topup(
    State(api): State<Api>,
    by: Actor,
    Named(named): Named,
    headers: HeaderMap,
    Body(body, mut problems): Body<TopupBody>,
) -> Result<Answer<ToppedUp>> {
    let account = api.account(&named).await?;
    let idempotency_key = idempotency_key(&headers, &mut problems);
    let incoming = incoming(&api.setup(), body, &mut problems);
    let mut incoming = problems.or(incoming)?;
    incoming.idempotency_key = idempotency_key;
    let entries = receive(&api, &by, account.id, incoming).await?;
    let account = changed(&api, account.id).await?;
    ok(ToppedUp {
        account: AccountView::new(&api, &account),
        entries,
    })
}

/// Sets the balance right.
#[utoipa::path(post, path = "/admin/v1/accounts/{id}/adjust", tag = "accounts", operation_id = "adjust_account",
    params(("id" = String, Path, description = "Its id or name")), request_body = AdjustBody,
    responses((status = 200, body = Entered), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn adjust(
    State(api): State<Api>,
    by: Actor,
    Named(named): Named,
    Body(body, mut problems): Body<AdjustBody>,
) -> Result<Answer<Entered>> {
    let id = api.account(&named).await?.id;
    let amount = problems.required("amount", body.amount).map(|amount| amount.0);
    if amount == Some(Nanos::ZERO) {
        problems.add("amount", "must not be 0");
    }
    let reason = problems
        .required("reason", body.reason)
        .and_then(|reason| problems.take("reason", text(reason)));
    let (amount, reason) = problems.or(amount.zip(reason))?;
    let store = api.store();
    let act = || store.adjust(id, amount, reason.clone(), by.name().to_owned());
    let entry = if amount.is_negative() {
        api.after_recall(id, Owner::Account(id), act).await?
    } else {
        act().await?
    };
    entered(&api, &by, "account.adjust", entry).await
}

/// Redeems a code for the account.
#[utoipa::path(post, path = "/admin/v1/accounts/{id}/redeem", tag = "accounts", operation_id = "redeem_code",
    params(("id" = String, Path, description = "Its id or name")), request_body = RedeemBody,
    responses((status = 200, body = Entered), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn redeem(
    State(api): State<Api>,
    by: Actor,
    Named(named): Named,
    Body(body, mut problems): Body<RedeemBody>,
) -> Result<Answer<Entered>> {
    let id = api.account(&named).await?.id;
    let code = problems.required("code", body.code);
    let hash = code_hash(&problems.or(code)?);
    let entry = api
        .store()
        .redeem(hash, id, by.name().to_owned(), Millis::now())
        .await?;
    entered(&api, &by, "account.redeem", entry).await
}

/// Lists what changed the balance, newest first.
#[utoipa::path(get, path = "/admin/v1/accounts/{id}/entries", tag = "accounts", operation_id = "list_entries",
    params(("id" = String, Path, description = "Its id or name"), PageQuery),
    responses((status = 200, body = List<EntryView>), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn entries(
    State(api): State<Api>,
    Named(named): Named,
    Query(query, mut problems): Query<PageQuery>,
) -> Result<Answer<List<EntryView>>> {
    let asked = query.page(&mut problems);
    problems.none()?;
    let id = api.account(&named).await?.id;
    let found = api.store().entries(id, asked.of_store()).await?;
    ok(asked.list(found, |entry| entry.id, |entry| EntryView::new(&api, entry)))
}

/// Proves that the balance is the sum of the entries.
#[utoipa::path(get, path = "/admin/v1/accounts/{id}/verify", tag = "accounts", operation_id = "verify_account",
    params(("id" = String, Path, description = "Its id or name"), VerifyQuery),
    responses((status = 200, body = VerifiedView), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn verify(
    State(api): State<Api>,
    Named(named): Named,
    Query(query, problems): Query<VerifyQuery>,
) -> Result<Answer<VerifiedView>> {
    problems.none()?;
    let id = api.account(&named).await?.id;
    let verified = api.store().verify(id, query.full.is_some_and(|full| full.0)).await?;
    ok(VerifiedView {
        ok: verified.balance == verified.sum,
        balance: Usd(verified.balance),
        balance_credits: api.whole(verified.balance),
        sum: Usd(verified.sum),
        sum_credits: api.whole(verified.sum),
        since: verified.since.map(shown_day),
        entries: verified.entries,
        allotted: Usd(verified.allotted),
        allotted_credits: api.whole(verified.allotted),
    })
}

// === money that comes in ===

/// Money on its way to an account.
pub(super) struct Incoming {
    amount: Nanos,
    bonus: Nanos,
    source: String,
    external_ref: Option<String>,
    note: Option<String>,
    idempotency_key: Option<String>,
}

impl Incoming {
    /// This much by hand, with its bonus.
    pub(super) fn new(setup: &Setup, amount: Nanos) -> std::result::Result<Self, &'static str> {
        let bonus = match setup.bonuses.bonus_for(amount) {
            None => Nanos::ZERO,
            Some(step) => step.of(amount).ok_or("its bonus is larger than what can be held")?,
        };
        Ok(Self {
            amount,
            bonus,
            source: MANUAL.to_owned(),
            external_ref: None,
            note: None,
            idempotency_key: None,
        })
    }
}

/// Adds money to an account, and writes down who did.
pub(super) async fn receive(api: &Api, by: &Actor, account: Id, incoming: Incoming) -> Result<Vec<EntryView>> {
    let topup = Topup {
        account,
        amount: incoming.amount,
        bonus: incoming.bonus,
        source: incoming.source,
        external_ref: incoming.external_ref,
        idempotency_key: incoming.idempotency_key,
        note: incoming.note,
        by: by.name().to_owned(),
    };
    let entries = api.store().topup(topup).await?;
    let entries = entries.into_iter().map(|entry| EntryView::new(api, entry)).collect();
    api.record(by, "account.topup", Some(account), [None, Some(&entries)])
        .await;
    Ok(entries)
}

fn incoming(setup: &Setup, body: TopupBody, problems: &mut Problems) -> Option<Incoming> {
    let amount = problems
        .required("amount", body.amount)
        .and_then(|amount| problems.take("amount", amount.positive()));
    let source = body.source.and_then(|source| problems.take("source", name(source)));
    let external_ref = body
        .external_ref
        .and_then(|name| problems.take("external_ref", text(name)));
    let note = body.note.and_then(|note| problems.take("note", text(note)));
    let promotional = body.promotional == Some(true);
    if promotional && source.as_deref().is_some_and(|source| source != PROMOTION) {
        problems.add("source", "promotional credit has the source `promotion`: leave it out");
    }
    let promotional = promotional || source.as_deref() == Some(PROMOTION);
    let mut incoming = problems.take("amount", Incoming::new(setup, amount?))?;
    if promotional {
        incoming.bonus = Nanos::ZERO;
        PROMOTION.clone_into(&mut incoming.source);
    } else if let Some(source) = source {
        incoming.source = source;
    }
    Some(Incoming {
        external_ref,
        note,
        ..incoming
    })
}

fn idempotency_key(headers: &HeaderMap, problems: &mut Problems) -> Option<String> {
    let value = headers.get("idempotency-key")?;
    let key = value.to_str().ok().filter(|key| (1..=MOST_KEY).contains(&key.len()));
    if key.is_none() {
        problems.add("Idempotency-Key", "write 1 to 255 printable ASCII characters");
    }
    key.map(str::to_owned)
}

// === after a change ===

/// The account as it now is, which also the requests that are served are told of.
async fn changed(api: &Api, id: Id) -> Result<Account> {
    let account = api.store().account(id).await?;
    api.live().changed(std::slice::from_ref(&account), &[]).await;
    Ok(account)
}

async fn entered(api: &Api, by: &Actor, action: &'static str, entry: Entry) -> Result<Answer<Entered>> {
    let account = entry.account;
    let entry = EntryView::new(api, entry);
    api.record(by, action, Some(account), [None, Some(&entry)]).await;
    let account = changed(api, account).await.map_err(after_the_fact)?;
    ok(Entered {
        account: AccountView::new(api, &account),
        entry,
    })
}

/// The change is made, and cannot be shown: nothing in this answer may read as if it had not been.
fn after_the_fact(failure: Failure) -> Failure {
    failure.saying("The change is made, but the account cannot be shown now.")
}
