//! What this process may spend, and what it has spent: the hard ceiling, and charges that outlive a crash.
//!
//! The store owns balances and quotas. A process **takes** a part of one, an allotment, in one durable step, and spends
//! from that alone; a lone process takes all there is the first time it needs some. A request **reserves** from it
//! before anything goes out ([`Funds`]), and **settles** once ([`Hold`]): the charge never exceeds what is there, so
//! granted − charged is never negative, however many requests and processes spend at once.
//!
//! Each charge is written as a usage row ([`Ledger::write`]) into the **journal**, a local file, before its answer is
//! complete; all that wait share one commit. The **filler** brings rows from there into the store, each once, store up or
//! down. A process that dies leaves its journal; whoever starts next in the same folder replays it and then gives back
//! what the dead process had been allotted.
//!
//! A process whose lease has ended (a laptop that slept, a store that could not be reached for longer than the lease) may
//! find that others have taken back its allotments. It registers anew and takes anew; what its requests had reserved is
//! charged as far as the store still has it, and written off beyond.
//!
//! Times of calls to the store are bounded; nothing here is held locked across an await.

mod committed;
mod counters;
mod days;
mod fill;
mod flight;
mod funds;
mod give;
mod hold;
mod inner;
mod journal;
mod lease;
mod life;
mod purse;
mod purses;
mod queue;
mod settings;
mod settle;
mod stats;
mod supply;
mod tend;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

pub use self::committed::{Committed, NotDurable};
pub use self::funds::{Funds, KeyFunds, Short};
pub use self::hold::{Hold, Settled};
use self::inner::Inner;
use self::life::Tasks;
pub use self::settings::{Durability, NotReady, Settings, StartError};
pub use self::stats::Stats;
use crate::failpoint::Failpoints;
use crate::store::{self, Draft, Id, Ids, Position, Row, SharedStore};

/// The ledger of this process. Clones are the same one; when the last is dropped without [`stop`](Self::stop), its tasks
/// end as in a crash: nothing is lost, and the next process replays the journal.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Running>);

#[derive(Debug)]
struct Running {
    inner: Arc<Inner>,
    /// Dropped with it, they are aborted.
    tasks: Mutex<Tasks>,
}

// === impl Ledger ===

impl Ledger {
    /// Registers with the store, replays what processes before have left in the folder, and starts the tasks.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the folder, the journal or the store does not do.
    pub async fn start(store: SharedStore, settings: Settings) -> Result<Self, StartError> {
        let (inner, tasks) = Inner::start(store, settings).await?;
        let tasks = Mutex::new(tasks);
        Ok(Self(Arc::new(Running { inner, tasks })))
    }

    /// Makes ids of rows.
    pub fn ids(&self) -> &Ids {
        &self.0.inner.ids
    }

    /// The id under which this process is registered; another one after its lease was lost.
    pub fn process(&self) -> Id {
        self.0.inner.process()
    }

    /// The funds of an account: always the same ones, made if new.
    pub fn funds(&self, account: &store::Account) -> Arc<Funds> {
        self.0.inner.funds(account)
    }

    /// Whether a new request may be admitted: its charge could be written.
    ///
    /// # Errors
    ///
    /// Why not: `ledger_full`.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.0.inner.ready()
    }

    /// Writes a row and its charge. The answer is complete only when the future says so; the row is written even when
    /// nobody awaits it.
    ///
    /// Its id is given to it here: ids grow in the order in which rows are written.
    pub fn write<T: AsRef<str> + Serialize>(&self, row: &Row<T>) -> Committed {
        let inner = &self.0.inner;
        inner.queue.write(&Draft::of(row), &inner.ids)
    }

    /// Writes a row that charges nothing: nobody waits for it, and it is dropped and counted where the journal is full.
    pub fn note<T: AsRef<str> + Serialize>(&self, row: &Row<T>) {
        self.0.inner.note(&Draft::of(row));
    }

    /// Gives back all that is free of an account's money and asks the other processes to do so, before its balance or
    /// terms change. Taken again on demand, for the next two seconds only what is needed. Whether no other process holds
    /// any.
    pub async fn recall(&self, account: Id) -> bool {
        self.0.inner.recall(account, store::Owner::Account(account)).await
    }

    /// The same for a key's quota.
    pub async fn recall_key(&self, account: Id, key: Id) -> bool {
        self.0.inner.recall(account, store::Owner::Key(key)).await
    }

    /// Fresh facts: ceilings, quotas, periods. Ends the memory of "nothing there".
    pub fn changed(&self, account: &store::Account, keys: &[store::Key]) {
        let funds = self.0.inner.funds(account);
        let mut purses = funds.purses.lock();
        purses.supply.refresh();
        for key in keys {
            purses.know_key(key);
            if let Some(key) = purses.key_mut(key.id) {
                key.supply.refresh();
            }
        }
    }

    /// The revision of the newest change of an account or key in the store, as it comes.
    pub fn subscribe(&self) -> watch::Receiver<i64> {
        self.0.inner.revision.subscribe()
    }

    /// The process takes requests from here on: it has a place among those that do, which share the limits.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn open(&self) -> store::Result<()> {
        self.0.inner.open().await
    }

    /// The place of this process among those that serve, as it changes. While the store is not there it stays as it was.
    pub fn position(&self) -> watch::Receiver<Position> {
        self.0.inner.position.subscribe()
    }

    /// The process takes no more requests: gives back what is free, now and as requests end, and its part of the limits.
    pub async fn drain(&self) {
        self.0.inner.drain().await;
    }

    /// The end: writes and fills what is left, gives all back, ends the tasks. Bounded: where the store does not answer,
    /// the journal stays for the next process.
    pub async fn stop(&self) {
        let clean = self.0.inner.stop().await;
        let Tasks { mut tasks, lock } = std::mem::take(&mut *self.0.tasks.lock());
        tasks.shutdown().await;
        if let Some(lock) = lock.filter(|_| clean) {
            lock.remove();
        }
    }

    /// Where a test can break what it does, and what is charged to it.
    pub fn failpoints(&self) -> &Failpoints {
        &self.0.inner.failpoints
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        self.0.inner.stats()
    }
}
