//! The backend's side: what it is sent, over which connection, and what its answers do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tollgate::backend::{Backend, Running, Script};
use tollgate::proxy::{HttpVersion, Origin, OriginSettings, TlsFiles};

use crate::support::bridge::{Certs, Gateway, PATIENT, proxy, settings};
use crate::support::client::{Ask, Client, Speaks};
use crate::support::raw::RawBackend;
use crate::support::within;

async fn scripted() -> Running {
    Backend::start(Script::default()).await.unwrap()
}

fn reaching(settings: OriginSettings) -> Gateway {
    speaking(Speaks::KeepAlive, settings)
}

fn speaking(speaks: Speaks, settings: OriginSettings) -> Gateway {
    Gateway::serve(speaks, PATIENT, proxy(Arc::new(Origin::new(settings).unwrap())))
}

/// Prior knowledge of HTTP/2.
fn h2(address: SocketAddr) -> OriginSettings {
    OriginSettings {
        http: HttpVersion::Http2,
        ..settings(address)
    }
}

async fn chat(gateway: &Gateway, script: &str) -> (u16, String, Option<String>) {
    let mut client = Client::connect(gateway, Speaks::KeepAlive).await;
    let (head, body) = client.call(&Ask::chat(false, script)).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    (head.status, text, head.field("x-reused").map(str::to_owned))
}

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
    let backend = RawBackend::bind().await;
    let gateway = Gateway::proxy(Speaks::KeepAlive, backend.address);
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    client.start(&Ask::post("/v1/x", "hello")).await;
    let mut upstream = backend.accept().await;
    upstream.request().await.unwrap();
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
            let backend = RawBackend::bind().await;
            let gateway = Gateway::proxy(speaks, backend.address);
            let mut client = Client::connect(&gateway, speaks).await;
            client.start(&Ask::post("/v1/x", "hello")).await;
            let mut upstream = backend.accept().await;
            upstream.request().await.unwrap();
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
    let backend = RawBackend::bind().await;
    let gateway = Gateway::proxy(Speaks::KeepAlive, backend.address);
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    client.start(&Ask::post("/v1/x", "hello")).await;
    let mut upstream = backend.accept().await;
    upstream.request().await.unwrap();
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
    for endpoint in [settings(address), h2(address)] {
        let gateway = reaching(endpoint);
        assert_eq!(chat(&gateway, "").await.1, "connect");
        gateway.is_quiet().await;
    }
}

#[tokio::test]
async fn a_connection_that_takes_too_long_is_told_apart() {
    // It accepts, and never shakes hands.
    let backend = RawBackend::bind().await;
    let certs = Certs::new();
    let gateway = reaching(OriginSettings {
        host: "localhost".into(),
        tls: Some(TlsFiles {
            ca: Some(certs.ca()),
            client: None,
        }),
        connect_timeout: Duration::from_millis(100),
        ..settings(backend.address)
    });
    let answer = tokio::spawn(async move { (chat(&gateway, "").await.1, gateway.is_quiet().await).0 });
    let _held = backend.accept().await;
    assert_eq!(within(answer).await.unwrap(), "connect timeout");
}

// === TLS ===

async fn over_tls(certs: &Certs, alpn: &[&[u8]], demands: bool) -> Running {
    let acceptor = tokio_rustls::TlsAcceptor::from(certs.server(alpn, demands));
    let backend = Backend::bind("127.0.0.1:0".parse().unwrap(), Script::default())
        .await
        .unwrap();
    backend
        .with_acceptor(move |socket| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(socket).await }
        })
        .spawn()
}

fn with_tls(backend: &Running, ca: Option<&Certs>, client: Option<&Certs>) -> OriginSettings {
    OriginSettings {
        host: "localhost".into(),
        tls: Some(TlsFiles {
            ca: ca.map(Certs::ca),
            client: client.map(|certs| certs.issue("gateway")),
        }),
        ..settings(backend.local_addr())
    }
}

#[tokio::test]
async fn tls_with_a_private_authority() {
    let certs = Certs::new();
    for alpn in [&[&b"h2"[..], b"http/1.1"][..], &[b"http/1.1"], &[]] {
        let backend = over_tls(&certs, alpn, false).await;
        let gateway = reaching(with_tls(&backend, Some(&certs), None));
        for _ in 0..3 {
            assert_eq!(chat(&gateway, "tokens=1").await.0, 200, "{alpn:?}");
        }
        assert_eq!(backend.stats().now().connections, 1);
        // The backend's own view of the version: only HTTP/1 has a host field.
        let is_h2 = !backend.requests()[0].headers.contains_key("host");
        assert_eq!(is_h2 || alpn.len() == 2, alpn.len() == 2);
        gateway.is_quiet().await;
    }
}

#[tokio::test]
async fn tls_with_an_authority_that_is_not_trusted() {
    let (certs, other) = (Certs::new(), Certs::new());
    let backend = over_tls(&certs, &[], false).await;
    for ca in [None, Some(&other)] {
        let gateway = reaching(with_tls(&backend, ca, None));
        assert_eq!(chat(&gateway, "").await.1, "connect");
    }
    assert_eq!(backend.stats().now().requests, 0);
}

#[tokio::test]
async fn tls_with_a_client_certificate() {
    let certs = Certs::new();
    let backend = over_tls(&certs, &[b"http/1.1"], true).await;
    let gateway = reaching(with_tls(&backend, Some(&certs), Some(&certs)));
    assert_eq!(chat(&gateway, "tokens=1").await.0, 200);
    let without = reaching(with_tls(&backend, Some(&certs), None));
    // TLS 1.3 tells a client only after its handshake, so this can look like either.
    assert_eq!(chat(&without, "").await.0, 502);
    assert_eq!(backend.stats().now().requests, 1);
}

// === HTTP/2 ===

#[tokio::test]
async fn http2_shares_one_connection_among_streams() {
    let backend = scripted().await;
    let gateway = speaking(Speaks::KeepAlive, h2(backend.local_addr()));
    assert_eq!(chat(&gateway, "tokens=1").await.0, 200);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
        client.start(&Ask::chat(true, "tokens=3; fault=stall:2")).await;
        assert_eq!(client.head().await.unwrap().status, 200);
        client.until("data:").await;
        clients.push(client);
    }
    let counts = backend.stats().now();
    assert_eq!((counts.in_flight, counts.connections), (8, 1));
    drop(clients.split_off(4));
    within(backend.stats().wait_for(|counts| counts.cancelled == 4)).await;
    assert_eq!(chat(&gateway, "tokens=1").await, {
        let (_, body, _) = chat(&gateway, "tokens=1").await;
        (200, body, Some("true".into()))
    });
    drop(clients);
    within(backend.stats().wait_for(|counts| counts.cancelled == 8)).await;
    gateway.is_quiet().await;
    assert_eq!(backend.stats().now().connections, 1);
}

/// A backend of HTTP/2 that does what the test says.
struct RawH2(TcpListener, SocketAddr);

type H2Call = (http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>);

impl RawH2 {
    async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self(listener, address)
    }

    /// Accepts a connection, and gives its calls. It is closed when the receiver is dropped.
    async fn accept(&self) -> tokio::sync::mpsc::UnboundedReceiver<H2Call> {
        let (socket, _) = within(self.0.accept()).await.unwrap();
        let mut connection = within(h2::server::handshake(socket)).await.unwrap();
        let (calls, receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    call = connection.accept() => match call {
                        Some(Ok(call)) => { let _ = calls.send(call); }
                        _ => return,
                    },
                    () = calls.closed() => return,
                }
            }
        });
        receiver
    }
}

fn ok() -> http::Response<()> {
    http::Response::new(())
}

#[tokio::test]
async fn trailers_go_from_http2_to_http2() {
    let backend = RawH2::bind().await;
    let gateway = speaking(Speaks::H2c, h2(backend.1));
    let mut client = Client::connect(&gateway, Speaks::H2c).await;
    client.start(&Ask::post("/v1/x", "hello")).await;
    let mut calls = backend.accept().await;
    for n in 0..2 {
        let (_, mut respond) = within(calls.recv()).await.unwrap();
        let mut body = respond.send_response(ok(), false).unwrap();
        body.send_data("one".into(), false).unwrap();
        let trailers = [("x-checksum".parse().unwrap(), "abc".parse().unwrap())];
        body.send_trailers(trailers.into_iter().collect()).unwrap();
        let head = client.head().await.unwrap();
        assert_eq!(head.field("x-reused"), Some(if n == 0 { "false" } else { "true" }));
        let (text, end) = client.rest().await;
        end.unwrap();
        assert_eq!(text, "one");
        assert_eq!(client.trailers().unwrap()["x-checksum"], "abc");
        client.start(&Ask::post("/v1/x", "hello")).await;
    }
}

#[tokio::test]
async fn trailers_are_dropped_for_http1() {
    let backend = RawH2::bind().await;
    let gateway = speaking(Speaks::KeepAlive, h2(backend.1));
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    client.start(&Ask::post("/v1/x", "hello")).await;
    let mut calls = backend.accept().await;
    for _ in 0..2 {
        let (_, mut respond) = within(calls.recv()).await.unwrap();
        let mut body = respond.send_response(ok(), false).unwrap();
        body.send_data("one".into(), false).unwrap();
        body.send_trailers([("x".parse().unwrap(), "y".parse().unwrap())].into_iter().collect())
            .unwrap();
        client.head().await.unwrap();
        let (text, end) = client.rest().await;
        end.unwrap();
        assert_eq!(text, "one");
        client.start(&Ask::post("/v1/x", "hello")).await;
    }
}

/// The head and the reset can be there together, and so can data and the reset: neither may pass for an end.
#[tokio::test]
async fn a_stream_that_is_reset_is_broken() {
    for parts in 0..3 {
        let backend = RawH2::bind().await;
        let gateway = speaking(Speaks::KeepAlive, h2(backend.1));
        let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
        client.start(&Ask::post("/v1/x", "hello")).await;
        let mut calls = backend.accept().await;
        let (_, mut respond) = within(calls.recv()).await.unwrap();
        let mut body = respond.send_response(ok(), false).unwrap();
        for _ in 0..parts {
            body.send_data("one".into(), false).unwrap();
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        body.send_reset(h2::Reason::INTERNAL_ERROR);
        match client.head().await {
            Ok(head) if head.status == 502 => assert_eq!(parts, 0),
            Ok(_) => drop(client.rest().await.1.unwrap_err()),
            Err(error) => panic!("{error:?}"),
        }
        gateway.is_quiet().await;
    }
}

/// A connection that ends under a stream is no end of the stream.
#[tokio::test]
async fn a_connection_of_http2_that_ends_is_broken() {
    let backend = RawH2::bind().await;
    let gateway = speaking(Speaks::KeepAlive, h2(backend.1));
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    client.start(&Ask::post("/v1/x", "hello")).await;
    let mut calls = backend.accept().await;
    let (_, mut respond) = within(calls.recv()).await.unwrap();
    let mut body = respond.send_response(ok(), false).unwrap();
    body.send_data("one".into(), false).unwrap();
    assert_eq!(client.head().await.unwrap().status, 200);
    client.until("one").await;
    drop(calls);
    client.rest().await.1.unwrap_err();
    gateway.is_quiet().await;
}

/// The backend promises that it has done nothing with the request.
#[tokio::test]
async fn a_stream_refused_on_a_pooled_connection_is_tried_once_more() {
    let backend = RawH2::bind().await;
    let gateway = speaking(Speaks::KeepAlive, h2(backend.1));
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    let ask = Ask::post("/v1/x", "hello");
    client.start(&ask).await;
    let mut calls = backend.accept().await;
    within(calls.recv()).await.unwrap().1.send_response(ok(), true).unwrap();
    client.head().await.unwrap();
    client.rest().await.1.unwrap();
    for refusals in 1..=2 {
        client.start(&ask).await;
        for _ in 0..refusals {
            let (_, mut respond) = within(calls.recv()).await.unwrap();
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
        if refusals == 1 {
            within(calls.recv()).await.unwrap().1.send_response(ok(), true).unwrap();
        }
        let head = client.head().await.unwrap();
        assert_eq!(head.status, if refusals == 1 { 200 } else { 502 });
        client.rest().await.1.unwrap();
    }
    gateway.is_quiet().await;
}

/// A connection that goes away finishes what it has begun, and takes no more.
#[tokio::test]
async fn a_connection_that_goes_away_is_replaced() {
    let backend = RawH2::bind().await;
    let gateway = speaking(Speaks::KeepAlive, h2(backend.1));
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    let ask = Ask::post("/v1/x", "hello");
    client.start(&ask).await;
    let (socket, _) = within(backend.0.accept()).await.unwrap();
    let mut first = within(h2::server::handshake(socket)).await.unwrap();
    let (_, mut respond) = within(first.accept()).await.unwrap().unwrap();
    respond
        .send_response(ok(), false)
        .unwrap()
        .send_data("one".into(), true)
        .unwrap();
    first.graceful_shutdown();
    let first = tokio::spawn(async move { while first.accept().await.is_some() {} });
    assert_eq!(client.head().await.unwrap().status, 200);
    assert_eq!(client.rest().await.0, "one");
    within(first).await.unwrap();
    client.start(&ask).await;
    let mut calls = backend.accept().await;
    within(calls.recv()).await.unwrap().1.send_response(ok(), true).unwrap();
    assert_eq!(client.head().await.unwrap().status, 200);
    client.rest().await.1.unwrap();
    gateway.is_quiet().await;
}

/// The backend closed its connection at rest.
#[tokio::test]
async fn a_closed_connection_of_http2_is_replaced() {
    let backend = RawH2::bind().await;
    let gateway = speaking(Speaks::KeepAlive, h2(backend.1));
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    for _ in 0..3 {
        client.start(&Ask::post("/v1/x", "hello")).await;
        let mut calls = backend.accept().await;
        let (_, mut respond) = within(calls.recv()).await.unwrap();
        respond.send_response(ok(), true).unwrap();
        assert_eq!(client.head().await.unwrap().status, 200);
        client.rest().await.1.unwrap();
    }
    gateway.is_quiet().await;
}
