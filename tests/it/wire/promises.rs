//! Rows 14 to 16: errors, support and news.

use serde_json::{Value, json};

use super::{Shop, ask, reporting};
use crate::support::client::Ask;
use crate::support::within;

#[tokio::test]
async fn row_14_errors() {
    let shop = Shop::open().await;
    let error = |answer: &crate::support::gateway::Answer| {
        let body = answer.json();
        let error = &body["error"];
        (
            answer.head.status,
            error["message"].clone(),
            error["type"].clone(),
            error["code"].clone(),
        )
    };
    let unauthenticated = (
        401,
        json!("Invalid or missing API key."),
        json!("authentication_error"),
        json!(401),
    );
    assert_eq!(error(&shop.call(&ask("gpt-4o", false)).await), unauthenticated);
    let unknown = format!("sk-{}", "x".repeat(48));
    assert_eq!(
        error(&shop.client(&unknown, ask("gpt-4o", false)).await),
        unauthenticated
    );

    let broke = (
        403,
        json!("Insufficient credits. Please top up your account balance."),
        json!("authorization_error"),
        json!(403),
    );
    shop.does("POST", "accounts", &json!({"name": "poor"})).await.is(201);
    let made = shop
        .does("POST", "keys", &json!({"account": "poor", "name": "k"}))
        .await
        .is(201);
    let poor = made["key"].as_str().unwrap();
    assert_eq!(error(&shop.client(poor, ask("gpt-4o", false)).await), broke);
    let (_, spent) = shop.key("spent", json!({"quota": 0})).await;
    assert_eq!(error(&shop.client(&spent, ask("gpt-4o", true)).await), broke);
}

#[tokio::test]
async fn row_15_support_finds_a_call_by_its_request_id() {
    let shop = Shop::open().await;
    let (id, key) = shop.key("caller", json!({})).await;

    // High cost, and slow answers: what was used, at which price, and where the time went.
    let answer = shop.client(&key, reporting(ask("gpt-4o", true), 100_000, 50_000)).await;
    let row = shop.row(answer.id()).await;
    assert_eq!(
        (&row["model"], &row["endpoint"], &row["status"]),
        (&json!("gpt-4o"), &json!("chat.completions"), &json!(200))
    );
    assert_eq!((&row["key"], &row["reason"]), (&json!(id), &Value::Null));
    assert_eq!(
        (&row["prompt_tokens"], &row["completion_tokens"], &row["charge"]),
        (&json!(100_000), &json!(50_000), &json!("0.75"))
    );
    for field in ["time", "price", "first_ms", "total_ms"] {
        assert!(!row[field].is_null(), "{field}: {row}");
    }
    assert_eq!(row["attempts"][0]["backend"], "main");
    assert!(row["attempts"][0]["ms"].is_u64());

    // A wrong model, and a backend that fails.
    let wrong = shop.client(&key, ask("gpt-5000", false)).await;
    wrong.refused(404, "model_not_found");
    let row = shop.row(wrong.id()).await;
    assert_eq!(
        (&row["model"], &row["status"], &row["reason"]),
        (&json!("gpt-5000"), &json!(404), &json!("model_not_found"))
    );
    let failing = ask("gpt-4o", false).field("x-tollgate-script", "fault=status:500");
    let failed = shop.client(&key, failing).await;
    failed.refused(502, "upstream_failed");
    let row = shop.row(failed.id()).await;
    assert_eq!(
        (&row["status"], &row["attempts"][0]["status"]),
        (&json!(502), &json!(500))
    );

    // A failed login has no key whose row it could be: the access line tells of it, and not of the key.
    let stranger = shop.client("sk-stranger", ask("gpt-4o", false)).await;
    stranger.refused(401, "key_invalid");
    let line = within(shop.books.gateway.line(stranger.id())).await;
    assert_eq!((&line["status"], &line["reason"]), (&json!(401), &json!("key_invalid")));
    assert!(!line.to_string().contains("sk-stranger"));
    // A key that is known and does not work is one of its own rows.
    shop.does("POST", &format!("keys/{id}/disable"), &json!({}))
        .await
        .is(200);
    let disabled = shop.client(&key, ask("gpt-4o", false)).await;
    disabled.refused(401, "key_disabled");
    assert_eq!(shop.row(disabled.id()).await["reason"], "key_disabled");
}

/// As far as it goes without signing in.
#[tokio::test]
async fn row_16_announcements_and_an_index_of_the_documentation() {
    let shop = Shop::open().await;
    let news = json!({"text": "New models on **Friday**."});
    shop.does("POST", "notices", &news).await.is(201);
    assert_eq!(
        shop.call(&Ask::get("/api/notice")).await.json(),
        json!({"success": true, "message": "", "data": "New models on **Friday**."})
    );
    let status = shop.call(&Ask::get("/api/status")).await.json();
    assert_eq!(status["data"]["announcements"][0]["content"], news["text"]);

    let index = shop.call(&Ask::get("/llms.txt")).await;
    assert_eq!(
        (index.head.status, index.field("content-type")),
        (200, Some("text/plain; charset=utf-8"))
    );
    let text = String::from_utf8(index.body.to_vec()).unwrap();
    assert!(text.starts_with("# "), "{text}");
    // What it names for reading is there.
    for path in text.split("](").skip(1).filter_map(|rest| rest.split_once("): GET")) {
        let (_, key) = shop
            .key(&format!("reader-of{}", path.0.replace('/', "-")), json!({}))
            .await;
        let answer = shop.client(&key, Ask::get(path.0.to_owned())).await;
        assert_eq!(answer.head.status, 200, "{}", path.0);
    }
}
