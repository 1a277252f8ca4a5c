//! Who may use the API, and what nobody may.

use std::sync::atomic::Ordering;

use http::Method;
use serde_json::json;
use tollgate::admin::Setup;

use crate::support::admin::{Admin, OPS, WATCHER, config};

#[tokio::test]
async fn a_token_is_asked_for_everywhere() {
    let admin = Admin::start().await;
    for path in [
        "/admin/v1/accounts",
        "/admin/v1/audit",
        "/admin/v1/nowhere",
        "/admin/v1",
        "/admin/v1/keys/x/rotate",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let none = admin.ask(method.clone(), path).send().await;
            assert_eq!(none.header("www-authenticate"), Some("Bearer"));
            none.refused(401, "token_invalid");
            for wrong in ["", "x", &OPS[1..], &format!("{OPS}x"), "ops"] {
                admin
                    .ask(method.clone(), path)
                    .bearer(wrong)
                    .send()
                    .await
                    .refused(401, "token_invalid");
            }
        }
    }
    let twice = admin.ops(Method::GET, "/admin/v1/accounts").bearer(OPS).send().await;
    twice.refused(401, "token_invalid");
    let query = admin
        .ask(Method::GET, &format!("/admin/v1/accounts?token={OPS}"))
        .send()
        .await;
    query.refused(401, "token_invalid");
}

#[tokio::test]
async fn a_reader_reads_and_changes_nothing() {
    let admin = Admin::start().await;
    admin.post("/admin/v1/accounts", json!({"name": "acme"})).await;
    let read = |method, path: &str| admin.ask(method, path).bearer(WATCHER);
    let shown = read(Method::GET, "/admin/v1/accounts/acme").send().await.is(200);
    assert_eq!(shown["name"], "acme");
    for (method, path) in [
        (Method::POST, "/admin/v1/accounts"),
        (Method::PATCH, "/admin/v1/accounts/acme"),
        (Method::POST, "/admin/v1/accounts/acme/topup"),
        (Method::DELETE, "/admin/v1/keys/x"),
        (Method::PUT, "/admin/v1/nowhere"),
    ] {
        read(method, path)
            .json(json!({"name": "x", "amount": "1"}))
            .send()
            .await
            .refused(403, "role");
    }
    assert_eq!(
        admin.get("/admin/v1/accounts").await["data"].as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn what_is_not_there() {
    let admin = Admin::start().await;
    for path in [
        "/admin/v1/nowhere",
        "/admin/v1",
        "/admin/v1/accounts/",
        "/admin/v1/accounts/none",
        "/admin/v1/keys/none",
    ] {
        admin.ops(Method::GET, path).send().await.refused(404, "not_found");
    }
    let wrong = admin.ops(Method::PUT, "/admin/v1/accounts").send().await;
    wrong.refused(405, "method_not_allowed");
    let mut allowed: Vec<_> = wrong.header("allow").unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
}

#[tokio::test]
async fn a_reload_changes_tokens_and_groups() {
    let admin = Admin::start().await;
    let mut other = config("sqlite://unused.db", "[group.new]");
    other
        .admin
        .as_mut()
        .unwrap()
        .tokens
        .retain(|token| token.name == "watcher");
    admin.api.reload(Setup::new(&other));
    admin
        .ops(Method::GET, "/admin/v1/accounts")
        .send()
        .await
        .refused(401, "token_invalid");
    admin
        .ask(Method::GET, "/admin/v1/accounts")
        .bearer(WATCHER)
        .send()
        .await
        .is(200);
}

#[tokio::test]
async fn a_panic_costs_one_answer() {
    let admin = Admin::start().await;
    admin.live.panics.store(true, Ordering::Relaxed);
    let ask = admin
        .ops(Method::POST, "/admin/v1/accounts")
        .json(json!({"name": "acme"}));
    ask.send().await.refused(500, "internal");
    admin.live.panics.store(false, Ordering::Relaxed);
    assert_eq!(admin.get("/admin/v1/accounts/acme").await["name"], "acme");
}
