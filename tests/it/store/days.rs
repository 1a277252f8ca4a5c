use tollgate::money::Nanos;
use tollgate::store::{Day, EntryKind, Error, Id, Ids, Key, Millis, Row, UsageFilter};

use super::{Account, Fixture, account, cents, key, page, process, row, sums_up, take_all, terms, topup};
use crate::support::rows::SettleRows as _;

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
    f.store.settle_rows(me, &batch).await.unwrap();
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
    f.store.settle_rows(me, &[old]).await.unwrap();
    for (wrong, right) in [
        (
            "UPDATE accounts SET balance = balance + 1 WHERE name = 'acme'",
            "UPDATE accounts SET balance = balance - 1 WHERE name = 'acme'",
        ),
        (
            "UPDATE charges SET amount = amount + 1",
            "UPDATE charges SET amount = amount - 1",
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

/// The sums of charges, which a close enters, and the rows: the full proof finds where they differ.
pub(super) async fn sums_that_are_not_those_of_the_rows_are_found(f: Fixture) {
    let (acme, one, two, me, ids) = set_up(&f).await;
    let other = account(&f.store, "other", cents(5)).await;
    let today = Millis::now().day();
    let yesterday = Day(today.0 - 1);
    f.store.close_days(yesterday).await.unwrap();
    let mut batch: Vec<_> = [(yesterday, &one, 10), (today, &one, 20), (today, &two, 30)]
        .into_iter()
        .map(|(day, key, charge)| on(day, row(ids.next(), acme.id, key.id, cents(charge))))
        .collect();
    // From a journal that was found after weeks: its id is as old as it is.
    batch.push(Row {
        id: Id::at(Day(today.0 - 40).start()),
        ..on(Day(today.0 - 40), row(ids.next(), acme.id, one.id, cents(2)))
    });
    f.store.settle_rows(me, &batch).await.unwrap();
    sums_up(&f.store, acme.id).await;
    assert_eq!(f.store.verify(acme.id, true).await.unwrap().entries, 5);
    for (wrong, right, quick) in [
        // A row, an old one, one that is gone, a sum, and one that is gone: the two sums differ.
        (
            "UPDATE usage SET lines = REPLACE(lines, ',300000000,', ',300000001,')",
            "UPDATE usage SET lines = REPLACE(lines, ',300000001,', ',300000000,')",
            true,
        ),
        (
            "UPDATE usage SET lines = REPLACE(lines, ',20000000,', ',20000001,')",
            "UPDATE usage SET lines = REPLACE(lines, ',20000001,', ',20000000,')",
            true,
        ),
        (
            "UPDATE usage SET account = -account WHERE lines LIKE '%,100000000,%'",
            "UPDATE usage SET account = -account WHERE lines LIKE '%,100000000,%'",
            true,
        ),
        (
            "UPDATE charges SET amount = amount - 1 WHERE amount = 300000000",
            "UPDATE charges SET amount = amount + 1 WHERE amount = 299999999",
            false,
        ),
        (
            "UPDATE charges SET account = -account WHERE amount = 300000000",
            "UPDATE charges SET account = -account WHERE amount = 300000000",
            false,
        ),
        // Both are wrong by as much: they are right about each other, not about the balance.
        (
            "UPDATE usage SET lines = REPLACE(lines, ',300000000,', ',300000001,');
             UPDATE charges SET amount = amount + 1 WHERE amount = 300000000",
            "UPDATE usage SET lines = REPLACE(lines, ',300000001,', ',300000000,');
             UPDATE charges SET amount = amount - 1 WHERE amount = 300000001",
            false,
        ),
    ] {
        f.tamper(wrong).await;
        let verified = f.store.verify(acme.id, false).await.unwrap();
        assert_eq!(verified.balance == verified.sum, quick, "{wrong}");
        let verified = f.store.verify(acme.id, true).await.unwrap();
        assert_ne!(verified.balance, verified.sum, "{wrong}");
        sums_up(&f.store, other.id).await;
        f.tamper(right).await;
        sums_up(&f.store, acme.id).await;
    }
    // The same in all, under other keys or another count: no sum shows it.
    for (wrong, right) in [
        (
            "UPDATE charges SET amount = amount + 1 WHERE amount = 300000000;
             UPDATE charges SET amount = amount - 1 WHERE amount = 120000000",
            "UPDATE charges SET amount = amount - 1 WHERE amount = 300000001;
             UPDATE charges SET amount = amount + 1 WHERE amount = 119999999",
        ),
        (
            "UPDATE charges SET count = count + 1 WHERE amount = 300000000",
            "UPDATE charges SET count = count - 1 WHERE amount = 300000000",
        ),
    ] {
        f.tamper(wrong).await;
        let corrupt = f.store.verify(acme.id, true).await.unwrap_err();
        assert!(
            matches!(&corrupt, Error::Corrupt(what) if what.contains(&acme.id.to_string())),
            "{wrong}: {corrupt:?}"
        );
        f.tamper(right).await;
        sums_up(&f.store, acme.id).await;
    }
    assert_eq!(f.store.close_days(Day(today.0 + 1)).await.unwrap(), 2);
    sums_up(&f.store, acme.id).await;
}

pub(super) async fn late_rows_count_in_the_first_open_day(f: Fixture) {
    let (acme, one, _, me, ids) = set_up(&f).await;
    let today = Millis::now().day();
    let late = |charge| on(Day(today.0 - 2), row(ids.next(), acme.id, one.id, cents(charge)));
    let first = late(10);
    f.store.settle_rows(me, std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(f.store.close_days(today).await.unwrap(), 1);
    // A journal that is replayed after the close: known rows stay what they are.
    f.store.settle_rows(me, &[first, late(4)]).await.unwrap();
    sums_up(&f.store, acme.id).await;
    assert_eq!(f.store.close_days(Day(today.0 + 1)).await.unwrap(), 1);
    let expected = [(one.id, Day(today.0 - 2), 1, cents(-10)), (one.id, today, 1, cents(-4))];
    assert_eq!(charges(&f, acme.id).await, expected);
    sums_up(&f.store, acme.id).await;
}

pub(super) async fn closed_rows_are_pruned(f: Fixture) {
    let (acme, one, _, me, _) = set_up(&f).await;
    let today = Millis::now().day();
    let batch: Vec<_> = (0..10)
        .map(|i| Day(today.0 - i))
        .map(|day| {
            on(
                day,
                row(Id::at(Millis(day.start().0 + 2000)), acme.id, one.id, cents(1)),
            )
        })
        .collect();
    f.store.settle_rows(me, &batch).await.unwrap();
    assert_eq!(f.store.prune(Millis::now(), 100).await.unwrap(), 0);
    f.store.close_days(Day(today.0 - 2)).await.unwrap();
    // Days 3 to 9 back are closed.
    assert_eq!(f.store.prune(Day(today.0 - 5).start(), 3).await.unwrap(), 3);
    assert_eq!(f.store.prune(Day(today.0 - 5).start(), 3).await.unwrap(), 1);
    assert_eq!(f.store.prune(Day(today.0 - 5).start(), 3).await.unwrap(), 0);
    // An old row that counts in a day that is still open stays, and so does one that was made after its day.
    let late = on(
        Day(today.0 - 9),
        row(Id::at(Day(today.0 - 9).start()), acme.id, one.id, cents(1)),
    );
    f.store.settle_rows(me, &[late]).await.unwrap();
    assert_eq!(
        f.store
            .prune(Millis(Day(today.0 - 3).start().0 + 1500), 100)
            .await
            .unwrap(),
        2
    );
    assert_eq!(f.store.prune(Millis::now(), 100).await.unwrap(), 1);
    assert_eq!(f.store.rows(&UsageFilter::default(), page(100)).await.unwrap().len(), 4);
    sums_up(&f.store, acme.id).await;
    f.store.close_days(today).await.unwrap();
    assert_eq!(f.store.prune(Day(today.0 - 5).start(), 100).await.unwrap(), 1);
    sums_up(&f.store, acme.id).await;
}
