//! What an operator does and sees: reloads, health, metrics, access lines, the way down.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::client::{Answered, Ask, Client, Speaks};
use crate::support::gateway::{Answer, Gateway, KEY, Setup, chat, front, post, scripted};
use crate::support::raw::{RawBackend, Wire};
use crate::support::within;

/// A stream under way: the backend's side of it, and the client's.
async fn streaming(gateway: &Gateway, backend: &RawBackend) -> (Wire, Client) {
    let mut client = gateway.client().await;
    client.start(&chat(true, "").field("x-request-id", "streaming")).await;
    let mut upstream = backend.accept().await;
    upstream.request().await.unwrap();
    upstream
        .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: {}\n\n")
        .await;
    assert_eq!(client.head().await.unwrap().status, 200);
    client.until("data: {}").await;
    (upstream, client)
}

async fn ends_well(mut upstream: Wire, client: &mut Client) {
    upstream.send("data: [DONE]\n\n").await;
    drop(upstream);
    let (body, end) = client.rest().await;
    end.unwrap();
    assert!(body.ends_with(b"[DONE]\n\n"));
}

async fn admin(gateway: &Gateway, path: &'static str) -> (Answered, String) {
    let mut client = Client::at(gateway.admin(), Speaks::Close).await;
    let (head, body) = client.call(&Ask::get(path)).await;
    (head, String::from_utf8(body.into()).unwrap())
}

// === reload ===

#[tokio::test]
async fn a_reload_leaves_what_is_under_way_alone() {
    let backend = RawBackend::bind().await;
    let setup = |models: &[&str]| {
        let setup = Setup::over(backend.address).group("default", "concurrency = 1");
        models
            .iter()
            .fold(setup, |setup, model| {
                setup.model(model, "route = [{ backend = \"main\" }]")
            })
            .config()
    };
    let gateway = Setup::over(backend.address).group("default", "concurrency = 1");
    let mut gateway = gateway.start();
    let (upstream, mut client) = streaming(&gateway, &backend).await;
    // The model that the stream is of is gone, and its place is still taken.
    gateway.inner.reload(setup(&["other"])).await.unwrap();
    gateway.call(&chat(false, "")).await.refused(429, "concurrency");
    ends_well(upstream, &mut client).await;
    gateway.call(&chat(false, "")).await.refused(404, "model_not_found");
    let line = gateway.line("streaming").await;
    assert_eq!((&line["end"], &line["model"]), (&json!("complete"), &json!("scripted")));

    gateway.inner.reload(setup(&["scripted"])).await.unwrap();
    let (upstream, mut client) = streaming(&gateway, &backend).await;
    ends_well(upstream, &mut client).await;
}

#[tokio::test]
async fn a_reload_resets_no_count() {
    let backend = scripted().await;
    let config = |rpm: u32| Setup::over(backend.local_addr()).group("default", &format!("rpm = {rpm}"));
    let mut gateway = config(3).start();
    for _ in 0..2 {
        gateway.call(&chat(false, "prompt_tokens=10")).await;
    }
    gateway.is_quiet().await;
    let sample = "tollgate_tokens_total{model=\"scripted\",kind=\"prompt\"}";
    assert_eq!(gateway.metrics().await.get(sample), 20);
    let connections = backend.stats().now().connections;
    gateway.inner.reload(config(4).config()).await.unwrap();
    assert_eq!(gateway.metrics().await.get(sample), 20);
    let answer = gateway.call(&chat(false, "")).await;
    assert_eq!(
        answer.field("x-ratelimit-remaining-requests"),
        Some("1"),
        "two of four were used"
    );
    assert_eq!(backend.stats().now().connections, connections, "the pool is kept");
}

/// On a connection that is open already, too.
#[tokio::test]
async fn a_key_that_a_reload_removes_is_refused_at_once() {
    let backend = scripted().await;
    let setup = || Setup::over(backend.local_addr());
    let mut gateway = setup().key(KEY, "").key("other", "").start();
    let mut client = gateway.client().await;
    let (head, _) = client.call(&chat(false, "")).await;
    assert_eq!(head.status, 200);
    gateway.inner.reload(setup().key("other", "").config()).await.unwrap();
    let (head, body) = client.call(&chat(false, "")).await;
    Answer { head, body }.refused(401, "key_invalid");
    let (head, _) = client.call(&Ask::chat(false, "").by("other")).await;
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn a_reload_moves_a_backend() {
    let (old, new) = (scripted().await, scripted().await);
    let config = |backend: &tollgate::backend::Running| {
        Setup::default()
            .backend("main", backend.local_addr(), "api_key = { env = \"THEIRS\" }")
            .variable("THEIRS", &format!("sk-{}", backend.local_addr().port()))
    };
    let mut gateway = config(&old).start();
    gateway.call(&chat(false, "")).await;
    gateway.inner.reload(config(&new).config()).await.unwrap();
    gateway.call(&chat(false, "")).await;
    for backend in [&old, &new] {
        let seen = backend.requests();
        let key = format!("Bearer sk-{}", backend.local_addr().port());
        assert_eq!(
            (seen.len(), seen[0].headers["authorization"].to_str().unwrap()),
            (1, &*key)
        );
    }
}

// === health and metrics ===

#[tokio::test]
async fn health_is_on_the_admin_listener_alone() {
    let (gateway, _backend) = front(|setup| setup).await;
    for (path, said) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let (head, body) = admin(&gateway, path).await;
        assert_eq!((head.status, &*body), (200, said));
    }
    let (head, _) = admin(&gateway, "/metrics").await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((head.status, head.field("content-type")), (200, Some(kind)));
    assert_eq!(admin(&gateway, "/v1/models").await.0.status, 404);
    for path in ["/healthz", "/readyz", "/metrics"] {
        gateway
            .call(&Ask::get(path).by(KEY))
            .await
            .refused(404, "path_not_found");
    }
}

#[tokio::test]
async fn metrics_have_these_names() {
    let (gateway, _backend) = front(|setup| setup).await;
    gateway.call(&chat(true, "cached_tokens=2")).await;
    gateway.call(&chat(false, "fault=no_usage")).await;
    gateway.call(&Ask::chat(false, "")).await;
    gateway.is_quiet().await;
    let metrics = gateway.metrics().await;
    let types = metrics.0.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    assert_eq!(
        types.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(),
        [
            "tollgate_access_lines_dropped gauge",
            "tollgate_buffered_bytes gauge",
            "tollgate_cached_answers counter",
            "tollgate_estimated counter",
            "tollgate_in_flight gauge",
            "tollgate_panics counter",
            "tollgate_refusals counter",
            "tollgate_request_duration_seconds histogram",
            "tollgate_requests counter",
            "tollgate_time_to_first_byte_seconds histogram",
            "tollgate_tokens counter",
            "tollgate_upstream_attempts counter",
            "tollgate_upstream_connections counter",
        ]
    );
    for (sample, value) in [
        (
            "tollgate_requests_total{endpoint=\"chat.completions\",model=\"scripted\",status=\"200\"}",
            2,
        ),
        (
            "tollgate_requests_total{endpoint=\"chat.completions\",model=\"other\",status=\"401\"}",
            1,
        ),
        ("tollgate_refusals_total{reason=\"key_missing\"}", 1),
        ("tollgate_tokens_total{model=\"scripted\",kind=\"cached\"}", 2),
        ("tollgate_upstream_attempts_total{backend=\"main\",outcome=\"ok\"}", 2),
        (
            "tollgate_upstream_connections_total{backend=\"main\",reused=\"true\"}",
            1,
        ),
        ("tollgate_estimated_total", 1),
        ("tollgate_panics_total", 0),
        ("tollgate_buffered_bytes", 0),
    ] {
        assert_eq!(metrics.get(sample), value, "{sample}\n{}", metrics.0);
    }
}

/// Nothing of what a client writes becomes a label: their number is bounded by the configuration.
#[tokio::test]
async fn labels_are_bounded() {
    let (gateway, _backend) = front(|setup| setup).await;
    let series = async || {
        let metrics = gateway.metrics().await;
        assert!(!metrics.0.contains("ghost"), "{}", metrics.0);
        metrics.0.lines().filter(|line| !line.starts_with('#')).count()
    };
    let mut counts = Vec::new();
    for round in 0..3 {
        for n in 0..10 {
            let model = format!(r#"{{"model":"ghost-{round}-{n}"}}"#);
            gateway.call(&post("/v1/chat/completions", model)).await;
        }
        for ask in [
            Ask::get("/v1/ghost/one").by(KEY),
            Ask::get("/v1/models/ghost").by(KEY),
            Ask {
                method: "GHOST",
                ..chat(false, "")
            },
            Ask::chat(false, "").by("ghost"),
            chat(false, "").field("x-tollgate-tag", "ghost"),
        ] {
            gateway.call(&ask).await;
        }
        gateway.is_quiet().await;
        counts.push(series().await);
    }
    assert_eq!(counts[1], counts[2]);
}

// === access lines ===

#[tokio::test]
async fn an_access_line_says_who_asked_what_and_what_came_of_it() {
    let (gateway, _backend) = front(|setup| setup.group("default", "rpm = 9")).await;
    let body = r#"{"model":"scripted","stream":true,"user":"u-1","messages":[{"role":"user","content":"SECRET"}]}"#;
    let ask = post("/v1/chat/completions?x=SECRET", body)
        .field("x-tollgate-tag", "team-7")
        .field("x-request-id", "line-1")
        .field("x-tollgate-script", "prompt_tokens=7; tokens=3");
    let answer = gateway.call(&ask).await;
    let mut line = gateway.line("line-1").await;
    let attempts = line["attempts"].take();
    assert_eq!((&attempts[0][0], &attempts[0][1]), (&json!("main"), &json!(200)));
    let line = line.as_object_mut().unwrap();
    for timed in ["time", "ms", "first_byte_ms", "attempts"] {
        assert!(line.remove(timed).is_some(), "{timed}");
    }
    let expected = json!({
        "request_id": "line-1", "method": "POST", "path": "/v1/chat/completions", "endpoint": "chat.completions",
        "ip": "127.0.0.1", "key": "ci", "group": "default", "model": "scripted", "status": 200, "end": "complete",
        "streamed": true, "prompt_tokens": 7, "completion_tokens": 3, "bytes_in": body.len(),
        "bytes_out": answer.body.len(), "tag": "team-7", "user": "u-1", "backend_request_id": "req_scripted",
    });
    assert_eq!(Value::Object(line.clone()), expected);
    assert!(!gateway.lines().contains("SECRET"));
}

/// The name of what was asked for stands in the path, and must not break out of its line.
#[tokio::test]
async fn a_client_cannot_write_lines_of_its_own() {
    let (gateway, _backend) = front(|setup| setup).await;
    let forged = "\"}\r\n{\"key\":\"forged";
    let body = json!({"model": forged, "user": forged}).to_string();
    let ask = post("/v1/chat/completions", body).field("x-request-id", "forger");
    gateway.call(&ask).await.refused(404, "model_not_found");
    let line = gateway.line("forger").await;
    assert_eq!((&line["user"], &line["key"]), (&json!(forged), &json!("ci")));
    assert_eq!(gateway.lines().lines().count(), 1);
}

// === the way down ===

#[tokio::test]
async fn a_shutdown_waits_for_streams() {
    let backend = RawBackend::bind().await;
    let gateway = Setup::over(backend.address).start();
    let (upstream, mut client) = streaming(&gateway, &backend).await;
    gateway.inner.lifecycle().go_down();
    let (lines, address) = (gateway.sink(), gateway.address());
    let finishing = tokio::spawn(gateway.inner.shut_down());
    ends_well(upstream, &mut client).await;
    assert!(within(finishing).await.unwrap(), "all was finished in time");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens");
    let lines = String::from_utf8(lines.borrow().clone()).unwrap();
    assert!(lines.contains("\"streaming\""), "every line is written: {lines}");
}

#[tokio::test]
async fn a_stream_past_the_drain_s_end_does_not_look_finished() {
    let backend = RawBackend::bind().await;
    let gateway = Setup::over(backend.address).server("drain = \"100ms\"").start();
    let (mut upstream, mut client) = streaming(&gateway, &backend).await;
    assert!(!within(gateway.inner.shut_down()).await);
    let (body, end) = client.rest().await;
    end.unwrap_err();
    assert!(!String::from_utf8_lossy(&body).contains("[DONE]"));
    assert!(upstream.is_at_end().await, "the backend is let go");
}
