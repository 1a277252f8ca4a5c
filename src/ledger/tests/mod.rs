//! Purses and reservations without a store.

mod concurrent;
mod cost;
mod model;
mod periods;

use std::sync::{Arc, Weak};

use super::funds::{Funds, KeyFunds};
use crate::money::Nanos;
use crate::store::{Account, Billing, Id, Key, KeyStatus, KeyTerms, Millis, Owner, Period, Row, RowAttempt, RowTokens};

pub(super) const fn nanos(amount: i64) -> Nanos {
    Nanos::new(amount)
}

fn account(billing: Billing) -> Account {
    Account {
        id: Id::new(1),
        name: "acme".to_owned(),
        billing,
        disabled: false,
        groups: None,
        balance: Nanos::ZERO,
        used: Nanos::ZERO,
        created: Millis(0),
        revision: 1,
    }
}

fn key(id: i64, quota: Option<i64>, period: Option<Period>) -> Key {
    Key {
        id: Id::new(id),
        account: Id::new(1),
        terms: KeyTerms {
            name: format!("key {id}"),
            group: "default".to_owned(),
            models: None,
            ips: Vec::new(),
            rpm: None,
            tpm: None,
            concurrency: None,
            quota: quota.map(Nanos::new),
            period,
            expires: None,
        },
        hash: [0; 32],
        prefix: String::new(),
        last4: String::new(),
        old: None,
        status: KeyStatus::Enabled,
        used: Nanos::ZERO,
        period_start: None,
        spent: Nanos::ZERO,
        sealed: None,
        created: Millis(0),
        last_used: None,
        revision: 1,
    }
}

/// A row as it is after a request.
pub(super) fn row(id: i64) -> Row {
    Row {
        id: Id::new(id),
        time: Millis(1_795_000_000_000),
        request_id: "8f1c4e0a-1b1b-4a5c-9e60-3b8a3c3c0001".to_owned(),
        account: Id::new(1),
        key: Id::new(2),
        group: "default".to_owned(),
        endpoint: "chat_completions".to_owned(),
        model: "deepseek-chat".to_owned(),
        served: Some("deepseek-chat".to_owned()),
        attempts: vec![RowAttempt {
            backend: "deepseek".to_owned(),
            status: Some(200),
            ms: 310,
        }],
        status: 200,
        reason: None,
        streamed: true,
        tokens: RowTokens {
            prompt: 1200,
            cached: 1000,
            completion: 340,
            ..RowTokens::default()
        },
        bytes_in: 4800,
        bytes_out: 9200,
        first_ms: Some(210),
        total_ms: 4200,
        price: Some(r#"{"input":"0.27","output":"1.10"}"#.to_owned()),
        charge: nanos(698_000),
        written_off: Nanos::ZERO,
        period_start: None,
        cap_asked: Some(4096),
        cap_applied: Some(4096),
        estimated: false,
        disconnected: false,
        cut_short: false,
        from_cache: false,
        ip: Some([10, 0, 0, 7].into()),
        tag: None,
        user: Some("u-1".to_owned()),
        backend_request_id: Some("b-1".to_owned()),
    }
}

/// Funds that no ledger supplies.
fn funds(billing: Billing) -> Arc<Funds> {
    Funds::new(&account(billing), Weak::new())
}

/// What the store would have given.
fn allot(funds: &Funds, owner: Owner, amount: i64) {
    if let Some((purse, _)) = funds.purses.lock().of(owner) {
        purse.add(amount);
    }
}

fn held(funds: &Funds, owner: Owner) -> (Nanos, Nanos) {
    let mut purses = funds.purses.lock();
    purses.of(owner).map_or((Nanos::ZERO, Nanos::ZERO), |(purse, _)| {
        (purse.held(), purse.reserved())
    })
}

/// One account with so much, and a key without a quota.
fn simple(amount: i64) -> (Arc<Funds>, KeyFunds) {
    let funds = funds(Billing::Prepaid);
    let key = funds.key(&key(2, None, None));
    allot(&funds, Owner::Account(Id::new(1)), amount);
    (funds, key)
}

#[test]
fn a_hold_is_settled_once_whoever_tries() {
    let (funds, key) = simple(100);
    let hold = funds.try_reserve(&key, nanos(60)).expect("enough");
    let clone = hold.clone();
    assert_eq!(hold.settle(nanos(10)).map(|settled| settled.charge), Some(nanos(10)));
    assert_eq!(clone.settle(nanos(10)), None);
    assert!(!clone.grow(nanos(1)));
    clone.release();
    assert_eq!(clone.amount(), Nanos::ZERO);
    drop((hold, clone));
    assert_eq!(held(&funds, Owner::Account(Id::new(1))), (nanos(90), Nanos::ZERO));
}

#[test]
fn the_last_clone_that_drops_releases() {
    let (funds, key) = simple(100);
    let hold = funds.try_reserve(&key, nanos(60)).expect("enough");
    let clone = hold.clone();
    drop(hold);
    assert_eq!(funds.free(&key), Some(nanos(40)));
    drop(clone);
    assert_eq!(funds.free(&key), Some(nanos(100)));
}

#[test]
fn what_is_not_there_is_written_off() {
    let (funds, key) = simple(100);
    let other = funds.try_reserve(&key, nanos(30)).expect("enough");
    let hold = funds.try_reserve(&key, nanos(50)).expect("enough");
    // 50 of its own and 20 that are free, not the 30 of the other.
    let settled = hold.settle(nanos(90)).expect("once");
    assert_eq!((settled.charge, settled.written_off), (nanos(70), nanos(20)));
    assert_eq!(other.settle(nanos(30)).expect("once").charge, nanos(30));
    assert_eq!(held(&funds, Owner::Account(Id::new(1))), (Nanos::ZERO, Nanos::ZERO));
}

#[test]
fn a_reservation_is_of_both_or_of_neither() {
    let funds = funds(Billing::Prepaid);
    let quota = funds.key(&key(3, Some(50), None));
    let (account, owner) = (Owner::Account(Id::new(1)), Owner::Key(Id::new(3)));
    allot(&funds, account, 100);
    allot(&funds, owner, 50);
    let hold = funds.try_reserve(&quota, nanos(40)).expect("enough");
    assert_eq!(funds.try_reserve(&quota, nanos(20)).err(), Some(super::Short::Key));
    assert!(!hold.grow(nanos(20)), "the account has it, the key has not");
    assert_eq!(held(&funds, account), (nanos(100), nanos(40)));
    assert_eq!(held(&funds, owner), (nanos(50), nanos(40)));
    let rest = funds.try_reserve_up_to(&quota, nanos(1), nanos(1_000)).expect("some");
    assert_eq!(rest.amount(), nanos(10));
    drop(rest);
    assert!(hold.grow(nanos(10)));
    let settled = hold.settle(nanos(70)).expect("once");
    assert_eq!((settled.charge, settled.written_off), (nanos(50), nanos(20)));
    assert_eq!(held(&funds, account), (nanos(50), Nanos::ZERO));
    assert_eq!(held(&funds, owner), (Nanos::ZERO, Nanos::ZERO));
}

#[test]
fn without_a_ceiling_reservations_are_counted_too() {
    let funds = funds(Billing::Postpaid { credit_limit: None });
    let key = funds.key(&key(2, None, None));
    let owner = Owner::Account(Id::new(1));
    let hold = funds.try_reserve(&key, nanos(70)).expect("no ceiling");
    assert_eq!(funds.free(&key), None);
    assert_eq!(held(&funds, owner), (Nanos::ZERO, nanos(70)));
    assert!(hold.grow(nanos(5)));
    assert_eq!(hold.settle(nanos(200)).expect("once").charge, nanos(200));
    assert_eq!(held(&funds, owner), (Nanos::ZERO, Nanos::ZERO));
}

#[test]
fn a_ceiling_that_comes_or_goes_leaves_nothing_reserved() {
    let funds = funds(Billing::Postpaid { credit_limit: None });
    let plain = funds.key(&key(2, None, None));
    let owner = Owner::Account(Id::new(1));
    let hold = funds.try_reserve(&plain, nanos(70)).expect("no ceiling");
    let prepaid = Account {
        revision: 2,
        ..account(Billing::Prepaid)
    };
    funds.purses.lock().know_account(&prepaid);
    // Older facts that come late change nothing.
    funds
        .purses
        .lock()
        .know_account(&account(Billing::Postpaid { credit_limit: None }));
    assert_eq!(funds.free(&plain), Some(Nanos::ZERO));
    allot(&funds, owner, 100);
    let other = funds.try_reserve(&plain, nanos(20)).expect("enough");
    // What was reserved without a ceiling: the store decides what can be taken.
    assert_eq!(hold.settle(nanos(60)).expect("once").charge, nanos(60));
    assert_eq!(held(&funds, owner), (nanos(40), nanos(20)));
    let with_quota = Key {
        revision: 2,
        ..key(2, Some(10), None)
    };
    let limited = funds.key(&with_quota);
    assert_eq!(funds.free(&limited), Some(Nanos::ZERO));
    assert!(
        !other.grow(nanos(1)),
        "its key has a quota now, and nothing of it is here"
    );
    allot(&funds, Owner::Key(Id::new(2)), 25);
    assert!(other.grow(nanos(1)));
    assert_eq!(held(&funds, Owner::Key(Id::new(2))), (nanos(25), nanos(21)));
    drop(other);
    assert_eq!(held(&funds, Owner::Key(Id::new(2))), (nanos(25), Nanos::ZERO));
    assert_eq!(held(&funds, owner), (nanos(40), Nanos::ZERO));
}

#[test]
fn twenty_agents_with_a_large_cap_are_all_served() {
    let worst = nanos(64_000 * 15);
    let real = nanos(500 * 15);
    let (funds, key) = simple(20 * real.get() * 4);
    let holds: Vec<_> = (0..20)
        .map(|_| {
            let free = funds.free(&key).expect("a ceiling").get();
            let cap = worst.min(nanos(free / 8));
            funds.try_reserve_up_to(&key, nanos(1), cap).expect("none is refused")
        })
        .collect();
    for hold in holds {
        assert_eq!(hold.settle(real).expect("once").written_off, Nanos::ZERO);
    }
}
