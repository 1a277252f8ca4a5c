//! Connections in clear: what a backend is sent on them, and how its answers end.

use tokio::net::TcpListener;
use tollgate::proxy::OriginSettings;

use super::{chat, prior, reaching};
use crate::support::bridge::{Exchange, Gateway, settings};
use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::scripted;
use crate::support::raw::RawBackend;
use crate::support::within;

#[tokio::test]
async fn a_hundred_requests_share_a_connection() {
    for speaks in [Speaks::KeepAlive, Speaks::H2c] {
        let backend = scripted().await;
        let gateway = Gateway::proxy(speaks, backend.local_addr());
        let mut client = Client::connect(&gateway, speaks).await;
        let mut reused = 0;
        for n in 0..100 {
            let (head, _) = client.call(&Ask::chat(n % 2 == 0, "tokens=3")).await;
            reused += usize::from(head.field("x-reused") == Some("true"));
        }
        let counts = backend.stats().now();
        assert!(reused >= 95 && counts.connections <= 5, "{reused} reused, {counts:?}");
        assert_eq!((counts.requests, counts.completed), (100, 100));
        gateway.is_quiet().await;
    }
}

/// On two threads Pingora's pool loses a connection now and then: it gives up one that its watcher has not quite let
/// go of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_connections() {
    let backend = scripted().await;
    let gateway = Gateway::proxy(Speaks::KeepAlive, backend.local_addr());
    let clients = (0..10).map(|_| {
        let (gateway, speaks) = (&gateway, Speaks::KeepAlive);
        async move {
            let mut client = Client::connect(gateway, speaks).await;
            let mut reused = 0;
            for n in 0..50 {
                let (head, _) = client.call(&Ask::chat(n % 2 == 0, "tokens=3")).await;
                assert_eq!(head.status, 200);
                reused += usize::from(head.field("x-reused") == Some("true"));
            }
            reused
        }
    });
    let reused: usize = futures_util::future::join_all(clients).await.into_iter().sum();
    assert!(reused >= 475, "{reused} of 500 reused, {:?}", backend.stats().now());
    gateway.is_quiet().await;
}

#[tokio::test]
async fn the_backend_is_sent_what_is_its_business() {
    let backend = RawBackend::bind().await;
    let gateway = Gateway::proxy(Speaks::KeepAlive, backend.address);
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    let ask = Ask::post("/v1/x?a=b%20c", "hello")
        .field("content-type", "application/json")
        .field("authorization", "Bearer sk-client")
        .field("cookie", "a=b")
        .field("x-forwarded-for", "10.0.0.1")
        .field("connection", "keep-alive, user-agent")
        .field("user-agent", "hop")
        .field("te", "trailers")
        .field("upgrade", "websocket")
        .field("accept-encoding", "gzip");
    client.start(&ask).await;
    let mut upstream = backend.accept().await;
    let (head, body) = upstream.request().await.unwrap();
    assert_eq!(
        (head.line.as_str(), &body[..]),
        ("POST /v1/x?a=b%20c HTTP/1.1", &b"hello"[..])
    );
    assert_eq!(head.field("host"), Some(backend.address.to_string().as_str()));
    assert_eq!(head.field("content-length"), Some("5"));
    assert_eq!(head.field("accept-encoding"), Some("identity"));
    let mut names = head.names();
    names.sort_unstable();
    assert_eq!(names, ["accept-encoding", "content-length", "content-type", "host"]);
    upstream
        .send("HTTP/1.1 200 OK\r\nserver: x\r\nset-cookie: a=b\r\nkeep-alive: timeout=5\r\ncontent-length: 0\r\n\r\n")
        .await;
    let head = client.head().await.unwrap();
    assert_eq!(
        (head.field("server"), head.field("set-cookie"), head.field("keep-alive")),
        (None, None, None)
    );
    assert_eq!(client.rest().await.0.len(), 0);
    gateway.is_quiet().await;
}

#[tokio::test]
async fn a_request_without_a_body_is_sent_without_a_length() {
    let backend = RawBackend::bind().await;
    let gateway = Gateway::proxy(Speaks::KeepAlive, backend.address);
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    client.start(&Ask::get("/v1/models")).await;
    let mut upstream = backend.accept().await;
    let (head, _) = upstream.request().await.unwrap();
    assert_eq!(
        (head.field("content-length"), head.field("transfer-encoding")),
        (None, None)
    );
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    client.head().await.unwrap();
    assert_eq!(client.rest().await.0, "ok");
    client.start(&Ask::post("/v1/x", "")).await;
    assert_eq!(upstream.request().await.unwrap().0.field("content-length"), Some("0"));
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let backend = scripted().await;
    let gateway = Gateway::proxy(Speaks::KeepAlive, backend.local_addr());
    for _ in 0..2 {
        let (status, body, _) = chat(&gateway, "fault=early_hints").await;
        assert_eq!(status, 200);
        serde_json::from_str::<serde_json::Value>(&body).unwrap();
    }
    assert_eq!(backend.stats().now().connections, 1);
}

#[tokio::test]
async fn interim_answers_that_come_in_pieces_are_passed_over() {
    let Exchange {
        gateway: _gateway,
        mut client,
        mut upstream,
        backend: _backend,
    } = Exchange::begin(Speaks::KeepAlive).await;
    for part in [
        "HTTP/1.1 100 Con",
        "tinue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r",
        "\nHTTP/1.1 200 OK\r\n",
    ] {
        upstream.send(part).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    upstream.send("content-length: 2\r\n\r\nok").await;
    assert_eq!(client.head().await.unwrap().status, 200);
    assert_eq!(client.rest().await.0, "ok");
}

/// Answers that end with their head leave the connection as good as any other.
#[tokio::test]
async fn an_answer_without_a_body_gives_its_connection_back() {
    for (method, answer) in [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
    ] {
        let backend = RawBackend::bind().await;
        let gateway = Gateway::proxy(Speaks::KeepAlive, backend.address);
        let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
        let ask = Ask {
            method,
            ..Ask::get("/v1/x")
        };
        client.start(&ask).await;
        let mut upstream = backend.accept().await;
        for n in 0..3 {
            upstream.request().await.unwrap();
            upstream.send(answer).await;
            let head = client.head().await.unwrap();
            assert_eq!(
                head.field("x-reused"),
                Some(if n == 0 { "false" } else { "true" }),
                "{answer}"
            );
            if head.status != 200 {
                assert_eq!(
                    (head.field("transfer-encoding"), head.field("content-length")),
                    (None, None)
                );
            } else if method == "GET" {
                assert_eq!(client.rest().await.0.len(), 0);
            }
            client.start(&ask).await;
        }
    }
}

#[tokio::test]
async fn a_backend_that_closes_after_its_answer_is_not_reused() {
    let backend = RawBackend::bind().await;
    let gateway = Gateway::proxy(Speaks::KeepAlive, backend.address);
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n\r\nok",
        "HTTP/1.0 200 OK\r\n\r\nok",
    ] {
        client.start(&Ask::post("/v1/x", "hello")).await;
        let mut upstream = backend.accept().await;
        upstream.request().await.unwrap();
        upstream.send(answer).await;
        drop(upstream);
        let head = client.head().await.unwrap();
        assert_eq!(head.field("x-reused"), Some("false"));
        let (body, end) = client.rest().await;
        end.unwrap();
        assert_eq!(body, "ok", "{answer}");
    }
    gateway.is_quiet().await;
}

/// The end is not the promised one, whatever the framing.
#[tokio::test]
async fn an_answer_cut_short_is_broken() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
    ] {
        for speaks in [Speaks::KeepAlive, Speaks::H2c] {
            let Exchange {
                gateway,
                mut client,
                mut upstream,
                backend: _backend,
            } = Exchange::begin(speaks).await;
            upstream.send(answer).await;
            drop(upstream);
            assert_eq!(client.head().await.unwrap().status, 200);
            client.rest().await.1.unwrap_err();
            gateway.is_quiet().await;
        }
    }
}

/// By the time that a head has begun the backend is at work: to ask again would make it work twice.
#[tokio::test]
async fn a_pooled_connection_that_dies_within_the_head_is_not_tried_again() {
    let Exchange {
        gateway,
        mut client,
        mut upstream,
        backend: _backend,
    } = Exchange::begin(Speaks::KeepAlive).await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    client.head().await.unwrap();
    client.rest().await.1.unwrap();
    client.start(&Ask::post("/v1/x", "hello")).await;
    upstream.request().await.unwrap();
    upstream.send("HTTP/1.1 200 OK\r\ncont").await;
    drop(upstream);
    assert_eq!(client.head().await.unwrap().status, 502);
    gateway.is_quiet().await;
}

/// Closed while it rested: nothing is sent on it, and nothing is tried twice.
#[tokio::test]
async fn a_connection_that_its_backend_closed_at_rest_is_not_used() {
    let backend = RawBackend::bind().await;
    let gateway = Gateway::proxy(Speaks::KeepAlive, backend.address);
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    for _ in 0..3 {
        client.start(&Ask::post("/v1/x", "hello")).await;
        let mut upstream = backend.accept().await;
        upstream.request().await.unwrap();
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        client.head().await.unwrap();
        client.rest().await.1.unwrap();
    }
    gateway.is_quiet().await;
}

/// A backend may refuse an upload that it has not read.
#[tokio::test]
async fn an_answer_that_comes_before_the_upload_is_read() {
    let backend = RawBackend::bind().await;
    let gateway = Gateway::proxy(Speaks::KeepAlive, backend.address);
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    client.start(&Ask::post("/v1/x", vec![b'x'; 8 << 20])).await;
    let mut upstream = backend.accept().await;
    upstream.head().await.unwrap();
    upstream
        .send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig")
        .await;
    upstream.half_close().await;
    // As servers do that want their answer read.
    let drained = tokio::spawn(async move { upstream.rest().await.map(|rest| rest.len()) });
    assert_eq!(client.head().await.unwrap().status, 413);
    assert_eq!(client.rest().await.0, "big");
    let _ = within(drained).await;
    gateway.is_quiet().await;
}

#[tokio::test]
async fn a_name_is_resolved() {
    let backend = scripted().await;
    let gateway = reaching(OriginSettings {
        host: "localhost".into(),
        ..settings(backend.local_addr())
    });
    for _ in 0..4 {
        assert_eq!(chat(&gateway, "tokens=1").await.0, 200);
    }
    assert_eq!(backend.stats().now().connections, 1);
    let host = backend.requests()[0].headers["host"].clone();
    assert_eq!(host, format!("localhost:{}", backend.local_addr().port()));
}

#[tokio::test]
async fn a_connection_refused_is_told_apart() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    for endpoint in [settings(address), prior(address)] {
        let gateway = reaching(endpoint);
        assert_eq!(chat(&gateway, "").await.1, "connect");
        gateway.is_quiet().await;
    }
}
