//! Several processes on one store: nothing is spent twice, and what is free goes to whoever needs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate::ledger::Short;
use tollgate::money::Nanos;

use super::{Bank, Quota, nanos, until};
use crate::support::within;

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_never_spend_more_than_there_is() {
    let bank = Arc::new(Bank::with(300_000).await);
    let ledgers = [bank.ledger().await, bank.ledger().await];
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..400_usize {
        let (bank, ledger) = (Arc::clone(&bank), ledgers[number % 2].clone());
        requests.spawn(async move {
            let (funds, key) = bank.funds(&ledger);
            let Ok(hold) = funds.reserve(&key, nanos(1_000)).await else {
                return Nanos::ZERO;
            };
            tokio::task::yield_now().await;
            let settled = hold.settle(nanos(900)).unwrap();
            ledger.write(&bank.row(&ledger, settled)).await.unwrap();
            settled.charge
        });
    }
    let mut charged = Nanos::ZERO;
    while let Some(one) = tokio::time::timeout(Duration::from_secs(30), requests.join_next())
        .await
        .unwrap()
    {
        charged = charged.saturating_add(one.unwrap());
    }
    assert!(charged <= nanos(300_000), "{charged} of 0.0003");
    // Nearly all can be spent: less than one request's reservation stays in each.
    assert!(charged > nanos(290_000), "only {charged} of 0.0003 could be spent");
    for ledger in &ledgers {
        assert_eq!(ledger.stats().reserved, Nanos::ZERO);
        within(ledger.stop()).await;
    }
    bank.prove(300_000 - charged.get(), 0).await;
    assert!(bank.balance().await >= Nanos::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_gets_what_is_free_within_a_second() {
    for quota in [None, Some(nanos(500_000))] {
        let bank = Bank::with_quota(1_000_000, Quota { quota, period: None }).await;
        let (one, two) = (bank.ledger().await, bank.ledger().await);
        within(bank.request(&one, 1_000)).await.unwrap();
        let (funds, _) = bank.funds(&one);
        assert!(
            funds.free(&funds.key(&bank.key)) > Some(nanos(100_000)),
            "the first one has taken all"
        );
        let asked = Instant::now();
        within(bank.request(&two, 1_000)).await.unwrap();
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(1), "it took {took:?}");
        within(one.stop()).await;
        within(two.stop()).await;
        bank.prove(998_000, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_second_process_draws_is_a_fair_share() {
    let bank = Bank::with(1_000_000).await;
    let (one, two) = (bank.ledger().await, bank.ledger().await);
    within(bank.request(&one, 1_000)).await.unwrap();
    let (funds, key) = bank.funds(&two);
    assert_eq!(
        within(funds.draw(&key)).await,
        Some(nanos(499_500)),
        "half of what the other one uses"
    );
    within(one.stop()).await;
    within(two.stop()).await;
    bank.prove(999_000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reserved_is_not_given_away() {
    let bank = Bank::with(10_000).await;
    let (one, two) = (bank.ledger().await, bank.ledger().await);
    let (funds, key) = bank.funds(&one);
    let hold = within(funds.reserve(&key, nanos(9_000))).await.unwrap();
    let (theirs, their_key) = bank.funds(&two);
    let refused = within(theirs.reserve(&their_key, nanos(5_000))).await;
    assert_eq!(refused.err(), Some(Short::Account));
    hold.release();
    // Now it is free, and asked for again.
    within(until(async || theirs.reserve(&their_key, nanos(5_000)).await.is_ok())).await;
    within(one.stop()).await;
    within(two.stop()).await;
    bank.prove(10_000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_hands_all_back() {
    let bank = Bank::with(1_000_000).await;
    let (old, new) = (bank.ledger().await, bank.ledger().await);
    let (funds, key) = bank.funds(&old);
    let hold = within(funds.reserve(&key, nanos(100_000))).await.unwrap();
    within(old.drain()).await;
    bank.prove(1_000_000, 100_000).await;
    // The new one has it at once.
    within(bank.request(&new, 900_000)).await.unwrap();
    // What the old one's last request did not need follows.
    let settled = hold.settle(nanos(40_000)).unwrap();
    within(old.write(&bank.row(&old, settled))).await.unwrap();
    within(until(async || old.stats().held == Nanos::ZERO)).await;
    within(bank.request(&new, 60_000)).await.unwrap();
    within(old.stop()).await;
    within(new.stop()).await;
    bank.prove(0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_makes_room_for_an_adjustment() {
    let bank = Bank::with(1_000_000).await;
    let (one, two) = (bank.ledger().await, bank.ledger().await);
    within(bank.request(&one, 1_000)).await.unwrap();
    within(bank.request(&two, 1_000)).await.unwrap();
    within(until(async || one.stats().pending_rows + two.stats().pending_rows == 0)).await;
    assert!(within(one.recall(bank.account.id)).await, "nobody holds any");
    let adjust = bank
        .store
        .adjust(bank.account.id, nanos(-998_000), "test".to_owned(), "test".to_owned());
    within(adjust).await.unwrap();
    let (funds, key) = bank.funds(&one);
    assert_eq!(within(funds.reserve(&key, nanos(1))).await.err(), Some(Short::Account));
    within(one.stop()).await;
    within(two.stop()).await;
    bank.prove(0, 0).await;
}
