//! What tools ask with a client's key: their requests, and the shapes they read.

use http::Method;
use serde_json::{Value, json};

use super::usage::used;
use crate::support::admin::{Admin, Reply};

/// Every path that a key opens.
const WITH_KEY: &[&str] = &[
    "/api/usage/token",
    "/api/usage/token/",
    "/api/log/token",
    "/api/log/token/",
    "/dashboard/billing/subscription",
    "/v1/dashboard/billing/subscription",
    "/v1/dashboard/billing/subscription/",
    "/dashboard/billing/usage",
    "/v1/dashboard/billing/usage",
    "/v1/dashboard/billing/usage/",
];

/// Every path that anyone may read.
const PUBLIC: &[&str] = &[
    "/api/pricing",
    "/api/status",
    "/api/status/",
    "/api/notice",
    "/llms.txt",
];

async fn get(admin: &Admin, path: &str, key: &Value) -> Reply {
    admin
        .ask(Method::GET, path)
        .bearer(key["key"].as_str().unwrap())
        .send()
        .await
}

fn refused(reply: &Reply, status: u16) -> String {
    let body = reply.is(status);
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    assert_eq!(body["success"], false);
    body["message"].as_str().unwrap().to_owned()
}

/// A key-checking tool looks at the subscription, then at the usage of a hundred days, then at the log; one that knows
/// the platform better asks for the token's own numbers.
#[tokio::test]
async fn a_tool_that_checks_a_key() {
    let admin = Admin::start().await;
    let terms = json!({"quota": 1_000_000, "models": ["gpt-4o"], "expires": 1_801_396_800});
    let (key, rows) = used(&admin, terms, &[1_000_000, 24_690_000]).await;
    let subscription = get(&admin, "/v1/dashboard/billing/subscription", &key).await.is(200);
    assert_eq!(
        subscription,
        json!({"object": "billing_subscription", "has_payment_method": true, "soft_limit_usd": 2, "hard_limit_usd": 2,
            "system_hard_limit_usd": 2, "access_until": 1_801_396_800})
    );
    let usage = get(
        &admin,
        "/v1/dashboard/billing/usage?start_date=2025-1-2&end_date=2099-12-31",
        &key,
    )
    .await
    .is(200);
    assert_eq!(usage, json!({"object": "list", "total_usage": 2.569}));
    let all = get(&admin, "/dashboard/billing/usage", &key).await.is(200);
    assert_eq!(all, usage);
    let before = get(&admin, "/dashboard/billing/usage?end_date=2025-01-02", &key)
        .await
        .is(200);
    assert_eq!(before["total_usage"], 0);
    let nonsense = get(&admin, "/dashboard/billing/usage?start_date=soon", &key).await;
    assert!(refused(&nonsense, 400).contains("2025-01-31"));

    let token = get(&admin, "/api/usage/token/", &key).await.is(200);
    assert_eq!(
        token,
        json!({"code": true, "message": "ok", "data": {"object": "token_usage", "name": "ci", "total_granted": 1_000_000,
            "total_used": 12_845, "total_available": 987_155, "unlimited_quota": false, "model_limits": {"gpt-4o": true},
            "model_limits_enabled": true, "expires_at": 1_801_396_800}})
    );

    let log = get(&admin, "/api/log/token", &key).await.is(200);
    assert_eq!((&log["success"], &log["message"]), (&json!(true), &json!("")));
    let data = log["data"].as_array().unwrap();
    assert_eq!(data.len(), 2);
    let mut newest = data[0].clone();
    let other: Value = serde_json::from_str(newest["other"].as_str().unwrap()).unwrap();
    newest.as_object_mut().unwrap().remove("other");
    assert_eq!(
        newest,
        json!({"created_at": rows[1].time.0 / 1000, "type": 2, "model_name": "gpt-4o", "quota": 12_345, "prompt_tokens": 1000,
            "completion_tokens": 50, "use_time": 2, "is_stream": true, "token_name": "ci", "group": "default",
            "ip": "192.0.2.7", "request_id": rows[1].request_id})
    );
    for (name, value) in [
        ("model_ratio", json!(1.25)),
        ("completion_ratio", json!(4)),
        ("cache_ratio", json!(0.5)),
        ("group_ratio", json!(1)),
        ("model_price", json!(-1)),
        ("cache_tokens", json!(200)),
        ("frt", json!(300)),
    ] {
        assert_eq!(other[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_key_without_a_quota_has_what_its_account_has() {
    let admin = Admin::start().await;
    let (key, _) = used(&admin, json!({}), &[1_000_000]).await;
    let token = get(&admin, "/api/usage/token", &key).await.is(200)["data"].clone();
    assert_eq!(token["unlimited_quota"], true);
    assert_eq!(
        (&token["total_used"], &token["total_available"]),
        (&json!(500), &json!(2_499_500))
    );
    assert_eq!(token["total_granted"], 2_500_000);
    assert_eq!(
        (&token["model_limits"], &token["model_limits_enabled"]),
        (&json!({}), &json!(false))
    );
    assert_eq!(token["expires_at"], 0);
    let subscription = get(&admin, "/dashboard/billing/subscription", &key).await.is(200);
    assert_eq!(
        (&subscription["hard_limit_usd"], &subscription["access_until"]),
        (&json!(100_000_000), &json!(0))
    );
    admin
        .patch("/admin/v1/accounts/acme", json!({"billing": "postpaid"}))
        .await;
    let token = get(&admin, "/api/usage/token", &key).await.is(200)["data"].clone();
    assert_eq!(token["total_available"], 50_000_000_000_000_i64, "no ceiling at all");
}

#[tokio::test]
async fn keys_that_do_not_work_are_told_about_and_unknown_ones_are_not() {
    let admin = Admin::start().await;
    let (key, _) = used(&admin, json!({"quota": 500}), &[1_000_000]).await;
    let answers = async |status: u16| {
        for path in WITH_KEY {
            let reply = get(&admin, path, &key).await;
            assert_eq!(reply.status, status, "{path}: {reply:?}");
            if status != 200 {
                refused(&reply, status);
            }
        }
    };
    assert_eq!(admin.get("/admin/v1/keys/ci").await["status"], "exhausted");
    answers(200).await;
    admin.post("/admin/v1/keys/ci/disable", json!({})).await;
    answers(200).await;
    admin.patch("/admin/v1/keys/ci", json!({"expires": 1})).await;
    admin.patch("/admin/v1/accounts/acme", json!({"disabled": true})).await;
    answers(200).await;
    admin.post("/admin/v1/keys/ci/revoke", json!({})).await;
    answers(401).await;
    for path in WITH_KEY {
        let text = "Invalid or missing API key.";
        assert_eq!(refused(&admin.ask(Method::GET, path).send().await, 401), text);
        let unknown = admin
            .ask(Method::GET, path)
            .bearer(&format!("sk-{}", "x".repeat(48)))
            .send()
            .await;
        assert_eq!(refused(&unknown, 401), text);
    }
}

#[tokio::test]
async fn a_key_in_the_query_is_refused_with_the_reason() {
    let admin = Admin::start().await;
    let (key, _) = used(&admin, json!({}), &[]).await;
    let text = key["key"].as_str().unwrap();
    for path in ["/api/log/token", "/api/usage/token"] {
        for headers in [false, true] {
            let ask = admin.ask(Method::GET, &format!("{path}?key={text}"));
            let ask = if headers { ask.bearer(text) } else { ask };
            let reply = ask.send().await;
            let message = refused(&reply, 401);
            assert!(
                message.contains("logs") && message.contains("Authorization: Bearer"),
                "{message}"
            );
        }
    }
    let plain = admin
        .ask(Method::GET, "/api/log/token")
        .header("x-api-key", text)
        .send()
        .await;
    assert_eq!(plain.is(200)["data"], json!([]));
    let both = admin
        .ask(Method::GET, "/api/log/token")
        .header("x-api-key", "sk-other")
        .bearer(text)
        .send()
        .await;
    refused(&both, 401);
}

#[tokio::test]
async fn a_keys_addresses_hold_here_too() {
    let admin = Admin::start().await;
    let (key, _) = used(&admin, json!({"ips": ["10.0.0.0/8", "2001:db8::/32"]}), &[]).await;
    let text = key["key"].as_str().unwrap();
    for (address, status) in [
        ("10.9.8.7", 200),
        ("::ffff:10.9.8.7", 200),
        ("2001:db8::1", 200),
        ("192.0.2.1", 403),
    ] {
        for path in WITH_KEY {
            let reply = admin.ask(Method::GET, path).bearer(text).from(address).send().await;
            assert_eq!(reply.status, status, "{path} from {address}");
            if status == 403 {
                refused(&reply, 403);
            }
        }
    }
}

#[tokio::test]
async fn any_page_may_read_it_with_get() {
    let admin = Admin::start().await;
    let (key, _) = used(&admin, json!({}), &[]).await;
    for path in WITH_KEY.iter().chain(PUBLIC) {
        let reply = get(&admin, path, &key).await;
        assert_eq!(
            (reply.status, reply.header("access-control-allow-origin")),
            (200, Some("*")),
            "{path}"
        );
        assert!(reply.header("access-control-allow-credentials").is_none());
        let before = admin
            .ask(Method::OPTIONS, path)
            .header("origin", "https://keys.example")
            .header("access-control-request-headers", "authorization");
        let before = before.send().await;
        assert_eq!(before.status, 204, "{path}");
        assert_eq!(before.header("access-control-allow-origin"), Some("*"));
        assert!(
            before
                .header("access-control-allow-headers")
                .unwrap()
                .contains("authorization")
        );
        assert_eq!(before.header("access-control-allow-methods"), Some("GET, OPTIONS"));
        let post = admin.ask(Method::POST, path).send().await;
        refused(&post, 405);
        assert!(post.header("allow").is_some(), "{path}");
    }
    let refused = admin.ask(Method::GET, "/api/usage/token").send().await;
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("*"),
        "else a page cannot read why"
    );
    let api = admin.ops(Method::GET, "/admin/v1/accounts").send().await;
    assert_eq!(api.header("access-control-allow-origin"), None, "of this section alone");
}

#[tokio::test]
async fn prices_and_groups_are_explained() {
    let admin = Admin::start().await;
    let pricing = admin.ask(Method::GET, "/api/pricing").send().await.is(200);
    assert_eq!(pricing["success"], true);
    let data = pricing["data"].as_array().unwrap();
    assert_eq!(
        data[0],
        json!({"model_name": "gpt-4o", "quota_type": 0, "model_ratio": 1.25, "completion_ratio": 4, "cache_ratio": 0.5,
            "model_price": -1, "enable_groups": ["default", "vip"],
            "price": {"input": "2.5", "cached_input": "1.25", "output": "10"}})
    );
    assert_eq!(
        (
            &data[1]["quota_type"],
            &data[1]["model_price"],
            &data[1]["enable_groups"]
        ),
        (&json!(1), &json!(0.04), &json!(["default"]))
    );
    assert_eq!(data[2]["price"], "free");
    assert_eq!(pricing["group_ratio"], json!({"default": 1, "vip": 0.8}));
    assert_eq!(
        pricing["usable_group"],
        json!({"default": "Prices as listed.", "vip": "Prices as listed × 0.8."})
    );
    assert!(pricing["explained"].as_str().unwrap().contains("model_ratio × 2 USD"));
}

#[tokio::test]
async fn announcements_are_public() {
    let admin = Admin::start().await;
    admin.post("/admin/v1/notices", json!({"text": "first"})).await;
    let last = admin.post("/admin/v1/notices", json!({"text": "**second**"})).await;
    let status = admin.ask(Method::GET, "/api/status").send().await.is(200);
    assert_eq!(
        (&status["success"], &status["data"]["quota_per_unit"]),
        (&json!(true), &json!(500_000))
    );
    let announced = &status["data"]["announcements"];
    assert_eq!(
        (&announced[0]["id"], &announced[0]["content"], &announced[1]["content"]),
        (&last["id"], &json!("**second**"), &json!("first"))
    );
    let notice = admin.ask(Method::GET, "/api/notice").send().await.is(200);
    assert_eq!(notice, json!({"success": true, "message": "", "data": "**second**"}));
    let index = admin.ask(Method::GET, "/llms.txt").send().await;
    assert_eq!(index.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(index.text.starts_with("# Tollgate\n") && index.text.contains("(/api/pricing)"));
}
