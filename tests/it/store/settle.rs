use std::sync::Arc;

use tollgate::money::Nanos;
use tollgate::store::{Billing, Id, Ids, KeyTerms, Millis, NewAccount, Owner, Period, Row, UsageBy, UsageFilter};

use super::{Fixture, account, cents, key, page, process, row, sums_up, take_all, terms};
use crate::support::rows::SettleRows as _;

async fn rows(f: &Fixture) -> Vec<Row> {
    f.store.rows(&UsageFilter::default(), page(1000)).await.unwrap()
}

async fn rolled_up(f: &Fixture) -> (u64, Nanos, Nanos) {
    let sums = f.store.usage(&UsageFilter::default(), UsageBy::Account).await.unwrap();
    let requests = sums.iter().map(|sum| sum.requests).sum();
    (
        requests,
        sums.iter().map(|sum| sum.charge).sum(),
        sums.iter().map(|sum| sum.written_off).sum(),
    )
}

pub(super) async fn rows_settle_once(f: Fixture) {
    let acme = account(&f.store, "acme", cents(100_000)).await;
    let made = key(&f.store, acme.id, terms("k")).await;
    let me = process(&f.store).await;
    take_all(&f.store, me.id, acme.id).await;
    let ids = Ids::new(me.node);
    // More than one statement holds, of each size.
    let batch: Vec<_> = (0..300).map(|_| row(ids.next(), acme.id, made.id, cents(2))).collect();
    for _ in 0..3 {
        f.store.settle_rows(me.id, &batch).await.unwrap();
    }
    let twice = [&batch[7..8], &batch[7..9]].concat();
    f.store.settle_rows(me.id, &twice).await.unwrap();
    f.store.settle_rows(me.id, &[]).await.unwrap();
    let now = f.store.account(acme.id).await.unwrap();
    assert_eq!((now.balance, now.used), (cents(100_000 - 600), cents(600)));
    let key = f.store.key(made.id).await.unwrap();
    assert_eq!((key.used, key.spent), (cents(600), cents(600)));
    let verified = f.store.verify(acme.id, false).await.unwrap();
    assert_eq!(
        (verified.sum, verified.allotted, verified.entries),
        (now.balance, now.balance, 301)
    );
    assert_eq!(rolled_up(&f).await, (300, cents(600), Nanos::ZERO));
    assert_eq!(rows(&f).await.len(), 300);
}

pub(super) async fn rows_sent_again_with_new_ones_settle_the_new_ones(f: Fixture) {
    let acme = account(&f.store, "acme", cents(100)).await;
    let made = key(&f.store, acme.id, terms("k")).await;
    let me = process(&f.store).await;
    take_all(&f.store, me.id, acme.id).await;
    let ids = Ids::new(me.node);
    let batch: Vec<_> = (0..20).map(|_| row(ids.next(), acme.id, made.id, cents(1))).collect();
    f.store.settle_rows(me.id, &batch[..7]).await.unwrap();
    let shuffled: Vec<_> = batch.iter().rev().chain(&batch[3..5]).cloned().collect();
    f.store.settle_rows(me.id, &shuffled).await.unwrap();
    assert_eq!(f.store.account(acme.id).await.unwrap().balance, cents(80));
    assert_eq!(rolled_up(&f).await, (20, cents(20), Nanos::ZERO));
    sums_up(&f.store, acme.id).await;
}

/// A process that died: its lease ended, another took the money, then its journal was found.
pub(super) async fn what_a_released_process_owes_is_taken_from_what_is_free(f: Fixture) {
    let acme = account(&f.store, "acme", cents(100)).await;
    let made = key(&f.store, acme.id, terms("k")).await;
    let (dead, other) = (process(&f.store).await, process(&f.store).await);
    take_all(&f.store, dead.id, acme.id).await;
    f.store.release(dead.id).await.unwrap();
    let owner = Owner::Account(acme.id);
    f.store.take(other.id, owner, cents(70), Millis::now()).await.unwrap();
    let ids = Ids::new(dead.node);
    let mut late: Vec<_> = (0..3).map(|_| row(ids.next(), acme.id, made.id, cents(20))).collect();
    late[2].written_off = cents(1);
    f.store.settle_rows(dead.id, &late).await.unwrap();
    f.store.settle_rows(dead.id, &late).await.unwrap();

    let written: Vec<_> = rows(&f)
        .await
        .into_iter()
        .rev()
        .map(|row| (row.charge, row.written_off))
        .collect();
    let expected = [
        (cents(20), Nanos::ZERO),
        (cents(10), cents(10)),
        (Nanos::ZERO, cents(21)),
    ];
    assert_eq!(written, expected);
    assert_eq!(f.store.account(acme.id).await.unwrap().balance, cents(70));
    assert_eq!(f.store.verify(acme.id, true).await.unwrap().allotted, cents(70));
    assert_eq!(rolled_up(&f).await, (3, cents(30), cents(31)));
    sums_up(&f.store, acme.id).await;

    // A quota is a ceiling too.
    let small = key(
        &f.store,
        acme.id,
        KeyTerms {
            quota: Some(cents(5)),
            ..terms("small")
        },
    )
    .await;
    f.store
        .settle_rows(
            other.id,
            &[row(Ids::new(other.node).next(), acme.id, small.id, cents(9))],
        )
        .await
        .unwrap();
    let written = &rows(&f).await[0];
    assert_eq!((written.charge, written.written_off), (cents(5), cents(4)));
    assert_eq!(f.store.key(small.id).await.unwrap().spent, cents(5));
    sums_up(&f.store, acme.id).await;
}

pub(super) async fn postpaid_without_limit_owes_on(f: Fixture) {
    let new = NewAccount {
        name: "owes".to_owned(),
        billing: Billing::Postpaid { credit_limit: None },
        groups: None,
    };
    let acme = f.store.create_account(new).await.unwrap();
    let made = key(&f.store, acme.id, terms("k")).await;
    let me = process(&f.store).await;
    let ids = Ids::new(me.node);
    f.store
        .settle_rows(me.id, &[row(ids.next(), acme.id, made.id, cents(500))])
        .await
        .unwrap();
    assert_eq!(f.store.account(acme.id).await.unwrap().balance, cents(-500));
    let verified = f.store.verify(acme.id, true).await.unwrap();
    assert_eq!(verified.sum, cents(-500));
}

pub(super) async fn a_row_of_nobody_is_kept_and_charged_to_nobody(f: Fixture) {
    let me = process(&f.store).await;
    let nobody = Id::new(42);
    f.store
        .settle_rows(me.id, &[row(Ids::new(me.node).next(), nobody, nobody, cents(3))])
        .await
        .unwrap();
    let written = &rows(&f).await[0];
    assert_eq!((written.charge, written.written_off), (Nanos::ZERO, cents(3)));
}

pub(super) async fn two_processes_settle_at_once(f: Fixture) {
    let stores = [f.store.clone(), f.another().await];
    let mut owners = Vec::new();
    for i in 0..4 {
        let acme = account(&f.store, &format!("a{i}"), cents(10_000)).await;
        owners.push((acme.id, key(&f.store, acme.id, terms("k")).await.id));
    }
    let owners = Arc::new(owners);
    let tasks = (0..2).flat_map(|p| (0..16).map(move |i| (p, i))).map(|(p, i)| {
        let (store, owners) = (stores[p].clone(), owners.clone());
        tokio::spawn(async move {
            let me = process(&store).await;
            let ids = Ids::new(me.node);
            for (account, _) in owners.iter().cycle().skip(i).take(4) {
                let owner = Owner::Account(*account);
                store.take(me.id, owner, cents(100), Millis::now()).await.unwrap();
            }
            // Accounts in another order each time.
            let batch: Vec<_> = (0..20)
                .map(|n| owners[(n * (2 * i + 1) + i) % 4])
                .map(|(account, key)| row(ids.next(), account, key, cents(1)))
                .collect();
            store.settle_rows(me.id, &batch).await.unwrap();
            store.settle_rows(me.id, &batch).await.unwrap();
            store.release(me.id).await.unwrap();
        })
    });
    for task in futures_util::future::join_all(tasks).await {
        task.unwrap();
    }
    let mut left = Nanos::ZERO;
    for (account, _) in owners.iter() {
        sums_up(&f.store, *account).await;
        left = left.saturating_add(f.store.account(*account).await.unwrap().balance);
    }
    assert_eq!(left, cents(40_000 - 32 * 20));
}

pub(super) async fn a_late_charge_of_an_old_period_passes(f: Fixture) {
    let acme = account(&f.store, "acme", cents(1000)).await;
    let quota = KeyTerms {
        quota: Some(cents(50)),
        period: Some(Period::Day),
        ..terms("k")
    };
    let made = key(&f.store, acme.id, quota).await;
    let me = process(&f.store).await;
    take_all(&f.store, me.id, acme.id).await;
    let today = Millis::now().day().start();
    let tomorrow = Millis(today.0 + 86_400_000);
    let owner = Owner::Key(made.id);
    f.store.take(me.id, owner, cents(50), today).await.unwrap();
    let ids = Ids::new(me.node);
    let charged = |charge, period| Row {
        period_start: Some(period),
        ..row(ids.next(), acme.id, made.id, cents(charge))
    };
    // One batch that spans midnight: each charge counts in the period it was reserved in.
    f.store.take(me.id, owner, cents(50), tomorrow).await.unwrap();
    let batch = [
        charged(45, today),
        charged(45, tomorrow),
        charged(45, today),
        charged(45, tomorrow),
    ];
    f.store.settle_rows(me.id, &batch).await.unwrap();
    let key = f.store.key(made.id).await.unwrap();
    assert_eq!((key.spent, key.used), (cents(50), cents(45 * 3 + 5)));
    let charges: Vec<_> = rows(&f).await.into_iter().rev().map(|row| row.charge).collect();
    assert_eq!(charges, [cents(45), cents(45), cents(45), cents(5)]);
    sums_up(&f.store, acme.id).await;
}
