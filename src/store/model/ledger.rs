//! What the ledger keeps, and what processes hold.

use serde::{Deserialize, Serialize};

use super::{Account, Day, Key, Millis, Owner};
use crate::money::Nanos;
use crate::store::Id;

/// One change of a balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id.
    pub id: Id,
    /// Whose balance.
    pub account: Id,
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
    /// What it adds: negative, what it takes.
    pub amount: Nanos,
    /// When.
    pub time: Millis,
    /// Who made it: a token's name, `ledger`, or a key's id for a redemption.
    pub by: String,
    /// What someone wrote to it.
    pub note: Option<String>,
}

/// Why a balance changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EntryKind {
    /// Money came in.
    Topup {
        /// By which channel.
        source: String,
        /// The channel's own unique name of the payment.
        external_ref: Option<String>,
    },
    /// What the bonus table adds to a top-up.
    Bonus {
        /// The top-up's entry.
        topup: Id,
    },
    /// Promotional credit.
    Promotion,
    /// A code was redeemed.
    Redemption {
        /// The code's id.
        code: Id,
    },
    /// All charges of one key on one closed day.
    Charges {
        /// The key.
        key: Id,
        /// The day.
        day: Day,
        /// How many.
        count: u64,
    },
    /// Someone set it right; the note says why.
    Adjustment,
}

/// Money that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topup {
    /// Whose.
    pub account: Id,
    /// How much, above zero.
    pub amount: Nanos,
    /// What the bonus table adds.
    pub bonus: Nanos,
    /// By which channel; `promotion` makes it promotional credit.
    pub source: String,
    /// The channel's unique name of the payment: a second one of the same name and amount changes nothing and tells the
    /// first one's entries; with another amount or account it is a conflict.
    pub external_ref: Option<String>,
    /// The caller's own key of this request, alike.
    pub idempotency_key: Option<String>,
    /// What someone wrote to it.
    pub note: Option<String>,
    /// Who.
    pub by: String,
}

/// What a process was given of an owner's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// So much, now added to what it had.
    pub amount: Nanos,
    /// All that the process holds of this owner.
    pub held: Nanos,
    /// Whether another process holds some that could be asked for.
    pub others_hold: bool,
    /// For a key's quota with a period: when the period began that the amount belongs to.
    pub period_start: Option<Millis>,
}

/// What another process would like to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Of whose money.
    pub owner: Owner,
    /// So much.
    pub amount: Nanos,
}

/// A process that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub id: Id,
    /// What sets its ids apart from those of others.
    pub node: u8,
}

/// A process's place among those that serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// How many serve, this one included.
    pub of: u32,
    /// How many of them were registered before this one.
    pub rank: u32,
}

/// What has changed since a process last looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// The revision of the newest change of an account or key.
    pub revision: i64,
    /// What others ask for of what this process holds.
    pub asks: Vec<Ask>,
    /// Whether the process is still registered: no, when its lease ended and another has taken what it held.
    pub registered: bool,
    /// Its place among those that serve, if it does.
    pub position: Option<Position>,
}

/// Accounts and keys that changed.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The accounts as they now are.
    pub accounts: Vec<Account>,
    /// The keys as they now are, deleted ones too.
    pub keys: Vec<Key>,
    /// Up to which revision.
    pub revision: i64,
}

/// What became of an account's sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The balance that the account shows.
    pub balance: Nanos,
    /// The sum of its entries, and of the charges of days still open: as they are summed by key and day, and for a full
    /// proof as the rows have them. Where these two differ, the one that is not the balance.
    pub sum: Nanos,
    /// From which close it was summed; absent: from the first entry.
    pub since: Option<Day>,
    /// How many entries and open charges were summed.
    pub entries: u64,
    /// What its processes hold of it.
    pub allotted: Nanos,
}
