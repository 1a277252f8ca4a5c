//! `/keys`: who may call what, how often, and for how much. A key's state is in `life`, its text in `renew`.

pub(super) mod life;
pub(super) mod renew;
mod terms;
mod view;

use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

pub(super) use self::terms::Ips;
use self::terms::{Edits, Judge};
pub(super) use self::view::{KeyView, Names, NewKeyView, spent_at};
use super::Api;
use super::auth::Actor;
use super::failure::{Answer, ErrorBody, Failure, Result, created, ok};
use super::list::{FromText, List, page};
use super::read::{Body, Named, Problems, Query, or_null};
use super::secret::{Clear, SHOWN, key_hash};
use super::setup::Setup;
use super::times::Expires;
use super::values::Sha;
use crate::money::Nanos;
use crate::store::{Account, Id, Key, KeyChange, KeyTerms, NewKey, Owner, Period};

/// What makes a key. With `sha256` it is one that was made elsewhere.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateKey {
    /// Its account's id or name.
    #[schema(required)]
    account: Option<String>,
    /// Unique in its account; 1 to 128 characters.
    #[schema(required)]
    name: Option<String>,
    /// `default` when left out.
    group: Option<String>,
    /// Names or globs of models; null, what its group may.
    models: Option<Vec<String>>,
    /// Addresses and networks it may come from; empty, any.
    #[schema(value_type = Option<Vec<String>>)]
    ips: Option<Ips>,
    /// Requests a minute.
    rpm: Option<u64>,
    /// Tokens a minute.
    tpm: Option<u64>,
    /// Requests at once.
    concurrency: Option<u64>,
    /// What it may spend, in credits; null, what its account has.
    quota: Option<u64>,
    /// How often the quota starts anew; null, never.
    #[schema(value_type = Option<String>, example = "month")]
    period: Option<Period>,
    expires: Option<Expires>,
    /// Import: SHA-256 of the whole key as its holder sends it.
    sha256: Option<Sha>,
    /// Import: its first characters, at most 4, for display.
    prefix: Option<String>,
    /// Import: its last four characters, for display.
    last4: Option<String>,
}

/// What to change of a key; what is left out stays, null clears.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "absent, null and a value")]
pub(super) struct EditKey {
    name: Option<String>,
    group: Option<String>,
    #[serde(default, deserialize_with = "or_null")]
    #[schema(value_type = Option<Vec<String>>)]
    models: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "or_null")]
    #[schema(value_type = Option<Vec<String>>)]
    ips: Option<Option<Ips>>,
    #[serde(default, deserialize_with = "or_null")]
    #[schema(value_type = Option<u64>)]
    rpm: Option<Option<u64>>,
    #[serde(default, deserialize_with = "or_null")]
    #[schema(value_type = Option<u64>)]
    tpm: Option<Option<u64>>,
    #[serde(default, deserialize_with = "or_null")]
    #[schema(value_type = Option<u64>)]
    concurrency: Option<Option<u64>>,
    /// In credits.
    #[serde(default, deserialize_with = "or_null")]
    #[schema(value_type = Option<u64>)]
    quota: Option<Option<u64>>,
    #[serde(default, deserialize_with = "or_null")]
    #[schema(value_type = Option<String>)]
    period: Option<Option<Period>>,
    #[serde(default, deserialize_with = "or_null")]
    #[schema(value_type = Option<Expires>)]
    expires: Option<Option<Expires>>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KeysQuery {
    /// Only those of this account, by id or name.
    account: Option<String>,
    /// How many, 1 to 1000; 50 when left out.
    #[param(value_type = Option<u32>)]
    limit: Option<FromText<u32>>,
    /// The cursor that the page before told as `next`.
    #[param(value_type = Option<String>)]
    before: Option<FromText<Id>>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OneKeyQuery {
    /// The account that a key named by its name is in.
    account: Option<String>,
}

/// Lists keys, newest first.
#[utoipa::path(get, path = "/admin/v1/keys", tag = "keys", operation_id = "list_keys", params(KeysQuery),
    responses((status = 200, body = List<KeyView>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(query, mut problems): Query<KeysQuery>,
) -> Result<Answer<List<KeyView>>> {
    let account = api
        .account_in("account", query.account.as_deref(), &mut problems)
        .await?;
    let asked = page(query.limit, query.before, &mut problems);
    problems.none()?;
    let found = api
        .store()
        .keys(account.map(|account| account.id), asked.of_store())
        .await?;
    let names = Names::of(&api, &found).await?;
    ok(asked.list(found, |key| key.id, |key| KeyView::new(&api, &key, &names)))
}

/// Shows a key.
#[utoipa::path(get, path = "/admin/v1/keys/{id}", tag = "keys", operation_id = "show_key",
    params(("id" = String, Path, description = "Its id, or its name when only one has it"), OneKeyQuery),
    responses((status = 200, body = KeyView), (status = "default", body = ErrorBody)))]
pub(super) async fn show(
    State(api): State<Api>,
    Named(named): Named,
    Query(query, problems): Query<OneKeyQuery>,
) -> Result<Answer<KeyView>> {
    problems.none()?;
    let key = api.key(&named, query.account.as_deref()).await?;
    ok(KeyView::one(&api, &key).await?)
}

/// Makes a key, or imports one. The key itself is shown this once.
#[utoipa::path(post, path = "/admin/v1/keys", tag = "keys", operation_id = "create_key", request_body = CreateKey,
    responses((status = 201, body = NewKeyView), (status = "default", body = ErrorBody)))]
pub(super) async fn create(
    State(api): State<Api>,
    by: Actor,
    Body(mut body, mut problems): Body<CreateKey>,
) -> Result<Answer<NewKeyView>> {
    let named = problems.required("account", body.account.take());
    let account = api.account_in("account", named.as_deref(), &mut problems).await?;
    problems.required("name", body.name.as_ref());
    let imported = imported(&body, &mut problems);
    let setup = api.setup();
    let judge = Judge {
        setup: &setup,
        account: account.as_ref(),
    };
    let terms = judge.terms(nothing_yet(), body.into(), &mut problems);
    let account = problems.or(account)?;
    let text = match imported {
        Some(text) => text,
        None => Text::made(&setup)?,
    };
    let imports = text.clear.is_none();

    let new = NewKey {
        account: account.id,
        terms,
        hash: text.hash,
        prefix: text.prefix,
        last4: text.last4,
        sealed: text.sealed,
    };
    let key = api.store().create_key(new).await?;
    api.live().changed(&[], std::slice::from_ref(&key)).await;
    let view = KeyView::new(&api, &key, &Names::one(&account));
    let action = if imports { "key.import" } else { "key.create" };
    api.record(&by, action, Some(key.id), [None, Some(&view)]).await;
    created(NewKeyView::new(view, text.clear))
}

/// Changes a key's terms.
#[utoipa::path(patch, path = "/admin/v1/keys/{id}", tag = "keys", operation_id = "edit_key",
    params(("id" = String, Path, description = "Its id, or its name when only one has it"), OneKeyQuery),
    request_body = EditKey,
    responses((status = 200, body = KeyView), (status = "default", body = ErrorBody)))]
pub(super) async fn edit(
    State(api): State<Api>,
    by: Actor,
    Named(named): Named,
    Query(query, query_problems): Query<OneKeyQuery>,
    Body(body, mut problems): Body<EditKey>,
) -> Result<Answer<KeyView>> {
    query_problems.none()?;
    let before = api.key(&named, query.account.as_deref()).await?;
    let account = api.store().account(before.account).await?;
    let setup = api.setup();
    let judge = Judge {
        setup: &setup,
        account: Some(&account),
    };
    let terms = judge.terms(before.terms.clone(), body.into(), &mut problems);
    problems.none()?;
    let lowers = is_lower(terms.quota, before.terms.quota);
    let change = KeyChange::Terms {
        terms: Box::new(terms),
        revision: before.revision,
    };
    let store = api.store();
    let act = || store.change_key(before.id, change.clone());
    let after = if lowers {
        api.after_recall(account.id, Owner::Key(before.id), act).await?
    } else {
        act().await?
    };
    changed(&api, &by, "key.edit", [&before, &after], &account).await
}

/// Makes a change count, writes it down, and shows it.
async fn changed(
    api: &Api,
    by: &Actor,
    action: &'static str,
    [before, after]: [&Key; 2],
    account: &Account,
) -> Result<Answer<KeyView>> {
    api.live().changed(&[], std::slice::from_ref(after)).await;
    let names = Names::one(account);
    let views = [before, after].map(|key| KeyView::new(api, key, &names));
    api.record(by, action, Some(after.id), [Some(&views[0]), Some(&views[1])])
        .await;
    let [_, view] = views;
    ok(view)
}

fn is_lower(after: Option<Nanos>, before: Option<Nanos>) -> bool {
    match (after, before) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(after), Some(before)) => after < before,
    }
}

/// The terms that a key has of whom nothing was said.
fn nothing_yet() -> KeyTerms {
    KeyTerms {
        name: String::new(),
        group: "default".to_owned(),
        models: None,
        ips: Vec::new(),
        rpm: None,
        tpm: None,
        concurrency: None,
        quota: None,
        period: None,
        expires: None,
    }
}

// === the key itself ===

/// What is kept of a key's text, and the text where it was made here.
pub(super) struct Text {
    clear: Option<Clear>,
    hash: [u8; 32],
    prefix: String,
    last4: String,
    sealed: Option<Vec<u8>>,
}

impl Text {
    /// A new key.
    fn made(setup: &Setup) -> Result<Self> {
        let clear = Clear::key().map_err(|_| no_random())?;
        let hash = key_hash(clear.expose());
        let sealed = match &setup.sealer {
            None => None,
            Some(sealer) => Some(sealer.seal(clear.expose(), &hash).map_err(|_| no_random())?),
        };
        let (prefix, last4) = (clear.first(), clear.last());
        Ok(Self {
            clear: Some(clear),
            hash,
            prefix,
            last4,
            sealed,
        })
    }
}

fn no_random() -> Failure {
    tracing::error!("the system gives no random bytes");
    Failure::internal()
}

/// The key that was made elsewhere, when it is one.
fn imported(body: &CreateKey, problems: &mut Problems) -> Option<Text> {
    let mut shown = |field: &str, text: Option<&String>, fits: fn(usize) -> bool| {
        let text = text?;
        if !text.bytes().all(|b| b.is_ascii_graphic()) || !fits(text.len()) {
            problems.add(
                field,
                "write 4 characters of the key (of its prefix, up to 4), or leave it out",
            );
        }
        if body.sha256.is_none() {
            problems.add(field, "is of an imported key: give its sha256");
        }
        Some(text.clone())
    };
    let prefix = shown("prefix", body.prefix.as_ref(), |length| length <= SHOWN);
    let last4 = shown("last4", body.last4.as_ref(), |length| length == SHOWN);
    Some(Text {
        clear: None,
        hash: body.sha256?.0,
        prefix: prefix.unwrap_or_default(),
        last4: last4.unwrap_or_default(),
        sealed: None,
    })
}

impl From<CreateKey> for Edits {
    fn from(body: CreateKey) -> Self {
        Self {
            name: body.name,
            group: body.group,
            models: Some(body.models),
            ips: Some(body.ips),
            rpm: Some(body.rpm),
            tpm: Some(body.tpm),
            concurrency: Some(body.concurrency),
            quota: Some(body.quota),
            period: Some(body.period),
            expires: Some(body.expires),
        }
    }
}

impl From<EditKey> for Edits {
    fn from(body: EditKey) -> Self {
        Self {
            name: body.name,
            group: body.group,
            models: body.models,
            ips: body.ips,
            rpm: body.rpm,
            tpm: body.tpm,
            concurrency: body.concurrency,
            quota: body.quota,
            period: body.period,
            expires: body.expires,
        }
    }
}
