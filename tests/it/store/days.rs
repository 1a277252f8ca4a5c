use tollgate::money::Nanos;
use tollgate::store::{Day, EntryKind, Error, Id, Ids, Key, Millis, Row, UsageFilter};

use super::{Account, Fixture, account, cents, key, page, process, row, sums_up, take_all, terms, topup};

/// An account with money, two keys, and a process that holds all of it.
async fn set_up(f: &Fixture) -> (Account, Key, Key, Id, Ids) {
    let acme = account(&f.store, "acme", cents(10_000)).await;
    let one = key(&f.store, acme.id, terms("one")).await;
    let two = key(&f.store, acme.id, terms("two")).await;
    let me = process(&f.store).await;
    take_all(&f.store, me.id, acme.id).await;
    (acme, one, two, me.id, Ids::new(me.node))
}

fn on(day: Day, row: Row) -> Row {
    Row {
        time: Millis(day.start().0 + 1000),
        ..row
    }
}

async fn charges(f: &Fixture, account: Id) -> Vec<(Id, Day, u64, Nanos)> {
    let entries = f.store.entries(account, page(1000)).await.unwrap();
    let charges = entries.into_iter().rev().filter_map(|entry| match entry.kind {
        EntryKind::Charges { key, day, count } => Some((key, day, count, entry.amount)),
        _ => None,
    });
    charges.collect()
}

pub(super) async fn a_closed_day_keeps_the_sum(f: Fixture) {
    let (acme, one, two, me, ids) = set_up(&f).await;
    let today = Millis::now().day();
    let (before, yesterday) = (Day(today.0 - 3), Day(today.0 - 1));
    let batch: Vec<_> = [
        (before, &one, 10),
        (before, &one, 20),
        (before, &two, 5),
        (yesterday, &two, 7),
        (today, &one, 1),
        (yesterday, &one, 0),
    ]
    .into_iter()
    .map(|(day, key, charge)| on(day, row(ids.next(), acme.id, key.id, cents(charge))))
    .collect();
    f.store.settle(me, &batch).await.unwrap();
    let balance = f.store.account(acme.id).await.unwrap().balance;
    assert_eq!(f.store.close_days(today).await.unwrap(), 2);
    let expected = [
        (one.id, before, 2, cents(-30)),
        (two.id, before, 1, cents(-5)),
        (two.id, yesterday, 1, cents(-7)),
    ];
    assert_eq!(charges(&f, acme.id).await, expected);
    assert_eq!(f.store.account(acme.id).await.unwrap().balance, balance);
    let verified = f.store.verify(acme.id, false).await.unwrap();
    assert_eq!(
        (verified.since, verified.sum, verified.entries),
        (Some(yesterday), balance, 1)
    );
    let verified = f.store.verify(acme.id, true).await.unwrap();
    assert_eq!((verified.since, verified.sum, verified.entries), (None, balance, 5));

    // Closing again closes nothing, and what comes after the close is summed from it.
    assert_eq!(f.store.close_days(today).await.unwrap(), 0);
    f.store.topup(topup(acme.id, cents(50))).await.unwrap();
    sums_up(&f.store, acme.id).await;
    assert_eq!(f.store.close_days(Day(today.0 + 1)).await.unwrap(), 1);
    sums_up(&f.store, acme.id).await;
    let verified = f.store.verify(acme.id, false).await.unwrap();
    assert_eq!((verified.since, verified.entries), (Some(today), 0));
}

pub(super) async fn a_wrong_sum_closes_nothing(f: Fixture) {
    let (acme, one, _, me, ids) = set_up(&f).await;
    account(&f.store, "well", cents(5)).await;
    let today = Millis::now().day();
    let old = on(Day(today.0 - 1), row(ids.next(), acme.id, one.id, cents(10)));
    f.store.settle(me, &[old]).await.unwrap();
    for (wrong, right) in [
        (
            "UPDATE accounts SET balance = balance + 1 WHERE name = 'acme'",
            "UPDATE accounts SET balance = balance - 1 WHERE name = 'acme'",
        ),
        (
            "UPDATE usage SET charge = charge + 1",
            "UPDATE usage SET charge = charge - 1",
        ),
        (
            "UPDATE entries SET amount = amount - 1 WHERE amount > 1000000000",
            "UPDATE entries SET amount = amount + 1 WHERE amount > 1000000000",
        ),
    ] {
        f.tamper(wrong).await;
        let corrupt = f.store.close_days(today).await.unwrap_err();
        assert!(
            matches!(&corrupt, Error::Corrupt(what) if what.contains("acme")),
            "{wrong}: {corrupt:?}"
        );
        let verified = f.store.verify(acme.id, false).await.unwrap();
        assert_ne!(verified.balance, verified.sum, "{wrong}");
        f.tamper(right).await;
    }
    assert_eq!(charges(&f, acme.id).await, []);
    assert_eq!(f.store.close_days(today).await.unwrap(), 1);
    // A wrong balance shows on a day without charges, too.
    f.tamper("UPDATE accounts SET balance = balance + 1 WHERE name = 'well'")
        .await;
    let corrupt = f.store.close_days(Day(today.0 + 1)).await.unwrap_err();
    assert!(
        matches!(&corrupt, Error::Corrupt(what) if what.contains("well")),
        "{corrupt:?}"
    );
}

pub(super) async fn late_rows_count_in_the_first_open_day(f: Fixture) {
    let (acme, one, _, me, ids) = set_up(&f).await;
    let today = Millis::now().day();
    let late = |charge| on(Day(today.0 - 2), row(ids.next(), acme.id, one.id, cents(charge)));
    let first = late(10);
    f.store.settle(me, std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(f.store.close_days(today).await.unwrap(), 1);
    // A journal that is replayed after the close: known rows stay what they are.
    f.store.settle(me, &[first, late(4)]).await.unwrap();
    sums_up(&f.store, acme.id).await;
    assert_eq!(f.store.close_days(Day(today.0 + 1)).await.unwrap(), 1);
    let expected = [(one.id, Day(today.0 - 2), 1, cents(-10)), (one.id, today, 1, cents(-4))];
    assert_eq!(charges(&f, acme.id).await, expected);
    sums_up(&f.store, acme.id).await;
}

pub(super) async fn closed_rows_are_pruned(f: Fixture) {
    let (acme, one, _, me, ids) = set_up(&f).await;
    let today = Millis::now().day();
    let batch: Vec<_> = (0..10)
        .map(|i| on(Day(today.0 - i), row(ids.next(), acme.id, one.id, cents(1))))
        .collect();
    f.store.settle(me, &batch).await.unwrap();
    assert_eq!(f.store.prune(Millis::now(), 100).await.unwrap(), 0);
    f.store.close_days(Day(today.0 - 2)).await.unwrap();
    // Days 3 to 9 back are closed.
    assert_eq!(f.store.prune(Day(today.0 - 5).start(), 3).await.unwrap(), 3);
    assert_eq!(f.store.prune(Day(today.0 - 5).start(), 3).await.unwrap(), 1);
    assert_eq!(f.store.prune(Day(today.0 - 5).start(), 3).await.unwrap(), 0);
    assert_eq!(f.store.prune(Millis::now(), 100).await.unwrap(), 3);
    assert_eq!(f.store.rows(&UsageFilter::default(), page(100)).await.unwrap().len(), 3);
    sums_up(&f.store, acme.id).await;
    f.store.close_days(today).await.unwrap();
    sums_up(&f.store, acme.id).await;
}
