//! The table of errors: each row that can occur, as a client sees it.

use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::{Answer, KEY, Setup, chat, front, post, scripted, secret};
use crate::support::raw::Wire;
use crate::support::within;

/// What a gateway that is set up so says to a request.
async fn told(ask: &Ask, change: impl FnOnce(Setup) -> Setup) -> Answer {
    let (gateway, backend) = front(change).await;
    let answer = gateway.call(ask).await;
    gateway.is_quiet().await;
    drop(backend);
    answer
}

fn same(setup: Setup) -> Setup {
    setup
}

#[tokio::test]
async fn a_key_that_is_missing_or_unknown_is_told_in_the_same_words() {
    let (gateway, _backend) = front(same).await;
    let nobody = Ask::chat(false, "");
    let none = gateway.call(&nobody).await;
    none.refused(401, "key_missing");
    let unknown = gateway.call(&nobody.clone().by("nobody")).await;
    unknown.refused(401, "key_invalid");
    let two = chat(false, "").field("x-api-key", "sk-another");
    let two = gateway.call(&two).await;
    two.refused(401, "key_invalid");
    let basic = gateway.call(&nobody.field("authorization", "Basic c2stMTox")).await;
    basic.refused(401, "key_invalid");
    for answer in [none, unknown, two, basic] {
        answer.says("authentication_error", "Invalid or missing API key.", None);
        assert_eq!(answer.retry(), (None, None));
    }
}

#[tokio::test]
async fn an_expired_key() {
    let answer = told(&chat(false, ""), |setup| setup.key(KEY, "expires = 1577836800")).await;
    answer.refused(401, "key_expired");
    answer.says("authentication_error", "This API key has expired.", None);
}

#[tokio::test]
async fn an_address_that_the_key_or_the_listener_does_not_allow() {
    let of_key = told(&chat(false, ""), |setup| setup.key(KEY, "ips = [\"10.0.0.0/8\"]")).await;
    let of_listener = told(&chat(false, ""), |setup| setup.server("ips = [\"10.0.0.0/8\"]")).await;
    for answer in [of_key, of_listener] {
        answer.refused(403, "ip_not_allowed");
        assert_eq!(answer.json()["error"]["type"], "authorization_error");
    }
}

#[tokio::test]
async fn a_model_that_the_key_or_its_group_does_not_allow() {
    for change in [
        |setup: Setup| setup.key(KEY, "models = [\"gpt-*\"]"),
        |setup: Setup| setup.group("default", "models = [\"gpt-*\"]"),
    ] {
        let answer = told(&chat(false, ""), change).await;
        answer.refused(403, "model_not_allowed");
        let message = "This API key may not use the requested model.";
        answer.says("authorization_error", message, Some("model"));
    }
}

#[tokio::test]
async fn a_model_or_a_path_that_is_not_there() {
    let (gateway, _backend) = front(same).await;
    let ask = post("/v1/chat/completions", r#"{"model":"ghost","messages":[]}"#);
    let answer = gateway.call(&ask).await;
    answer.refused(404, "model_not_found");
    let message = "The model `ghost` does not exist.";
    answer.says("invalid_request_error", message, Some("model"));

    let answer = gateway.call(&Ask::get("/v1/models/ghost").by(KEY)).await;
    answer.refused(404, "model_not_found");

    let answer = gateway.call(&Ask::get("/v1/nothing").by(KEY)).await;
    answer.refused(404, "path_not_found");
    answer.says("invalid_request_error", "Unknown path.", None);
}

#[tokio::test]
async fn another_method() {
    for (ask, allowed) in [
        (Ask::get("/v1/chat/completions"), "POST"),
        (Ask::post("/v1/models", "{}"), "GET"),
    ] {
        let answer = told(&ask.by(KEY), same).await;
        answer.refused(405, "method_not_allowed");
        assert_eq!(answer.field("allow"), Some(allowed));
        let message = "This path does not accept this method.";
        answer.says("invalid_request_error", message, None);
    }
}

#[tokio::test]
async fn a_client_that_is_too_slow() {
    let (gateway, _backend) = front(|setup| setup.server("client_timeout = \"200ms\"")).await;
    let mut client = gateway.client().await;
    // It announces more than it sends.
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n";
    let sent = format!("{head}authorization: Bearer {}\r\n\r\n{{", secret(KEY));
    client.wire().send(sent).await;
    let head = client.head().await.unwrap();
    let (body, _) = client.rest().await;
    let answer = Answer { head, body };
    answer.refused(408, "request_timeout");
    let message = "The request was not received in time.";
    answer.says("invalid_request_error", message, None);
}

#[tokio::test]
async fn a_body_that_is_encoded() {
    let answer = told(&chat(false, "").field("content-encoding", "gzip"), same).await;
    answer.refused(415, "unsupported_encoding");
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn a_body_that_is_not_what_it_should_be() {
    let (gateway, backend) = front(same).await;
    for (body, reason, param) in [
        ("not JSON", "malformed_body", None),
        (r#"{"model":"scripted""#, "malformed_body", None),
        (r#"{"model":"scripted"} {}"#, "malformed_body", None),
        (r#"["scripted"]"#, "malformed_body", None),
        (r#"{"messages":[]}"#, "model_missing", Some("model")),
        (r#"{"model":""}"#, "model_missing", Some("model")),
        (
            r#"{"model":"scripted","stream":"yes"}"#,
            "malformed_body",
            Some("stream"),
        ),
        (
            r#"{"model":"scripted","store":true}"#,
            "unsupported_parameter",
            Some("store"),
        ),
    ] {
        let answer = gateway.call(&post("/v1/chat/completions", body)).await;
        answer.refused(400, reason);
        let error = &answer.json()["error"];
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["param"].as_str(), param, "{body}: {error}");
    }
    assert_eq!(backend.stats().now().requests, 0);
}

#[tokio::test]
async fn a_body_that_is_too_large() {
    let answer = told(&chat(false, ""), |setup| setup.server("max_body = 64")).await;
    answer.refused(413, "body_too_large");
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn more_than_a_limit_allows() {
    let (gateway, _backend) = front(|setup| setup.group("default", "rpm = 1")).await;
    gateway.call(&chat(false, "")).await;
    let rpm = gateway.call(&chat(false, "")).await;
    rpm.refused(429, "rpm");
    rpm.says("rate_limit_error", "Too many requests. Please slow down.", None);
    let after: u64 = rpm.field("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&after), "{after}");

    let (gateway, _backend) = front(|setup| setup.group("default", "tpm = 60")).await;
    gateway.call(&chat(false, "prompt_tokens=1000")).await;
    let tpm = gateway.call(&chat(false, "")).await;
    tpm.refused(429, "tpm");
    tpm.says("rate_limit_error", "Too many tokens. Please slow down.", None);
    let after: u64 = tpm.field("retry-after").unwrap().parse().unwrap();
    assert!(after > 900, "the debt is waited for: {after}");

    let (gateway, backend) = front(|setup| setup.group("default", "concurrency = 1")).await;
    let mut client = gateway.client().await;
    client.start(&chat(true, "fault=stall")).await;
    within(backend.stats().wait_for(|counts| counts.in_flight == 1)).await;
    let answer = gateway.call(&chat(false, "")).await;
    answer.refused(429, "concurrency");
    answer.says("rate_limit_error", "Too many requests at once.", None);
    assert_eq!(answer.retry(), (Some("1"), None));
}

#[tokio::test]
async fn a_full_gateway() {
    let (gateway, backend) = front(|setup| setup.server("max_requests = 1")).await;
    let mut client = gateway.client().await;
    client.start(&chat(true, "fault=stall")).await;
    within(backend.stats().wait_for(|counts| counts.in_flight == 1)).await;
    let full = gateway.call(&chat(false, "")).await;
    // More than the quarter of it that one account may hold.
    let unheld = told(&chat(false, ""), |setup| {
        setup.server("max_buffered = 256\nmax_body = 256")
    })
    .await;
    for answer in [full, unheld] {
        answer.refused(503, "overloaded");
        let message = "The service is overloaded. Please try again later.";
        answer.says("overloaded_error", message, None);
        assert_eq!(answer.retry(), (Some("1"), None));
    }
}

#[tokio::test]
async fn what_is_no_request_is_told_so_in_the_same_form() {
    let (gateway, _backend) = front(|setup| setup.server("client_timeout = \"200ms\"")).await;
    for (sent, status, reason, allow) in [
        ("not HTTP at all\r\n\r\n", 400, "malformed_body", None),
        ("GET /v1/models HTTP/1.1\r\nhost: x", 408, "request_timeout", None),
        (
            "CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n",
            405,
            "method_not_allowed",
            Some("GET, POST"),
        ),
    ] {
        let mut client = gateway.client().await;
        client.wire().send(sent).await;
        let head = client.head().await.unwrap();
        let (body, _) = client.rest().await;
        let answer = Answer { head, body };
        assert_eq!(answer.json()["error"]["reason"], reason);
        answer.refused(status, reason);
        assert_eq!(answer.field("allow").is_some(), allow.is_some(), "{answer:?}");
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn the_client_s_own_id_is_kept_when_it_is_sane() {
    let (gateway, _backend) = front(same).await;
    let named = |id: &str| Ask::get("/v1/nothing").field("x-request-id", id);
    assert_eq!(gateway.call(&named("mine-1")).await.id(), "mine-1");
    let made = gateway.call(&named("not {sane}")).await.id().to_owned();
    assert_ne!(made, "not {sane}");
    let other = gateway.call(&named(&"x".repeat(129))).await.id().to_owned();
    assert!(!made.is_empty() && other.len() < 129 && made != other);
}

#[tokio::test]
async fn code_can_be_the_reason() {
    let text = "[errors]\ncode = \"reason\"";
    let answer = told(&Ask::chat(false, ""), |setup| setup.text(text)).await;
    let expected = serde_json::json!({"error": {
        "message": "Invalid or missing API key.", "type": "authentication_error", "param": null,
        "code": "key_missing", "reason": "key_missing",
    }});
    assert_eq!((answer.head.status, answer.json()), (401, expected));

    let backend = scripted().await;
    let timeouts = "timeout = { idle = \"100ms\" }";
    let setup = Setup::default().backend("main", backend.local_addr(), timeouts);
    let gateway = setup.text(text).start();
    let mut client = gateway.client().await;
    client.start(&chat(true, "fault=stall:2")).await;
    client.head().await.unwrap();
    let (body, _) = client.rest().await;
    assert!(String::from_utf8_lossy(&body).contains(r#""code":"idle_timeout""#));
}

/// The table holds on HTTP/2 and HTTP/1.0, too.
#[tokio::test]
async fn on_every_protocol() {
    let backend = scripted().await;
    let gateway = Setup::over(backend.local_addr())
        .server("h2c_listen = \"127.0.0.1:0\"")
        .start();
    let h2c = gateway.inner.addresses().h2c[0];
    for (address, speaks) in [(h2c, Speaks::H2c), (gateway.address(), Speaks::Http10)] {
        let (head, body) = Client::at(address, speaks).await.call(&Ask::chat(false, "")).await;
        Answer { head, body }.refused(401, "key_missing");
    }
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(wire.head().await.unwrap().status(), 401);
}
