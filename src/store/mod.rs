//! What must not be lost: accounts, keys, balances, entries, usage.
//!
//! One trait, [`Store`], and one engine a file: SQLite (embedded, the default) and PostgreSQL. One suite of tests runs
//! against both. Nothing on a request's path calls it: a process serves from what it holds in memory, and the ledger
//! fills the store from its journal.
//!
//! Two rules hold in every engine, whatever dies between two calls:
//!
//! - **balance + credit limit − all allotments ≥ 0** for each account with a ceiling, and likewise quota − spent − its
//!   allotments for a key: what processes may spend is there.
//! - **balance = sum of entries + charges of open days.** A charge is the `charge` of a usage row until its day is
//!   closed, then part of one entry a key and day. The charges of open days are also summed by key and day, as they are
//!   written: a close enters these sums, and the full proof finds where they are not those of the rows.

mod accounts;
mod allotments;
mod audit;
mod bulk;
mod bundle;
mod charges;
mod codes;
mod days;
mod engine;
mod entries;
mod error;
mod failure;
mod filter;
mod id;
mod keys;
mod line;
mod meta;
mod migrate;
mod model;
mod notices;
mod open;
mod postgres;
mod processes;
mod purse;
mod rollups;
mod rows;
mod session;
mod settle;
mod since;
mod sqlite;
mod value;
mod verify;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::error::{Error, Result};
pub use self::id::{Id, Ids, NoId};
pub use self::line::{Draft, Line, Lines};
pub use self::model::*;
pub use self::open::open;
use crate::money::Nanos;

/// A store. Every method is one transaction: it happened or it did not.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    // --- processes and what they may spend ---

    /// A process is there: its id, and a `node` that no other registered process has. It stays registered until
    /// `lease_end`, unless it beats. It does not serve yet.
    async fn register(&self, lease_end: Millis) -> Result<Process>;
    /// The process is alive until then. [`Error::NotFound`]: it is no longer registered.
    async fn beat(&self, process: Id, lease_end: Millis) -> Result<()>;
    /// The process takes requests from now on, or does no longer. [`Error::NotFound`]: it is no longer registered.
    async fn serve(&self, process: Id, serves: bool) -> Result<()>;
    /// What has changed, and what is asked of this process. Cheap: it is called several times a second.
    async fn pulse(&self, process: Id) -> Result<Pulse>;
    /// Ends a process: what it held goes back. Idempotent. Called by itself at its end, and, after its journal was
    /// replayed, by whoever replayed it.
    async fn release(&self, process: Id) -> Result<()>;
    /// Releases every process whose lease ended before `now`, and tells their ids.
    async fn release_expired(&self, now: Millis) -> Result<Vec<Id>>;

    /// Takes up to `most` of what is free of the owner's money for the process. Nothing free: `amount` is 0. A key's
    /// period that has passed begins anew here. Without a ceiling (postpaid without limit, no quota):
    /// [`Error::Refused`].
    async fn take(&self, process: Id, owner: Owner, most: Nanos, now: Millis) -> Result<Taken>;
    /// Gives back part of what the process holds; more than it holds is [`Error::Refused`]. Of a key's quota only what
    /// belongs to the period `period_start`; what is older is gone already.
    async fn give_back(&self, process: Id, owner: Owner, amount: Nanos) -> Result<()>;
    /// Asks the other processes that hold some of it; one ask an owner and asker, the last one counts, and it ends when
    /// the asker takes something or releases.
    async fn ask(&self, process: Id, owner: Owner, amount: Nanos) -> Result<()>;

    /// Writes usage rows and their charges: each id once, however often its process sends it. Charges are taken from what the
    /// process holds; beyond that (its lease had ended before its journal was replayed) from what is free, and the rest
    /// moves from `charge` to `written_off`. Rows of a day that is closed count in the first open one.
    async fn settle(&self, process: Id, rows: &[Line<'_>]) -> Result<()>;
    /// Closes every day before `today` that has charges: one entry a key and day, in a transaction that checks each
    /// account's sum. The number of days closed. [`Error::Corrupt`] names an account whose sum is wrong; then nothing
    /// is closed.
    async fn close_days(&self, today: Day) -> Result<u64>;
    /// Deletes usage rows of closed days, at most `most`, oldest first: those whose ids were made before this moment. How
    /// many.
    async fn prune(&self, before: Millis, most: u32) -> Result<u64>;

    // --- accounts ---

    /// Makes an account. A name that is taken: [`Error::Conflict`].
    async fn create_account(&self, new: NewAccount) -> Result<Account>;
    /// The account of this id.
    async fn account(&self, id: Id) -> Result<Account>;
    /// The account of this name.
    async fn account_named(&self, name: &str) -> Result<Account>;
    /// All accounts, newest first.
    async fn accounts(&self, page: Page) -> Result<Vec<Account>>;
    /// Changes an account.
    async fn edit_account(&self, id: Id, edit: AccountEdit) -> Result<Account>;
    /// Adds money, its bonus and their entries. The same payment again: the first one's entries.
    async fn topup(&self, topup: Topup) -> Result<Vec<Entry>>;
    /// Adds to the balance, or takes from what no process holds; more than that is [`Error::Refused`].
    async fn adjust(&self, account: Id, amount: Nanos, reason: String, by: String) -> Result<Entry>;
    /// Entries of an account, newest first.
    async fn entries(&self, account: Id, page: Page) -> Result<Vec<Entry>>;
    /// Proves that balance = sum: from the last close, or with `full` from the first entry. With `full` each row of an open
    /// day is read, and [`Error::Corrupt`] says that the sums of charges are not those of the rows where it does not
    /// show in [`Verified::sum`].
    async fn verify(&self, account: Id, full: bool) -> Result<Verified>;

    // --- keys ---

    /// Makes a key. A hash or (in its account) a name that is taken: [`Error::Conflict`].
    async fn create_key(&self, new: NewKey) -> Result<Key>;
    /// The key of this id, deleted ones too.
    async fn key(&self, id: Id) -> Result<Key>;
    /// Keys of this name that are not deleted, of one account or of all: a name is unique in an account only.
    async fn keys_named(&self, account: Option<Id>, name: &str) -> Result<Vec<Key>>;
    /// Keys that are not deleted, newest first.
    async fn keys(&self, account: Option<Id>, page: Page) -> Result<Vec<Key>>;
    /// Changes a key.
    async fn change_key(&self, id: Id, change: KeyChange) -> Result<Key>;

    /// Every account and every key that is not deleted, in their order of ids, a part at a time: up to `limit` keys
    /// above `after` (and in the first part all accounts). To start a process from; `revision` is that of before the
    /// first part was read, so that what changes meanwhile is told again by [`Store::changes`].
    async fn load(&self, after: Option<Id>, limit: u32) -> Result<Changes>;
    /// What has changed since `revision`.
    async fn changes(&self, revision: i64) -> Result<Changes>;

    // --- usage ---

    /// Rows, newest first.
    async fn rows(&self, filter: &UsageFilter, page: Page) -> Result<Vec<Row>>;
    /// Sums from the hourly roll-up, in the order of `by`.
    async fn usage(&self, filter: &UsageFilter, by: UsageBy) -> Result<Vec<UsageSum>>;

    // --- codes, notices, audit ---

    /// Makes a batch of codes.
    async fn create_codes(&self, new: NewCodes) -> Result<Vec<Code>>;
    /// Codes, newest first; of one batch.
    async fn codes(&self, batch: Option<Id>, page: Page) -> Result<Vec<Code>>;
    /// Revokes a code, or every code of a batch, that was not redeemed. How many.
    async fn revoke_codes(&self, code_or_batch: Id) -> Result<u64>;
    /// Redeems a code once, by whoever comes first: unknown, revoked, expired or redeemed is [`Error::Refused`] with
    /// which of them.
    async fn redeem(&self, hash: [u8; 32], account: Id, by: String, now: Millis) -> Result<Entry>;

    /// Announces.
    async fn create_notice(&self, text: String) -> Result<Notice>;
    /// Announcements, newest first.
    async fn notices(&self, page: Page) -> Result<Vec<Notice>>;
    /// Withdraws one.
    async fn delete_notice(&self, id: Id) -> Result<()>;

    /// Writes down who changed what.
    async fn audit(
        &self,
        by: &str,
        action: &str,
        target: Option<Id>,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<()>;
    /// Who changed what, newest first; of one target.
    async fn audits(&self, target: Option<Id>, page: Page) -> Result<Vec<Audit>>;
}

/// A store that many use.
pub type SharedStore = Arc<dyn Store>;
