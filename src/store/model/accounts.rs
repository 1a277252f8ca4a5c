//! Accounts.

use serde::{Deserialize, Serialize};

use super::Millis;
use crate::money::Nanos;
use crate::store::Id;

/// An account as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: Id,
    /// Its unique name.
    pub name: String,
    /// How it pays.
    pub billing: Billing,
    /// Whether its keys are refused.
    pub disabled: bool,
    /// The groups that its keys may use; absent: all.
    pub groups: Option<Vec<String>>,
    /// What it has: negative, what it owes.
    pub balance: Nanos,
    /// All that was ever charged.
    pub used: Nanos,
    /// When it was made.
    pub created: Millis,
    /// Grows with each change but those of `balance` and `used` by charges.
    pub revision: i64,
}

/// How an account pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Billing {
    /// It spends what it has.
    Prepaid,
    /// It may owe.
    Postpaid {
        /// So much; absent: without limit.
        credit_limit: Option<Nanos>,
    },
}

/// What makes an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccount {
    /// Its unique name.
    pub name: String,
    /// How it pays.
    pub billing: Billing,
    /// The groups that its keys may use; absent: all.
    pub groups: Option<Vec<String>>,
}

/// What to change of an account; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountEdit {
    /// A new unique name.
    pub name: Option<String>,
    /// How it pays. Refused where it would leave less than is already spent or reserved.
    pub billing: Option<Billing>,
    /// Whether its keys are refused.
    pub disabled: Option<bool>,
    /// The groups that its keys may use; `Some(None)`: all.
    pub groups: Option<Option<Vec<String>>>,
}
