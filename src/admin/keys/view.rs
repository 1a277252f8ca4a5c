//! A key as it is shown: never the key itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::Api;
use crate::admin::failure::Result;
use crate::admin::secret::{Clear, masked};
use crate::admin::times::Time;
use crate::admin::values::{Ident, Usd};
use crate::money::Nanos;
use crate::store::{Account, Id, Key, KeyStatus, Millis, Period};

/// A key as it stands.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct KeyView {
    id: Ident,
    account: AccountName,
    name: String,
    #[schema(example = "sk-a**********wxyz")]
    masked: String,
    group: String,
    /// Names or globs; null, what its group may.
    models: Option<Vec<String>>,
    /// Networks it may come from; empty, any.
    ips: Vec<String>,
    rpm: Option<u64>,
    tpm: Option<u64>,
    concurrency: Option<u64>,
    /// In credits; null, what its account has.
    quota: Option<i64>,
    #[schema(value_type = Option<String>, example = "month")]
    period: Option<Period>,
    /// In credits: in the running period, or in all.
    spent: i64,
    /// In credits.
    remaining: Option<i64>,
    /// All that was ever charged, in credits.
    used_credits: i64,
    used: Usd,
    /// Null: never.
    expires: Option<Time>,
    status: State,
    created: Time,
    last_used: Option<Time>,
}

/// An account by its names.
#[derive(Clone, Serialize, ToSchema)]
pub(in crate::admin) struct AccountName {
    id: Ident,
    name: String,
}

/// Whether a key may be used, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::admin) enum State {
    Enabled,
    Disabled,
    Expired,
    Exhausted,
    Revoked,
    Deleted,
}

/// A key, and its text this once, when it was made here.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct NewKeyView {
    #[serde(flatten)]
    view: KeyView,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Clear>,
}

/// The names of the accounts of keys.
pub(in crate::admin) struct Names(HashMap<Id, String>);

impl KeyView {
    pub(in crate::admin) fn new(api: &Api, key: &Key, names: &Names) -> Self {
        let now = Millis::now();
        let credits = api.credits();
        let spent = spent_at(key, now);
        let remaining = |quota: Nanos| credits.whole(quota.saturating_sub(spent).max(Nanos::ZERO));
        let terms = key.terms.clone();
        Self {
            id: Ident(key.id),
            account: names.of_account(key.account),
            name: terms.name,
            masked: masked(&key.prefix, &key.last4),
            group: terms.group,
            models: terms.models,
            ips: terms.ips,
            rpm: terms.rpm,
            tpm: terms.tpm,
            concurrency: terms.concurrency,
            quota: terms.quota.map(|quota| credits.whole(quota)),
            period: terms.period,
            spent: credits.whole(spent),
            remaining: terms.quota.map(remaining),
            used_credits: credits.whole(key.used),
            used: Usd(key.used),
            expires: terms.expires.map(Time),
            status: State::of(key, now),
            created: Time(key.created),
            last_used: key.last_used.map(Time),
        }
    }

    /// The view of one key, whose account is not at hand.
    pub(in crate::admin) async fn one(api: &Api, key: &Key) -> Result<Self> {
        let names = Names::of(api, std::slice::from_ref(key)).await?;
        Ok(Self::new(api, key, &names))
    }
}

/// What counts against a key's quota now: nothing of a period that has passed.
pub(in crate::admin) fn spent_at(key: &Key, now: Millis) -> Nanos {
    match (key.terms.period, key.period_start) {
        (Some(period), Some(start)) if period.start(now) > start => Nanos::ZERO,
        _ => key.spent,
    }
}

impl State {
    fn of(key: &Key, now: Millis) -> Self {
        match key.status {
            KeyStatus::Deleted => Self::Deleted,
            KeyStatus::Revoked => Self::Revoked,
            KeyStatus::Disabled => Self::Disabled,
            KeyStatus::Enabled if key.terms.expires.is_some_and(|end| end <= now) => Self::Expired,
            KeyStatus::Enabled if key.terms.quota.is_some_and(|quota| spent_at(key, now) >= quota) => Self::Exhausted,
            KeyStatus::Enabled => Self::Enabled,
        }
    }
}

impl NewKeyView {
    pub(super) fn new(view: KeyView, key: Option<Clear>) -> Self {
        Self { view, key }
    }
}

impl Names {
    pub(super) fn one(account: &Account) -> Self {
        Self(HashMap::from([(account.id, account.name.clone())]))
    }

    /// Those of all these keys, each account asked for once.
    pub(super) async fn of(api: &Api, keys: &[Key]) -> Result<Self> {
        let mut names = HashMap::new();
        for key in keys {
            if let Entry::Vacant(place) = names.entry(key.account) {
                place.insert(api.store().account(key.account).await?.name);
            }
        }
        Ok(Self(names))
    }

    fn of_account(&self, id: Id) -> AccountName {
        AccountName {
            id: Ident(id),
            name: self.0.get(&id).cloned().unwrap_or_default(),
        }
    }
}
