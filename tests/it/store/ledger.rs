use std::collections::BTreeSet;

use tollgate::money::Nanos;
use tollgate::store::{Ask, Day, Error, Ids, KeyTerms, Millis, Owner, Period, Position};

use super::{Fixture, account, cents, key, process, row, sums_up, take_all, terms};
use crate::support::rows::SettleRows as _;

pub(super) async fn nodes_are_unique_and_processes_beat(f: Fixture) {
    let registered = (0..20).map(|_| process(&f.store));
    let processes = futures_util::future::join_all(registered).await;
    let nodes: BTreeSet<_> = processes.iter().map(|process| process.node).collect();
    let ids: BTreeSet<_> = processes.iter().map(|process| process.id).collect();
    assert_eq!((nodes.len(), ids.len()), (20, 20));
    let one = &processes[0];
    f.store.beat(one.id, Millis(Millis::now().0 + 1)).await.unwrap();
    f.store.release(one.id).await.unwrap();
    f.store.release(one.id).await.unwrap();
    assert!(matches!(
        f.store.beat(one.id, Millis::now()).await,
        Err(Error::NotFound("process"))
    ));
    assert!(!f.store.pulse(one.id).await.unwrap().registered);
    // Not the node that has just ended: its ids may still be on their way.
    assert!(!nodes.contains(&process(&f.store).await.node));
}

pub(super) async fn those_that_serve_know_their_place(f: Fixture) {
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(process(&f.store).await.id);
    }
    let places = async || {
        let mut places = Vec::new();
        for process in &processes {
            let pulse = f.store.pulse(*process).await.unwrap();
            places.push(pulse.position.map(|Position { of, rank }| (rank, of)));
        }
        places
    };
    assert_eq!(places().await, [None; 4], "none serves yet");
    // In another order than they came.
    for place in [2, 0, 3, 0] {
        f.store.serve(processes[place], true).await.unwrap();
    }
    assert_eq!(places().await, [Some((0, 3)), None, Some((1, 3)), Some((2, 3))]);
    f.store.serve(processes[1], true).await.unwrap();
    f.store.serve(processes[0], false).await.unwrap();
    assert_eq!(places().await, [None, Some((0, 3)), Some((1, 3)), Some((2, 3))]);
    assert!(
        f.store.pulse(processes[0]).await.unwrap().registered,
        "it drains, and is there"
    );
    // A beat says nothing of it.
    let later = Millis(Millis::now().0 + 60_000);
    f.store.beat(processes[0], later).await.unwrap();
    assert_eq!(places().await[0], None);
    f.store.release(processes[2]).await.unwrap();
    assert_eq!(places().await, [None, Some((0, 2)), None, Some((1, 2))]);
    f.store.beat(processes[1], Millis(Millis::now().0 - 1)).await.unwrap();
    f.store.release_expired(Millis::now()).await.unwrap();
    assert_eq!(places().await, [None, None, None, Some((0, 1))]);
    let gone = f.store.serve(processes[2], true).await;
    assert!(matches!(gone, Err(Error::NotFound("process"))), "{gone:?}");
}

/// The version before does not know whether it serves: it is taken to do, from its start to its end.
pub(super) async fn the_version_before_serves(f: Fixture) {
    let me = process(&f.store).await.id;
    f.store.serve(me, true).await.unwrap();
    f.tamper("INSERT INTO processes (id, node, lease_end) VALUES (1, 250, 9000000000000)")
        .await;
    let pulse = f.store.pulse(me).await.unwrap();
    assert_eq!(pulse.position, Some(Position { of: 2, rank: 1 }));
}

pub(super) async fn a_process_takes_and_gives_back(f: Fixture) {
    let acme = account(&f.store, "acme", cents(100)).await;
    let (a, b) = (process(&f.store).await, process(&f.store).await);
    let owner = Owner::Account(acme.id);
    let take = async |process, most| f.store.take(process, owner, most, Millis::now()).await.unwrap();
    let taken = take(a.id, cents(60)).await;
    assert_eq!(
        (taken.amount, taken.held, taken.others_hold),
        (cents(60), cents(60), false)
    );
    let taken = take(b.id, Nanos::MAX).await;
    assert_eq!(
        (taken.amount, taken.held, taken.others_hold),
        (cents(40), cents(40), true)
    );
    let taken = take(a.id, cents(1)).await;
    assert_eq!(
        (taken.amount, taken.held, taken.others_hold),
        (Nanos::ZERO, cents(60), true)
    );
    f.store.give_back(a.id, owner, cents(25)).await.unwrap();
    assert!(matches!(
        f.store.give_back(a.id, owner, cents(36)).await,
        Err(Error::Refused(_))
    ));
    assert!(matches!(
        f.store.give_back(a.id, owner, Nanos::new(-1)).await,
        Err(Error::Refused(_))
    ));
    let taken = take(b.id, cents(99)).await;
    assert_eq!((taken.amount, taken.held), (cents(25), cents(65)));
    assert_eq!(f.store.verify(acme.id, false).await.unwrap().allotted, cents(100));
    assert_eq!(take(b.id, Nanos::new(-5)).await.amount, Nanos::ZERO);
    f.store.give_back(a.id, owner, cents(35)).await.unwrap();
    assert!(matches!(
        f.store.give_back(a.id, owner, Nanos::new(1)).await,
        Err(Error::Refused(_))
    ));

    f.store.release(a.id).await.unwrap();
    let gone = f.store.take(a.id, owner, cents(1), Millis::now()).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound("process")), "{gone:?}");
    let none = f
        .store
        .take(b.id, Owner::Account(a.id), cents(1), Millis::now())
        .await
        .unwrap_err();
    assert!(matches!(none, Error::NotFound("account")), "{none:?}");
}

pub(super) async fn asks_reach_who_holds(f: Fixture) {
    let acme = account(&f.store, "acme", cents(100)).await;
    let made = key(
        &f.store,
        acme.id,
        KeyTerms {
            quota: Some(cents(10)),
            ..terms("k")
        },
    )
    .await;
    let [a, b, c] = [
        process(&f.store).await,
        process(&f.store).await,
        process(&f.store).await,
    ];
    let owner = Owner::Account(acme.id);
    take_all(&f.store, a.id, acme.id).await;
    f.store.ask(b.id, owner, cents(5)).await.unwrap();
    f.store.ask(b.id, owner, cents(30)).await.unwrap();
    f.store.ask(c.id, owner, Nanos::MAX).await.unwrap();
    f.store.ask(b.id, Owner::Key(made.id), cents(1)).await.unwrap();
    let asked = async |process| f.store.pulse(process).await.unwrap().asks;
    assert_eq!(
        asked(a.id).await,
        [Ask {
            owner,
            amount: Nanos::MAX
        }]
    );
    assert_eq!(asked(b.id).await, []);
    f.store.release(c.id).await.unwrap();
    assert_eq!(
        asked(a.id).await,
        [Ask {
            owner,
            amount: cents(30)
        }]
    );
    f.store.give_back(a.id, owner, cents(10)).await.unwrap();
    assert_eq!(
        asked(a.id).await,
        [Ask {
            owner,
            amount: cents(30)
        }]
    );
    assert_eq!(
        f.store
            .take(b.id, owner, cents(30), Millis::now())
            .await
            .unwrap()
            .amount,
        cents(10)
    );
    assert_eq!(asked(a.id).await, []);
}

/// PITFALLS 1 and 18: two processes, 64 tasks, one balance.
pub(super) async fn two_processes_never_hold_more_than_there_is(f: Fixture) {
    let acme = account(&f.store, "acme", cents(1000)).await;
    let stores = [f.store.clone(), f.another().await];
    let processes = [process(&stores[0]).await, process(&stores[1]).await];
    let owner = Owner::Account(acme.id);
    let tasks = (0..64).map(|i| {
        let (store, process) = (stores[i % 2].clone(), processes[i % 2].id);
        tokio::spawn(async move {
            let taken = store.take(process, owner, cents(37), Millis::now()).await.unwrap();
            if i % 8 == 7 {
                store.give_back(process, owner, taken.amount).await.unwrap();
                return Nanos::ZERO;
            }
            taken.amount
        })
    });
    let mut held = Nanos::ZERO;
    for task in futures_util::future::join_all(tasks).await {
        held = held.saturating_add(task.unwrap());
    }
    let verified = f.store.verify(acme.id, true).await.unwrap();
    assert_eq!(verified.allotted, held);
    assert!(held <= cents(1000), "{held}");
    let rest = take_all(&f.store, processes[0].id, acme.id).await;
    assert_eq!(held.saturating_add(rest), cents(1000));
    assert_eq!(take_all(&stores[1], processes[1].id, acme.id).await, Nanos::ZERO);
}

pub(super) async fn release_gives_back_and_expiry_releases(f: Fixture) {
    let acme = account(&f.store, "acme", cents(100)).await;
    let now = Millis::now();
    let (a, b) = (
        process(&f.store).await,
        f.store.register(Millis(now.0 + 10)).await.unwrap(),
    );
    assert_eq!(take_all(&f.store, b.id, acme.id).await, cents(100));
    assert_eq!(take_all(&f.store, a.id, acme.id).await, Nanos::ZERO);
    assert_eq!(f.store.release_expired(Millis(now.0 + 10)).await.unwrap(), []);
    assert_eq!(f.store.release_expired(Millis(now.0 + 11)).await.unwrap(), [b.id]);
    assert_eq!(take_all(&f.store, a.id, acme.id).await, cents(100));
    f.store.release(a.id).await.unwrap();
    let c = process(&f.store).await;
    assert_eq!(take_all(&f.store, c.id, acme.id).await, cents(100));
}

pub(super) async fn a_quota_is_held_like_a_balance(f: Fixture) {
    let acme = account(&f.store, "acme", cents(1000)).await;
    let made = key(
        &f.store,
        acme.id,
        KeyTerms {
            quota: Some(cents(50)),
            ..terms("k")
        },
    )
    .await;
    let free = key(&f.store, acme.id, terms("free")).await;
    let (a, b) = (process(&f.store).await, process(&f.store).await);
    let take = async |process, key, most| f.store.take(process, Owner::Key(key), most, Millis::now()).await;
    let taken = take(a.id, made.id, cents(30)).await.unwrap();
    assert_eq!((taken.amount, taken.period_start), (cents(30), None));
    let taken = take(b.id, made.id, cents(30)).await.unwrap();
    assert_eq!((taken.amount, taken.others_hold), (cents(20), true));
    assert!(matches!(take(a.id, free.id, cents(1)).await, Err(Error::Refused(_))));
    take_all(&f.store, a.id, acme.id).await;
    f.store
        .settle_rows(a.id, &[row(Ids::new(a.node).next(), acme.id, made.id, cents(30))])
        .await
        .unwrap();
    f.store.release(a.id).await.unwrap();
    assert_eq!(take(b.id, made.id, cents(30)).await.unwrap().held, cents(20));
    let key = f.store.key(made.id).await.unwrap();
    assert_eq!((key.spent, key.used), (cents(30), cents(30)));
    assert!(key.last_used.is_some());
    sums_up(&f.store, acme.id).await;
}

pub(super) async fn quotas_start_anew(f: Fixture) {
    let acme = account(&f.store, "acme", cents(1000)).await;
    let quota = KeyTerms {
        quota: Some(cents(50)),
        period: Some(Period::Day),
        ..terms("k")
    };
    let made = key(&f.store, acme.id, quota).await;
    let (a, b) = (process(&f.store).await, process(&f.store).await);
    let (today, tomorrow) = (Millis::now().day().start(), Day(Millis::now().day().0 + 1).start());
    let owner = Owner::Key(made.id);
    let taken = f.store.take(a.id, owner, cents(40), today).await.unwrap();
    assert_eq!((taken.amount, taken.period_start), (cents(40), Some(today)));
    take_all(&f.store, a.id, acme.id).await;
    let ids = Ids::new(a.node);
    let charged = |charge, period| tollgate::store::Row {
        period_start: Some(period),
        ..row(ids.next(), acme.id, made.id, cents(charge))
    };
    f.store.settle_rows(a.id, &[charged(15, today)]).await.unwrap();
    assert_eq!(f.store.key(made.id).await.unwrap().spent, cents(15));

    // Tomorrow another process is the first to see it: what is held of today counts no longer.
    let taken = f.store.take(b.id, owner, Nanos::MAX, tomorrow).await.unwrap();
    assert_eq!(
        (taken.amount, taken.period_start, taken.others_hold),
        (cents(50), Some(tomorrow), false)
    );
    let key = f.store.key(made.id).await.unwrap();
    assert_eq!(
        (key.spent, key.period_start, key.used),
        (Nanos::ZERO, Some(tomorrow), cents(15))
    );
    f.store.give_back(a.id, owner, cents(25)).await.unwrap();
    // A clock that is behind does not bring today back.
    let taken = f.store.take(a.id, owner, cents(1), today).await.unwrap();
    assert_eq!((taken.amount, taken.period_start), (Nanos::ZERO, Some(tomorrow)));
    f.store.give_back(a.id, owner, cents(25)).await.unwrap();
    f.store
        .give_back(a.id, Owner::Account(acme.id), cents(100))
        .await
        .unwrap();
    f.store.settle_rows(b.id, &[charged(50, tomorrow)]).await.unwrap();
    assert_eq!(
        f.store.take(b.id, owner, cents(1), tomorrow).await.unwrap().amount,
        Nanos::ZERO
    );
    assert_eq!(f.store.key(made.id).await.unwrap().spent, cents(50));
    sums_up(&f.store, acme.id).await;
}
