//! How an answer reaches the client.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::StreamBody;
use tollgate::backend::{Backend, Script};
use tollgate::proxy::{Body, EdgeSettings, Protocol};

use crate::support::bridge::{Certs, Exchange, Gateway, PATIENT, endpoint, plain, proxy};
use crate::support::client::{Ask, Client, Framing, Speaks};
use crate::support::raw::Wire;
use crate::support::within;

const ALL: [Speaks; 5] = [
    Speaks::KeepAlive,
    Speaks::Close,
    Speaks::Http10,
    Speaks::H2c,
    Speaks::H2Tls,
];

/// The backend says more only when the client has read what it said before.
#[tokio::test]
async fn each_chunk_arrives_when_it_is_sent() {
    for speaks in ALL {
        let Exchange {
            gateway,
            mut client,
            mut upstream,
            backend: _backend,
        } = Exchange::begin(speaks).await;
        upstream
            .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        assert_eq!(client.head().await.unwrap().status, 200);
        for n in 0..5 {
            // In two writes, so that not even a whole chunk is waited for.
            upstream.send("8\r\ndata").await;
            client.until("data").await;
            upstream.send(format!(": {n}\n\r\n")).await;
            client.until(&n.to_string()).await;
        }
        upstream.send("0\r\n\r\n").await;
        let (rest, end) = client.rest().await;
        end.unwrap();
        assert!(rest.len() <= 1);
        gateway.is_quiet().await;
    }
}

#[tokio::test]
async fn a_long_answer_arrives_whole() {
    let backend = Backend::start(Script::default()).await.unwrap();
    let mut lengths = Vec::new();
    for speaks in ALL {
        let gateway = Gateway::proxy(speaks, backend.local_addr());
        let mut client = Client::connect(&gateway, speaks).await;
        let (_, body) = client.call(&Ask::chat(false, "tokens=100000")).await;
        serde_json::from_slice::<serde_json::Value>(&body).unwrap();
        let mut client = Client::connect(&gateway, speaks).await;
        let (_, stream) = client.call(&Ask::chat(true, "tokens=2000")).await;
        assert!(stream.ends_with(b"data: [DONE]\n\n"));
        lengths.push((body.len(), stream.len()));
        gateway.is_quiet().await;
    }
    lengths.dedup();
    assert_eq!(lengths.len(), 1);
}

/// A client that reads nothing is not waited for any longer than one that sends nothing.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    for speaks in [Speaks::KeepAlive, Speaks::H2c] {
        let backend = Backend::start(Script::default()).await.unwrap();
        let settings = EdgeSettings {
            client_timeout: std::time::Duration::from_millis(300),
            ..PATIENT
        };
        let gateway = Gateway::serve(speaks, settings, proxy(endpoint(backend.local_addr())));
        let mut client = Client::connect(&gateway, speaks).await;
        client.start(&Ask::chat(true, "tokens=1000000")).await;
        client.head().await.unwrap();
        let counts = within(backend.stats().wait_for(|counts| counts.in_flight == 0)).await;
        assert_eq!(counts.cancelled, 1);
        gateway.is_quiet().await;
    }
}

#[tokio::test]
async fn a_client_that_half_closes_has_left() {
    let backend = Backend::start(Script::default()).await.unwrap();
    let gateway = Gateway::proxy(Speaks::KeepAlive, backend.local_addr());
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    client.start(&Ask::chat(false, "fault=stall")).await;
    within(backend.stats().wait_for(|counts| counts.in_flight == 1)).await;
    client.wire().half_close().await;
    within(backend.stats().wait_for(|counts| counts.cancelled == 1)).await;
    assert!(client.is_closed().await);
    gateway.is_quiet().await;
}

#[tokio::test]
async fn a_client_of_http2_that_drops_its_connection_has_left() {
    let backend = Backend::start(Script::default()).await.unwrap();
    let gateway = Gateway::proxy(Speaks::H2c, backend.local_addr());
    let mut clients = Vec::new();
    let socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (send, connection) = within(h2::client::handshake(socket)).await.unwrap();
    let driven = tokio::spawn(connection);
    for _ in 0..3 {
        let mut send = within(send.clone().ready()).await.unwrap();
        let request = http::Request::post("http://x/v1/chat/completions")
            .header("x-tollgate-script", "fault=stall")
            .body(())
            .unwrap();
        let (answer, mut upload) = send.send_request(request, false).unwrap();
        upload.send_data(Ask::chat(false, "").body, true).unwrap();
        clients.push((answer, upload));
    }
    within(backend.stats().wait_for(|counts| counts.in_flight == 3)).await;
    driven.abort();
    within(backend.stats().wait_for(|counts| counts.cancelled == 3)).await;
    gateway.is_quiet().await;
}

/// HTTP/1.0 that asks to keep its connection can have that only where the length is known.
#[tokio::test]
async fn http10_is_not_promised_to_keep_a_connection_that_ends_the_answer() {
    let backend = Backend::start(Script::default()).await.unwrap();
    let gateway = Gateway::proxy(Speaks::Http10, backend.local_addr());
    let mut client = Client::connect(&gateway, Speaks::Http10).await;
    let (head, _) = client
        .call(&Ask::chat(true, "tokens=2").field("connection", "keep-alive"))
        .await;
    assert_eq!(
        (head.framing, head.field("connection")),
        (Framing::Close, Some("close"))
    );
    gateway.is_quiet().await;
}

#[tokio::test]
async fn an_answer_without_a_body_has_no_framing_and_keeps_the_connection() {
    for speaks in [Speaks::KeepAlive, Speaks::H2c] {
        let gateway = Gateway::answering(speaks, PATIENT, |request| async move {
            let status = if request.method() == http::Method::HEAD {
                200
            } else {
                204
            };
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        });
        let mut client = Client::connect(&gateway, speaks).await;
        for method in ["GET", "HEAD", "GET"] {
            client
                .start(&Ask {
                    method,
                    ..Ask::get("/")
                })
                .await;
            let head = client.head().await.unwrap();
            assert_eq!(head.status, if method == "HEAD" { 200 } else { 204 });
            assert_eq!(
                (head.field("transfer-encoding"), head.field("content-length")),
                (None, None)
            );
            if speaks.is_http2() {
                client.rest().await.1.unwrap();
            }
        }
        gateway.is_quiet().await;
    }
}

/// An answer to HEAD says how long the answer to GET would be, and brings nothing.
#[tokio::test]
async fn head_gets_the_length_and_no_body() {
    let gateway = Gateway::answering(Speaks::KeepAlive, PATIENT, |_| async { plain(StatusCode::OK, "hello") });
    let mut wire = Wire::connect(gateway.address).await;
    for _ in 0..2 {
        wire.send("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let head = wire.head().await.unwrap();
        assert_eq!((head.status(), head.field("content-length")), (200, Some("5")));
    }
    gateway.is_quiet().await;
}

/// A body of the service's own that fails looks as broken as a backend's.
#[tokio::test]
async fn a_body_that_fails_is_a_broken_answer() {
    for speaks in ALL {
        let gateway = Gateway::answering(speaks, PATIENT, |_| async {
            let parts = futures_util::stream::iter([
                Ok(http_body::Frame::data(Bytes::from_static(b"one"))),
                Err(std::io::Error::other("two")),
            ]);
            Response::new(Body::boxed(StreamBody::new(parts)))
        });
        let mut client = Client::connect(&gateway, speaks).await;
        client.start(&Ask::get("/")).await;
        assert_eq!(client.head().await.unwrap().status, 200);
        let (body, end) = client.rest().await;
        if speaks == Speaks::Http10 {
            assert_eq!(body, "one");
        } else {
            end.unwrap_err();
        }
        gateway.is_quiet().await;
    }
}

/// What the service says of the framing is its business with nobody: the bytes that are sent decide.
#[tokio::test]
async fn the_edge_frames_what_it_sends() {
    let gateway = Gateway::answering(Speaks::KeepAlive, PATIENT, |_| async {
        let mut response = plain(StatusCode::OK, "hello");
        let headers = response.headers_mut();
        headers.insert("content-length", 99.into());
        headers.insert("transfer-encoding", "gzip, chunked".parse().unwrap());
        headers.insert("connection", "close".parse().unwrap());
        response
    });
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    for _ in 0..2 {
        let (head, body) = client.call(&Ask::get("/")).await;
        assert_eq!(
            (head.framing, head.field("connection")),
            (Framing::Length(5), Some("keep-alive"))
        );
        assert_eq!(body, "hello");
    }
}

/// What HTTP/1.0 cannot say by itself, TLS can: its session ends without a farewell.
#[tokio::test]
async fn a_broken_answer_of_http10_shows_over_tls() {
    let backend = Backend::start(Script::default()).await.unwrap();
    let certs = Certs::new();
    let protocol = Protocol::Tls(certs.store());
    let gateway = Gateway::host(certs, protocol, PATIENT, proxy(endpoint(backend.local_addr())));
    for (script, whole) in [("tokens=5", true), ("tokens=5; fault=cut:2", false)] {
        let mut wire = Wire::connect_tls(gateway.address, gateway.certs.client(&[])).await;
        let ask = Ask::chat(true, script);
        let head = format!(
            "POST {} HTTP/1.0\r\nx-tollgate-script: {script}\r\ncontent-length: {}\r\n\r\n",
            ask.path,
            ask.body.len()
        );
        wire.send([head.as_bytes(), &ask.body].concat()).await;
        assert_eq!(wire.head().await.unwrap().status(), 200);
        wire.until("data:").await.unwrap();
        assert_eq!(wire.rest().await.is_ok(), whole);
    }
    gateway.is_quiet().await;
}

#[tokio::test]
async fn many_streams_on_one_connection() {
    let backend = Backend::start(Script::default()).await.unwrap();
    let gateway = Gateway::proxy(Speaks::H2Tls, backend.local_addr());
    let client = Client::connect(&gateway, Speaks::H2Tls).await;
    let send = client.leave().unwrap();
    let calls = (0..50).map(|_| {
        let send = send.clone();
        async move {
            let mut send = within(send.ready()).await.unwrap();
            let request = http::Request::post("https://localhost/v1/chat/completions")
                .body(())
                .unwrap();
            let (answer, mut upload) = send.send_request(request, false).unwrap();
            upload.send_data(Ask::chat(true, "").body, true).unwrap();
            let mut body = within(answer).await.unwrap().into_body();
            let mut all = Vec::new();
            while let Some(data) = within(body.data()).await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                all.extend(data);
            }
            all.ends_with(b"data: [DONE]\n\n")
        }
    });
    assert_eq!(futures_util::future::join_all(calls).await, [true; 50]);
    gateway.is_quiet().await;
    assert_eq!(backend.stats().now().completed, 50);
}
