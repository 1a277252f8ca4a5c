//! Rows 8, 12 and 13: groups, fallback, limits and timeouts.

use std::time::Duration;

use serde_json::json;

use super::{Shop, ask, reporting};
use crate::support::client::{Client, Speaks};
use crate::support::gateway::Setup;

/// A key of this group.
async fn member(shop: &Shop, group: &str) -> String {
    shop.key(group, json!({"group": group})).await.1
}

#[tokio::test]
async fn row_8_groups_have_models_a_multiplier_and_limits() {
    let shop = Shop::open_with(|setup: Setup| {
        setup
            .group("vip", "models = [\"gpt-*\"]\nmultiplier = 0.5")
            .group("slow", "rpm = 2")
            .group("short", "tpm = 1000")
            .group("narrow", "concurrency = 1")
    })
    .await;
    let vip = member(&shop, "vip").await;
    shop.client(&vip, ask("painter", false))
        .await
        .refused(403, "model_not_allowed");
    let answer = shop.client(&vip, reporting(ask("gpt-4o", false), 1000, 500)).await;
    assert_eq!(shop.row(answer.id()).await["charge_credits"], 3750 / 2);

    let slow = member(&shop, "slow").await;
    for _ in 0..2 {
        assert_eq!(shop.client(&slow, ask("gpt-4o", false)).await.head.status, 200);
    }
    let refused = shop.client(&slow, ask("gpt-4o", false)).await;
    refused.refused(429, "rpm");
    assert!(refused.field("retry-after").is_some());

    let short = member(&shop, "short").await;
    let long = reporting(ask("gpt-4o", false), 5000, 500);
    assert_eq!(shop.client(&short, long).await.head.status, 200);
    shop.client(&short, ask("gpt-4o", false)).await.refused(429, "tpm");

    let narrow = member(&shop, "narrow").await;
    let stalled = ask("gpt-4o", true)
        .field("x-tollgate-script", "fault=stall:2")
        .field("authorization", &format!("Bearer {narrow}"));
    let mut first = Client::at(shop.books.gateway.address(), Speaks::KeepAlive).await;
    first.start(&stalled).await;
    assert_eq!(first.head().await.unwrap().status, 200);
    shop.client(&narrow, ask("gpt-4o", false))
        .await
        .refused(429, "concurrency");
    drop(first);
}

#[tokio::test]
async fn row_12_a_backup_model_answers_when_the_first_fails() {
    // Nobody listens there.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let shop = Shop::open_with(|setup| {
        setup
            .backend("gone", address, "")
            .model(
                "first",
                "route = [{ backend = \"gone\" }]\nfallback = [\"painter\", \"gpt-4o\"]\nprice = { input = 1, output = 1 }",
            )
            .group("chatters", "models = [\"first\", \"gpt-4o\"]")
    })
    .await;
    let key = member(&shop, "chatters").await;
    let answer = shop.client(&key, reporting(ask("first", false), 1000, 500)).await;
    assert_eq!(answer.head.status, 200, "{:?}", answer.body);
    let row = shop.row(answer.id()).await;
    // What the key may not call is no backup of its; what answered is what is charged.
    assert_eq!((&row["model"], &row["served"]), (&json!("first"), &json!("gpt-4o")));
    assert_eq!(row["charge_credits"], 3750);
    let backends: Vec<_> = row["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| &attempt["backend"])
        .collect();
    assert_eq!(backends, ["gone", "main"]);
}

#[tokio::test]
async fn row_13_limits_by_model_and_by_plan_and_timeouts_of_120_seconds() {
    let shop = Shop::open_with(|setup| {
        setup
            .model(
                "rare",
                "route = [{ backend = \"main\" }]\nprice = \"free\"\nlimit = { rpm = 1 }",
            )
            .group("plan", "rpm = 3")
    })
    .await;
    let backend = &shop.books.gateway.inner.config().backends[0];
    let minutes = Duration::from_mins(2);
    assert_eq!(
        [backend.timeout.first_byte, backend.timeout.idle, backend.timeout.total],
        [minutes; 3]
    );

    let key = member(&shop, "plan").await;
    assert_eq!(shop.client(&key, ask("rare", false)).await.head.status, 200);
    shop.client(&key, ask("rare", false)).await.refused(429, "rpm");
    // Another model of the same plan: what the model's limit has refused had not been counted against the plan's.
    for _ in 0..2 {
        assert_eq!(shop.client(&key, ask("gpt-4o", false)).await.head.status, 200);
    }
    shop.client(&key, ask("gpt-4o", false)).await.refused(429, "rpm");
}
