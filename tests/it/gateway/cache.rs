//! Answers that are kept: who gets which, and what is written down of it.

use serde_json::Value;
use tollgate::backend::Running;

use crate::support::client::Ask;
use crate::support::gateway::{Answer, Gateway, Setup, chat, front, post, scripted};

/// The one model, with this of a cache.
fn kept(setup: Setup, cache: &str) -> Setup {
    setup.model("scripted", &format!("route = [{{ backend = \"main\" }}]\n{cache}"))
}

async fn caching(cache: &str) -> (Gateway, Running) {
    front(|setup| kept(setup, cache)).await
}

async fn answered(gateway: &Gateway, ask: &Ask) -> (Answer, Value) {
    let answer = gateway.call(ask).await;
    assert_eq!(answer.head.status, 200);
    let line = gateway.line(answer.id()).await;
    (answer, line)
}

fn said(answer: &Answer) -> Option<&str> {
    answer.field("x-tollgate-cache")
}

#[tokio::test]
async fn an_equal_request_is_answered_again_and_marked() {
    for stream in [false, true] {
        let (gateway, backend) = caching("cache = { ttl = \"10m\" }").await;
        let ask = chat(stream, "tokens=5; prompt_tokens=9; chunk_bytes=20");
        let (first, line) = answered(&gateway, &ask).await;
        assert_eq!((said(&first), first.field("age")), (Some("miss"), None));
        assert!(line["cached"].is_null());
        let (second, again) = answered(&gateway, &ask).await;
        assert_eq!((said(&second), second.field("age")), (Some("hit"), Some("0")));
        assert_eq!(first.body, second.body);
        assert_eq!(first.field("content-type"), second.field("content-type"));
        assert_ne!(first.id(), second.id());

        assert_eq!(backend.stats().now().requests, 1);
        assert_eq!((&again["cached"], again["attempts"].is_null()), (&true.into(), true));
        for kind in ["prompt_tokens", "completion_tokens"] {
            assert!(line[kind].is_u64());
            assert_eq!(line[kind], again[kind], "what it had used, for whoever charges");
        }
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.get("tollgate_cached_answers_total"), 1);
        let completion = "tollgate_tokens_total{model=\"scripted\",kind=\"completion\"}";
        assert_eq!(metrics.get(completion), 5, "a backend used them once");
    }
}

/// Anything that changes what a backend says is another request.
#[tokio::test]
async fn another_request_is_not_answered_with_it() {
    let (gateway, backend) = caching("cache = { ttl = \"10m\" }").await;
    let body = |text: &str| format!(r#"{{"model":"scripted","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let asks = [
        post("/v1/chat/completions", body("Hi")),
        post("/v1/chat/completions", body("Ho")),
        post("/chat/completions", body("Hi")),
        post("/v1/chat/completions", body("Hi")).field("x-tollgate-script", "tokens=3"),
        post("/v1/chat/completions", body("Hi")).field("cache-control", "no-cache"),
        post("/v1/chat/completions", body("Hi")).field("cache-control", "no-store"),
    ];
    for (n, ask) in asks.iter().enumerate() {
        assert_eq!(said(&answered(&gateway, ask).await.0), Some("miss"), "{n}");
    }
    assert_eq!(backend.stats().now().requests, asks.len() as u64);
    assert_eq!(said(&answered(&gateway, &asks[0]).await.0), Some("hit"));
}

#[tokio::test]
async fn an_account_s_answers_are_its_own_unless_they_are_shared() {
    for (shared, theirs) in [(false, "miss"), (true, "hit")] {
        let cache = format!("cache = {{ ttl = \"10m\", shared = {shared} }}");
        let (gateway, _backend) = front(|setup| kept(setup, &cache).key("ci", "").key("other", "")).await;
        let ask = Ask::chat(false, "");
        assert_eq!(said(&answered(&gateway, &ask.clone().by("ci")).await.0), Some("miss"));
        assert_eq!(said(&answered(&gateway, &ask.by("other")).await.0), Some(theirs));
    }
}

/// Who may call the one model may not be allowed the other.
#[tokio::test]
async fn what_is_no_answer_or_another_model_s_is_not_kept() {
    let (broken, good) = (scripted().await, scripted().await);
    let gateway = Setup::default()
        .backend("main", broken.local_addr(), "")
        .backend("good", good.local_addr(), "pass_headers = []")
        .model(
            "scripted",
            "route = [{ backend = \"main\" }]\nfallback = [\"second\"]\ncache = { ttl = \"10m\" }",
        )
        .model("second", "route = [{ backend = \"good\" }]\ncache = { ttl = \"10m\" }")
        .start();
    for script in ["fault=status:500", "fault=status:400", "fault=cut:2"] {
        for _ in 0..2 {
            let mut client = gateway.client().await;
            client.start(&chat(true, script)).await;
            let head = client.head().await.unwrap();
            let _ = client.rest().await;
            assert_eq!(head.field("x-tollgate-cache"), Some("miss"), "{script}");
        }
    }
}

#[tokio::test]
async fn a_hit_costs_requests_but_no_tokens() {
    let cache = "cache = { ttl = \"10m\" }";
    let (gateway, _backend) = front(|setup| kept(setup, cache).key("ci", "rpm = 3\ntpm = 1000")).await;
    let ask = chat(false, "prompt_tokens=600; completion_tokens=300");
    answered(&gateway, &ask).await;
    for _ in 0..2 {
        assert_eq!(said(&answered(&gateway, &ask).await.0), Some("hit"));
    }
    let limited = gateway.call(&ask).await;
    limited.refused(429, "rpm");
}

#[tokio::test]
async fn without_a_cache_nothing_is_kept_and_a_reload_forgets() {
    let (mut gateway, backend) = front(|setup| setup).await;
    for _ in 0..2 {
        let (answer, line) = answered(&gateway, &chat(false, "")).await;
        assert!(said(&answer).is_none() && line["cached"].is_null());
    }
    assert_eq!(backend.stats().now().requests, 2);
    for expected in ["miss", "miss"] {
        let setup = kept(Setup::over(backend.local_addr()), "cache = { ttl = \"10m\" }");
        gateway.inner.reload(setup.config()).await.unwrap();
        assert_eq!(said(&answered(&gateway, &chat(false, "")).await.0), Some(expected));
    }
}
