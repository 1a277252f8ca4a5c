//! The end of a scene's process, and what its books say then.

use std::sync::Arc;

use tollgate::ledger::Ledger;
use tollgate::money::Nanos;
use tollgate::store::{self, SharedStore, UsageFilter};

use super::scene::{Scene, settings};
use crate::support::books::{ACCOUNT, Charging};
use crate::support::within;

impl Scene {
    /// The end: what is left is what was not charged, and nobody holds any of it.
    pub(super) async fn close(self, what: &str) {
        let left = self.balance();
        let (_, store, _folder) = self.charging.stopped().await;
        proved(&store, left, what).await;
    }

    /// The process ends while something hangs: that is cut, and what it held is given back.
    pub(super) async fn cut(mut self, what: &str) {
        self.alone().await;
        let state = self.charging.gateway.inner.state().clone();
        let ledger = self.ledger().clone();
        let Charging { gateway, books, folder } = self.charging;
        within(gateway.inner.shut_down()).await;
        assert_eq!(state.lifecycle().in_flight(), 0, "{what}");
        assert!(state.slots().is_empty(), "{what}");
        assert_eq!(state.budget().used(), 0, "{what}");
        let stats = ledger.stats();
        assert_eq!(
            (stats.reserved, stats.reserved_keys),
            (Nanos::ZERO, Nanos::ZERO),
            "{what}"
        );
        let page = store::Page {
            before: None,
            limit: 1_000,
        };
        let rows = books.store.rows(&UsageFilter::default(), page).await.unwrap();
        assert!(rows.len() <= 1, "{what}: {rows:#?}");
        let charged: i64 = rows.iter().map(|row| row.charge.get()).sum();
        proved(&books.store, Nanos::new(self.granted.get() - charged), what).await;
        drop(folder);
    }

    /// The process ends, and another one has all that is left.
    pub(super) async fn starts_again(self, what: &str) {
        let left = self.balance();
        let (_, store, folder) = self.charging.stopped().await;
        let next = Ledger::start(Arc::clone(&store), settings(folder.path()))
            .await
            .unwrap();
        next.stop().await;
        proved(&store, left, what).await;
    }
}

/// What is left is what was not charged, and nobody holds any of it.
async fn proved(store: &SharedStore, left: Nanos, what: &str) {
    let account = store.account_named(ACCOUNT).await.unwrap();
    let verified = store.verify(account.id, true).await.unwrap();
    assert_eq!(
        (verified.sum, verified.allotted),
        (account.balance, Nanos::ZERO),
        "{what}"
    );
    assert_eq!(account.balance, left, "{what}");
}
