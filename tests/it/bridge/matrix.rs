//! {HTTP/1.1 kept, HTTP/1.1 closed, HTTP/1.0, HTTP/2 in clear, HTTP/2 over TLS} × what happens to an exchange.

use std::time::Duration;

use bytes::Bytes;
use tollgate::backend::{Backend, Running, Script};

use crate::support::bridge::Gateway;
use crate::support::client::{Ask, Client, Framing, Speaks};
use crate::support::raw::{RawBackend, Wire};
use crate::support::within;

macro_rules! matrix {
    ($($case:ident),* $(,)?) => {
        matrix!(@ http11 KeepAlive [$($case)*]);
        matrix!(@ http11_close Close [$($case)*]);
        matrix!(@ http10 Http10 [$($case)*]);
        matrix!(@ h2c H2c [$($case)*]);
        matrix!(@ h2_tls H2Tls [$($case)*]);
    };
    (@ $name:ident $speaks:ident [$($case:ident)*]) => {
        mod $name {
            use crate::support::client::Speaks;
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(Speaks::$speaks).await;
                }
            )*
        }
    };
}

matrix!(
    json,
    sse,
    refused_upload,
    client_leaves_before_the_head,
    client_leaves_mid_stream,
    backend_dies_before_the_head,
    backend_dies_mid_stream,
    stale_pooled_connection,
    shutdown_mid_stream,
);

/// A client, the gateway and the scripted backend.
async fn scripted(speaks: Speaks) -> (Client, Gateway, Running) {
    let backend = Backend::start(Script::default()).await.unwrap();
    let gateway = Gateway::proxy(speaks, backend.local_addr());
    let client = Client::connect(&gateway, speaks).await;
    (client, gateway, backend)
}

/// The same client, or a new one where a connection carries one request.
async fn again(client: Client, gateway: &Gateway) -> Client {
    let speaks = client.speaks;
    if speaks.keeps() {
        client
    } else {
        closes(client).await;
        Client::connect(gateway, speaks).await
    }
}

async fn closes(mut client: Client) {
    assert!(client.is_closed().await);
}

async fn json(speaks: Speaks) {
    let (mut client, gateway, backend) = scripted(speaks).await;
    let (head, body) = client.call(&Ask::chat(false, "tokens=3")).await;
    assert_eq!((head.status, head.field("x-reused")), (200, Some("false")));
    let expected = if speaks.is_http2() {
        Framing::Stream
    } else {
        Framing::Length(body.len())
    };
    assert_eq!(head.framing, expected);
    assert_eq!(head.field("content-length"), Some(body.len().to_string().as_str()));
    let connection = head.field("connection");
    assert_eq!(
        connection,
        (!speaks.is_http2()).then_some(if speaks.keeps() { "keep-alive" } else { "close" })
    );
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()["object"],
        "chat.completion"
    );

    let mut client = again(client, &gateway).await;
    let (head, second) = client.call(&Ask::chat(false, "tokens=3")).await;
    assert_eq!(head.field("x-reused"), Some("true"));
    assert_eq!(body.len(), second.len());
    gateway.is_quiet().await;
    assert_eq!(backend.stats().now().connections, 1);
}

async fn sse(speaks: Speaks) {
    let (mut client, gateway, backend) = scripted(speaks).await;
    let (head, body) = client.call(&Ask::chat(true, "tokens=5")).await;
    assert_eq!(head.framing, streamed(speaks));
    assert_eq!(head.field("content-type"), Some("text/event-stream; charset=utf-8"));
    let (_, direct) = direct(&backend, &Ask::chat(true, "tokens=5")).await;
    assert_eq!(body, direct);
    assert!(body.ends_with(b"data: [DONE]\n\n"));

    let mut client = again(client, &gateway).await;
    let (head, _) = client.call(&Ask::chat(true, "tokens=5")).await;
    assert_eq!(head.field("x-reused"), Some("true"));
    gateway.is_quiet().await;
    assert_eq!(backend.stats().now().connections, 2);
}

/// How an answer of unknown length is framed.
fn streamed(speaks: Speaks) -> Framing {
    match speaks {
        Speaks::KeepAlive | Speaks::Close => Framing::Chunked,
        Speaks::Http10 => Framing::Close,
        Speaks::H2c | Speaks::H2Tls => Framing::Stream,
    }
}

/// What the backend says without a gateway.
async fn direct(backend: &Running, ask: &Ask) -> (Vec<u8>, Bytes) {
    let mut wire = Wire::connect(backend.local_addr()).await;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-tollgate-script: {}\r\ncontent-length: {}\r\n\r\n",
        ask.path,
        ask.fields
            .iter()
            .find(|field| field.0 == "x-tollgate-script")
            .unwrap()
            .1,
        ask.body.len()
    );
    wire.send([head.as_bytes(), &ask.body].concat()).await;
    wire.head().await.unwrap();
    let mut body = Vec::new();
    while let Some(chunk) = wire.chunk().await.unwrap() {
        body.extend(chunk);
    }
    (head.into_bytes(), body.into())
}

async fn refused_upload(speaks: Speaks) {
    let (mut client, gateway, backend) = scripted(speaks).await;
    client.start(&Ask::post("/refuse", vec![b'x'; 4 << 20])).await;
    let head = client.head().await.unwrap();
    assert_eq!(head.status, 413);
    let (body, end) = client.rest().await;
    end.unwrap();
    assert_eq!(body, "refused");
    if speaks.is_http2() {
        let (head, _) = client.call(&Ask::chat(false, "tokens=1")).await;
        assert_eq!(head.status, 200);
    } else {
        assert_eq!(head.field("connection"), Some("close"));
        closes(client).await;
        assert_eq!(backend.stats().now().requests, 0);
    }
    gateway.is_quiet().await;
}

async fn client_leaves_before_the_head(speaks: Speaks) {
    let (mut client, gateway, backend) = scripted(speaks).await;
    client.start(&Ask::chat(false, "fault=stall")).await;
    within(backend.stats().wait_for(|counts| counts.in_flight == 1)).await;
    assert_eq!(gateway.lifecycle.in_flight(), 1);
    let _connection = client.leave();
    let counts = within(backend.stats().wait_for(|counts| counts.in_flight == 0)).await;
    assert_eq!((counts.requests, counts.cancelled), (1, 1));
    within(backend.stats().wait_for(|counts| counts.open_connections == 0)).await;
    gateway.is_quiet().await;
}

async fn client_leaves_mid_stream(speaks: Speaks) {
    let (mut client, gateway, backend) = scripted(speaks).await;
    client.start(&Ask::chat(true, "tokens=5; fault=stall:2")).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    client.until("data:").await;
    let _connection = client.leave();
    let counts = within(backend.stats().wait_for(|counts| counts.in_flight == 0)).await;
    assert_eq!((counts.requests, counts.cancelled), (1, 1));
    within(backend.stats().wait_for(|counts| counts.open_connections == 0)).await;
    gateway.is_quiet().await;
}

async fn backend_dies_before_the_head(speaks: Speaks) {
    let (mut client, gateway, backend) = scripted(speaks).await;
    let (head, body) = client.call(&Ask::chat(false, "fault=cut")).await;
    assert_eq!((head.status, &body[..]), (502, &b"exchange"[..]));
    // A fresh connection that dies is not tried again here: that is for a layer above to decide.
    assert_eq!(backend.stats().now().requests, 1);
    let mut client = again(client, &gateway).await;
    let (head, _) = client.call(&Ask::chat(false, "tokens=1")).await;
    assert_eq!((head.status, head.field("x-reused")), (200, Some("false")));
    gateway.is_quiet().await;
}

async fn backend_dies_mid_stream(speaks: Speaks) {
    let (mut client, gateway, backend) = scripted(speaks).await;
    client.start(&Ask::chat(true, "tokens=5; fault=cut:2")).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    let (body, end) = client.rest().await;
    assert!(body.starts_with(b"data:") && !body.ends_with(b"[DONE]\n\n"));
    if speaks == Speaks::Http10 {
        // Its framing knows no other end than the connection's, so that a break cannot be told from it.
        end.unwrap();
    } else {
        end.unwrap_err();
    }
    if speaks.is_http2() {
        let (head, _) = client.call(&Ask::chat(false, "tokens=1")).await;
        assert_eq!((head.status, head.field("x-reused")), (200, Some("false")));
    } else {
        closes(client).await;
    }
    gateway.is_quiet().await;
    assert_eq!(backend.stats().now().cancelled, 0);
}

async fn stale_pooled_connection(speaks: Speaks) {
    let backend = RawBackend::bind().await;
    let gateway = Gateway::proxy(speaks, backend.address);
    let mut client = Client::connect(&gateway, speaks).await;
    let ask = Ask::post("/v1/x", "hello");
    client.start(&ask).await;
    let mut first = backend.accept().await;
    first.request().await.unwrap();
    first.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none").await;
    assert_eq!(client.head().await.unwrap().field("x-reused"), Some("false"));
    assert_eq!(client.rest().await.0, "one");

    let mut client = again(client, &gateway).await;
    client.start(&ask).await;
    // The backend had decided to close when this request was already on the wire.
    first.request().await.unwrap();
    drop(first);
    let mut second = backend.accept().await;
    assert_eq!(second.request().await.unwrap().1, "hello");
    second.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntwo").await;
    assert_eq!(client.head().await.unwrap().field("x-reused"), Some("false"));
    assert_eq!(client.rest().await.0, "two");

    // And the connection of the second attempt is in the pool.
    let mut client = again(client, &gateway).await;
    client.start(&ask).await;
    second.request().await.unwrap();
    second.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nthree").await;
    assert_eq!(client.head().await.unwrap().field("x-reused"), Some("true"));
    assert_eq!(client.rest().await.0, "three");
    gateway.is_quiet().await;
}

async fn shutdown_mid_stream(speaks: Speaks) {
    let backend = RawBackend::bind().await;
    let gateway = Gateway::proxy(speaks, backend.address);
    // Parked where a connection can be: it has carried a request and waits for the next.
    let mut parked = Client::connect(&gateway, speaks).await;
    if speaks.keeps() {
        parked.call(&Ask::post("/refuse", "")).await;
    }
    let mut client = Client::connect(&gateway, speaks).await;
    client.start(&Ask::post("/v1/x", "hello")).await;
    let mut upstream = backend.accept().await;
    upstream.request().await.unwrap();
    upstream
        .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        .await;
    client.head().await.unwrap();
    client.until("one").await;

    gateway.lifecycle.go_down();
    let (address, lifecycle) = (gateway.address, gateway.lifecycle.clone());
    let finished = tokio::spawn(gateway.finish(Duration::from_secs(9)));
    refuses_connections(address).await;
    upstream.send("3\r\ntwo\r\n0\r\n\r\n").await;
    let (body, end) = client.rest().await;
    end.unwrap();
    assert_eq!(body, "two");

    if speaks == Speaks::KeepAlive {
        // This request was already under way, for all that the client knows.
        parked.start(&Ask::post("/refuse", "")).await;
        let head = parked.head().await.unwrap();
        assert_eq!((head.status, head.field("connection")), (413, Some("close")));
        assert_eq!(parked.rest().await.0, "refused");
    }
    if speaks.keeps() {
        closes(parked).await;
    } else {
        drop(parked);
    }
    // Its own connection rests now, and would linger like the other.
    drop(client);
    assert!(within(finished).await.unwrap());
    assert_eq!(lifecycle.in_flight(), 0);
}

/// A listener closes when its task sees the shutdown, and nothing tells when that was but a connection refused.
async fn refuses_connections(address: std::net::SocketAddr) {
    within(async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
