//! Which place a process has among those that serve: its part of every limit depends on it.

use tollgate::ledger::Ledger;
use tollgate::money::Nanos;
use tollgate::store::{Id, Millis, Position};

use super::{Bank, nanos, until};
use crate::support::faulty::Fault;
use crate::support::within;

/// Until the process knows that it has this place.
async fn has(ledger: &Ledger, rank: u32, of: u32) {
    let mut position = ledger.position();
    let there = position.wait_for(|now| *now == Position { of, rank });
    within(there).await.unwrap();
}

async fn serving(bank: &Bank, process: Id) -> Option<u32> {
    let pulse = bank.store.pulse(process).await.unwrap();
    pulse.position.map(|position| position.of)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_counts_from_its_opening_to_its_drain() {
    let bank = Bank::with(1_000_000).await;
    let old = bank.ledger().await;
    old.open().await.unwrap();
    has(&old, 0, 1).await;
    let new = bank.ledger().await;
    assert_eq!(serving(&bank, old.process()).await, Some(1), "it does not serve yet");
    new.open().await.unwrap();
    // At once: nothing may be let in by another share.
    assert_eq!(*new.position().borrow(), Position { of: 2, rank: 1 });
    has(&old, 0, 2).await;

    let (funds, key) = bank.funds(&old);
    let hold = within(funds.reserve(&key, nanos(1_000))).await.unwrap();
    within(old.drain()).await;
    assert_eq!(serving(&bank, old.process()).await, None);
    has(&new, 0, 1).await;
    // It is still there, and finishes what it has begun with the share that it had.
    assert!(bank.store.pulse(old.process()).await.unwrap().registered);
    assert!(old.stats().held > Nanos::ZERO);
    assert_eq!(*old.position().borrow(), Position { of: 2, rank: 0 });
    hold.release();
    within(old.stop()).await;
    within(new.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_the_place_stays() {
    let bank = Bank::with(0).await;
    let (one, two) = (bank.faulty_ledger().await, bank.ledger().await);
    one.open().await.unwrap();
    two.open().await.unwrap();
    has(&one, 0, 2).await;
    bank.faulty.set("*", Fault::Fail);
    within(two.stop()).await;
    let pulses = bank.faulty.calls("pulse");
    within(until(async || bank.faulty.calls("pulse") > pulses + 2)).await;
    assert_eq!(*one.position().borrow(), Position { of: 2, rank: 0 });
    bank.faulty.heal();
    has(&one, 0, 1).await;
    within(one.stop()).await;
}

/// A drain that the store did not hear of is told again.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_told_until_it_is_heard() {
    let bank = Bank::with(0).await;
    let (one, two) = (bank.faulty_ledger().await, bank.ledger().await);
    one.open().await.unwrap();
    two.open().await.unwrap();
    has(&two, 1, 2).await;
    bank.faulty.set("serve", Fault::Fail);
    within(one.drain()).await;
    assert_eq!(serving(&bank, two.process()).await, Some(2));
    bank.faulty.heal();
    has(&two, 0, 1).await;
    within(one.stop()).await;
    within(two.stop()).await;
}

/// Whoever was given up and is still there serves on under its next registration.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_costs_no_place() {
    let bank = Bank::with(0).await;
    let (one, two) = (bank.ledger().await, bank.ledger().await);
    one.open().await.unwrap();
    two.open().await.unwrap();
    has(&one, 0, 2).await;
    let before = one.process();
    bank.store.beat(before, Millis(0)).await.unwrap();
    assert_eq!(bank.store.release_expired(Millis::now()).await.unwrap(), [before]);
    // It comes last now.
    has(&one, 1, 2).await;
    has(&two, 0, 2).await;
    assert_ne!(one.process(), before);
    within(one.stop()).await;
    within(two.stop()).await;
}
