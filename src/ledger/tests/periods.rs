//! Quotas that start anew.

use super::{allot, funds, held, key, nanos};
use crate::money::Nanos;
use crate::store::{Billing, Day, Id, Millis, Owner, Period};

#[test]
fn a_period_that_has_passed_keeps_what_was_reserved_in_it() {
    let funds = funds(Billing::Prepaid);
    let daily = funds.key(&key(3, Some(100), Some(Period::Day)));
    let owner = Owner::Key(Id::new(3));
    let today = Period::Day.start(Millis::now());
    let yesterday = Millis(today.0 - Day::MILLIS);
    let dated = |start, end| {
        if let Some(key) = funds.purses.lock().key_mut(Id::new(3)) {
            key.date(start, end);
        }
    };
    allot(&funds, Owner::Account(Id::new(1)), 1_000);
    allot(&funds, owner, 100);
    dated(yesterday, Millis(i64::MAX));
    let hold = funds.try_reserve(&daily, nanos(60)).expect("enough");
    assert_eq!(
        hold.settle(nanos(60)).and_then(|settled| settled.period_start),
        Some(yesterday)
    );
    let old = funds.try_reserve(&daily, nanos(30)).expect("enough");
    dated(yesterday, today);
    assert_eq!(
        funds.free(&daily),
        Some(Nanos::ZERO),
        "nothing is held of the new period"
    );
    assert!(
        old.grow(nanos(5)),
        "the old period has 10 left for what was reserved in it"
    );
    assert!(!old.grow(nanos(6)));
    if let Some(key) = funds.purses.lock().key_mut(Id::new(3)) {
        key.began(Some(today));
    }
    allot(&funds, owner, 100);
    assert_eq!(funds.free(&daily), Some(nanos(100)));
    let settled = old.settle(nanos(50)).expect("once");
    assert_eq!(settled.charge, nanos(40), "all that the old period still had");
    assert_eq!(settled.period_start, Some(yesterday));
    assert_eq!(
        held(&funds, owner),
        (nanos(100), Nanos::ZERO),
        "the new period is untouched"
    );
    let new = funds.try_reserve(&daily, nanos(100)).expect("enough");
    let settled = new.settle(nanos(100)).expect("once");
    assert_eq!((settled.charge, settled.period_start), (nanos(100), Some(today)));
}
