use tollgate::money::Nanos;
use tollgate::store::{EntryKind, Error, Id, Millis, NewCodes};

use super::{Fixture, account, cents, hash, page, sums_up};

fn batch(names: &[&str], expires: Option<Millis>) -> NewCodes {
    NewCodes {
        codes: names.iter().map(|name| (hash(name), name[..2].to_owned())).collect(),
        amount: cents(50),
        expires,
        note: Some("spring".to_owned()),
    }
}

/// PITFALLS 12.
pub(super) async fn a_code_is_redeemed_once_by_fifty_at_once(f: Fixture) {
    let stores = [f.store.clone(), f.another().await];
    let mut accounts = Vec::new();
    for i in 0..5 {
        accounts.push(account(&f.store, &format!("a{i}"), Nanos::ZERO).await.id);
    }
    let code = f.store.create_codes(batch(&["code-1"], None)).await.unwrap().remove(0);
    let tasks = (0..50).map(|i| {
        let (store, account) = (stores[i % 2].clone(), accounts[i % 5]);
        tokio::spawn(async move {
            store
                .redeem(hash("code-1"), account, "k".to_owned(), Millis::now())
                .await
        })
    });
    let done = futures_util::future::join_all(tasks)
        .await
        .into_iter()
        .map(Result::unwrap);
    let (won, lost): (Vec<_>, Vec<_>) = done.partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for lost in lost {
        assert!(
            matches!(&lost, Err(Error::Refused(why)) if why.contains("redeemed already")),
            "{lost:?}"
        );
    }
    let entry = won.into_iter().next().unwrap().unwrap();
    assert_eq!(
        (entry.kind, entry.amount),
        (EntryKind::Redemption { code: code.id }, cents(50))
    );
    let mut sum = Nanos::ZERO;
    for account in accounts {
        sum = sum.saturating_add(f.store.account(account).await.unwrap().balance);
        sums_up(&f.store, account).await;
    }
    assert_eq!(sum, cents(50));
    let redeemed = f.store.codes(None, page(9)).await.unwrap()[0].redeemed.unwrap();
    assert_eq!(redeemed.account, entry.account);
}

pub(super) async fn codes_that_ended_are_refused(f: Fixture) {
    let acme = account(&f.store, "acme", Nanos::ZERO).await.id;
    let now = Millis::now();
    let codes = f
        .store
        .create_codes(batch(&["c1", "c2"], Some(Millis(now.0 + 1000))))
        .await
        .unwrap();
    f.store.revoke_codes(codes[0].id).await.unwrap();
    for (name, at, why) in [
        ("c0", now, "unknown"),
        ("c1", now, "revoked"),
        ("c2", Millis(now.0 + 1000), "expired"),
    ] {
        let refused = f.store.redeem(hash(name), acme, "k".to_owned(), at).await.unwrap_err();
        assert!(
            matches!(&refused, Error::Refused(told) if told.contains(why)),
            "{name}: {refused:?}"
        );
    }
    assert!(matches!(
        f.store.redeem(hash("c2"), Id::new(1), "k".to_owned(), now).await,
        Err(Error::NotFound("account"))
    ));
    f.store.redeem(hash("c2"), acme, "k".to_owned(), now).await.unwrap();
    assert_eq!(f.store.account(acme).await.unwrap().balance, cents(50));
}

pub(super) async fn codes_are_made_listed_and_revoked(f: Fixture) {
    let acme = account(&f.store, "acme", Nanos::ZERO).await.id;
    let first = f.store.create_codes(batch(&["f1", "f2", "f3"], None)).await.unwrap();
    let second = f.store.create_codes(batch(&["s1"], None)).await.unwrap();
    assert_eq!(
        (first[0].amount, first[0].note.as_deref(), first[0].prefix.as_str()),
        (cents(50), Some("spring"), "f1")
    );
    let listed = f.store.codes(None, page(2)).await.unwrap();
    assert_eq!(listed, [second[0].clone(), first[2].clone()]);
    assert_eq!(f.store.codes(Some(first[0].batch), page(9)).await.unwrap().len(), 3);
    f.store
        .redeem(hash("f1"), acme, "k".to_owned(), Millis::now())
        .await
        .unwrap();
    // What was redeemed is not revoked.
    assert_eq!(f.store.revoke_codes(first[0].batch).await.unwrap(), 2);
    assert_eq!(f.store.revoke_codes(first[0].batch).await.unwrap(), 0);
    assert!(matches!(
        f.store.revoke_codes(Id::new(7)).await,
        Err(Error::NotFound("code"))
    ));
    let taken = f
        .store
        .create_codes(batch(&["x", "f2"].map(|_| "f2"), None))
        .await
        .unwrap_err();
    assert!(matches!(taken, Error::Conflict(_)), "{taken:?}");
    assert_eq!(f.store.codes(None, page(9)).await.unwrap().len(), 4);
}
