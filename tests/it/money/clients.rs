//! What a client asks with its own key, on the listener that it calls the API on.

use serde_json::json;

use crate::support::books::{charging, priced};
use crate::support::client::Ask;
use crate::support::gateway::{KEY, Setup, chat, scripted};

const CREDIT: i64 = 1_000_000_000;

#[tokio::test]
async fn a_key_checking_tool_is_answered() {
    let backend = scripted().await;
    let setup = priced(Setup::over(backend.local_addr()), "{ request = 0.002 }");
    let books = charging(setup, CREDIT).await;
    books
        .change_key(|terms| terms.quota = Some(tollgate::money::Nanos::new(10_000_000)))
        .await;
    assert_eq!(books.gateway.call(&chat(true, "tokens=3")).await.head.status, 200);
    books.rows(1).await;

    let get = async |path: &'static str| books.gateway.call(&Ask::get(path).by(KEY)).await;
    for path in ["/api/usage/token/", "/api/usage/token"] {
        let answer = get(path).await;
        assert_eq!(answer.head.status, 200, "{path}");
        assert_eq!(answer.field("access-control-allow-origin"), Some("*"));
        assert!(answer.field("x-request-id").is_some());
        assert_eq!(
            answer.json(),
            json!({"code": true, "message": "ok", "data": {
                "object": "token_usage", "name": KEY, "total_granted": 5000, "total_used": 1000, "total_available": 4000,
                "unlimited_quota": false, "model_limits": {}, "model_limits_enabled": false, "expires_at": 0,
            }})
        );
    }
    let log = get("/api/log/token").await.json();
    assert_eq!(log["success"], true);
    let row = &log["data"][0];
    assert_eq!(
        (
            &row["type"],
            &row["model_name"],
            &row["quota"],
            &row["is_stream"],
            &row["token_name"]
        ),
        (&json!(2), &json!("scripted"), &json!(1000), &json!(true), &json!(KEY))
    );
    for path in ["/dashboard/billing/subscription", "/v1/dashboard/billing/subscription"] {
        let answer = get(path).await.json();
        assert_eq!(answer["object"], "billing_subscription");
        assert_eq!(answer["hard_limit_usd"], 0.01, "{answer}");
    }
    let usage = get("/v1/dashboard/billing/usage?start_date=2025-1-2&end_date=2099-12-31")
        .await
        .json();
    assert_eq!(usage["total_usage"], 0.2, "cents: {usage}");

    let in_url = books.gateway.call(&Ask::get("/api/log/token?key=sk-0123")).await;
    assert_eq!((in_url.head.status, &in_url.json()["success"]), (401, &json!(false)));
    for path in ["/api/pricing", "/api/status", "/api/notice", "/llms.txt"] {
        let answer = books.gateway.call(&Ask::get(path)).await;
        assert_eq!(answer.head.status, 200, "{path} is public");
    }
    let status = books.gateway.call(&Ask::get("/api/status")).await.json();
    assert_eq!(status["data"]["quota_per_unit"], 500_000, "{status}");
    assert!(!books.gateway.lines().contains("sk-0123"), "no key in a log");
}

#[tokio::test]
async fn without_a_store_they_are_paths_like_any_other() {
    let (gateway, _backend) = crate::support::gateway::front(|setup| setup).await;
    gateway
        .call(&Ask::get("/api/usage/token/").by(KEY))
        .await
        .refused(404, "path_not_found");
}
