//! What the parts of the ledger share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::counters::{Counters, add, sub};
use super::funds::Funds;
use super::journal::Window;
use super::queue::Queue;
use super::settings::{Durability, NotReady, Settings};
use crate::failpoint::Failpoints;
use crate::store::{self, Draft, Error, Id, Ids, Line, Lines, Owner, Position, Process, SharedStore};

/// How long the store has for one call.
const CALL: Duration = Duration::from_secs(5);

/// What the parts of the ledger share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: SharedStore,
    pub(super) settings: Settings,
    /// Where its tasks run: a request may come from another one.
    pub(super) runtime: Handle,
    pub(super) ids: Ids,
    process: AtomicI64,
    /// Requests have been let in.
    pub(super) opened: AtomicBool,
    pub(super) draining: AtomicBool,
    store_up: AtomicBool,
    funds: RwLock<HashMap<Id, Arc<Funds>>>,
    /// Whose the keys are that have taken of their quota.
    keys: Mutex<HashMap<Id, Id>>,
    /// Something is wrong with the registration: look now.
    pub(super) look: Notify,
    pub(super) revision: watch::Sender<i64>,
    pub(super) position: watch::Sender<Position>,
    pub(super) counters: Arc<Counters>,
    pub(super) queue: Queue,
    pub(super) window: Window,
    /// Rows have reached the store.
    pub(super) progress: Notify,
    pub(super) failpoints: Failpoints,
}

// === impl Inner ===

impl Inner {
    pub(super) fn new(store: SharedStore, settings: Settings, process: &Process) -> Self {
        let counters = Arc::new(Counters::default());
        Self {
            store,
            settings,
            runtime: Handle::current(),
            ids: Ids::new(process.node),
            process: AtomicI64::new(process.id.get()),
            opened: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            store_up: AtomicBool::new(true),
            funds: RwLock::default(),
            keys: Mutex::default(),
            look: Notify::new(),
            revision: watch::Sender::new(0),
            position: watch::Sender::new(Position { of: 1, rank: 0 }),
            queue: Queue::new(Arc::clone(&counters)),
            counters,
            window: Window::default(),
            progress: Notify::new(),
            failpoints: Failpoints::default(),
        }
    }

    /// Whether commits of the journal survive a loss of power.
    pub(super) fn syncs(&self) -> bool {
        self.settings.durability == Durability::Disk
    }

    /// Another registration: what the one before was allotted is gone.
    pub(super) fn detach(&self, process: &Process) {
        // Before the new id is known: what is taken under it must not be wiped out.
        for funds in self.funds.read().values() {
            funds.purses.lock().detach();
        }
        self.ids.set_node(process.node);
        self.process.store(process.id.get(), Ordering::Release);
    }

    pub(super) fn process(&self) -> Id {
        Id::new(self.process.load(Ordering::Acquire))
    }

    pub(super) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether new requests are taken.
    pub(super) fn serves(&self) -> bool {
        self.opened.load(Ordering::Relaxed) && !self.draining()
    }

    pub(super) fn funds(self: &Arc<Self>, account: &store::Account) -> Arc<Funds> {
        if let Some(funds) = self.known(account.id) {
            funds.purses.lock().know_account(account);
            return funds;
        }
        let mut all = self.funds.write();
        let funds = all
            .entry(account.id)
            .or_insert_with(|| Funds::new(account, Arc::downgrade(self)));
        Arc::clone(funds)
    }

    pub(super) fn known(&self, account: Id) -> Option<Arc<Funds>> {
        self.funds.read().get(&account).map(Arc::clone)
    }

    /// The funds that a key's quota belongs to.
    pub(super) fn with_key(&self, key: Id) -> Option<Arc<Funds>> {
        let account = self.keys.lock().get(&key).copied()?;
        self.known(account)
    }

    /// A key takes of its quota: others may ask for it.
    pub(super) fn index(&self, owner: Owner, account: Id) {
        if let Owner::Key(key) = owner {
            self.keys.lock().insert(key, account);
        }
    }

    pub(super) fn ready(&self) -> Result<(), NotReady> {
        if self.counters.stopped.load(Ordering::Relaxed) {
            return Err(NotReady::Stopped);
        }
        if self.counters.failing.load(Ordering::Relaxed) || self.counters.dead.load(Ordering::Relaxed) {
            return Err(NotReady::Failing);
        }
        if self.counters.bytes.load(Ordering::Relaxed) >= self.settings.max_journal {
            return Err(NotReady::Full);
        }
        Ok(())
    }

    pub(super) fn note(&self, draft: &Draft) {
        if self.ready().is_ok() {
            self.queue.note(draft, &self.ids);
        } else {
            add(&self.counters.dropped, 1);
        }
    }

    /// Whether charges can be written, as has just been seen. Whether that is news.
    pub(super) fn writes(&self, can: bool) -> bool {
        let news = self.counters.failing.swap(!can, Ordering::Relaxed) == can;
        if news && can {
            tracing::warn!("charges can be written again");
        }
        news
    }

    pub(super) fn nothing_aside(&self) -> bool {
        self.counters.aside.load(Ordering::Relaxed) == 0
    }

    /// These rows have reached the store; of a batch of so many, unreadable ones included.
    pub(super) fn filled(&self, rows: &[Lines], count: usize, bytes: u64) {
        let total: usize = rows.iter().map(Lines::len).sum();
        add(&self.counters.filled, total as u64);
        sub(&self.counters.rows, count as u64);
        sub(&self.counters.bytes, bytes);
        let mut charged = rows.iter().flat_map(Lines::all).filter(|row| !row.charge().is_zero());
        let of = |row: &Line<'_>| (row.account(), row.key(), row.period_start());
        let mut next = charged.next();
        while let Some(row) = next {
            // Rows of one key come together: they are told of at once.
            let mut charge = row.charge();
            next = None;
            for other in charged.by_ref() {
                if of(&other) != of(&row) {
                    next = Some(other);
                    break;
                }
                charge = charge.saturating_add(other.charge());
            }
            if let Some(funds) = self.known(row.account()) {
                funds.purses.lock().filled(row.key(), charge, row.period_start());
            }
        }
    }

    /// A call to the store, bounded; whether it answered is remembered.
    pub(super) async fn bounded<T>(&self, call: impl Future<Output = store::Result<T>>) -> store::Result<T> {
        self.within(CALL, call).await
    }

    /// The same for a call that may take longer.
    pub(super) async fn within<T>(
        &self,
        time: Duration,
        call: impl Future<Output = store::Result<T>>,
    ) -> store::Result<T> {
        let late = || Err(Error::Unavailable(format!("no answer within {time:?}")));
        let done = timeout(time, call).await.unwrap_or_else(|_| late());
        self.saw_store(!matches!(&done, Err(error) if error.is_unavailable()));
        done
    }

    /// A call that only reads. That it succeeds does not tell that the store takes what is written: SQLite reads while
    /// another has it locked.
    pub(super) async fn read<T>(&self, call: impl Future<Output = store::Result<T>>) -> store::Result<T> {
        let late = || Err(Error::Unavailable(format!("no answer within {CALL:?}")));
        let done = timeout(CALL, call).await.unwrap_or_else(|_| late());
        if matches!(&done, Err(error) if error.is_unavailable()) {
            self.saw_store(false);
        }
        done
    }

    fn saw_store(&self, up: bool) {
        if self.store_up.swap(up, Ordering::Relaxed) != up {
            tracing::warn!(up, "the store's state changed");
        }
    }

    /// All funds that were asked for.
    pub(super) fn all(&self) -> Vec<Arc<Funds>> {
        self.funds.read().values().map(Arc::clone).collect()
    }

    pub(super) fn store_up(&self) -> bool {
        self.store_up.load(Ordering::Relaxed)
    }
}
