//! A gateway with a store: its keys, its money and what was charged.

use std::path::Path;

use tempfile::TempDir;
use tollgate::ledger::Settings;
use tollgate::money::Nanos;
use tollgate::serve::{self, Books, Sockets};
use tollgate::store::{Account, AccountEdit, Key, KeyChange, KeyTerms, Page, Row, SharedStore, Topup, UsageFilter};

use super::gateway::{Gateway, KEY, Setup};
use super::{gateway, within};

/// The account of the keys that a test names none for.
pub(crate) const ACCOUNT: &str = "acme";

/// A gateway with a store, and the folder of both.
pub(crate) struct Charging {
    pub(crate) gateway: Gateway,
    pub(crate) books: Books,
    pub(crate) folder: TempDir,
}

/// A price of so many dollars a million tokens in and out, and a model that has it.
pub(crate) fn priced(setup: Setup, price: &str) -> Setup {
    setup.model(
        "scripted",
        &format!("route = [{{ backend = \"main\" }}]\nprice = {price}"),
    )
}

/// The tables of a store in `folder`, and a fixed key of the account.
pub(crate) fn with_store(setup: Setup, folder: &TempDir) -> Setup {
    let path = folder.path();
    with_store_at(setup, &format!("sqlite://{}/tollgate.db", path.display()), path)
}

/// The same with a store elsewhere than the journal.
pub(crate) fn with_store_at(setup: Setup, url: &str, journal: &Path) -> Setup {
    let journal = journal.display();
    setup
        .text(&format!(
            "[store]\nurl = \"{url}\"\n[ledger]\npath = \"{journal}\"\ndurability = \"process\""
        ))
        .key(KEY, &format!("account = \"{ACCOUNT}\""))
}

/// A gateway with a store in a folder of its own, its account having this many nano-dollars.
pub(crate) async fn charging(setup: Setup, credit: i64) -> Charging {
    let folder = TempDir::new().unwrap();
    let charging = reopened(setup, folder).await;
    if credit > 0 {
        charging.topup(credit).await;
    }
    charging
}

/// The same on a folder that was used before.
pub(crate) async fn reopened(setup: Setup, folder: TempDir) -> Charging {
    opened(with_store(setup, &folder), folder, |_| {}).await
}

/// On what a test has set up, its ledger's settings changed.
pub(crate) async fn opened(setup: Setup, folder: TempDir, change: impl FnOnce(&mut Settings)) -> Charging {
    let config = setup.config();
    let books = Books::open_with(&config, change).await.unwrap().unwrap();
    let gateway = gateway::started(|telemetry| {
        serve::Gateway::start_on(config, telemetry, Some(books.clone()), Sockets::default()).unwrap()
    });
    Charging { gateway, books, folder }
}

/// Every row that there is, newest first.
pub(crate) async fn every_row(store: &SharedStore) -> Vec<Row> {
    let mut all = Vec::new();
    let mut before = None;
    loop {
        let page = Page { before, limit: 1_000 };
        let rows = store.rows(&UsageFilter::default(), page).await.unwrap();
        let Some(last) = rows.last() else { return all };
        before = Some(last.id);
        all.extend(rows);
    }
}

impl Charging {
    pub(crate) fn store(&self) -> &SharedStore {
        &self.books.store
    }

    /// Adds to the account, as the admin API does.
    pub(crate) async fn topup(&self, nanos: i64) {
        let topup = Topup {
            account: self.account().await.id,
            amount: Nanos::new(nanos),
            bonus: Nanos::ZERO,
            source: "test".to_owned(),
            external_ref: None,
            idempotency_key: None,
            note: None,
            by: "test".to_owned(),
        };
        self.store().topup(topup).await.unwrap();
        self.books.directory.refresh().await.unwrap();
    }

    pub(crate) async fn account(&self) -> Account {
        self.store().account_named(ACCOUNT).await.unwrap()
    }

    pub(crate) async fn edit(&self, edit: AccountEdit) {
        let id = self.account().await.id;
        self.store().edit_account(id, edit).await.unwrap();
        self.books.directory.refresh().await.unwrap();
    }

    pub(crate) async fn key(&self) -> Key {
        let account = self.account().await.id;
        let keys = self.store().keys_named(Some(account), KEY).await.unwrap();
        keys.into_iter().next().unwrap()
    }

    pub(crate) async fn change_key(&self, change: impl FnOnce(&mut KeyTerms)) {
        let key = self.key().await;
        let mut terms = key.terms.clone();
        change(&mut terms);
        let change = KeyChange::Terms {
            terms: Box::new(terms),
            revision: key.revision,
        };
        self.store().change_key(key.id, change).await.unwrap();
        self.books.directory.refresh().await.unwrap();
    }

    /// Every row, newest first, once there are `count` of them.
    pub(crate) async fn rows(&self, count: usize) -> Vec<Row> {
        let page = Page {
            before: None,
            limit: 1_000,
        };
        within(async {
            loop {
                let rows = self.store().rows(&UsageFilter::default(), page).await.unwrap();
                if rows.len() >= count {
                    return rows;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Stops the gateway as a signal does, and tells the account as the store then has it.
    pub(crate) async fn stopped(self) -> (Account, SharedStore, TempDir) {
        let store = self.books.store.clone();
        assert!(self.gateway.inner.shut_down().await);
        let account = store.account_named(ACCOUNT).await.unwrap();
        (account, store, self.folder)
    }

    /// Nothing is set aside, and nothing in flight.
    pub(crate) async fn holds_nothing(&self) {
        within(async {
            while self.books.ledger.stats().reserved != Nanos::ZERO {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}
