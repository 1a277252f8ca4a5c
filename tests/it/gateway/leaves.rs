//! Clients that leave: the backend is cut off or read to its end, and what was used is counted once.

use serde_json::{Value, json};
use tollgate::backend::Running;

use crate::support::bridge::Certs;
use crate::support::client::{Client, Speaks};
use crate::support::gateway::{Gateway, KEY, Setup, chat, scripted, secret};
use crate::support::raw::{RawBackend, Wire};
use crate::support::within;

const ID: &str = "leaver-1";

/// A gateway with one place for everybody, so that one that is not given back shows.
fn narrow(setup: Setup) -> Gateway {
    setup.group("default", "concurrency = 1\ntpm = 1000000").start()
}

async fn front(lines: &str) -> (Gateway, Running) {
    let backend = scripted().await;
    let setup = Setup::default().backend("main", backend.local_addr(), lines);
    (narrow(setup.server("h2c_listen = \"127.0.0.1:0\"")), backend)
}

/// A request that the backend has.
async fn asked(gateway: &Gateway, backend: &Running, stream: bool, script: &str) -> Client {
    asked_by(Speaks::KeepAlive, gateway, backend, stream, script).await
}

async fn asked_by(speaks: Speaks, gateway: &Gateway, backend: &Running, stream: bool, script: &str) -> Client {
    let address = match speaks {
        Speaks::H2c => gateway.inner.addresses().h2c[0],
        _ => gateway.address(),
    };
    let mut client = Client::at(address, speaks).await;
    client.start(&chat(stream, script).field("x-request-id", ID)).await;
    within(backend.stats().wait_for(|counts| counts.requests == 1)).await;
    client
}

/// What the gateway has noted of the request, once; and there is room for another.
async fn noted(gateway: &Gateway) -> Value {
    let line = gateway.line(ID).await;
    gateway.is_quiet().await;
    assert_eq!(gateway.lines().matches(ID).count(), 1, "one line");
    let metrics = gateway.metrics().await;
    for kind in ["prompt", "completion"] {
        let sample = format!("tollgate_tokens_total{{model=\"scripted\",kind=\"{kind}\"}}");
        let tokens = line[&format!("{kind}_tokens")].as_u64().unwrap_or_default();
        assert_eq!(metrics.get(&sample), tokens, "counted once");
    }
    line
}

/// Whether the tokens were estimated, and those of the prompt and of the answer.
fn tokens(line: &Value) -> (bool, u64, u64) {
    let count = |name: &str| line[name].as_u64().unwrap_or_default();
    (
        line["estimated"] == true,
        count("prompt_tokens"),
        count("completion_tokens"),
    )
}

async fn is_cut_off(backend: &Running) {
    let counts = within(backend.stats().wait_for(|counts| counts.cancelled == 1)).await;
    assert_eq!((counts.requests, counts.completed), (1, 0));
    within(backend.stats().wait_for(|counts| counts.open_connections == 0)).await;
}

async fn is_read_to_its_end(backend: &Running) {
    let counts = within(backend.stats().wait_for(|counts| counts.in_flight == 0)).await;
    assert_eq!((counts.requests, counts.completed, counts.cancelled), (1, 1, 0));
}

async fn answers_the_next(gateway: &Gateway) {
    assert_eq!(gateway.call(&chat(false, "")).await.head.status, 200);
}

// === cancel ===

#[tokio::test]
async fn before_the_head_a_stream_is_cut_off() {
    for speaks in [Speaks::KeepAlive, Speaks::H2c] {
        let (gateway, backend) = front("").await;
        drop(asked_by(speaks, &gateway, &backend, true, "fault=stall").await);
        is_cut_off(&backend).await;
        let line = noted(&gateway).await;
        let (estimated, prompt, completion) = tokens(&line);
        assert!(
            estimated && (10..40).contains(&prompt),
            "the backend has read the prompt: {line}"
        );
        assert_eq!((completion, &line["end"]), (0, &json!("disconnected")));
        answers_the_next(&gateway).await;
    }
}

#[tokio::test]
async fn before_the_first_token_a_stream_is_cut_off() {
    let (gateway, backend) = front("").await;
    let mut client = asked(&gateway, &backend, true, "ttft=20ms; chunk_bytes=1; chunk_delay=1m").await;
    assert_eq!(client.head().await.unwrap().status, 200);
    client.until("\"role\":\"assistant\"").await;
    drop(client);
    is_cut_off(&backend).await;
    let (estimated, prompt, completion) = tokens(&noted(&gateway).await);
    assert!(estimated && prompt > 0 && completion < 10, "{completion}");
    answers_the_next(&gateway).await;
}

#[tokio::test]
async fn amid_a_stream_it_is_cut_off_and_what_was_seen_counts() {
    for speaks in [Speaks::KeepAlive, Speaks::H2c] {
        let (gateway, backend) = front("").await;
        let mut client = asked_by(speaks, &gateway, &backend, true, "tokens=99; fault=stall:40").await;
        client.head().await.unwrap();
        client.until(" word39").await;
        drop(client);
        is_cut_off(&backend).await;
        let line = noted(&gateway).await;
        let (estimated, prompt, completion) = tokens(&line);
        assert!(estimated && prompt > 0 && (40..100).contains(&completion), "{line}");
        assert_eq!((&line["end"], &line["status"]), (&json!("disconnected"), &json!(200)));
        answers_the_next(&gateway).await;
    }
}

/// A half-closed connection is a client that has left.
#[tokio::test]
async fn a_fin_counts() {
    let (gateway, backend) = front("").await;
    let mut client = asked(&gateway, &backend, true, "fault=stall").await;
    client.wire().half_close().await;
    is_cut_off(&backend).await;
    noted(&gateway).await;
    answers_the_next(&gateway).await;
}

/// The backend has said all but its usage.
async fn said_all(backend: &RawBackend, gateway: &Gateway) -> (Wire, Client) {
    let mut client = gateway.client().await;
    client.start(&chat(true, "").field("x-request-id", ID)).await;
    let mut upstream = backend.accept().await;
    upstream.request().await.unwrap();
    upstream
        .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        .await;
    let text = "x".repeat(400);
    upstream
        .send(format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
        ))
        .await;
    upstream
        .send("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n")
        .await;
    client.head().await.unwrap();
    client.until("\"stop\"}]}").await;
    (upstream, client)
}

const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":222}}\n\n";

#[tokio::test]
async fn after_the_content_a_stream_is_cut_off() {
    let backend = RawBackend::bind().await;
    let gateway = narrow(Setup::over(backend.address));
    let (mut upstream, client) = said_all(&backend, &gateway).await;
    drop(client);
    assert!(upstream.is_at_end().await);
    let (estimated, prompt, completion) = tokens(&noted(&gateway).await);
    assert!(estimated && prompt > 0);
    assert_eq!(completion, 100, "four bytes a token");
}

/// SDKs hang up at `[DONE]`, whatever bytes follow: that is no leaving.
#[tokio::test]
async fn after_the_last_event_a_stream_is_complete() {
    let backend = RawBackend::bind().await;
    let gateway = narrow(Setup::over(backend.address));
    let (mut upstream, mut client) = said_all(&backend, &gateway).await;
    upstream.send(USAGE).await;
    upstream.send("data: [DONE]\n\n").await;
    client.until("[DONE]").await;
    drop(client);
    assert!(upstream.is_at_end().await);
    assert_eq!(tokens(&noted(&gateway).await), (false, 11, 222));
}

/// Of a request that did not get out nothing is charged.
#[tokio::test]
async fn before_the_backend_is_reached_nothing_is_used() {
    let backend = RawBackend::bind().await;
    let certs = Certs::new();
    let lines = format!("ca = {:?}", certs.ca());
    let url = format!("https://{}/v1", backend.address);
    let gateway = narrow(Setup::default().backend_at("main", &url, &lines));
    for stream in [true, false] {
        let mut client = gateway.client().await;
        let id = format!("{ID}-{stream}");
        client.start(&chat(stream, "").field("x-request-id", &id)).await;
        // It accepts, and never shakes hands.
        let held = backend.accept().await;
        drop(client);
        gateway.is_quiet().await;
        drop(held);
        assert_eq!(tokens(&gateway.line(&id).await), (false, 0, 0));
    }
}

#[tokio::test]
async fn amid_the_upload_nothing_is_used() {
    let (gateway, backend) = front("").await;
    let mut client = gateway.client().await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n";
    let sent = format!(
        "{head}x-request-id: {ID}\r\nauthorization: Bearer {}\r\n\r\n{{",
        secret(KEY)
    );
    client.wire().send(sent).await;
    drop(client);
    assert_eq!(tokens(&noted(&gateway).await), (false, 0, 0));
    assert_eq!(backend.stats().now().requests, 0);
    answers_the_next(&gateway).await;
}

// === drain ===

const DRAIN: &str = "on_disconnect = \"drain\"";

#[tokio::test]
async fn a_stream_is_read_to_its_end_where_that_is_asked_for() {
    for (script, waits_for) in [
        ("ttft=300ms; tokens=20", None),
        ("tokens=20; chunk_delay=20ms", Some("\"assistant\"")),
        ("tokens=20; chunk_delay=20ms", Some(" word3")),
    ] {
        for speaks in [Speaks::KeepAlive, Speaks::H2c] {
            let (gateway, backend) = front(DRAIN).await;
            let script = format!("{script}; prompt_tokens=9");
            let mut client = asked_by(speaks, &gateway, &backend, true, &script).await;
            if let Some(mark) = waits_for {
                client.head().await.unwrap();
                client.until(mark).await;
            }
            drop(client);
            is_read_to_its_end(&backend).await;
            let line = noted(&gateway).await;
            assert_eq!(tokens(&line), (false, 9, 20), "{line}");
            answers_the_next(&gateway).await;
        }
    }
}

#[tokio::test]
async fn after_the_content_the_usage_is_waited_for() {
    let backend = RawBackend::bind().await;
    let gateway = narrow(Setup::default().backend("main", backend.address, DRAIN));
    let (mut upstream, client) = said_all(&backend, &gateway).await;
    drop(client);
    gateway.is_left().await;
    upstream.send(USAGE).await;
    upstream.send("data: [DONE]\n\n").await;
    drop(upstream);
    assert_eq!(tokens(&noted(&gateway).await), (false, 11, 222));
}

/// It goes on for `total` and no longer.
#[tokio::test]
async fn a_drain_is_bounded() {
    let (gateway, backend) = front(&format!("{DRAIN}\ntimeout = {{ total = \"200ms\" }}")).await;
    let mut client = asked(&gateway, &backend, true, "tokens=99; fault=stall:40").await;
    client.head().await.unwrap();
    client.until(" word39").await;
    drop(client);
    is_cut_off(&backend).await;
    let (estimated, prompt, completion) = tokens(&noted(&gateway).await);
    assert!(estimated && prompt > 0 && completion >= 40);
}

// === unstreamed ===

/// The work is nearly done, and paid for: whatever is set for streams, it is read to its end.
#[tokio::test]
async fn a_whole_answer_is_read_to_its_end() {
    for lines in ["", DRAIN] {
        for speaks in [Speaks::KeepAlive, Speaks::H2c] {
            let (gateway, backend) = front(lines).await;
            let client = asked_by(
                speaks,
                &gateway,
                &backend,
                false,
                "ttft=300ms; prompt_tokens=9; tokens=20",
            )
            .await;
            drop(client);
            is_read_to_its_end(&backend).await;
            let line = noted(&gateway).await;
            assert_eq!(tokens(&line), (false, 9, 20), "{line}");
            assert_eq!(line["end"], "disconnected");
            answers_the_next(&gateway).await;
        }
    }
}

async fn is_given_up(script: &str) {
    let (gateway, backend) = front("timeout = { total = \"200ms\" }").await;
    let mut client = asked(&gateway, &backend, false, script).await;
    if script == "fault=stall:1" {
        client.head().await.unwrap();
    }
    drop(client);
    is_cut_off(&backend).await;
    let line = noted(&gateway).await;
    let (_, prompt, _) = tokens(&line);
    assert!(prompt > 0, "the backend has read the prompt: {line}");
    answers_the_next(&gateway).await;
}

#[tokio::test]
async fn a_whole_answer_that_does_not_come_is_given_up() {
    for script in ["fault=stall", "fault=stall:0", "fault=stall:1"] {
        is_given_up(script).await;
    }
}
