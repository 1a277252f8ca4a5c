//! A process ends without a word; the next one in its folder puts things right.

use std::time::Duration;

use tollgate::ledger::{Durability, Ledger, Settings};
use tollgate::money::Nanos;

use super::{Bank, nanos, until};
use crate::support::faulty::Fault;
use crate::support::within;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_is_charged_once_and_given_back() {
    for durability in [Durability::Disk, Durability::Process] {
        let bank = Bank::with(1_000_000).await;
        let settings = Settings {
            durability,
            ..bank.settings()
        };
        let ledger = bank.faulty_ledger_with(settings.clone()).await;
        for _ in 0..20 {
            within(bank.request(&ledger, 1_000)).await.unwrap();
        }
        within(until(async || bank.row_count().await == 20)).await;
        // These are in the journal alone, and some that the store had are still in it.
        bank.faulty.set("settle", Fault::Hang);
        for _ in 0..30 {
            within(bank.request(&ledger, 1_000)).await.unwrap();
        }
        // And one is in flight.
        let (funds, key) = bank.funds(&ledger);
        let hold = funds.try_reserve(&key, nanos(7_000)).unwrap();
        assert_eq!(bank.row_count().await, 20);
        drop(ledger);
        let next = within(Ledger::start(bank.store.clone(), settings)).await.unwrap();
        assert_eq!(bank.row_count().await, 50);
        bank.prove(950_000, 0).await;
        // The next one can spend all of it.
        let (funds, key) = bank.funds(&next);
        let all = within(funds.reserve(&key, nanos(950_000))).await.unwrap();
        assert_eq!(funds.free(&key), Some(Nanos::ZERO));
        all.release();
        drop(hold);
        within(next.stop()).await;
        bank.prove(950_000, 0).await;
        assert_eq!(bank.journals(), 0, "{durability:?}: no journal is left");
        bank.faulty.heal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_the_store_is_gone_loses_nothing() {
    let bank = Bank::with(1_000_000).await;
    let ledger = bank.faulty_ledger().await;
    within(bank.request(&ledger, 1_000)).await.unwrap();
    bank.faulty.set("*", Fault::Fail);
    for _ in 0..10 {
        within(bank.request(&ledger, 1_000)).await.unwrap();
    }
    drop(ledger);
    // It does not start without the store, and leaves what it finds.
    let refused = Ledger::start(bank.faulty.clone(), bank.settings()).await;
    assert!(refused.is_err());
    bank.faulty.heal();
    let ledger = bank.ledger().await;
    bank.prove(989_000, 0).await;
    assert_eq!(bank.row_count().await, 11);
    within(ledger.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_holds_up_nothing_and_is_kept() {
    let bank = Bank::with(1_000_000).await;
    let ledger = bank.faulty_ledger().await;
    let other = super::create_key(&bank.store, bank.account.id, "bad", super::Quota::default()).await;
    bank.faulty.refuse(other.id);
    let funds = ledger.funds(&bank.account);
    let mut written = Vec::new();
    for number in 0..40 {
        let key = if number == 17 { &other } else { &bank.key };
        let hold = within(funds.reserve(&funds.key(key), nanos(1_000))).await.unwrap();
        let settled = hold.settle(nanos(1_000)).unwrap();
        let row = super::row(ledger.ids().next(), bank.account.id, key.id, settled);
        written.push(ledger.write(&row));
    }
    for committed in written {
        within(committed).await.unwrap();
    }
    within(until(async || ledger.stats().pending_rows == 0)).await;
    assert_eq!(bank.row_count().await, 39);
    assert_eq!(ledger.stats().aside, 1);
    within(ledger.stop()).await;
    assert!(bank.journals() > 0, "what was set aside is kept");
    // It is tried again by the next process.
    let next = bank.ledger().await;
    assert_eq!(bank.row_count().await, 40);
    within(next.stop()).await;
    bank.prove(960_000, 0).await;
    assert_eq!(bank.journals(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_is_taken_anew() {
    let bank = Bank::with(1_000_000).await;
    let ledger = bank.faulty_ledger().await;
    let (funds, key) = bank.funds(&ledger);
    let hold = within(funds.reserve(&key, nanos(10_000))).await.unwrap();
    let was = ledger.process();
    // Another process gives this one up.
    bank.store.release(was).await.unwrap();
    within(until(async || ledger.process() != was)).await;
    assert_eq!(funds.free(&key), Some(Nanos::ZERO), "what was allotted is gone");
    // What was reserved is charged all the same: the store has it.
    let settled = hold.settle(nanos(12_000)).unwrap();
    assert_eq!(settled.charge, nanos(12_000));
    within(ledger.write(&bank.row(&ledger, settled))).await.unwrap();
    within(bank.request(&ledger, 5_000)).await.unwrap();
    assert_eq!(ledger.stats().reserved, Nanos::ZERO);
    within(ledger.stop()).await;
    bank.prove(983_000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_neighbours_journal_is_replayed_while_we_run() {
    let bank = Bank::with(1_000_000).await;
    let settings = Settings {
        lease: Duration::from_millis(600),
        ..bank.settings()
    };
    let one = bank.faulty_ledger().await;
    bank.faulty.set("settle", Fault::Hang);
    within(bank.request(&one, 1_000)).await.unwrap();
    let two = Ledger::start(bank.store.clone(), settings).await.unwrap();
    assert_eq!(bank.row_count().await, 0, "its journal is its own while it lives");
    drop(one);
    within(until(async || bank.row_count().await == 1)).await;
    within(until(async || {
        bank.store
            .verify(bank.account.id, true)
            .await
            .unwrap()
            .allotted
            .is_zero()
    }))
    .await;
    within(two.stop()).await;
    bank.prove(999_000, 0).await;
    assert_eq!(bank.journals(), 0);
}
