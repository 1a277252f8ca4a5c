use tollgate::money::Nanos;
use tollgate::store::{Id, Ids, Key, KeyChange, KeyStatus};

use super::{Fixture, account, cents, disable, key, process, row, take_all, terms};
use crate::support::rows::SettleRows as _;

fn ids(keys: &[Key]) -> Vec<Id> {
    keys.iter().map(|key| key.id).collect()
}

pub(super) async fn revisions_tell_what_changed(f: Fixture) {
    let acme = account(&f.store, "acme", cents(100)).await;
    let made = key(&f.store, acme.id, terms("ci")).await;
    let me = process(&f.store).await;
    let start = f.store.pulse(me.id).await.unwrap();
    assert!(start.registered);
    assert_eq!(f.store.changes(start.revision).await.unwrap().keys, []);
    // What charges do is no change.
    take_all(&f.store, me.id, acme.id).await;
    f.store
        .settle_rows(me.id, &[row(Ids::new(me.node).next(), acme.id, made.id, cents(1))])
        .await
        .unwrap();
    assert_eq!(f.store.pulse(me.id).await.unwrap().revision, start.revision);

    let gone = f
        .store
        .change_key(made.id, KeyChange::Status(KeyStatus::Deleted))
        .await
        .unwrap();
    disable(&f.store, acme.id, true).await;
    let now = f.store.pulse(me.id).await.unwrap().revision;
    assert_eq!(now, start.revision + 2);
    let changes = f.store.changes(start.revision).await.unwrap();
    assert_eq!((changes.revision, changes.accounts.len()), (now, 1));
    assert_eq!(
        changes.keys.iter().map(|key| (key.id, key.status)).collect::<Vec<_>>(),
        [(gone.id, gone.status)]
    );
    assert_eq!(changes.accounts[0], f.store.account(acme.id).await.unwrap());
    let later = f.store.changes(start.revision + 1).await.unwrap();
    assert_eq!((later.keys.len(), later.accounts.len()), (0, 1));
}

pub(super) async fn everything_is_loaded_in_parts(f: Fixture) {
    let acme = account(&f.store, "acme", Nanos::ZERO).await;
    let mut made = Vec::new();
    for i in 0..7 {
        made.push(key(&f.store, acme.id, terms(&format!("k{i}"))).await.id);
    }
    f.store
        .change_key(made.remove(3), KeyChange::Status(KeyStatus::Deleted))
        .await
        .unwrap();
    let mut loaded = Vec::new();
    let mut after = None;
    loop {
        let part = f.store.load(after, 4).await.unwrap();
        assert_eq!(part.accounts.len(), usize::from(after.is_none()));
        let Some(last) = part.keys.last() else { break };
        after = Some(last.id);
        loaded.extend(ids(&part.keys));
    }
    assert_eq!(loaded, made);
}

pub(super) async fn many_changes_come_in_parts(f: Fixture) {
    let acme = account(&f.store, "acme", Nanos::ZERO).await;
    key(&f.store, acme.id, terms("first")).await;
    let before = f.store.changes(0).await.unwrap().revision;
    // By hand: twenty thousand keys and a few accounts are many calls.
    f.tamper(
        "INSERT INTO keys (id, account, name, grp, ips, hash, prefix, last4, status, used, period_start, spent, created,
            revision)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        SELECT i, account, 'k' || i, grp, ips, hash, prefix, last4, 3, 0, 0, 0, 0, revision + i FROM n
            JOIN keys ON keys.name = 'first';
        INSERT INTO accounts (id, name, postpaid, disabled, balance, used, created, revision)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3)
        SELECT i, 'a' || i, 0, 0, 0, 0, 0, revision + 9998 + i FROM n JOIN accounts ON accounts.name = 'acme';
        UPDATE meta SET revision = revision + 20000",
    )
    .await;
    let (mut from, mut keys, mut accounts, mut parts) = (before, 0, 0, 0);
    loop {
        let part = f.store.changes(from).await.unwrap();
        if part.revision == from {
            break;
        }
        assert!(
            part.keys
                .iter()
                .all(|key| key.revision > from && key.revision <= part.revision)
        );
        keys += part.keys.len();
        accounts += part.accounts.len();
        (from, parts) = (part.revision, parts + 1);
    }
    assert_eq!((keys, accounts, from), (20_000, 3, before + 20_000));
    assert!(parts >= 2, "{parts}");
}
