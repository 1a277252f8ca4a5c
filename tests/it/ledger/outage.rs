//! The store is gone for a while, or the disk is full: what is covered goes on, what cannot be written is refused.

use std::time::Duration;

use tollgate::ledger::{Durability, NotDurable, NotReady, Settings};
use tollgate::money::Nanos;

use super::{Bank, nanos, until};
use crate::support::disk::TinyDisk;
use crate::support::faulty::Fault;
use crate::support::within;

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_from_allotments_while_the_store_is_gone() {
    for fault in [Fault::Fail, Fault::Hang] {
        let bank = Bank::with(1_000_000).await;
        let ledger = bank.faulty_ledger().await;
        within(bank.request(&ledger, 1_000)).await.unwrap();
        bank.faulty.set("*", fault);
        for _ in 0..200 {
            within(bank.request(&ledger, 1_000)).await.unwrap();
        }
        assert_eq!(ledger.ready(), Ok(()));
        bank.faulty.heal();
        within(until(async || ledger.stats().pending_rows == 0)).await;
        assert!(ledger.stats().store_up);
        assert_eq!(bank.row_count().await, 201);
        within(ledger.stop()).await;
        bank.prove(799_000, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_store_that_is_lost_charges_once() {
    let bank = Bank::with(1_000_000).await;
    let ledger = bank.faulty_ledger().await;
    bank.faulty.next("settle", Fault::AnswerLost, 3);
    for _ in 0..20 {
        within(bank.request(&ledger, 1_000)).await.unwrap();
    }
    within(until(async || ledger.stats().pending_rows == 0)).await;
    assert!(bank.faulty.calls("settle") > 3);
    within(ledger.stop()).await;
    bank.prove(980_000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_refuses_and_loses_nothing() {
    let bank = Bank::with(1_000_000).await;
    let settings = Settings {
        max_journal: 40_000,
        ..bank.settings()
    };
    let ledger = bank.faulty_ledger_with(settings).await;
    within(bank.request(&ledger, 1_000)).await.unwrap();
    bank.faulty.set("settle", Fault::Fail);
    let mut count = 1;
    while ledger.ready().is_ok() {
        within(bank.request(&ledger, 1_000)).await.unwrap();
        count += 1;
        assert!(count < 1_000, "it never fills");
    }
    assert_eq!(ledger.ready(), Err(NotReady::Full));
    // Who was admitted before can still write; a row that nobody waits for is dropped.
    within(bank.request(&ledger, 1_000)).await.unwrap();
    let (funds, key) = bank.funds(&ledger);
    let settled = funds
        .try_reserve(&key, Nanos::ZERO)
        .unwrap()
        .settle(Nanos::ZERO)
        .unwrap();
    ledger.note(&bank.row(&ledger, settled));
    assert_eq!(ledger.stats().dropped, 1);
    bank.faulty.heal();
    within(until(async || {
        ledger.ready().is_ok() && ledger.stats().pending_rows == 0
    }))
    .await;
    assert_eq!(ledger.stats().pending_bytes, 0);
    within(ledger.stop()).await;
    bank.prove(1_000_000 - 1_000 * (count + 1), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_loses_nothing() {
    let bank = Bank::with(1_000_000_000).await;
    let Some(disk) = TinyDisk::mount(bank.folder.path().join("journals")) else {
        return;
    };
    let settings = Settings {
        max_wait: Duration::from_millis(300),
        ..bank.settings()
    };
    let ledger = bank.faulty_ledger_with(settings).await;
    within(bank.request(&ledger, 1_000)).await.unwrap();
    bank.faulty.set("settle", Fault::Fail);
    let mut count = 1;
    while within(bank.request(&ledger, 1_000)).await == Ok(nanos(1_000)) {
        count += 1;
        assert!(count < 20_000, "the disk never fills");
    }
    // The row that found no room was charged, its answer was not completed, and it waits.
    assert_eq!(ledger.ready(), Err(NotReady::Failing));
    assert_eq!(ledger.stats().late, 1);
    bank.faulty.heal();
    within(until(async || {
        ledger.ready().is_ok() && ledger.stats().pending_rows == 0
    }))
    .await;
    within(bank.request(&ledger, 1_000)).await.unwrap();
    within(ledger.stop()).await;
    bank.prove(1_000_000_000 - 1_000 * (count + 2), 0).await;
    assert_eq!(bank.row_count().await, usize::try_from(count).unwrap() + 2);
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_disk_the_store_itself_makes_charges_durable() {
    let bank = Bank::with(1_000_000).await;
    let settings = Settings {
        durability: Durability::Store,
        max_wait: Duration::from_millis(200),
        ..bank.settings()
    };
    let ledger = bank.faulty_ledger_with(settings).await;
    within(bank.request(&ledger, 1_000)).await.unwrap();
    assert_eq!(bank.row_count().await, 1, "it is there before the answer is complete");
    bank.faulty.set("settle", Fault::Fail);
    assert_eq!(within(bank.request(&ledger, 1_000)).await, Err(NotDurable));
    assert_eq!(ledger.ready(), Err(NotReady::Failing));
    bank.faulty.heal();
    within(until(async || ledger.ready().is_ok())).await;
    within(bank.request(&ledger, 1_000)).await.unwrap();
    assert_eq!(bank.journals(), 0);
    within(ledger.stop()).await;
    bank.prove(997_000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_the_store_and_then_leaves_the_journal() {
    let bank = Bank::with(1_000_000).await;
    let ledger = bank.faulty_ledger().await;
    bank.faulty.set("settle", Fault::Fail);
    within(bank.request(&ledger, 1_000)).await.unwrap();
    let ending = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.stop().await }
    });
    within(until(async || ledger.ready() == Err(NotReady::Stopped))).await;
    assert!(!ending.is_finished());
    bank.faulty.heal();
    within(ending).await.unwrap();
    bank.prove(999_000, 0).await;
    assert_eq!(bank.journals(), 0);
    let (funds, key) = bank.funds(&ledger);
    let settled = funds
        .try_reserve(&key, Nanos::ZERO)
        .unwrap()
        .settle(Nanos::ZERO)
        .unwrap();
    assert_eq!(within(ledger.write(&bank.row(&ledger, settled))).await, Err(NotDurable));
}
