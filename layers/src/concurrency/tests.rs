#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::pending;

use bytes::Bytes;
use http::Extensions;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use tower::{ServiceExt, service_fn};

use super::*;

type Stream = Channel<Bytes, Reason>;

fn one(_: &Extensions) -> Picks<u32> {
    Picks::from_iter([(1, 1)])
}

/// A service with one slot whose answers are streams, handed out with what feeds them.
async fn answered(
    slots: &Slots<u32>,
) -> Result<
    (
        http_body_util::channel::Sender<Bytes, Reason>,
        ResponseBody<Stream, u32>,
    ),
    Rejection,
> {
    let (sender, body) = Stream::new(8);
    let mut body = Some(body);
    let inner = tower::util::service_fn(move |_: Request<()>| {
        let body = body.take().unwrap();
        async { Ok::<_, Rejection>(Response::new(body)) }
    });
    let response = ConcurrencyLayer::new(slots.clone(), one)
        .layer(inner)
        .oneshot(Request::new(()))
        .await?;
    Ok((sender, response.into_body()))
}

#[tokio::test]
async fn a_slot_is_held_to_the_end_of_the_body() {
    let slots = Slots::new();
    let (mut sender, mut body) = answered(&slots).await.unwrap();
    sender.send_data(Bytes::from("one")).await.unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(slots.in_use(1), 1);

    let refused = answered(&slots).await.err().unwrap();
    assert_eq!(
        (refused.reason(), refused.retry_after()),
        (Reason::Concurrency, Some(Duration::from_secs(1)))
    );

    drop(sender);
    assert!(body.frame().await.is_none());
    assert!(slots.is_empty(), "free although the body is still there");
    drop(body);
    assert!(answered(&slots).await.is_ok());
}

#[tokio::test]
async fn a_slot_is_free_when_the_body_fails_or_is_dropped() {
    let slots = Slots::new();
    let (sender, mut body) = answered(&slots).await.unwrap();
    sender.abort(Reason::IdleTimeout);
    assert_eq!(body.frame().await.unwrap().unwrap_err().reason(), Reason::IdleTimeout);
    assert!(slots.is_empty());

    let (sender, body) = answered(&slots).await.unwrap();
    assert_eq!(slots.in_use(1), 1);
    drop(body);
    assert!(slots.is_empty());
    drop(sender);
}

#[tokio::test]
async fn a_slot_is_free_after_the_last_frame_of_a_known_body() {
    let slots = Slots::new();
    let inner = service_fn(|_: Request<()>| async { Ok::<_, Rejection>(Response::new(Full::<Bytes>::from("all"))) });
    let response = ConcurrencyLayer::new(slots.clone(), one)
        .layer(inner)
        .oneshot(Request::new(()))
        .await
        .unwrap();
    let mut body = response.into_body();
    assert_eq!(body.size_hint().exact(), Some(3));
    assert_eq!(slots.in_use(1), 1);
    body.frame().await.unwrap().unwrap();
    assert!(body.is_end_stream() && slots.is_empty());
}

#[tokio::test]
async fn a_slot_is_free_when_the_call_is_refused_dropped_or_panics() {
    let slots = Slots::new();
    let layer = ConcurrencyLayer::new(slots.clone(), one);
    let refuses = service_fn(|_: Request<()>| async { Err::<Response<Full<Bytes>>, _>(Reason::NoRoute) });
    assert!(layer.layer(refuses).oneshot(Request::new(())).await.is_err());
    assert!(slots.is_empty());

    let hangs = service_fn(|_: Request<()>| pending::<Result<Response<Full<Bytes>>, Rejection>>());
    let mut call = Box::pin(layer.layer(hangs).oneshot(Request::new(())));
    assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await);
    assert_eq!(slots.in_use(1), 1);
    drop(call);
    assert!(slots.is_empty());

    let panics = service_fn(|_: Request<()>| async { panic!("inside") as Result<Response<Full<Bytes>>, Rejection> });
    let task = tokio::spawn(layer.layer(panics).oneshot(Request::new(())));
    assert!(task.await.err().unwrap().is_panic());
    assert!(slots.is_empty());
}

#[tokio::test]
async fn without_a_limit_nothing_is_counted() {
    let slots = Slots::<u32>::new();
    let inner = service_fn(|_: Request<()>| async { Ok::<_, Rejection>(Response::new(Full::<Bytes>::from("all"))) });
    let service = ConcurrencyLayer::new(slots.clone(), |_: &Extensions| Picks::none()).layer(inner);
    let _held = service.oneshot(Request::new(())).await.unwrap();
    assert!(slots.is_empty());
}
