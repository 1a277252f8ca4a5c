use tollgate::money::Nanos;
use tollgate::store::{AccountEdit, Billing, EntryKind, Error, Id, Ids, NewAccount, Owner, Page};

use super::{Fixture, account, cents, disable, key, page, process, row, sums_up, take_all, terms, topup};
use crate::support::rows::SettleRows as _;

pub(super) async fn accounts_are_made_named_listed_and_edited(f: Fixture) {
    let new = NewAccount {
        name: "acme".to_owned(),
        billing: Billing::Postpaid {
            credit_limit: Some(cents(500)),
        },
        groups: Some(vec!["default".to_owned(), "gold".to_owned()]),
    };
    let made = f.store.create_account(new.clone()).await.unwrap();
    assert_eq!(
        (made.billing, &made.groups, made.balance),
        (new.billing, &new.groups, Nanos::ZERO)
    );
    assert_eq!(f.store.account(made.id).await.unwrap(), made);
    assert_eq!(f.store.account_named("acme").await.unwrap(), made);
    let again = f.store.create_account(new).await.unwrap_err();
    assert!(
        matches!(&again, Error::Conflict(why) if why.contains("name")),
        "{again:?}"
    );
    let none = f.store.account(Id::new(1)).await.unwrap_err();
    assert!(matches!(none, Error::NotFound("account")), "{none:?}");
    assert!(matches!(
        f.store.account_named("acm").await,
        Err(Error::NotFound("account"))
    ));

    let other = account(&f.store, "other", Nanos::ZERO).await;
    let third = account(&f.store, "third", Nanos::ZERO).await;
    let listed: Vec<_> = f
        .store
        .accounts(page(2))
        .await
        .unwrap()
        .into_iter()
        .map(|a| a.id)
        .collect();
    assert_eq!(listed, [third.id, other.id]);
    let rest = Page {
        before: Some(other.id),
        limit: 2,
    };
    let listed: Vec<_> = f
        .store
        .accounts(rest)
        .await
        .unwrap()
        .into_iter()
        .map(|a| a.id)
        .collect();
    assert_eq!(listed, [made.id]);

    let edit = AccountEdit {
        name: Some("acme2".to_owned()),
        groups: Some(None),
        ..AccountEdit::default()
    };
    let edited = f.store.edit_account(made.id, edit).await.unwrap();
    assert!(edited.revision > made.revision);
    assert_eq!(
        (edited.name.as_str(), &edited.groups, edited.billing),
        ("acme2", &None, made.billing)
    );
    assert_eq!(f.store.account(made.id).await.unwrap(), edited);
    assert!(disable(&f.store, made.id, true).await.disabled);
    let edit = AccountEdit {
        name: Some("third".to_owned()),
        ..AccountEdit::default()
    };
    let taken = f.store.edit_account(made.id, edit).await.unwrap_err();
    assert!(
        matches!(&taken, Error::Conflict(why) if why.contains("name")),
        "{taken:?}"
    );
}

pub(super) async fn billing_never_drops_below_what_is_reserved(f: Fixture) {
    let acme = account(&f.store, "acme", cents(100)).await;
    let bill = async |billing| {
        let edit = AccountEdit {
            billing: Some(billing),
            ..AccountEdit::default()
        };
        f.store.edit_account(acme.id, edit).await
    };
    bill(Billing::Postpaid {
        credit_limit: Some(cents(50)),
    })
    .await
    .unwrap();
    let me = process(&f.store).await;
    let owner = Owner::Account(acme.id);
    let now = tollgate::store::Millis::now();
    assert_eq!(
        f.store.take(me.id, owner, cents(120), now).await.unwrap().amount,
        cents(120)
    );
    let refused = bill(Billing::Prepaid).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused:?}");
    bill(Billing::Postpaid {
        credit_limit: Some(cents(20)),
    })
    .await
    .unwrap();
    bill(Billing::Postpaid {
        credit_limit: Some(cents(19)),
    })
    .await
    .unwrap_err();
    bill(Billing::Postpaid { credit_limit: None }).await.unwrap();
    let refused = f.store.take(me.id, owner, cents(1), now).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused:?}");
    f.store.release(me.id).await.unwrap();
    bill(Billing::Prepaid).await.unwrap();
    bill(Billing::Postpaid {
        credit_limit: Some(Nanos::new(-1)),
    })
    .await
    .unwrap_err();
}

pub(super) async fn a_topup_of_the_same_name_is_made_once(f: Fixture) {
    let acme = account(&f.store, "acme", Nanos::ZERO).await;
    let mut paid = topup(acme.id, cents(2000));
    paid.bonus = cents(200);
    paid.external_ref = Some("pay-1".to_owned());
    paid.idempotency_key = Some("idem-1".to_owned());
    let first = f.store.topup(paid.clone()).await.unwrap();
    assert_eq!(first.len(), 2);
    assert_eq!(first[1].kind, EntryKind::Bonus { topup: first[0].id });
    assert_eq!(f.store.topup(paid.clone()).await.unwrap(), first);
    // By either of its names, and by fifty at once.
    paid.external_ref = None;
    assert_eq!(f.store.topup(paid.clone()).await.unwrap(), first);
    paid.external_ref = Some("pay-2".to_owned());
    paid.idempotency_key = None;
    let many = (0..50).map(|_| f.store.topup(paid.clone()));
    let many = futures_util::future::join_all(many).await;
    let second = many[0].as_ref().unwrap();
    assert!(many.iter().all(|one| one.as_ref().unwrap() == second));
    assert_eq!(f.store.account(acme.id).await.unwrap().balance, cents(4400));

    paid.amount = cents(1);
    let other = f.store.topup(paid.clone()).await.unwrap_err();
    assert!(
        matches!(&other, Error::Conflict(why) if why.contains("external_ref")),
        "{other:?}"
    );
    let stranger = account(&f.store, "stranger", Nanos::ZERO).await;
    let theirs = topup(stranger.id, cents(2000));
    let theirs = tollgate::store::Topup {
        external_ref: Some("pay-1".to_owned()),
        ..theirs
    };
    assert!(matches!(f.store.topup(theirs).await, Err(Error::Conflict(_))));
    // Another account may use the same key of its own.
    let own = topup(stranger.id, cents(7));
    let own = tollgate::store::Topup {
        idempotency_key: Some("idem-1".to_owned()),
        ..own
    };
    f.store.topup(own).await.unwrap();
    assert!(matches!(
        f.store.topup(topup(acme.id, Nanos::ZERO)).await,
        Err(Error::Refused(_))
    ));
    let promotion = tollgate::store::Topup {
        source: "promotion".to_owned(),
        ..topup(acme.id, cents(5))
    };
    assert_eq!(f.store.topup(promotion).await.unwrap()[0].kind, EntryKind::Promotion);

    let entries = f.store.entries(acme.id, page(100)).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.amount).sum::<Nanos>(), cents(4405));
    assert!(entries.is_sorted_by(|a, b| a.id > b.id));
    sums_up(&f.store, acme.id).await;
}

pub(super) async fn an_adjustment_takes_only_what_is_free(f: Fixture) {
    let acme = account(&f.store, "acme", cents(100)).await;
    let me = process(&f.store).await;
    let owner = Owner::Account(acme.id);
    f.store
        .take(me.id, owner, cents(70), tollgate::store::Millis::now())
        .await
        .unwrap();
    let adjust = async |amount| {
        f.store
            .adjust(acme.id, amount, "a mistake".to_owned(), "ops".to_owned())
            .await
    };
    let refused = adjust(cents(-31)).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Refused(why) if why.contains("0.30")),
        "{refused:?}"
    );
    let entry = adjust(cents(-30)).await.unwrap();
    assert_eq!(
        (&entry.kind, entry.note.as_deref()),
        (&EntryKind::Adjustment, Some("a mistake"))
    );
    let now = f.store.account(acme.id).await.unwrap();
    assert_eq!(now.balance, cents(70));
    assert!(now.revision > acme.revision);
    adjust(Nanos::new(-1)).await.unwrap_err();
    adjust(Nanos::ZERO).await.unwrap_err();
    adjust(cents(5)).await.unwrap();
    adjust(Nanos::MAX).await.unwrap_err();
    sums_up(&f.store, acme.id).await;
}

/// PITFALLS 12: a balance that is edited while charges run.
pub(super) async fn topups_and_charges_at_once_lose_nothing(f: Fixture) {
    let acme = account(&f.store, "acme", cents(10_000)).await;
    let key = key(&f.store, acme.id, terms("k")).await;
    let (store, me) = (f.another().await, process(&f.store).await);
    take_all(&f.store, me.id, acme.id).await;
    let ids = Ids::new(me.node);
    let work = (0..60).map(|i| {
        let rows: Vec<_> = (0..5).map(|_| row(ids.next(), acme.id, key.id, cents(2))).collect();
        let (f, store) = (&f, &store);
        async move {
            match i % 3 {
                0 => store.topup(topup(acme.id, cents(3))).await.map(drop),
                1 => store
                    .adjust(acme.id, cents(1), "x".to_owned(), "ops".to_owned())
                    .await
                    .map(drop),
                _ => f.store.settle_rows(me.id, &rows).await,
            }
        }
    });
    for done in futures_util::future::join_all(work).await {
        done.unwrap();
    }
    let now = f.store.account(acme.id).await.unwrap();
    assert_eq!(now.balance, cents(10_000 + 20 * 3 + 20 - 20 * 5 * 2));
    assert_eq!(now.used, cents(20 * 5 * 2));
    sums_up(&f.store, acme.id).await;
}
