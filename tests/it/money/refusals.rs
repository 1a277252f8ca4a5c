//! Who may not spend, and what they are told.

use tollgate::money::Nanos;
use tollgate::store::{AccountEdit, KeyChange, KeyStatus, Millis, Period};

use crate::support::books::{charging, priced};
use crate::support::gateway::{Setup, chat, post, scripted};

const PRICE: &str = "{ input = 1, output = 1 }";

#[tokio::test]
async fn an_empty_account_is_refused_and_a_topup_holds_at_once() {
    let backend = scripted().await;
    let books = charging(priced(Setup::over(backend.local_addr()), PRICE), 0).await;
    for stream in [false, true] {
        let answer = books.gateway.call(&chat(stream, "")).await;
        answer.refused(403, "insufficient_credit");
        answer.says(
            "authorization_error",
            "Insufficient credits. Please top up your account balance.",
            None,
        );
    }
    assert_eq!(backend.stats().now().requests, 0, "nothing went out");
    books.topup(1_000_000_000).await;
    assert_eq!(books.gateway.call(&chat(false, "")).await.head.status, 200);
}

#[tokio::test]
async fn a_key_s_quota_ends_it_and_a_larger_one_revives_it() {
    let backend = scripted().await;
    let setup = priced(Setup::over(backend.local_addr()), "{ request = 0.001 }");
    let books = charging(setup, 1_000_000_000).await;
    books
        .change_key(|terms| terms.quota = Some(Nanos::new(2_000_000)))
        .await;
    for _ in 0..2 {
        assert_eq!(books.gateway.call(&chat(false, "")).await.head.status, 200);
    }
    let answer = books.gateway.call(&chat(false, "")).await;
    answer.refused(403, "key_exhausted");
    books
        .change_key(|terms| terms.quota = Some(Nanos::new(3_000_000)))
        .await;
    assert_eq!(books.gateway.call(&chat(false, "")).await.head.status, 200);
    books.gateway.call(&chat(false, "")).await.refused(403, "key_exhausted");
    books.change_key(|terms| terms.quota = None).await;
    assert_eq!(books.gateway.call(&chat(false, "")).await.head.status, 200);
    books
        .change_key(|terms| {
            terms.quota = Some(Nanos::new(1_000_000));
            terms.period = Some(Period::Day);
        })
        .await;
    books.holds_nothing().await;
}

#[tokio::test]
async fn a_change_of_a_key_holds_for_the_next_request() {
    let backend = scripted().await;
    let books = charging(priced(Setup::over(backend.local_addr()), PRICE), 1_000_000_000).await;
    let call = async || books.gateway.call(&chat(false, "")).await;
    let set = async |status| {
        let id = books.key().await.id;
        books.store().change_key(id, KeyChange::Status(status)).await.unwrap();
        books.books.directory.refresh().await.unwrap();
    };
    assert_eq!(call().await.head.status, 200);
    set(KeyStatus::Disabled).await;
    call().await.refused(401, "key_disabled");
    set(KeyStatus::Enabled).await;
    assert_eq!(call().await.head.status, 200);
    books
        .change_key(|terms| terms.expires = Some(Millis(Millis::now().0 - 1)))
        .await;
    call().await.refused(401, "key_expired");
    books.change_key(|terms| terms.expires = None).await;
    books
        .change_key(|terms| terms.models = Some(vec!["other".to_owned()]))
        .await;
    call().await.refused(403, "model_not_allowed");
    books.change_key(|terms| terms.models = None).await;
    books
        .change_key(|terms| terms.ips = vec!["10.0.0.0/8".to_owned()])
        .await;
    call().await.refused(403, "ip_not_allowed");
    books.change_key(|terms| terms.ips = vec!["127.0.0.1".to_owned()]).await;
    assert_eq!(call().await.head.status, 200);
    books.change_key(|terms| terms.group = "gone".to_owned()).await;
    call().await.refused(403, "group_unknown");
    books.change_key(|terms| terms.group = "default".to_owned()).await;
    books
        .edit(AccountEdit {
            groups: Some(Some(vec!["other".to_owned()])),
            ..AccountEdit::default()
        })
        .await;
    call().await.refused(403, "group_unknown");
    books
        .edit(AccountEdit {
            groups: Some(None),
            disabled: Some(true),
            ..AccountEdit::default()
        })
        .await;
    call().await.refused(403, "account_disabled");
    books
        .edit(AccountEdit {
            disabled: Some(false),
            ..AccountEdit::default()
        })
        .await;
    assert_eq!(call().await.head.status, 200);
    set(KeyStatus::Revoked).await;
    call().await.refused(401, "key_invalid");
}

#[tokio::test]
async fn what_has_no_price_is_refused() {
    let backend = scripted().await;
    let setup = priced(
        Setup::over(backend.local_addr()),
        "{ image = { \"hd:1024x1792\" = 0.12 } }",
    );
    let books = charging(setup, 1_000_000_000).await;
    let image = |size: &str| {
        let body = format!(r#"{{"model":"scripted","prompt":"a cat","quality":"hd","size":"{size}","n":2}}"#);
        post("/v1/images/generations", body)
    };
    let answer = books.gateway.call(&image("256x256")).await;
    answer.refused(400, "not_priced");
    let answer = books
        .gateway
        .call(&post("/v1/chat/completions", r#"{"model":"scripted","messages":[]}"#))
        .await;
    answer.refused(400, "not_priced");
    assert_eq!(books.gateway.call(&image("1024x1792")).await.head.status, 200);
    let rows = books.rows(3).await;
    assert_eq!(rows[0].charge, Nanos::new(240_000_000));
}
