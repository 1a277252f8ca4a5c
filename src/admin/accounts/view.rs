//! An account as it is shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::Api;
use crate::admin::times::Time;
use crate::admin::values::{Ident, Usd};
use crate::store::{Account, Billing};

/// An account as it stands.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct AccountView {
    id: Ident,
    name: String,
    billing: Billed,
    /// What a postpaid account may owe; null, without limit.
    credit_limit: Option<Usd>,
    disabled: bool,
    /// The groups that its keys may use; null, all.
    groups: Option<Vec<String>>,
    /// What it has; below 0, what it owes.
    balance: Usd,
    balance_credits: i64,
    /// All that was ever charged.
    used: Usd,
    used_credits: i64,
    created: Time,
}

/// How an account pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::admin) enum Billed {
    /// It spends what it has.
    Prepaid,
    /// It may owe.
    Postpaid,
}

impl AccountView {
    pub(in crate::admin) fn new(api: &Api, account: &Account) -> Self {
        let credit_limit = match account.billing {
            Billing::Prepaid => None,
            Billing::Postpaid { credit_limit } => credit_limit,
        };
        Self {
            id: Ident(account.id),
            name: account.name.clone(),
            billing: Billed::of(account.billing),
            credit_limit: credit_limit.map(Usd),
            disabled: account.disabled,
            groups: account.groups.clone(),
            balance: Usd(account.balance),
            balance_credits: api.whole(account.balance),
            used: Usd(account.used),
            used_credits: api.whole(account.used),
            created: Time(account.created),
        }
    }
}

impl Billed {
    pub(super) fn of(billing: Billing) -> Self {
        match billing {
            Billing::Prepaid => Self::Prepaid,
            Billing::Postpaid { .. } => Self::Postpaid,
        }
    }
}
