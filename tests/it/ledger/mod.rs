//! The ledger on a real SQLite store: the ceiling holds and no charge is lost, whoever dies, fails or comes along.

mod crash;
mod kill;
mod outage;
mod places;
mod several;
mod shortage;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tollgate::ledger::{Durability, Funds, KeyFunds, Ledger, NotDurable, Settings, Settled};
use tollgate::money::Nanos;
use tollgate::store::{
    Account, Billing, Id, Key, KeyTerms, Millis, NewAccount, NewKey, Page, Period, Row, RowTokens, SharedStore, Topup,
    UsageFilter, open,
};

use crate::support::faulty::Faulty;

/// A store with one account and one key, and a folder for journals.
struct Bank {
    folder: TempDir,
    store: SharedStore,
    faulty: Arc<Faulty>,
    account: Account,
    key: Key,
}

/// What is asked of a key.
#[derive(Clone, Copy, Default)]
struct Quota {
    quota: Option<Nanos>,
    period: Option<Period>,
}

const fn nanos(amount: i64) -> Nanos {
    Nanos::new(amount)
}

// === impl Bank ===

impl Bank {
    /// With so much on the account.
    async fn with(balance: i64) -> Self {
        Self::with_quota(balance, Quota::default()).await
    }

    async fn with_quota(balance: i64, quota: Quota) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open_in(folder.path()).await;
        let new = NewAccount {
            name: "acme".to_owned(),
            billing: Billing::Prepaid,
            groups: None,
        };
        let account = store.create_account(new).await.unwrap();
        let mut bank = Self {
            faulty: Faulty::new(Arc::clone(&store)),
            key: create_key(&store, account.id, "ci", quota).await,
            account,
            store,
            folder,
        };
        if balance > 0 {
            bank.topup(balance).await;
        }
        bank
    }

    async fn topup(&mut self, amount: i64) {
        let topup = Topup {
            account: self.account.id,
            amount: nanos(amount),
            bonus: Nanos::ZERO,
            source: "test".to_owned(),
            external_ref: None,
            idempotency_key: None,
            note: None,
            by: "test".to_owned(),
        };
        self.store.topup(topup).await.unwrap();
        self.account = self.store.account(self.account.id).await.unwrap();
    }

    fn settings(&self) -> Settings {
        Settings {
            durability: Durability::Process,
            ..Settings::new(self.folder.path().join("journals"))
        }
    }

    /// A ledger on the store itself.
    async fn ledger(&self) -> Ledger {
        Ledger::start(Arc::clone(&self.store), self.settings()).await.unwrap()
    }

    /// A ledger on the store that fails when told.
    async fn faulty_ledger(&self) -> Ledger {
        self.faulty_ledger_with(self.settings()).await
    }

    async fn faulty_ledger_with(&self, settings: Settings) -> Ledger {
        let faulty: SharedStore = Arc::<Faulty>::clone(&self.faulty);
        Ledger::start(faulty, settings).await.unwrap()
    }

    fn funds(&self, ledger: &Ledger) -> (Arc<Funds>, KeyFunds) {
        let funds = ledger.funds(&self.account);
        let key = funds.key(&self.key);
        (funds, key)
    }

    /// A request from its reservation to its row: what was charged.
    async fn request(&self, ledger: &Ledger, amount: i64) -> Result<Nanos, NotDurable> {
        let (funds, key) = self.funds(ledger);
        let hold = funds.reserve(&key, nanos(amount)).await.expect("there is enough");
        let settled = hold.settle(nanos(amount)).expect("it is settled once");
        ledger.write(&self.row(ledger, settled)).await?;
        Ok(settled.charge)
    }

    fn row(&self, ledger: &Ledger, settled: Settled) -> Row {
        row(ledger.ids().next(), self.account.id, self.key.id, settled)
    }

    async fn balance(&self) -> Nanos {
        self.store.account(self.account.id).await.unwrap().balance
    }

    async fn row_count(&self) -> usize {
        let filter = UsageFilter::default();
        let (mut count, mut before) = (0, None);
        loop {
            let page = Page { before, limit: 1000 };
            let rows = self.store.rows(&filter, page).await.unwrap();
            count += rows.len();
            match rows.last() {
                Some(last) => before = Some(last.id),
                None => return count,
            }
        }
    }

    /// The books are right, and processes hold so much.
    async fn prove(&self, balance: i64, allotted: i64) {
        let proof = self.store.verify(self.account.id, true).await.unwrap();
        assert_eq!(proof.balance, proof.sum, "balance = sum of entries and charges");
        assert_eq!(proof.balance, nanos(balance));
        assert_eq!(proof.allotted, nanos(allotted), "what processes hold");
    }

    fn journals(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("journals")).unwrap().count()
    }
}

async fn open_in(folder: &Path) -> SharedStore {
    open(&format!("sqlite://{}", folder.join("store.db").display()))
        .await
        .unwrap()
}

async fn create_key(store: &SharedStore, account: Id, name: &str, quota: Quota) -> Key {
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    let terms = KeyTerms {
        name: name.to_owned(),
        group: "default".to_owned(),
        models: None,
        ips: Vec::new(),
        rpm: None,
        tpm: None,
        concurrency: None,
        quota: quota.quota,
        period: quota.period,
        expires: None,
    };
    let new = NewKey {
        account,
        terms,
        hash,
        prefix: "sk-test".to_owned(),
        last4: "test".to_owned(),
        sealed: None,
    };
    store.create_key(new).await.unwrap()
}

fn row(id: Id, account: Id, key: Id, settled: Settled) -> Row {
    Row {
        id,
        time: Millis::now(),
        request_id: format!("req-{id}"),
        account,
        key,
        group: "default".to_owned(),
        endpoint: "chat_completions".to_owned(),
        model: "deepseek-chat".to_owned(),
        served: Some("deepseek-chat".to_owned()),
        attempts: Vec::new(),
        status: 200,
        reason: None,
        streamed: true,
        tokens: RowTokens::default(),
        bytes_in: 1200,
        bytes_out: 3400,
        first_ms: Some(12),
        total_ms: 340,
        price: None,
        charge: settled.charge,
        written_off: settled.written_off,
        period_start: settled.period_start,
        cap_asked: None,
        cap_applied: None,
        estimated: false,
        disconnected: false,
        cut_short: false,
        from_cache: false,
        ip: None,
        tag: None,
        user: None,
        backend_request_id: None,
    }
}

/// Until it holds; there is no event to await for what happens in the store.
async fn until<F: AsyncFnMut() -> bool>(mut holds: F) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
