use tollgate::money::Nanos;
use tollgate::store::{Error, Id, Ids, KeyChange, KeyStatus, KeyTerms, Millis, NewKey, OldHash, Owner, Page, Period};

use super::{Fixture, account, cents, hash, key, new_key, page, process, row, take_all, terms};
use crate::support::rows::SettleRows as _;

fn ids(keys: &[tollgate::store::Key]) -> Vec<Id> {
    keys.iter().map(|key| key.id).collect()
}

pub(super) async fn keys_are_made_found_and_listed(f: Fixture) {
    let acme = account(&f.store, "acme", Nanos::ZERO).await;
    let other = account(&f.store, "other", Nanos::ZERO).await;
    let full = KeyTerms {
        models: Some(vec!["gpt-4o".to_owned(), "qwen-*".to_owned()]),
        ips: vec!["10.0.0.0/8".to_owned()],
        rpm: Some(1),
        tpm: Some(2),
        concurrency: Some(3),
        quota: Some(cents(4)),
        period: Some(Period::Week),
        expires: Some(Millis(5)),
        ..terms("ci")
    };
    let new = NewKey {
        sealed: Some(vec![1, 2, 3]),
        ..new_key(acme.id, full.clone())
    };
    let made = f.store.create_key(new.clone()).await.unwrap();
    assert_eq!(
        (&made.terms, made.hash, made.status),
        (&full, new.hash, KeyStatus::Enabled)
    );
    assert_eq!(made.period_start, Some(Period::Week.start(Millis::now())));
    assert_eq!(made.sealed.as_deref(), Some(&[1, 2, 3][..]));
    assert_eq!(f.store.key(made.id).await.unwrap(), made);

    for (new, field) in [
        (
            NewKey {
                hash: hash("fresh"),
                ..new.clone()
            },
            "name",
        ),
        (
            NewKey {
                hash: new.hash,
                ..new_key(other.id, terms("ci"))
            },
            "hash",
        ),
    ] {
        let taken = f.store.create_key(new).await.unwrap_err();
        assert!(
            matches!(&taken, Error::Conflict(why) if why.contains(field)),
            "{field}: {taken:?}"
        );
    }
    assert!(matches!(
        f.store.create_key(new_key(Id::new(1), terms("x"))).await,
        Err(Error::NotFound("account"))
    ));

    let same = key(&f.store, other.id, terms("ci")).await;
    let third = key(&f.store, acme.id, terms("third")).await;
    assert_eq!(ids(&f.store.keys_named(None, "ci").await.unwrap()), [same.id, made.id]);
    assert_eq!(ids(&f.store.keys_named(Some(acme.id), "ci").await.unwrap()), [made.id]);
    assert_eq!(ids(&f.store.keys(None, page(2)).await.unwrap()), [third.id, same.id]);
    let rest = Page {
        before: Some(same.id),
        limit: 9,
    };
    assert_eq!(ids(&f.store.keys(None, rest).await.unwrap()), [made.id]);
    assert_eq!(
        ids(&f.store.keys(Some(acme.id), page(9)).await.unwrap()),
        [third.id, made.id]
    );

    // A deleted key frees its name and its hash, and keeps its id.
    f.store
        .change_key(made.id, KeyChange::Status(KeyStatus::Deleted))
        .await
        .unwrap();
    assert_eq!(ids(&f.store.keys(Some(acme.id), page(9)).await.unwrap()), [third.id]);
    assert_eq!(f.store.keys_named(Some(acme.id), "ci").await.unwrap(), []);
    assert_eq!(f.store.key(made.id).await.unwrap().status, KeyStatus::Deleted);
    f.store.create_key(new).await.unwrap();
}

pub(super) async fn terms_are_edited_by_revision(f: Fixture) {
    let acme = account(&f.store, "acme", Nanos::ZERO).await;
    let made = key(&f.store, acme.id, terms("ci")).await;
    key(&f.store, acme.id, terms("taken")).await;
    let edit = |terms, revision| KeyChange::Terms {
        terms: Box::new(terms),
        revision,
    };
    let new = KeyTerms {
        rpm: Some(9),
        models: Some(Vec::new()),
        ..terms("renamed")
    };
    let edited = f
        .store
        .change_key(made.id, edit(new.clone(), made.revision))
        .await
        .unwrap();
    assert_eq!(edited.terms, new);
    assert_eq!(f.store.key(made.id).await.unwrap(), edited);
    let stale = f
        .store
        .change_key(made.id, edit(terms("x"), made.revision))
        .await
        .unwrap_err();
    assert!(matches!(stale, Error::Conflict(_)), "{stale:?}");
    let taken = f
        .store
        .change_key(made.id, edit(terms("taken"), edited.revision))
        .await
        .unwrap_err();
    assert!(
        matches!(&taken, Error::Conflict(why) if why.contains("name")),
        "{taken:?}"
    );
    assert_eq!(f.store.key(made.id).await.unwrap(), edited);
}

pub(super) async fn states_only_go_forward(f: Fixture) {
    use KeyStatus::{Deleted, Disabled, Enabled, Revoked};
    let acme = account(&f.store, "acme", Nanos::ZERO).await;
    let new = NewKey {
        sealed: Some(vec![1]),
        ..new_key(acme.id, terms("ci"))
    };
    let made = f.store.create_key(new).await.unwrap();
    let set = async |status| f.store.change_key(made.id, KeyChange::Status(status)).await;
    assert_eq!(set(Disabled).await.unwrap().status, Disabled);
    assert_eq!(set(Enabled).await.unwrap().status, Enabled);
    let revoked = set(Revoked).await.unwrap();
    assert_eq!((revoked.status, revoked.sealed), (Revoked, None));
    assert_eq!(set(Revoked).await.unwrap().revision, revoked.revision);
    let rotate = KeyChange::Rotate {
        hash: hash("new"),
        prefix: "sk-b".to_owned(),
        last4: "1234".to_owned(),
        sealed: None,
        overlap: None,
    };
    assert!(matches!(
        f.store.change_key(made.id, rotate).await,
        Err(Error::Refused(_))
    ));
    for status in [Enabled, Disabled] {
        assert!(matches!(set(status).await, Err(Error::Refused(_))));
    }
    assert_eq!(set(Deleted).await.unwrap().status, Deleted);
    for status in [Enabled, Disabled, Revoked] {
        assert!(matches!(set(status).await, Err(Error::Refused(_))));
    }
}

pub(super) async fn a_rotated_key_overlaps(f: Fixture) {
    let acme = account(&f.store, "acme", Nanos::ZERO).await;
    let made = key(&f.store, acme.id, terms("ci")).await;
    let until = Millis(Millis::now().0 + 60_000);
    let rotate = |name: &str, overlap| KeyChange::Rotate {
        hash: hash(name),
        prefix: "sk-b".to_owned(),
        last4: "1234".to_owned(),
        sealed: Some(vec![7]),
        overlap,
    };
    let rotated = f
        .store
        .change_key(made.id, rotate("second", Some(until)))
        .await
        .unwrap();
    assert_eq!((rotated.id, rotated.hash), (made.id, hash("second")));
    assert_eq!(rotated.old, Some(OldHash { hash: made.hash, until }));
    assert_eq!((rotated.prefix.as_str(), rotated.last4.as_str()), ("sk-b", "1234"));
    assert_eq!(f.store.key(made.id).await.unwrap(), rotated);
    // The old hash still opens this key, so no other may have it.
    let thief = NewKey {
        hash: made.hash,
        ..new_key(acme.id, terms("thief"))
    };
    assert!(matches!(
        f.store.create_key(thief.clone()).await,
        Err(Error::Conflict(_))
    ));
    let rotated = f.store.change_key(made.id, rotate("third", None)).await.unwrap();
    assert_eq!((rotated.hash, rotated.old), (hash("third"), None));
    f.store.create_key(thief).await.unwrap();
}

pub(super) async fn a_quota_covers_what_is_spent(f: Fixture) {
    let acme = account(&f.store, "acme", cents(1000)).await;
    let made = key(
        &f.store,
        acme.id,
        KeyTerms {
            quota: Some(cents(50)),
            ..terms("ci")
        },
    )
    .await;
    let me = process(&f.store).await;
    let now = Millis::now();
    take_all(&f.store, me.id, acme.id).await;
    let owner = Owner::Key(made.id);
    assert_eq!(
        f.store.take(me.id, owner, cents(30), now).await.unwrap().amount,
        cents(30)
    );
    let ids = Ids::new(me.node);
    f.store
        .settle_rows(me.id, &[row(ids.next(), acme.id, made.id, cents(10))])
        .await
        .unwrap();
    let set = async |quota: Option<i64>, period| {
        let read = f.store.key(made.id).await.unwrap();
        let terms = KeyTerms {
            quota: quota.map(cents),
            period,
            ..read.terms
        };
        f.store
            .change_key(
                made.id,
                KeyChange::Terms {
                    terms: Box::new(terms),
                    revision: read.revision,
                },
            )
            .await
    };
    // 10 spent, 20 held.
    assert!(matches!(set(Some(29), None).await, Err(Error::Refused(_))));
    assert_eq!(set(Some(30), None).await.unwrap().spent, cents(10));
    assert_eq!(
        f.store.take(me.id, owner, cents(9), now).await.unwrap().amount,
        Nanos::ZERO
    );
    // Another quota starts with nothing spent, and all that was ever charged stays.
    let daily = set(Some(30), Some(Period::Day)).await.unwrap();
    assert_eq!((daily.spent, daily.used), (Nanos::ZERO, cents(10)));
    assert_eq!(daily.period_start, Some(Period::Day.start(now)));
    let free = set(None, None).await.unwrap();
    assert_eq!((free.spent, free.period_start), (Nanos::ZERO, None));
}
