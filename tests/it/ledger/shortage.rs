//! Where money runs short: exactly as much is admitted as there is, and the store is not hammered.

use std::sync::Arc;
use std::time::Duration;

use tollgate::ledger::Short;
use tollgate::money::Nanos;
use tollgate::store::{AccountEdit, Billing, Period};

use super::{Bank, Quota, nanos, until};
use crate::support::faulty::Fault;
use crate::support::within;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_at_once_are_admitted_as_far_as_there_is_credit() {
    let bank = Arc::new(Bank::with(1_000 * 37).await);
    let ledger = bank.faulty_ledger().await;
    let (funds, key) = bank.funds(&ledger);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let funds = Arc::clone(&funds);
        requests.spawn(async move { funds.reserve(&key, nanos(1_000)).await });
    }
    let answers = within(requests.join_all()).await;
    let holds: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
    assert_eq!(holds.len(), 37);
    let takes = bank.faulty.calls("take");
    assert!(takes < 20, "{takes} calls of the store for one shortage");
    for hold in holds {
        let settled = hold.settle(nanos(1_000)).unwrap();
        within(ledger.write(&bank.row(&ledger, settled))).await.unwrap();
    }
    assert_eq!(funds.free(&key), Some(Nanos::ZERO));
    within(ledger.stop()).await;
    bank.prove(0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_there_is_remembered_until_something_changes() {
    let mut bank = Bank::with(0).await;
    let ledger = bank.faulty_ledger().await;
    let (funds, key) = bank.funds(&ledger);
    for _ in 0..1_000 {
        assert_eq!(within(funds.reserve(&key, nanos(1))).await.err(), Some(Short::Account));
    }
    let takes = bank.faulty.calls("take");
    assert!(takes < 50, "{takes} calls of the store for an account without money");
    bank.topup(5_000).await;
    ledger.changed(&bank.account, &[]);
    within(funds.reserve(&key, nanos(5_000))).await.unwrap();
    within(ledger.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_free_shows_the_balance_once_it_was_asked_for() {
    let mut bank = Bank::with(8_000).await;
    let ledger = bank.faulty_ledger().await;
    let (funds, key) = bank.funds(&ledger);
    assert_eq!(funds.free(&key), Some(Nanos::ZERO));
    assert_eq!(within(funds.draw(&key)).await, Some(nanos(8_000)));
    let takes = bank.faulty.calls("take");
    assert_eq!(within(funds.draw(&key)).await, Some(nanos(8_000)));
    assert_eq!(bank.faulty.calls("take"), takes, "it was asked for once");
    bank.topup(1_000).await;
    ledger.changed(&bank.account, &[]);
    assert_eq!(within(funds.draw(&key)).await, Some(nanos(9_000)));
    within(ledger.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_bounds_its_key_alone() {
    let quota = Quota {
        quota: Some(nanos(3_000)),
        period: Some(Period::Day),
    };
    let bank = Bank::with_quota(1_000_000, quota).await;
    let ledger = bank.ledger().await;
    let (funds, key) = bank.funds(&ledger);
    let hold = within(funds.reserve(&key, nanos(2_000))).await.unwrap();
    assert_eq!(within(funds.reserve(&key, nanos(2_000))).await.err(), Some(Short::Key));
    let settled = hold.settle(nanos(2_000)).unwrap();
    assert_eq!(
        settled.period_start,
        Some(Period::Day.start(tollgate::store::Millis::now()))
    );
    within(ledger.write(&bank.row(&ledger, settled))).await.unwrap();
    let other = super::create_key(&bank.store, bank.account.id, "free", Quota::default()).await;
    within(funds.reserve(&funds.key(&other), nanos(500_000))).await.unwrap();
    within(ledger.stop()).await;
    bank.prove(998_000, 0).await;
    assert_eq!(bank.store.key(bank.key.id).await.unwrap().spent, nanos(2_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ceiling_the_store_is_not_asked() {
    let mut bank = Bank::with(0).await;
    let billing = Billing::Postpaid { credit_limit: None };
    let edit = AccountEdit {
        billing: Some(billing),
        ..AccountEdit::default()
    };
    bank.account = bank.store.edit_account(bank.account.id, edit).await.unwrap();
    let ledger = bank.faulty_ledger().await;
    let (funds, key) = bank.funds(&ledger);
    assert_eq!(within(funds.draw(&key)).await, None);
    within(bank.request(&ledger, 70_000)).await.unwrap();
    assert_eq!(bank.faulty.calls("take"), 0);
    within(ledger.stop()).await;
    bank.prove(-70_000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_strands_no_money() {
    for fault in [Fault::AnswerLost, Fault::Fail] {
        let bank = Bank::with(10_000).await;
        let ledger = bank.faulty_ledger().await;
        let (funds, key) = bank.funds(&ledger);
        bank.faulty.next("take", fault, 1);
        assert!(within(funds.reserve(&key, nanos(1_000))).await.is_err());
        // The memory of it ends by itself.
        within(until(async || funds.reserve(&key, nanos(10_000)).await.is_ok())).await;
        bank.faulty.next("give_back", fault, 1);
        within(ledger.recall(bank.account.id)).await;
        tokio::time::timeout(
            Duration::from_secs(5),
            until(async || funds.reserve(&key, nanos(10_000)).await.is_ok()),
        )
        .await
        .unwrap_or_else(|_| panic!("{fault:?}: money is stranded"));
        within(ledger.stop()).await;
        bank.prove(10_000, 0).await;
    }
}
