//! What comes before there is a request: heads that are short, broken, slow or odd.

use std::time::Duration;

use tollgate::proxy::{EdgeSettings, Protocol};

use crate::support::bridge::{Certs, Gateway, HASTY, PATIENT, plain};
use crate::support::client::{Ask, Client, Speaks};
use crate::support::raw::Wire;
use crate::support::within;

fn hello(settings: EdgeSettings) -> Gateway {
    speaking(Speaks::KeepAlive, settings)
}

fn speaking(speaks: Speaks, settings: EdgeSettings) -> Gateway {
    Gateway::answering(speaks, settings, |request| async move {
        plain(http::StatusCode::OK, format!("hello {}", request.uri().path()))
    })
}

async fn fault(wire: &mut Wire) -> (u16, String) {
    let head = wire.head().await.unwrap();
    assert_eq!(head.field("connection"), Some("close"));
    let length = head.field("content-length").unwrap().parse().unwrap();
    let body = wire.exactly(length).await.unwrap();
    assert!(wire.is_at_end().await);
    (head.status(), String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_request_shorter_than_the_preface_of_http2() {
    let gateway = hello(PATIENT);
    for request in ["GET / HTTP/1.0\r\n\r\n", "OPTIONS / HTTP/1.0\r\n\r\n"] {
        let mut wire = Wire::connect(gateway.address).await;
        wire.send(request).await;
        assert_eq!(wire.head().await.unwrap().status(), 200);
        assert_eq!(wire.rest().await.unwrap(), "hello /");
    }
    gateway.is_quiet().await;
}

#[tokio::test]
async fn a_request_shorter_than_the_preface_does_not_hang_where_only_http2_is_spoken() {
    let gateway = speaking(Speaks::H2c, HASTY);
    for request in ["", "GET / HTTP/1.0\r\n\r\n", "OPTIONS / HTTP/1.0\r\n\r\n"] {
        let mut wire = Wire::connect(gateway.address).await;
        wire.send(request).await;
        assert!(wire.is_at_end().await);
    }
}

#[tokio::test]
async fn connect_is_refused() {
    let gateway = hello(PATIENT);
    let mut wire = Wire::connect(gateway.address).await;
    wire.send("CONNECT example.test:443 HTTP/1.1\r\nhost: example.test:443\r\n\r\n")
        .await;
    assert_eq!(fault(&mut wire).await, (405, "fault: Connect".into()));
    gateway.is_quiet().await;
}

#[tokio::test]
async fn connect_is_refused_on_http2_and_the_connection_lives() {
    let gateway = speaking(Speaks::H2c, PATIENT);
    let mut client = Client::connect(&gateway, Speaks::H2c).await;
    let tunnel = Ask {
        method: "CONNECT",
        ..Ask::get("")
    };
    let (head, body) = client.call(&tunnel).await;
    assert_eq!((head.status, &body[..]), (405, &b"fault: Connect"[..]));
    assert_eq!(client.call(&Ask::get("/")).await.1, "hello /");
    gateway.is_quiet().await;
}

#[tokio::test]
async fn a_broken_head_is_answered() {
    let gateway = hello(PATIENT);
    let many = "a: b\r\n".repeat(300);
    for request in [
        "\x01\x02\x03\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        &format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n"),
    ] {
        let mut wire = Wire::connect(gateway.address).await;
        wire.send(request).await;
        assert_eq!(fault(&mut wire).await, (400, "fault: BadHead".into()), "{request:?}");
    }
    gateway.is_quiet().await;
}

/// The first head of a connection, and one that follows an answer.
#[tokio::test]
async fn a_slow_head_is_answered() {
    let gateway = hello(HASTY);
    let mut wire = Wire::connect(gateway.address).await;
    wire.send("GET / HTTP/1.1\r\nho").await;
    assert_eq!(fault(&mut wire).await, (408, "fault: HeadTimeout".into()));

    let mut wire = Wire::connect(gateway.address).await;
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wire.until("hello /").await.unwrap();
    wire.send("GET / HTTP/1.1\r\nho").await;
    assert_eq!(fault(&mut wire).await, (408, "fault: HeadTimeout".into()));
    gateway.is_quiet().await;
}

/// To answer a client that has asked nothing would be taken for the answer to what it asks next.
#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let settings = EdgeSettings {
        keepalive: Duration::from_secs(1),
        ..PATIENT
    };
    let gateway = hello(settings);
    let mut wire = Wire::connect(gateway.address).await;
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wire.until("hello /").await.unwrap();
    assert!(wire.is_at_end().await);
}

/// A client of HTTP/2 at rest, likewise.
#[tokio::test]
async fn an_idle_connection_of_http2_is_closed() {
    let settings = EdgeSettings {
        keepalive: Duration::from_millis(100),
        ..PATIENT
    };
    let gateway = speaking(Speaks::H2c, settings);
    let mut client = Client::connect(&gateway, Speaks::H2c).await;
    client.call(&Ask::get("/")).await;
    assert!(client.is_closed().await);
}

/// The time that a request may take is not the time that a connection may rest.
#[tokio::test]
async fn a_connection_rests_longer_than_a_client_may_be_slow() {
    let gateway = hello(HASTY);
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    client.call(&Ask::get("/")).await;
    let mut other = Wire::connect(gateway.address).await;
    other.send("GET / HTTP/1.1\r\nho").await;
    // When this one has run out of time, so would the one before have.
    fault(&mut other).await;
    assert_eq!(client.call(&Ask::get("/again")).await.1, "hello /again");
}

#[tokio::test]
async fn http10_keeps_its_connection_when_it_asks_to() {
    let gateway = hello(PATIENT);
    let mut wire = Wire::connect(gateway.address).await;
    for _ in 0..2 {
        wire.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
        let head = wire.head().await.unwrap();
        assert_eq!(
            (head.field("connection"), head.field("content-length")),
            (Some("keep-alive"), Some("7"))
        );
        assert_eq!(wire.exactly(7).await.unwrap(), "hello /");
    }
    gateway.is_quiet().await;
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_order() {
    let gateway = hello(PATIENT);
    let mut wire = Wire::connect(gateway.address).await;
    let one = "POST /1 HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc";
    let two = "GET /2 HTTP/1.1\r\nhost: x\r\n\r\n";
    let three = "GET /3 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    wire.send([one, two, three].concat()).await;
    for n in 1..=3 {
        assert_eq!(wire.head().await.unwrap().status(), 200);
        assert_eq!(wire.exactly(8).await.unwrap(), format!("hello /{n}"));
    }
    assert!(wire.is_at_end().await);
    gateway.is_quiet().await;
}

#[tokio::test]
async fn http11_by_alpn() {
    let certs = Certs::new();
    let protocol = Protocol::Tls(certs.store());
    let service = tower::service_fn(|request: http::Request<tollgate::proxy::Body>| async move {
        let known = request
            .extensions()
            .get::<tollgate::proxy::ConnInfo>()
            .copied()
            .unwrap();
        Ok(plain(
            http::StatusCode::OK,
            format!("{:?} {}", request.version(), known.tls),
        ))
    });
    let gateway = Gateway::host(certs, protocol, PATIENT, service);
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let mut wire = Wire::connect_tls(gateway.address, gateway.certs.client(alpn)).await;
        wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(wire.head().await.unwrap().status(), 200);
        assert_eq!(wire.exactly(13).await.unwrap(), "HTTP/1.1 true");
    }
}

/// A TLS client that says nothing more holds its socket for a bounded time, wherever it stops, and is told nothing: it
/// has asked for nothing.
#[tokio::test]
async fn a_silent_client_of_tls_is_let_go() {
    let gateway = speaking(Speaks::H2Tls, HASTY);
    for alpn in [&[&b"h2"[..]][..], &[b"http/1.1"], &[]] {
        let mut wire = Wire::connect_tls(gateway.address, gateway.certs.client(alpn)).await;
        if alpn == [b"h2"] {
            // Its server speaks first, of its settings. Then the end comes, an orderly one or not.
            let _ = wire.rest().await;
        } else {
            assert!(wire.is_at_end().await, "{alpn:?}");
        }
    }
    let mut wire = Wire::connect(gateway.address).await;
    wire.send([22, 3, 1]).await;
    assert!(wire.is_at_end().await, "in the middle of its handshake");
    let mut wire = Wire::connect_tls(gateway.address, gateway.certs.client(&[b"h2"])).await;
    wire.send("PRI * HTTP/2.0\r\n").await;
    let _ = wire.rest().await;
    gateway.is_quiet().await;
}

/// A connection that is shaking hands when the process goes down is a connection like any other.
#[tokio::test]
async fn a_handshake_under_way_at_shutdown_is_finished() {
    let gateway = speaking(Speaks::H2Tls, PATIENT);
    let (address, lifecycle) = (gateway.address, gateway.lifecycle.clone());
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    // Answered, so the gateway has accepted, and the one before it.
    let mut other = Client::connect(&gateway, Speaks::H2Tls).await;
    other.call(&Ask::get("/")).await;
    drop(other);
    let config = gateway.certs.client(&[b"http/1.1"]);
    lifecycle.go_down();
    let finished = tokio::spawn(gateway.finish(Duration::from_secs(9)));
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let shaking = tokio_rustls::TlsConnector::from(config).connect(name, socket);
    let mut wire = Wire::new(within(shaking).await.unwrap());
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(wire.head().await.unwrap().status(), 200);
    assert!(within(finished).await.unwrap());
}
