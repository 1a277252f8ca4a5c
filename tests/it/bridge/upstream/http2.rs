//! Connections of HTTP/2: how they are shared, what ends a stream, and what is tried once more.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{chat, prior, speaking};
use crate::support::bridge::Gateway;
use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::scripted;
use crate::support::within;

#[tokio::test]
async fn http2_shares_one_connection_among_streams() {
    let backend = scripted().await;
    let gateway = speaking(Speaks::KeepAlive, prior(backend.local_addr()));
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
    async fn accept(&self) -> UnboundedReceiver<H2Call> {
        let (socket, _) = within(self.0.accept()).await.unwrap();
        let mut connection = within(h2::server::handshake(socket)).await.unwrap();
        let (calls, receiver) = unbounded_channel();
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

/// A gateway, a client that has sent a request, and the calls of the connection on which the backend gets it.
async fn begin(speaks: Speaks) -> (Gateway, Client, UnboundedReceiver<H2Call>) {
    let backend = RawH2::bind().await;
    let gateway = speaking(speaks, prior(backend.1));
    let mut client = Client::connect(&gateway, speaks).await;
    client.start(&Ask::post("/v1/x", "hello")).await;
    let calls = backend.accept().await;
    (gateway, client, calls)
}

fn ok() -> http::Response<()> {
    http::Response::new(())
}

#[tokio::test]
async fn trailers_go_from_http2_to_http2() {
    let (_gateway, mut client, mut calls) = begin(Speaks::H2c).await;
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
    let (_gateway, mut client, mut calls) = begin(Speaks::KeepAlive).await;
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
        let (gateway, mut client, mut calls) = begin(Speaks::KeepAlive).await;
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
    let (gateway, mut client, mut calls) = begin(Speaks::KeepAlive).await;
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
    let (gateway, mut client, mut calls) = begin(Speaks::KeepAlive).await;
    let ask = Ask::post("/v1/x", "hello");
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
    let gateway = speaking(Speaks::KeepAlive, prior(backend.1));
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
    let gateway = speaking(Speaks::KeepAlive, prior(backend.1));
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
