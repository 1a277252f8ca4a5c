//! However a request ends, nothing of what it had set aside stays set aside, and what was used is charged once.

use std::time::Duration;

use tollgate::money::Nanos;

use crate::support::books::{Charging, charging, priced};
use crate::support::gateway::{Setup, chat, post, scripted};
use crate::support::within;

const PRICE: &str = "{ input = 1, output = 10 }";
const CREDIT: i64 = 1_000_000_000_000;

/// What a backend may do to a request, plain or streamed.
const FAULTS: &[&str] = &[
    "tokens=5",
    "fault=status:400",
    "fault=status:401",
    "fault=status:429",
    "fault=status:500",
    "fault=reset:0",
    "fault=cut:0",
    "tokens=5; fault=cut:2",
    "tokens=5; fault=reset:2",
    "tokens=5; fault=stall:2",
    "fault=stall",
    "tokens=5; fault=error_event:0",
    "tokens=5; fault=error_event:2",
    "tokens=5; fault=broken_json:1",
    "tokens=5; fault=wrong_length",
    "tokens=5; fault=no_done",
    "tokens=5; fault=no_usage",
];

async fn front() -> (Charging, tollgate::backend::Running) {
    let backend = scripted().await;
    let setup = priced(
        Setup::default().backend(
            "main",
            backend.local_addr(),
            "timeout = { connect = \"200ms\", first_byte = \"200ms\", idle = \"200ms\", total = \"400ms\" }",
        ),
        PRICE,
    );
    (charging(setup, CREDIT).await, backend)
}

/// Nothing is set aside, and all that was charged is in the rows.
async fn is_settled(books: Charging, what: &str) {
    books.holds_nothing().await;
    within(async {
        while books.books.ledger.stats().pending_rows > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let rows = books.rows(0).await;
    let charged: i64 = rows.iter().map(|row| row.charge.get()).sum();
    let mut ids: Vec<_> = rows.iter().map(|row| &row.request_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), rows.len(), "{what}: a request has one row");
    let (account, store, _folder) = books.stopped().await;
    assert_eq!(account.balance, Nanos::new(CREDIT - charged), "{what}");
    let verified = store.verify(account.id, true).await.unwrap();
    assert_eq!(
        (verified.sum, verified.allotted),
        (account.balance, Nanos::ZERO),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_backend_does() {
    let (books, _backend) = front().await;
    for stream in [false, true] {
        for fault in FAULTS {
            let mut client = books.gateway.client().await;
            client.start(&chat(stream, fault)).await;
            if client.head().await.is_ok() {
                client.rest().await.1.ok();
            }
            books.holds_nothing().await;
        }
    }
    is_settled(books, "faults").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_a_client_leaves() {
    for stream in [false, true] {
        for (script, heads, chunks) in [
            // Before the head, after it, amid the text, and between the text's end and the usage.
            ("ttft=150ms", 0, 0),
            ("tokens=50; tps=100", 1, 0),
            ("tokens=50; tps=100", 1, 3),
            ("tokens=3; tps=100", 1, 5),
        ] {
            let (books, backend) = front().await;
            let mut client = books.gateway.client().await;
            client.start(&chat(stream, script)).await;
            if heads > 0 {
                client.head().await.ok();
                for _ in 0..chunks {
                    // What is not streamed comes in one.
                    let Ok(Some(_)) = client.chunk().await else { break };
                    if !stream {
                        break;
                    }
                }
            } else {
                within(async {
                    while backend.stats().now().in_flight == 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                })
                .await;
            }
            drop(client);
            let row = books.rows(1).await.remove(0);
            assert!(
                row.charge > Nanos::ZERO,
                "{stream} {script}: the backend has read the prompt: {row:?}"
            );
            is_settled(books, script).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_refuses_a_request() {
    let backend = scripted().await;
    let setup = priced(Setup::over(backend.local_addr()), PRICE)
        .group("default", "models = [\"*\"]\nrpm = 1000\ntpm = 100000\nconcurrency = 1");
    let books = charging(setup, CREDIT).await;
    for body in [
        r#"{"model":"scripted","messages":["#,
        r#"{"model":"other","messages":[]}"#,
        r#"{"model":"scripted","messages":[],"background":true}"#,
        r#"{"messages":[]}"#,
    ] {
        let answer = books.gateway.call(&post("/v1/chat/completions", body)).await;
        assert!((400..500).contains(&answer.head.status), "{:?}", answer.body);
        books.holds_nothing().await;
    }
    is_settled(books, "refusals").await;
}
