//! `/accounts`: who pays. Their money is in `wallet`.

mod entry;
mod view;
pub(super) mod wallet;

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

pub(super) use self::view::{AccountView, Billed};
use super::Api;
use super::auth::Actor;
use super::failure::{Answer, ErrorBody, Result, created, ok};
use super::list::{List, PageQuery};
use super::read::{Body, Named, Problems, Query, or_null};
use super::setup::Setup;
use super::values::{Usd, name};
use crate::money::Nanos;
use crate::store::{Account, AccountEdit, Billing, NewAccount, Owner};

/// What makes an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateAccount {
    /// Unique; 1 to 128 characters.
    #[schema(required)]
    name: Option<String>,
    /// `prepaid` when left out.
    billing: Option<Billed>,
    /// What a postpaid account may owe; null or left out, without limit.
    credit_limit: Option<Usd>,
    /// The groups that its keys may use; null or left out, all.
    groups: Option<Vec<String>>,
    /// Money that it begins with, with its bonus.
    topup: Option<Usd>,
}

/// What to change of an account; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "absent, null and a value")]
pub(super) struct EditAccount {
    name: Option<String>,
    billing: Option<Billed>,
    /// Null: without limit.
    #[serde(default, deserialize_with = "or_null")]
    #[schema(value_type = Option<Usd>)]
    credit_limit: Option<Option<Usd>>,
    disabled: Option<bool>,
    /// Null: all.
    #[serde(default, deserialize_with = "or_null")]
    #[schema(value_type = Option<Vec<String>>)]
    groups: Option<Option<Vec<String>>>,
}

/// Lists accounts, newest first.
#[utoipa::path(get, path = "/admin/v1/accounts", tag = "accounts", operation_id = "list_accounts", params(PageQuery),
    responses((status = 200, body = List<AccountView>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(query, mut problems): Query<PageQuery>,
) -> Result<Answer<List<AccountView>>> {
    let asked = query.page(&mut problems);
    problems.none()?;
    let found = api.store().accounts(asked.of_store()).await?;
    ok(asked.list(found, |account| account.id, |account| AccountView::new(&api, &account)))
}

/// Shows an account.
#[utoipa::path(get, path = "/admin/v1/accounts/{id}", tag = "accounts", operation_id = "show_account",
    params(("id" = String, Path, description = "Its id or name")),
    responses((status = 200, body = AccountView), (status = "default", body = ErrorBody)))]
pub(super) async fn show(State(api): State<Api>, Named(named): Named) -> Result<Answer<AccountView>> {
    ok(AccountView::new(&api, &api.account(&named).await?))
}

/// Makes an account.
#[utoipa::path(post, path = "/admin/v1/accounts", tag = "accounts", operation_id = "create_account",
    request_body = CreateAccount,
    responses((status = 201, body = AccountView), (status = "default", body = ErrorBody)))]
pub(super) async fn create(
    State(api): State<Api>,
    by: Actor,
    Body(body, mut problems): Body<CreateAccount>,
) -> Result<Answer<AccountView>> {
    let setup = api.setup();
    let name = problems
        .required("name", body.name)
        .and_then(|text| problems.take("name", name(text)));
    let limit = body.credit_limit.map(Some);
    let billing = billing(Billing::Prepaid, body.billing, limit, &mut problems);
    check_groups(&setup, body.groups.as_deref(), &mut problems);
    let topup = body.topup.and_then(|amount| problems.take("topup", amount.positive()));
    let topup = topup.and_then(|amount| problems.take("topup", wallet::Incoming::new(&setup, amount)));
    let name = problems.or(name)?;

    let new = NewAccount {
        name,
        billing,
        groups: body.groups,
    };
    let mut account = api.store().create_account(new).await?;
    let view = AccountView::new(&api, &account);
    api.record(&by, "account.create", Some(account.id), [None, Some(&view)])
        .await;
    if let Some(incoming) = topup {
        wallet::receive(&api, &by, account.id, incoming).await?;
        account = api.store().account(account.id).await?;
    }
    api.live().changed(std::slice::from_ref(&account), &[]).await;
    created(AccountView::new(&api, &account))
}

/// Changes an account.
#[utoipa::path(patch, path = "/admin/v1/accounts/{id}", tag = "accounts", operation_id = "edit_account",
    params(("id" = String, Path, description = "Its id or name")), request_body = EditAccount,
    responses((status = 200, body = AccountView), (status = "default", body = ErrorBody)))]
pub(super) async fn edit(
    State(api): State<Api>,
    by: Actor,
    Named(named): Named,
    Body(body, mut problems): Body<EditAccount>,
) -> Result<Answer<AccountView>> {
    let before = api.account(&named).await?;
    let change = change(&api.setup(), &before, body, &mut problems);
    problems.none()?;
    let store = api.store();
    let act = || store.edit_account(before.id, change.clone());
    let account = if change.billing.is_some_and(|after| is_lower(after, before.billing)) {
        api.after_recall(before.id, Owner::Account(before.id), act).await?
    } else {
        act().await?
    };
    finish(&api, &by, "account.edit", &before, &account).await
}

/// Makes a change count, and writes it down.
async fn finish(
    api: &Api,
    by: &Actor,
    action: &'static str,
    before: &Account,
    after: &Account,
) -> Result<Answer<AccountView>> {
    api.live().changed(std::slice::from_ref(after), &[]).await;
    let views = [before, after].map(|account| AccountView::new(api, account));
    api.record(by, action, Some(after.id), [Some(&views[0]), Some(&views[1])])
        .await;
    let [_, view] = views;
    ok(view)
}

// === what was typed ===

fn change(setup: &Setup, before: &Account, body: EditAccount, problems: &mut Problems) -> AccountEdit {
    check_groups(setup, body.groups.as_ref().and_then(Option::as_deref), problems);
    let edits_billing = body.billing.is_some() || body.credit_limit.is_some();
    let billing = billing(before.billing, body.billing, body.credit_limit, problems);
    AccountEdit {
        name: body.name.and_then(|text| problems.take("name", name(text))),
        billing: edits_billing.then_some(billing),
        disabled: body.disabled,
        groups: body.groups,
    }
}

/// How an account pays that paid as `before`.
#[expect(clippy::option_option, reason = "absent, null and a value")]
fn billing(before: Billing, kind: Option<Billed>, limit: Option<Option<Usd>>, problems: &mut Problems) -> Billing {
    let old_limit = match before {
        Billing::Prepaid => None,
        Billing::Postpaid { credit_limit } => credit_limit,
    };
    let kind = kind.unwrap_or(Billed::of(before));
    let limit = limit.map(|limit| limit.map(|limit| limit.0));
    match kind {
        Billed::Prepaid => {
            if limit.flatten().is_some() {
                problems.add(
                    "credit_limit",
                    "a prepaid account has none: write \"billing\": \"postpaid\"",
                );
            }
            Billing::Prepaid
        }
        Billed::Postpaid => {
            if limit.flatten().is_some_and(Nanos::is_negative) {
                problems.add("credit_limit", "must not be below 0");
            }
            let credit_limit = limit.unwrap_or(old_limit);
            Billing::Postpaid { credit_limit }
        }
    }
}

/// Whether less can be spent than before.
fn is_lower(after: Billing, before: Billing) -> bool {
    // How far below zero a balance may go; absent, without end.
    let depth = |billing| match billing {
        Billing::Prepaid => Some(Nanos::ZERO),
        Billing::Postpaid { credit_limit } => credit_limit,
    };
    match (depth(after), depth(before)) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(after), Some(before)) => after < before,
    }
}

fn check_groups(setup: &Setup, groups: Option<&[String]>, problems: &mut Problems) {
    for group in groups.into_iter().flatten() {
        if !setup.groups.contains_key(group.as_str()) {
            problems.add("groups", format_args!("the configuration has no group {group:?}"));
        }
    }
}
