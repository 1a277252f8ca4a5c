//! Every answer is charged what it used, once, and the row says how.

use serde_json::json;
use tollgate::money::Nanos;
use tollgate::store::Row;

use crate::support::books::{Charging, charging, priced};
use crate::support::gateway::{Setup, chat, post, scripted};
use crate::support::raw::RawBackend;

const PRICE: &str = "{ input = 2.5, cached_input = 1.25, output = 10 }";
const PLENTY: i64 = 1_000_000_000_000;

/// The row of one request that was answered.
async fn charged(books: &Charging, ask: &crate::support::client::Ask) -> Row {
    let answer = books.gateway.call(ask).await;
    assert_eq!(answer.head.status, 200, "{:?}", answer.body);
    books.rows(1).await.remove(0)
}

#[tokio::test]
async fn an_answer_is_charged_by_its_tokens() {
    let backend = scripted().await;
    for stream in [false, true] {
        let books = charging(priced(Setup::over(backend.local_addr()), PRICE), PLENTY).await;
        let script = "prompt_tokens=1000; cached_tokens=400; completion_tokens=500";
        let row = charged(&books, &chat(stream, script)).await;
        // 600 × 2.5 + 400 × 1.25 + 500 × 10 dollars a million.
        assert_eq!(row.charge, Nanos::new(7_000_000), "{stream}");
        assert_eq!(row.written_off, Nanos::ZERO);
        assert_eq!(
            (row.tokens.prompt, row.tokens.cached, row.tokens.completion),
            (1000, 400, 500)
        );
        assert_eq!((row.status, row.streamed, row.estimated), (200, stream, false));
        assert_eq!(row.attempts.len(), 1);
        assert_eq!(row.attempts[0].backend, "main");
        books.holds_nothing().await;
        let (account, store, _folder) = books.stopped().await;
        assert_eq!(account.balance, Nanos::new(PLENTY - 7_000_000));
        let verified = store.verify(account.id, true).await.unwrap();
        assert_eq!((verified.balance, verified.allotted), (verified.sum, Nanos::ZERO));
    }
}

/// The vectors of what these platforms charge, through the gateway: the backend reports the usage.
#[tokio::test]
async fn billing_vectors() {
    let cached = |prompt: u64, cached: u64, completion: u64| {
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached}})
    };
    // As Anthropic counts: what was read from a cache and written to one stands beside the input.
    let beside = json!({"input_tokens": 1000, "output_tokens": 200, "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 20}});
    let written = json!({"prompt_tokens": 2604, "completion_tokens": 383, "total_tokens": 2987,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100}});
    let spoken = json!({"prompt_tokens": 300, "completion_tokens": 350, "total_tokens": 650,
        "prompt_tokens_details": {"audio_tokens": 200}, "completion_tokens_details": {"audio_tokens": 300}});
    // Per million: input = 2 × model ratio, output = input × completion ratio, cached = input × cache ratio; times the group.
    for (vector, price, multiplier, usage, nanos) in [
        (
            1,
            "{ input = 2.5, output = 10 }",
            "1.0",
            cached(1000, 0, 500),
            7_500_000,
        ),
        (
            2,
            "{ input = 0.15, cached_input = 0.075, output = 0.6 }",
            "1.0",
            cached(1234, 1024, 321),
            300_900,
        ),
        (
            3,
            "{ input = 0.27, cached_input = 0.0675, output = 1.08 }",
            "0.8",
            cached(2000, 1500, 700),
            793_800,
        ),
        (
            4,
            "{ input = 2, cached_input = 0.2, cache_write = 2.5, cache_write_1h = 4, output = 4 }",
            "1.0",
            beside.clone(),
            2_975_000,
        ),
        (
            5,
            "{ input = 3, cached_input = 0.3, cache_write = 3.75, cache_write_1h = 6, output = 15 }",
            "1.2",
            beside,
            7_515_000,
        ),
        (6, "{ input = 0.02, output = 0.02 }", "1.0", cached(5, 0, 0), 100),
        (
            7,
            "{ input = 2, cached_input = 0.2, output = 2 }",
            "1.0",
            cached(2604, 2432, 383),
            1_596_400,
        ),
        (
            8,
            "{ input = 2, cache_write = 2.5, output = 2 }",
            "1.0",
            written,
            6_024_000,
        ),
        (10, "{ input = 30, output = 60 }", "0.0", cached(1000, 0, 10), 0),
        (
            12,
            "{ input = 5, output = 20, audio_input = 40, audio_output = 80 }",
            "1.0",
            spoken,
            33_500_000,
        ),
        (13, "{ input = 1, output = 1 }", "1.0", cached(3, 0, 0), 3_000),
        (
            14,
            "{ input = 1, cached_input = 0.1, output = 5 }",
            "1.0",
            cached(56322, 72960, 87),
            7_731_000,
        ),
    ] {
        let backend = scripted().await;
        for stream in [false, true] {
            let setup = priced(Setup::over(backend.local_addr()), price)
                .group("default", &format!("models = [\"*\"]\nmultiplier = {multiplier}"));
            let books = charging(setup, PLENTY).await;
            let row = charged(&books, &chat(stream, &format!("usage={usage}"))).await;
            assert_eq!(row.charge, Nanos::new(nanos), "V{vector}, streamed: {stream}");
        }
    }
}

/// V9: what a request may cost at the most is set aside, and what it did not need is given back.
#[tokio::test]
async fn what_is_set_aside_covers_the_cap_and_the_rest_goes_back() {
    let backend = RawBackend::bind().await;
    let setup = priced(Setup::over(backend.address), "{ input = 30, output = 60 }");
    let books = charging(setup, PLENTY).await;
    let body = r#"{"model":"scripted","messages":[{"role":"user","content":"How are you?"}],"max_tokens":1000}"#;
    let mut client = books.gateway.client().await;
    client.start(&post("/v1/chat/completions", body)).await;
    let mut upstream = backend.accept().await;
    let (_, sent) = upstream.request().await.unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["max_tokens"], 1000);
    // All of the answer, and the prompt as far as it can be told before the backend has counted it.
    let reserved = books.books.ledger.stats().reserved.get();
    let prompt = reserved - 1000 * 60_000;
    assert!((30_000..=60 * 30_000).contains(&prompt), "{reserved}");

    let usage = json!({"prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 120});
    let answer = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Well."},
        "finish_reason": "stop"}], "usage": usage});
    let answer = answer.to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
    upstream.send(format!("{head}: {}\r\n\r\n{answer}", answer.len())).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    client.rest().await.1.unwrap();
    let row = books.rows(1).await.remove(0);
    assert_eq!(row.charge, Nanos::new(6_600_000));
    assert_eq!((row.cap_asked, row.cap_applied), (Some(1000), Some(1000)));
    books.holds_nothing().await;
    let (account, _, _folder) = books.stopped().await;
    assert_eq!(account.balance, Nanos::new(PLENTY - 6_600_000));
}

#[tokio::test]
async fn requests_are_charged_each_and_as_often_as_answers_are_asked_for() {
    let backend = scripted().await;
    let setup = priced(Setup::over(backend.local_addr()), "{ request = 0.04 }")
        .group("default", "models = [\"*\"]\nmultiplier = 3.0");
    let books = charging(setup, PLENTY).await;
    let body = r#"{"model":"scripted","messages":[{"role":"user","content":"Hi"}],"n":2}"#;
    let row = charged(&books, &post("/v1/chat/completions", body)).await;
    // V11: 0.04 × 2 × 1.5, twice.
    assert_eq!(row.charge, Nanos::new(240_000_000));
}

#[tokio::test]
async fn what_brings_no_answer_costs_nothing_and_leaves_a_row() {
    let backend = scripted().await;
    let books = charging(priced(Setup::over(backend.local_addr()), PRICE), PLENTY).await;
    let answer = books.gateway.call(&chat(false, "fault=status:500")).await;
    answer.refused(502, "upstream_failed");
    let row = books.rows(1).await.remove(0);
    assert_eq!((row.status, row.charge), (502, Nanos::ZERO));
    assert_eq!(row.reason.as_deref(), Some("upstream_failed"));
    books.holds_nothing().await;
    let (account, _, _folder) = books.stopped().await;
    assert_eq!(account.balance, Nanos::new(PLENTY));
}
