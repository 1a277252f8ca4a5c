//! The order of the checks: of two reasons to refuse a request, the earlier is told. And what a refused request costs.

use tollgate::backend::Running;

use crate::support::client::{Ask, Client};
use crate::support::gateway::{Gateway, KEY, Setup, chat, front, post, scripted};
use crate::support::within;

const SCRIPTED: &str = "route = [{ backend = \"main\" }]\n";

/// A stream that is under way until the client is dropped.
async fn held(gateway: &Gateway, backend: &Running, ask: &Ask) -> Client {
    let before = backend.stats().now().in_flight;
    let mut client = gateway.client().await;
    client.start(ask).await;
    within(backend.stats().wait_for(|counts| counts.in_flight > before)).await;
    client
}

fn named(model: &str) -> Ask {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hi"}}]}}"#);
    post("/v1/chat/completions", body)
}

#[tokio::test]
async fn the_listener_s_addresses_before_the_path() {
    let (gateway, _backend) = front(|setup| setup.server("ips = [\"10.0.0.0/8\"]")).await;
    let answer = gateway.call(&Ask::get("/nothing")).await;
    answer.refused(403, "ip_not_allowed");
}

#[tokio::test]
async fn path_and_method_before_the_key() {
    let (gateway, _backend) = front(|setup| setup).await;
    gateway.call(&Ask::get("/nothing")).await.refused(404, "path_not_found");
    let answer = gateway.call(&Ask::get("/v1/chat/completions")).await;
    answer.refused(405, "method_not_allowed");
}

#[tokio::test]
async fn the_key_s_state_before_its_addresses() {
    let lines = "expires = 1577836800\nips = [\"10.0.0.0/8\"]";
    let (gateway, _backend) = front(|setup| setup.key(KEY, lines)).await;
    gateway.call(&chat(false, "")).await.refused(401, "key_expired");
}

#[tokio::test]
async fn the_key_s_addresses_before_its_concurrency() {
    let proxied = "trusted_proxies = [\"127.0.0.0/8\"]";
    let lines = "ips = [\"10.0.0.0/8\"]\nconcurrency = 1";
    let (gateway, backend) = front(|setup| setup.server(proxied).key(KEY, lines)).await;
    let from = |address: &str| chat(true, "fault=stall").field("x-forwarded-for", address);
    let _held = held(&gateway, &backend, &from("10.0.0.1")).await;
    gateway.call(&from("192.0.2.1")).await.refused(403, "ip_not_allowed");
    gateway.call(&from("10.0.0.2")).await.refused(429, "concurrency");
}

#[tokio::test]
async fn concurrency_before_the_rate() {
    let (gateway, backend) = front(|setup| setup.group("default", "concurrency = 1\nrpm = 1")).await;
    let first = held(&gateway, &backend, &chat(true, "fault=stall")).await;
    gateway.call(&chat(false, "")).await.refused(429, "concurrency");
    first.leave();
    gateway.is_quiet().await;
    gateway.call(&chat(false, "")).await.refused(429, "rpm");
}

#[tokio::test]
async fn the_rate_before_the_body() {
    let (gateway, _backend) = front(|setup| setup.group("default", "rpm = 1").server("max_body = 256")).await;
    gateway.call(&chat(false, "")).await;
    for body in ["broken".to_owned(), "x".repeat(1000)] {
        let answer = gateway.call(&post("/v1/chat/completions", body)).await;
        answer.refused(429, "rpm");
    }
}

#[tokio::test]
async fn the_body_before_its_model() {
    let (gateway, _backend) = front(|setup| setup.server("max_body = 256")).await;
    let answer = gateway.call(&post("/v1/chat/completions", "x".repeat(257))).await;
    answer.refused(413, "body_too_large");
    for (body, reason) in [
        (r#"{"model":"ghost""#, "malformed_body"),
        (r#"{"model":"ghost","stream":7}"#, "malformed_body"),
        (
            r#"{"model":"ghost","previous_response_id":"resp_1"}"#,
            "unsupported_parameter",
        ),
    ] {
        let answer = gateway.call(&post("/v1/chat/completions", body)).await;
        answer.refused(400, reason);
    }
}

#[tokio::test]
async fn a_model_that_is_not_there_before_one_that_is_not_allowed() {
    let (gateway, _backend) = front(|setup| setup.key(KEY, "models = [\"gpt-*\"]")).await;
    gateway.call(&named("ghost")).await.refused(404, "model_not_found");
    gateway.call(&named("scripted")).await.refused(403, "model_not_allowed");
}

/// The counts outlive a reload, so a key that has used a model up can be one that may not use it at all.
#[tokio::test]
async fn what_is_not_allowed_before_the_model_s_limits() {
    let setup = |backend: &Running, key: &str| {
        Setup::over(backend.local_addr())
            .model("scripted", &format!("{SCRIPTED}limit = {{ rpm = 1 }}"))
            .key(KEY, key)
    };
    let backend = scripted().await;
    let mut gateway = setup(&backend, "").start();
    gateway.call(&chat(false, "")).await;
    gateway.call(&chat(false, "")).await.refused(429, "rpm");
    gateway
        .inner
        .reload(setup(&backend, "models = []").config())
        .await
        .unwrap();
    gateway.call(&chat(false, "")).await.refused(403, "model_not_allowed");
}

#[tokio::test]
async fn the_model_s_limits_before_tokens() {
    let model = format!("{SCRIPTED}limit = {{ rpm = 1, concurrency = 1 }}");
    let (gateway, backend) = front(|setup| setup.model("scripted", &model).group("default", "tpm = 1")).await;
    let first = held(&gateway, &backend, &chat(true, "fault=stall")).await;
    gateway.call(&chat(false, "")).await.refused(429, "concurrency");
    first.leave();
    gateway.is_quiet().await;
    gateway.call(&chat(false, "")).await.refused(429, "rpm");
}

#[tokio::test]
async fn tokens_before_the_route() {
    let (gateway, backend) = front(|setup| setup.group("default", "tpm = 1")).await;
    gateway.call(&chat(false, "")).await;
    backend.stop().await;
    gateway.call(&chat(false, "")).await.refused(429, "tpm");
}

// === what a refusal costs ===

/// Two models, of which the first has a limit.
fn two(setup: Setup, limit: &str) -> Setup {
    setup
        .model("scripted", &format!("{SCRIPTED}limit = {{ {limit} }}"))
        .model("other", SCRIPTED)
}

#[tokio::test]
async fn a_refusal_by_a_limit_gives_back_what_it_took() {
    for (limit, reason) in [("rpm = 1", "rpm"), ("tpm = 1", "tpm")] {
        let (gateway, _backend) = front(|setup| two(setup, limit).group("default", "rpm = 2\nconcurrency = 1")).await;
        assert_eq!(gateway.call(&chat(false, "")).await.head.status, 200);
        for _ in 0..3 {
            gateway.call(&chat(false, "")).await.refused(429, reason);
        }
        assert_eq!(gateway.call(&named("other")).await.head.status, 200, "{limit}");
        let answer = gateway.call(&named("other")).await;
        answer.refused(429, "rpm");
        assert_eq!(answer.field("x-ratelimit-limit-requests"), Some("2"));
    }
}

#[tokio::test]
async fn a_refusal_for_want_of_a_place_gives_back_what_it_took() {
    let limits = "rpm = 2\nconcurrency = 2";
    let (gateway, backend) = front(|setup| two(setup, "concurrency = 1").group("default", limits)).await;
    let _held = held(&gateway, &backend, &chat(true, "fault=stall")).await;
    for _ in 0..3 {
        gateway.call(&chat(false, "")).await.refused(429, "concurrency");
    }
    assert_eq!(gateway.call(&named("other")).await.head.status, 200);
    gateway.call(&named("other")).await.refused(429, "rpm");
}

/// Refused by the tokens of the key, what was taken of the model's rate and of the group's is there again.
#[tokio::test]
async fn a_refusal_by_the_tokens_gives_back_every_rate() {
    let model = format!("{SCRIPTED}limit = {{ rpm = 3 }}");
    let setup = |setup: Setup| setup.model("scripted", &model).group("default", "tpm = 1\nrpm = 5");
    let (gateway, _backend) = front(setup).await;
    let first = gateway.call(&chat(false, "")).await;
    assert_eq!(first.field("x-ratelimit-remaining-requests"), Some("2"));
    for _ in 0..4 {
        let refused = gateway.call(&chat(false, "")).await;
        refused.refused(429, "tpm");
        assert_eq!(refused.field("x-ratelimit-remaining-requests"), Some("2"));
        assert_eq!(refused.field("x-ratelimit-limit-requests"), Some("3"));
    }
}

#[tokio::test]
async fn what_is_refused_for_what_it_says_counts() {
    let key = "models = [\"other\"]\nconcurrency = 1";
    let limits = "rpm = 4";
    let (gateway, _backend) = front(|setup| {
        setup
            .model("scripted", SCRIPTED)
            .model("other", SCRIPTED)
            .key(KEY, key)
            .group("default", limits)
    })
    .await;
    for (ask, status) in [
        (post("/v1/chat/completions", "broken"), 400),
        (named("scripted"), 403),
        (named("ghost"), 404),
        (Ask::get("/v1/models").by(KEY), 200),
    ] {
        assert_eq!(gateway.call(&ask).await.head.status, status);
    }
    gateway.call(&named("other")).await.refused(429, "rpm");
}

/// Nobody is counted whose key is not known, and no path that is not served.
#[tokio::test]
async fn what_is_refused_before_the_limits_does_not_count() {
    let (gateway, _backend) = front(|setup| setup.group("default", "rpm = 1")).await;
    gateway.call(&Ask::chat(false, "")).await.refused(401, "key_missing");
    gateway
        .call(&Ask::get("/nothing").by(KEY))
        .await
        .refused(404, "path_not_found");
    assert_eq!(gateway.call(&chat(false, "")).await.head.status, 200);
}
