use tollgate::store::{Error, Id, Page};

use super::{Fixture, page};

pub(super) async fn notices_come_and_go(f: Fixture) {
    let one = f.store.create_notice("*one*".to_owned()).await.unwrap();
    let two = f.store.create_notice("two".to_owned()).await.unwrap();
    assert_eq!(f.store.notices(page(9)).await.unwrap(), [two.clone(), one.clone()]);
    f.store.delete_notice(two.id).await.unwrap();
    assert!(matches!(
        f.store.delete_notice(two.id).await,
        Err(Error::NotFound("notice"))
    ));
    assert_eq!(f.store.notices(page(9)).await.unwrap(), [one]);
}

pub(super) async fn the_audit_tells_who(f: Fixture) {
    let target = Id::new(7);
    f.store
        .audit("ops", "key.create", Some(target), None, Some("{}".to_owned()))
        .await
        .unwrap();
    f.store
        .audit("ops", "notice.create", None, Some("[]".to_owned()), None)
        .await
        .unwrap();
    let all = f.store.audits(None, page(9)).await.unwrap();
    assert_eq!(
        all.iter().map(|audit| audit.action.as_str()).collect::<Vec<_>>(),
        ["notice.create", "key.create"]
    );
    assert_eq!(
        (all[0].before.as_deref(), all[1].after.as_deref()),
        (Some("[]"), Some("{}"))
    );
    let of = f.store.audits(Some(target), page(9)).await.unwrap();
    assert_eq!(of, all[1..]);
    let older = Page {
        before: Some(all[0].id),
        limit: 9,
    };
    assert_eq!(f.store.audits(None, older).await.unwrap(), all[1..]);
}
