//! The end of the process: what is let finish, what lingers, what is cut.

use std::time::Duration;

use crate::support::bridge::{Exchange, Gateway, PATIENT, plain};
use crate::support::client::{Ask, Client, Speaks};
use crate::support::raw::Wire;
use crate::support::within;
use tollgate::proxy::EdgeSettings;

fn hello(speaks: Speaks, settings: EdgeSettings) -> Gateway {
    Gateway::answering(speaks, settings, |_| async { plain(http::StatusCode::OK, "hello") })
}

#[tokio::test]
async fn nothing_to_wait_for() {
    let gateway = hello(Speaks::KeepAlive, PATIENT);
    gateway.lifecycle.go_down();
    assert!(gateway.lifecycle.is_going_down());
    assert!(gateway.finish(Duration::from_secs(9)).await);
}

/// A request may be on the wire already when the process decides to go down.
#[tokio::test]
async fn a_resting_connection_is_served_once_more() {
    let gateway = hello(Speaks::KeepAlive, PATIENT);
    let mut client = Client::connect(&gateway, Speaks::KeepAlive).await;
    client.call(&Ask::get("/")).await;
    gateway.lifecycle.go_down();
    let mut finished = tokio::spawn(gateway.finish(Duration::from_secs(9)));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut finished).await;
    assert!(waited.is_err(), "the process would have ended under the connection");
    let (head, _) = client.call(&Ask::get("/")).await;
    assert_eq!((head.status, head.field("connection")), (200, Some("close")));
    assert!(client.is_closed().await);
    assert!(within(finished).await.unwrap());
}

/// A connection that says nothing more, or one of HTTP/2 with nothing under way, holds the process up for so long and no
/// longer.
#[tokio::test]
async fn a_resting_connection_lingers_for_a_bounded_time() {
    for speaks in [Speaks::KeepAlive, Speaks::H2c] {
        let settings = EdgeSettings {
            linger: Duration::from_millis(100),
            ..PATIENT
        };
        let gateway = hello(speaks, settings);
        let mut client = Client::connect(&gateway, speaks).await;
        client.call(&Ask::get("/")).await;
        gateway.lifecycle.go_down();
        assert!(gateway.finish(Duration::from_secs(9)).await);
        assert!(client.is_closed().await);
    }
}

/// A connection whose first request is not there yet.
#[tokio::test]
async fn a_new_connection_is_served_once() {
    let gateway = hello(Speaks::KeepAlive, PATIENT);
    let mut wire = Wire::connect(gateway.address).await;
    // Answered, so the gateway has accepted, and the other one before it.
    Client::connect(&gateway, Speaks::Close)
        .await
        .call(&Ask::get("/"))
        .await;
    gateway.lifecycle.go_down();
    let finished = tokio::spawn(gateway.finish(Duration::from_secs(9)));
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = wire.head().await.unwrap();
    assert_eq!((head.status(), head.field("connection")), (200, Some("close")));
    assert_eq!(wire.rest().await.unwrap(), "hello");
    assert!(within(finished).await.unwrap());
}

async fn cut(speaks: Speaks) {
    let Exchange {
        gateway,
        mut client,
        mut upstream,
        backend: _backend,
    } = Exchange::begin(speaks).await;
    upstream
        .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        .await;
    client.head().await.unwrap();
    client.until("one").await;
    gateway.lifecycle.go_down();
    assert!(!gateway.finish(Duration::from_millis(50)).await);
    let (rest, end) = client.rest().await;
    assert_eq!(rest.len(), 0);
    if speaks != Speaks::Http10 {
        end.unwrap_err();
    }
    assert!(upstream.is_at_end().await);
}

#[tokio::test]
async fn a_stream_past_the_deadline_is_cut() {
    for speaks in [
        Speaks::KeepAlive,
        Speaks::Close,
        Speaks::Http10,
        Speaks::H2c,
        Speaks::H2Tls,
    ] {
        cut(speaks).await;
    }
}

#[tokio::test]
async fn a_request_past_the_deadline_is_cut_before_its_head() {
    for speaks in [
        Speaks::KeepAlive,
        Speaks::Close,
        Speaks::Http10,
        Speaks::H2c,
        Speaks::H2Tls,
    ] {
        let Exchange {
            gateway,
            mut client,
            mut upstream,
            backend: _backend,
        } = Exchange::begin(speaks).await;
        gateway.lifecycle.go_down();
        assert!(!gateway.finish(Duration::from_millis(50)).await);
        client.head().await.unwrap_err();
        assert!(upstream.is_at_end().await);
    }
}
