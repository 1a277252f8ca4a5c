//! A real store that fails when told.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tollgate::money::Nanos;
use tollgate::store::{
    Account, AccountEdit, Audit, Changes, Code, Day, Entry, Error, Id, Key, KeyChange, Line, Millis, NewAccount,
    NewCodes, NewKey, Notice, Owner, Page, Process, Pulse, Result, Row, SharedStore, Store, Taken, Topup, UsageBy,
    UsageFilter, UsageSum, Verified,
};

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused as unavailable, and nothing happens.
    Fail,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// It waits until the fault is over, and is done then.
    Hang,
}

/// Passes every call on to the store inside, but for the faults that are set.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: SharedStore,
    /// By method; `"*"` is all of them. With how often it happens still.
    faults: watch::Sender<HashMap<&'static str, (Fault, u64)>>,
    /// Keys whose rows are refused as corrupt.
    refused: Mutex<Vec<Id>>,
    calls: Mutex<HashMap<&'static str, u64>>,
}

// === impl Faulty ===

impl Faulty {
    pub(crate) fn new(inner: SharedStore) -> Arc<Self> {
        Arc::new(Self {
            inner,
            faults: watch::Sender::new(HashMap::new()),
            refused: Mutex::default(),
            calls: Mutex::default(),
        })
    }

    /// The next calls of a method (`"*"`: of any) fail like this.
    pub(crate) fn next(&self, method: &'static str, fault: Fault, times: u64) {
        self.faults.send_modify(|faults| {
            faults.insert(method, (fault, times));
        });
    }

    /// They do until [`heal`](Self::heal).
    pub(crate) fn set(&self, method: &'static str, fault: Fault) {
        self.next(method, fault, u64::MAX);
    }

    /// Nothing fails any more; what hangs goes on.
    pub(crate) fn heal(&self) {
        self.faults.send_modify(HashMap::clear);
        self.refused.lock().clear();
    }

    /// A batch with a row of this key is refused as corrupt.
    pub(crate) fn refuse(&self, key: Id) {
        self.refused.lock().push(key);
    }

    /// How often a method was called.
    pub(crate) fn calls(&self, method: &'static str) -> u64 {
        self.calls.lock().get(method).copied().unwrap_or(0)
    }

    fn fault(&self, method: &'static str) -> Option<Fault> {
        let mut found = None;
        self.faults.send_if_modified(|faults| {
            for name in [method, "*"] {
                if let Some((fault, times)) = faults.get_mut(name).filter(|(_, times)| *times > 0) {
                    if *fault != Fault::Hang {
                        *times -= 1;
                    }
                    found = Some(*fault);
                    break;
                }
            }
            false
        });
        found
    }

    async fn pass<T>(&self, method: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        *self.calls.lock().entry(method).or_default() += 1;
        let mut faults = self.faults.subscribe();
        loop {
            faults.mark_unchanged();
            match self.fault(method) {
                None => return call.await,
                Some(Fault::Fail) => return Err(lost()),
                Some(Fault::AnswerLost) => return call.await.and_then(|_| Err(lost())),
                Some(Fault::Hang) => faults.changed().await.map_err(|_| lost())?,
            }
        }
    }
}

fn lost() -> Error {
    Error::Unavailable("a fault of the test".to_owned())
}

macro_rules! pass {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait::async_trait]
        impl Store for Faulty {
            $(
                async fn $name(&self, $($arg: $type),*) -> Result<$answer> {
                    self.pass(stringify!($name), self.inner.$name($($arg),*)).await
                }
            )*

            async fn settle(&self, process: Id, rows: &[Line<'_>]) -> Result<()> {
                if let Some(row) = rows.iter().find(|row| self.refused.lock().contains(&row.key())) {
                    return Err(Error::Corrupt(format!("the test refuses row {}", row.id())));
                }
                self.pass("settle", self.inner.settle(process, rows)).await
            }
        }
    };
}

pass! {
    register(lease_end: Millis) -> Process;
    beat(process: Id, lease_end: Millis) -> ();
    serve(process: Id, serves: bool) -> ();
    pulse(process: Id) -> Pulse;
    release(process: Id) -> ();
    release_expired(now: Millis) -> Vec<Id>;
    take(process: Id, owner: Owner, most: Nanos, now: Millis) -> Taken;
    give_back(process: Id, owner: Owner, amount: Nanos) -> ();
    ask(process: Id, owner: Owner, amount: Nanos) -> ();
    close_days(today: Day) -> u64;
    prune(before: Millis, most: u32) -> u64;
    create_account(new: NewAccount) -> Account;
    account(id: Id) -> Account;
    account_named(name: &str) -> Account;
    accounts(page: Page) -> Vec<Account>;
    edit_account(id: Id, edit: AccountEdit) -> Account;
    topup(topup: Topup) -> Vec<Entry>;
    adjust(account: Id, amount: Nanos, reason: String, by: String) -> Entry;
    entries(account: Id, page: Page) -> Vec<Entry>;
    verify(account: Id, full: bool) -> Verified;
    create_key(new: NewKey) -> Key;
    key(id: Id) -> Key;
    keys_named(account: Option<Id>, name: &str) -> Vec<Key>;
    keys(account: Option<Id>, page: Page) -> Vec<Key>;
    change_key(id: Id, change: KeyChange) -> Key;
    load(after: Option<Id>, limit: u32) -> Changes;
    changes(revision: i64) -> Changes;
    rows(filter: &UsageFilter, page: Page) -> Vec<Row>;
    usage(filter: &UsageFilter, by: UsageBy) -> Vec<UsageSum>;
    create_codes(new: NewCodes) -> Vec<Code>;
    codes(batch: Option<Id>, page: Page) -> Vec<Code>;
    revoke_codes(code_or_batch: Id) -> u64;
    redeem(hash: [u8; 32], account: Id, by: String, now: Millis) -> Entry;
    create_notice(text: String) -> Notice;
    notices(page: Page) -> Vec<Notice>;
    delete_notice(id: Id) -> ();
    audit(by: &str, action: &str, target: Option<Id>, before: Option<String>, after: Option<String>) -> ();
    audits(target: Option<Id>, page: Page) -> Vec<Audit>;
}
