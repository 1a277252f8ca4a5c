//! The store on either engine: each call is a transaction.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgPool;

use super::session::Tx;
use super::{
    Account, AccountEdit, Audit, Changes, Code, Day, Entry, Error, Id, Key, KeyChange, Line, Millis, NewAccount,
    NewCodes, NewKey, Notice, Owner, Page, Process, Pulse, Result, Row, Store, Taken, Topup, UsageBy, UsageFilter,
    UsageSum, Verified,
};
use super::{
    accounts, allotments, audit, codes, days, entries, keys, notices, postgres, processes, rollups, rows, settle,
    since, sqlite, verify,
};
use crate::money::Nanos;

/// How long a call may take: a server that has vanished says nothing.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// How long the sums of days may take, and reading everything.
const LONG: Duration = Duration::from_mins(10);

/// A store on either engine.
pub(super) enum Engine {
    Sqlite(sqlite::Pools),
    Postgres(PgPool),
}

impl Engine {
    async fn begin(&self) -> Result<Tx> {
        match self {
            Self::Sqlite(pools) => pools.begin().await,
            Self::Postgres(pool) => postgres::begin(pool).await,
        }
    }

    async fn read(&self) -> Result<Tx> {
        match self {
            Self::Sqlite(pools) => pools.read().await,
            Self::Postgres(pool) => postgres::read(pool).await,
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite(_) => "Engine::Sqlite",
            Self::Postgres(_) => "Engine::Postgres",
        })
    }
}

/// Does it in time, or says that the store did not answer.
pub(super) async fn bounded<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(Error::Unavailable("it did not answer in time".to_owned())))
}

/// One transaction: `begin` or `read`, the work on it, commit; within a limit.
macro_rules! within {
    ($limit:expr, $transaction:expr, |$tx:ident| $work:expr) => {
        bounded($limit, async {
            let mut transaction = $transaction.await?;
            let $tx = &mut transaction;
            let done = $work.await?;
            transaction.commit().await?;
            Ok(done)
        })
        .await
    };
}

#[async_trait]
impl Store for Engine {
    async fn register(&self, lease_end: Millis) -> Result<Process> {
        within!(LIMIT, self.begin(), |tx| processes::register(tx, lease_end))
    }

    async fn beat(&self, process: Id, lease_end: Millis) -> Result<()> {
        within!(LIMIT, self.begin(), |tx| processes::beat(tx, process, lease_end))
    }

    async fn serve(&self, process: Id, serves: bool) -> Result<()> {
        within!(LIMIT, self.begin(), |tx| processes::serve(tx, process, serves))
    }

    async fn pulse(&self, process: Id) -> Result<Pulse> {
        within!(LIMIT, self.read(), |tx| processes::pulse(tx, process))
    }

    async fn release(&self, process: Id) -> Result<()> {
        within!(LIMIT, self.begin(), |tx| processes::release(tx, process))
    }

    async fn release_expired(&self, now: Millis) -> Result<Vec<Id>> {
        within!(LIMIT, self.begin(), |tx| processes::release_expired(tx, now))
    }

    async fn take(&self, process: Id, owner: Owner, most: Nanos, now: Millis) -> Result<Taken> {
        within!(LIMIT, self.begin(), |tx| allotments::take(
            tx, process, owner, most, now
        ))
    }

    async fn give_back(&self, process: Id, owner: Owner, amount: Nanos) -> Result<()> {
        within!(LIMIT, self.begin(), |tx| allotments::give_back(
            tx, process, owner, amount
        ))
    }

    async fn ask(&self, process: Id, owner: Owner, amount: Nanos) -> Result<()> {
        within!(LIMIT, self.begin(), |tx| allotments::ask(tx, process, owner, amount))
    }

    async fn settle(&self, process: Id, rows: &[Line<'_>]) -> Result<()> {
        bounded(LIMIT, async {
            // First as if no row were there already, where none should be; if one is, from the start and with a look.
            for look in [false, true] {
                let mut tx = self.begin().await?;
                if settle::settle(&mut tx, process, rows, look).await? {
                    return tx.commit().await;
                }
            }
            Err(Error::Unavailable("another process settles the same rows".to_owned()))
        })
        .await
    }

    async fn close_days(&self, today: Day) -> Result<u64> {
        within!(LONG, self.begin(), |tx| days::close(tx, today))
    }

    async fn prune(&self, before: Millis, most: u32) -> Result<u64> {
        within!(LIMIT, self.begin(), |tx| rows::prune(tx, before, most))
    }

    async fn create_account(&self, new: NewAccount) -> Result<Account> {
        within!(LIMIT, self.begin(), |tx| accounts::create(tx, &new))
    }

    async fn account(&self, id: Id) -> Result<Account> {
        within!(LIMIT, self.read(), |tx| accounts::get(tx, id))
    }

    async fn account_named(&self, name: &str) -> Result<Account> {
        within!(LIMIT, self.read(), |tx| accounts::named(tx, name))
    }

    async fn accounts(&self, page: Page) -> Result<Vec<Account>> {
        within!(LIMIT, self.read(), |tx| accounts::list(tx, page))
    }

    async fn edit_account(&self, id: Id, edit: AccountEdit) -> Result<Account> {
        within!(LIMIT, self.begin(), |tx| accounts::edit(tx, id, &edit))
    }

    async fn topup(&self, topup: Topup) -> Result<Vec<Entry>> {
        within!(LIMIT, self.begin(), |tx| entries::topup(tx, &topup))
    }

    async fn adjust(&self, account: Id, amount: Nanos, reason: String, by: String) -> Result<Entry> {
        within!(LIMIT, self.begin(), |tx| entries::adjust(
            tx, account, amount, &reason, &by
        ))
    }

    async fn entries(&self, account: Id, page: Page) -> Result<Vec<Entry>> {
        within!(LIMIT, self.read(), |tx| entries::list(tx, account, page))
    }

    async fn verify(&self, account: Id, full: bool) -> Result<Verified> {
        within!(LONG, self.read(), |tx| verify::verify(tx, account, full))
    }

    async fn create_key(&self, new: NewKey) -> Result<Key> {
        within!(LIMIT, self.begin(), |tx| keys::create(tx, &new))
    }

    async fn key(&self, id: Id) -> Result<Key> {
        within!(LIMIT, self.read(), |tx| keys::get(tx, id))
    }

    async fn keys_named(&self, account: Option<Id>, name: &str) -> Result<Vec<Key>> {
        within!(LIMIT, self.read(), |tx| keys::named(tx, account, name))
    }

    async fn keys(&self, account: Option<Id>, page: Page) -> Result<Vec<Key>> {
        within!(LIMIT, self.read(), |tx| keys::list(tx, account, page))
    }

    async fn change_key(&self, id: Id, change: KeyChange) -> Result<Key> {
        within!(LIMIT, self.begin(), |tx| keys::change(tx, id, &change))
    }

    async fn load(&self, after: Option<Id>, limit: u32) -> Result<Changes> {
        within!(LONG, self.read(), |tx| since::load(tx, after, limit))
    }

    async fn changes(&self, revision: i64) -> Result<Changes> {
        within!(LIMIT, self.read(), |tx| since::changes(tx, revision))
    }

    async fn rows(&self, filter: &UsageFilter, page: Page) -> Result<Vec<Row>> {
        within!(LIMIT, self.read(), |tx| rows::list(tx, filter, page))
    }

    async fn usage(&self, filter: &UsageFilter, by: UsageBy) -> Result<Vec<UsageSum>> {
        within!(LIMIT, self.read(), |tx| rollups::sums(tx, filter, by))
    }

    async fn create_codes(&self, new: NewCodes) -> Result<Vec<Code>> {
        within!(LIMIT, self.begin(), |tx| codes::create(tx, &new))
    }

    async fn codes(&self, batch: Option<Id>, page: Page) -> Result<Vec<Code>> {
        within!(LIMIT, self.read(), |tx| codes::list(tx, batch, page))
    }

    async fn revoke_codes(&self, code_or_batch: Id) -> Result<u64> {
        within!(LIMIT, self.begin(), |tx| codes::revoke(tx, code_or_batch))
    }

    async fn redeem(&self, hash: [u8; 32], account: Id, by: String, now: Millis) -> Result<Entry> {
        within!(LIMIT, self.begin(), |tx| codes::redeem(tx, &hash, account, &by, now))
    }

    async fn create_notice(&self, text: String) -> Result<Notice> {
        within!(LIMIT, self.begin(), |tx| notices::create(tx, text))
    }

    async fn notices(&self, page: Page) -> Result<Vec<Notice>> {
        within!(LIMIT, self.read(), |tx| notices::list(tx, page))
    }

    async fn delete_notice(&self, id: Id) -> Result<()> {
        within!(LIMIT, self.begin(), |tx| notices::delete(tx, id))
    }

    async fn audit(
        &self,
        by: &str,
        action: &str,
        target: Option<Id>,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<()> {
        within!(LIMIT, self.begin(), |tx| audit::write(
            tx,
            by,
            action,
            target,
            before.as_deref(),
            after.as_deref()
        ))
    }

    async fn audits(&self, target: Option<Id>, page: Page) -> Result<Vec<Audit>> {
        within!(LIMIT, self.read(), |tx| audit::list(tx, target, page))
    }
}
