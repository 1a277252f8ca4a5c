//! Every key and account that this process serves, in memory: a request asks no database who its caller is.
//!
//! Without a store these are the configuration's fixed keys. With one they are the store's, read once at the start and
//! from then on followed by revision: a change made through this process holds for the next request, one made through
//! another as soon as this one has noticed, some tenths of a second later. The configuration's fixed keys are written
//! into the store then, so that every key has an id, an account and a place in the ledger.

mod follow;
mod import;
mod numbers;
mod principal;
mod refusals;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};

pub use self::numbers::Numbers;
use self::principal::Interned;
pub use self::principal::{Holder, HolderFacts, Member, Principal};
pub use self::refusals::Refusals;
use self::table::Table;
use crate::config::{Config, Key as FixedKey};
use crate::ledger::Ledger;
use crate::store::{Account, Changes, Error, Id, Key, KeyStatus, Millis, SharedStore};

/// How many keys are read at once when a process starts.
const PART: u32 = 10_000;

/// The keys and accounts. Clones share them.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    table: Table,
    /// By which hashes a key of the store is found, to take it out when they change.
    hashes: Mutex<HashMap<Id, Hashes>>,
    accounts: RwLock<HashMap<Id, Arc<Holder>>>,
    interned: Interned,
    numbers: Arc<Numbers>,
    /// What it is read from; absent, there are only fixed keys.
    backing: Option<Backing>,
}

struct Backing {
    store: SharedStore,
    ledger: Ledger,
    /// Up to which revision the store's changes are known.
    revision: AtomicI64,
    /// One refresh at a time.
    refreshing: tokio::sync::Mutex<()>,
}

/// The hash of a key, and that of the one before a rotation.
#[derive(Clone, Copy)]
struct Hashes {
    now: [u8; 32],
    old: Option<[u8; 32]>,
}

impl Directory {
    /// The configuration's fixed keys and no others.
    pub fn fixed(config: &Config, numbers: Arc<Numbers>) -> Self {
        let directory = Self::empty(None, numbers);
        directory.set_fixed(config);
        directory
    }

    /// All keys of the store, the configuration's among them.
    pub async fn open(
        store: SharedStore,
        ledger: Ledger,
        config: &Config,
        numbers: Arc<Numbers>,
    ) -> Result<Self, Error> {
        let backing = Backing {
            store,
            ledger,
            revision: AtomicI64::new(i64::MAX),
            refreshing: tokio::sync::Mutex::default(),
        };
        let directory = Self::empty(Some(backing), numbers);
        directory.import(config).await?;
        directory.load().await?;
        Ok(directory)
    }

    fn empty(backing: Option<Backing>, numbers: Arc<Numbers>) -> Self {
        Self(Arc::new(Inner {
            table: Table::default(),
            hashes: Mutex::default(),
            accounts: RwLock::default(),
            interned: Interned::default(),
            numbers,
            backing,
        }))
    }

    /// Whose key has this SHA-256. What a rotation has replaced is found until its overlap ends.
    pub fn get(&self, hash: &[u8; 32]) -> Option<Arc<Principal>> {
        self.0.table.get(hash)
    }

    /// How many keys can be found.
    pub fn len(&self) -> usize {
        self.0.table.len()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is read from a store.
    pub fn has_store(&self) -> bool {
        self.0.backing.is_some()
    }

    /// A configuration was reloaded: its fixed keys are those that hold from now on.
    pub async fn reload(&self, config: &Config) -> Result<(), Error> {
        if self.0.backing.is_none() {
            self.set_fixed(config);
            return Ok(());
        }
        self.import(config).await?;
        self.refresh().await
    }

    /// Takes over what has changed.
    pub fn apply(&self, changes: &Changes) {
        for account in &changes.accounts {
            self.apply_account(account);
        }
        for key in &changes.keys {
            self.apply_key(key);
        }
    }

    fn set_fixed(&self, config: &Config) {
        let keys = config.keys.iter();
        let entries = keys.map(|key: &Arc<FixedKey>| (key.sha256, Arc::new(Principal::fixed(key, &self.0.numbers))));
        self.0.table.replace(entries.collect());
    }

    async fn load(&self) -> Result<(), Error> {
        let Some(backing) = &self.0.backing else { return Ok(()) };
        let mut after = None;
        loop {
            let part = backing.store.load(after, PART).await?;
            // What changes while the parts are read is told again from the revision of before the first.
            backing.revision.fetch_min(part.revision, Ordering::Relaxed);
            self.apply(&part);
            match part.keys.last() {
                Some(last) => after = Some(last.id),
                None => return Ok(()),
            }
        }
    }

    fn apply_account(&self, account: &Account) {
        let Some(backing) = &self.0.backing else { return };
        let known = self.0.accounts.read().get(&account.id).cloned();
        if let Some(holder) = known {
            holder.update(account);
        } else {
            let funds = backing.ledger.funds(account);
            let holder = Arc::new(Holder::new(account, funds));
            self.0.accounts.write().entry(account.id).or_insert(holder);
        }
        backing.ledger.changed(account, &[]);
    }

    fn apply_key(&self, key: &Key) {
        let holder = self.0.accounts.read().get(&key.account).cloned();
        let Some(holder) = holder else {
            // Its account is in the same or an earlier part of the changes, always.
            tracing::error!(key = %key.id, account = %key.account, "a key without an account");
            return;
        };
        let hashes = Hashes {
            now: key.hash,
            old: key.old.map(|old| old.hash),
        };
        let gone = matches!(key.status, KeyStatus::Revoked | KeyStatus::Deleted);
        let mut known = self.0.hashes.lock();
        let before = if gone {
            known.remove(&key.id)
        } else {
            known.insert(key.id, hashes)
        };
        if gone {
            self.0.table.remove(&hashes.now);
        } else {
            let principal = Arc::new(self.0.interned.stored(key, holder));
            self.0.table.insert(key.hash, Arc::clone(&principal), None);
            if let Some(old) = key.old.filter(|old| old.until > Millis::now()) {
                self.0.table.insert(old.hash, principal, Some(old.until));
            }
        }
        // The hashes that the key was found by and no longer is.
        for stale in before
            .into_iter()
            .flat_map(|before| [Some(before.now), before.old])
            .flatten()
        {
            if gone || (stale != hashes.now && Some(stale) != hashes.old) {
                self.0.table.remove(&stale);
            }
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("keys", &self.len())
            .finish_non_exhaustive()
    }
}
