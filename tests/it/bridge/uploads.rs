//! How a client's upload reaches the service, or does not.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::{Notify, mpsc};
use tollgate::proxy::{Body, BodyError, EdgeSettings};

use crate::support::bridge::{Gateway, HASTY, PATIENT, plain};
use crate::support::client::{Ask, Client, Speaks};
use crate::support::raw::Wire;
use crate::support::within;

/// Answers with what was uploaded, or with the name of what went wrong.
fn echo(speaks: Speaks, settings: EdgeSettings) -> Gateway {
    Gateway::answering(speaks, settings, |request| async {
        match request.into_body().collect().await {
            Ok(body) => plain(StatusCode::OK, body.to_bytes()),
            Err(BodyError::ClientSlow) => plain(StatusCode::REQUEST_TIMEOUT, "slow"),
            Err(BodyError::Malformed) => plain(StatusCode::BAD_REQUEST, "malformed"),
            Err(error) => plain(StatusCode::IM_A_TEAPOT, error.to_string()),
        }
    })
}

/// A service that waits for a word before it reads.
fn waiting(speaks: Speaks) -> (Gateway, Arc<Notify>, Arc<Notify>) {
    let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&entered), Arc::clone(&go_on));
    let gateway = Gateway::answering(speaks, PATIENT, move |request| {
        let (entered, go_on) = signals.clone();
        async move {
            entered.notify_one();
            go_on.notified().await;
            let body = request.into_body().collect().await.unwrap().to_bytes();
            plain(StatusCode::OK, body.len().to_string())
        }
    });
    (gateway, entered, go_on)
}

async fn answer(wire: &mut Wire) -> (u16, Bytes) {
    let head = wire.head().await.unwrap();
    let length = head.field("content-length").unwrap().parse().unwrap();
    (head.status(), wire.exactly(length).await.unwrap())
}

#[tokio::test]
async fn a_chunked_upload_arrives_whole() {
    let gateway = echo(Speaks::KeepAlive, PATIENT);
    let mut wire = Wire::connect(gateway.address).await;
    for _ in 0..2 {
        for part in [
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
            "3\r\nabc\r\n4;a=b\r\n",
            "defg",
            "\r\n0\r\n",
            "\r\n",
        ] {
            wire.send(part).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(answer(&mut wire).await, (200, "abcdefg".into()));
    }
    gateway.is_quiet().await;
}

#[tokio::test]
async fn a_broken_chunk_is_told_to_the_service() {
    let gateway = echo(Speaks::KeepAlive, PATIENT);
    let mut wire = Wire::connect(gateway.address).await;
    wire.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n")
        .await;
    assert_eq!(answer(&mut wire).await, (400, "malformed".into()));
    assert!(wire.is_at_end().await);
    gateway.is_quiet().await;
}

#[tokio::test]
async fn an_upload_that_is_declared_and_empty() {
    for speaks in [Speaks::KeepAlive, Speaks::H2c] {
        let gateway = echo(speaks, PATIENT);
        let mut client = Client::connect(&gateway, speaks).await;
        for _ in 0..2 {
            let (head, body) = client.call(&Ask::post("/", "").field("content-length", "0")).await;
            assert_eq!((head.status, body.len()), (200, 0));
        }
        gateway.is_quiet().await;
    }
}

/// HTTP/2 can say after the last byte, in a frame of its own, that it was the last.
#[tokio::test]
async fn an_upload_whose_end_comes_alone() {
    let gateway = echo(Speaks::H2c, PATIENT);
    let send = Client::connect(&gateway, Speaks::H2c).await.leave().unwrap();
    for parts in [&["abc"][..], &["abc", "def"], &[]] {
        let mut send = within(send.clone().ready()).await.unwrap();
        let request = http::Request::post("http://x/").body(()).unwrap();
        let (response, mut upload) = send.send_request(request, false).unwrap();
        for part in parts {
            upload.send_data((*part).into(), false).unwrap();
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        upload.send_data(Bytes::new(), true).unwrap();
        let mut body = within(response).await.unwrap().into_body();
        let mut all = Vec::new();
        while let Some(data) = within(body.data()).await {
            all.extend(data.unwrap());
        }
        assert_eq!(all, parts.concat().as_bytes());
    }
    gateway.is_quiet().await;
}

/// The answer begins before the upload has ended, and its chunks come as the upload's go.
#[tokio::test]
async fn an_upload_streamed_back() {
    for speaks in [Speaks::KeepAlive, Speaks::H2c] {
        let gateway = Gateway::answering(speaks, PATIENT, |request| async {
            Response::new(Body::boxed(request.into_body()))
        });
        let mut client = Client::connect(&gateway, speaks).await;
        let upload: Bytes = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        if speaks.is_http2() {
            let (head, body) = client.call(&Ask::post("/", upload.clone())).await;
            assert_eq!((head.status, body == upload), (200, true));
        } else {
            let wire = client.wire();
            wire.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
                .await;
            wire.head().await.unwrap();
            assert_eq!(wire.chunk().await.unwrap().unwrap(), "one");
            wire.send("3\r\ntwo\r\n").await;
            assert_eq!(wire.chunk().await.unwrap().unwrap(), "two");
            wire.send("0\r\n\r\n").await;
            assert_eq!(wire.chunk().await.unwrap(), None);
            // The head went out before the upload was whole, so it could not promise to keep the connection.
            assert!(wire.is_at_end().await);
        }
        gateway.is_quiet().await;
    }
}

#[tokio::test]
async fn an_upload_that_stops_is_told_to_the_service() {
    let gateway = echo(Speaks::KeepAlive, HASTY);
    let mut wire = Wire::connect(gateway.address).await;
    wire.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")
        .await;
    assert_eq!(answer(&mut wire).await, (408, "slow".into()));
    assert!(wire.is_at_end().await);
    gateway.is_quiet().await;
}

#[tokio::test]
async fn an_upload_that_stops_is_told_to_the_service_on_http2() {
    let gateway = echo(Speaks::H2c, HASTY);
    let send = Client::connect(&gateway, Speaks::H2c).await.leave().unwrap();
    let mut send = within(send.ready()).await.unwrap();
    let request = http::Request::post("http://x/").body(()).unwrap();
    let (response, mut upload) = send.send_request(request, false).unwrap();
    upload.send_data("abc".into(), false).unwrap();
    assert_eq!(within(response).await.unwrap().status(), 408);
    gateway.is_quiet().await;
}

/// Only the client's own time counts against it.
#[tokio::test]
async fn a_service_that_takes_its_time_does_not_make_its_client_slow() {
    for speaks in [Speaks::KeepAlive, Speaks::H2c] {
        let gateway = Gateway::answering(speaks, HASTY, |request| async {
            tokio::time::sleep(HASTY.client_timeout * 3).await;
            match request.into_body().collect().await {
                Ok(body) => plain(StatusCode::OK, body.to_bytes()),
                Err(error) => plain(StatusCode::REQUEST_TIMEOUT, error.to_string()),
            }
        });
        let mut client = Client::connect(&gateway, speaks).await;
        let (head, body) = client.call(&Ask::post("/", "abc")).await;
        assert_eq!((head.status, body), (200, "abc".into()));
    }
}

#[tokio::test]
async fn a_trickle_is_slow() {
    let gateway = echo(Speaks::KeepAlive, HASTY);
    let mut wire = Wire::connect(gateway.address).await;
    wire.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    // Each byte is in time, and all of them never would be.
    let mut trickle = tokio::time::interval(HASTY.client_timeout / 4);
    let answered = loop {
        tokio::select! {
            _ = trickle.tick() => { let _ = wire.try_send("x").await; }
            head = wire.head() => break head.unwrap(),
        }
    };
    assert_eq!(answered.status(), 408);
}

#[tokio::test]
async fn a_client_is_told_to_continue_once_the_service_reads() {
    let (gateway, entered, go_on) = waiting(Speaks::KeepAlive);
    let mut wire = Wire::connect(gateway.address).await;
    for _ in 0..2 {
        wire.send("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
            .await;
        within(entered.notified()).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert!(wire.some().now_or_never().is_none());
        go_on.notify_one();
        let interim = wire.head().await.unwrap();
        assert_eq!(
            (interim.line.as_str(), interim.names().len()),
            ("HTTP/1.1 100 Continue", 0)
        );
        wire.send("abc").await;
        let head = wire.head().await.unwrap();
        assert_eq!((head.status(), head.field("connection")), (200, Some("keep-alive")));
        assert_eq!(wire.exactly(1).await.unwrap(), "3");
    }
    gateway.is_quiet().await;
}

#[tokio::test]
async fn a_client_that_is_refused_is_not_told_to_continue() {
    let gateway = Gateway::answering(Speaks::KeepAlive, PATIENT, |_| async {
        plain(StatusCode::PAYLOAD_TOO_LARGE, "refused")
    });
    let mut wire = Wire::connect(gateway.address).await;
    wire.send("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    assert_eq!(answer(&mut wire).await, (413, "refused".into()));
    assert!(wire.is_at_end().await);
    drop(wire);
    gateway.is_quiet().await;
}

/// A small body that nobody wants is read off the wire: a refusal must not cost its client a handshake.
#[tokio::test]
async fn a_small_upload_that_is_refused_leaves_the_connection_usable() {
    let gateway = Gateway::answering(Speaks::KeepAlive, PATIENT, |_| async {
        plain(StatusCode::TOO_MANY_REQUESTS, "refused")
    });
    let mut wire = Wire::connect(gateway.address).await;
    for _ in 0..3 {
        wire.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
            .await;
        assert_eq!(answer(&mut wire).await, (429, "refused".into()));
        wire.send("cde").await;
    }
    gateway.is_quiet().await;
}

#[tokio::test]
async fn an_upload_that_is_not_read_stays_with_the_client() {
    let (gateway, entered, go_on) = waiting(Speaks::KeepAlive);
    let mut wire = Wire::connect(gateway.address).await;
    let length = 256 << 20;
    wire.send(format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
    ))
    .await;
    within(entered.notified()).await;
    let sent = wire.send_until_stalled(length).await;
    assert!(sent < 32 << 20, "{sent} bytes went somewhere");
    go_on.notify_one();
    wire.send(vec![b'x'; length - sent]).await;
    assert_eq!(answer(&mut wire).await, (200, length.to_string().into()));
    gateway.is_quiet().await;
}

/// HTTP/2 has a window of its own, and it is all that is taken of an upload that nobody reads.
#[tokio::test]
async fn an_upload_that_is_not_read_stays_with_the_client_on_http2() {
    let (gateway, entered, go_on) = waiting(Speaks::H2c);
    let send = Client::connect(&gateway, Speaks::H2c).await.leave().unwrap();
    let mut send = within(send.ready()).await.unwrap();
    let (response, mut upload) = send
        .send_request(http::Request::post("http://x/").body(()).unwrap(), false)
        .unwrap();
    within(entered.notified()).await;
    let length = 4 << 20;
    upload.reserve_capacity(length);
    let mut sent = 0;
    while let Ok(room) = tokio::time::timeout(PAUSE, std::future::poll_fn(|cx| upload.poll_capacity(cx))).await {
        let room = room.unwrap().unwrap();
        upload.send_data(vec![b'x'; room].into(), false).unwrap();
        sent += room;
    }
    assert!(sent <= 2 << 20, "{sent} bytes went somewhere");
    go_on.notify_one();
    while sent < length {
        let room = within(std::future::poll_fn(|cx| upload.poll_capacity(cx)))
            .await
            .unwrap()
            .unwrap();
        sent += room;
        upload.send_data(vec![b'x'; room].into(), sent == length).unwrap();
    }
    let mut body = within(response).await.unwrap().into_body();
    assert_eq!(within(body.data()).await.unwrap().unwrap(), length.to_string());
    gateway.is_quiet().await;
}

#[tokio::test]
async fn an_upload_that_is_not_read_does_not_stop_its_neighbours() {
    let gateway = Gateway::answering(Speaks::H2c, PATIENT, |request| async {
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        plain(StatusCode::OK, body.len().to_string())
    });
    let send = Client::connect(&gateway, Speaks::H2c).await.leave().unwrap();
    let start = async |path: &str, length: usize| {
        let request = http::Request::post(format!("http://x{path}")).body(()).unwrap();
        let mut send = within(send.clone().ready()).await.unwrap();
        let (response, mut upload) = send.send_request(request, false).unwrap();
        upload.send_data(vec![b'x'; length].into(), true).unwrap();
        (response, upload)
    };
    let _unread = start("/never", 1 << 20).await;
    let (neighbour, _upload) = start("/", 100_000).await;
    let mut body = within(neighbour).await.unwrap().into_body();
    assert_eq!(within(body.data()).await.unwrap().unwrap(), "100000");
}

/// How long a writer must be held back to be called held back; a loaded machine errs to the safe side.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(300);

/// A service is dropped when its client leaves amid the upload.
#[tokio::test]
async fn a_client_that_leaves_amid_its_upload_cancels_the_service() {
    struct Told(mpsc::UnboundedSender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    for speaks in [Speaks::KeepAlive, Speaks::H2c] {
        let (told, mut dropped) = mpsc::unbounded_channel();
        let entered = Arc::new(Notify::new());
        let enters = Arc::clone(&entered);
        let gateway = Gateway::answering(speaks, PATIENT, move |request| {
            let (told, entered) = (Told(told.clone()), Arc::clone(&enters));
            async move {
                let mut body = request.into_body();
                body.frame().await.unwrap().unwrap();
                entered.notify_one();
                let _ = body.collect().await;
                drop(told);
                plain(StatusCode::OK, "")
            }
        });
        if speaks.is_http2() {
            let send = Client::connect(&gateway, Speaks::H2c).await.leave().unwrap();
            let mut send = within(send.ready()).await.unwrap();
            let request = http::Request::post("http://x/").body(()).unwrap();
            let (_response, mut upload) = send.send_request(request, false).unwrap();
            upload.send_data("abc".into(), false).unwrap();
            within(entered.notified()).await;
            upload.send_reset(h2::Reason::CANCEL);
            within(dropped.recv()).await.unwrap();
        } else {
            let mut wire = Wire::connect(gateway.address).await;
            wire.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")
                .await;
            within(entered.notified()).await;
            drop(wire);
            within(dropped.recv()).await.unwrap();
        }
        gateway.is_quiet().await;
    }
}
