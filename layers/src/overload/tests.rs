#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::{pending, poll_fn};

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use tower::{ServiceExt, service_fn};

use super::*;

type Stream = Channel<Bytes, Reason>;
type Sender = http_body_util::channel::Sender<Bytes, Reason>;

async fn answered(room: &InFlight, bytes: u64) -> Result<(Sender, ResponseBody<Stream>), Rejection> {
    let (sender, body) = Stream::new(8);
    let mut body = Some(body);
    let inner = service_fn(move |_: Request<()>| {
        let body = body.take().unwrap();
        async { Ok::<_, Rejection>(Response::new(body)) }
    });
    let request = Request::builder().header(CONTENT_LENGTH, bytes).body(()).unwrap();
    let response = OverloadLayer::new(room.clone()).layer(inner).oneshot(request).await?;
    Ok((sender, response.into_body()))
}

#[tokio::test]
async fn room_is_held_to_the_end_of_the_body() {
    let room = InFlight::new(9, 10);
    let (mut sender, mut body) = answered(&room, 8).await.unwrap();
    sender.send_data(Bytes::from("one")).await.unwrap();
    body.frame().await.unwrap().unwrap();
    let refused = answered(&room, 3).await.err().unwrap();
    assert_eq!(
        (refused.reason(), refused.retry_after()),
        (Reason::Overloaded, Some(Duration::from_secs(1)))
    );
    drop(sender);
    assert!(body.frame().await.is_none());
    assert_eq!(room.requests(), 0, "free although the body is still there");
    drop(body);
    assert!(answered(&room, 3).await.is_ok());
}

#[tokio::test]
async fn room_is_free_when_the_body_fails_or_is_dropped() {
    let room = InFlight::new(1, 10);
    let (sender, mut body) = answered(&room, 1).await.unwrap();
    sender.abort(Reason::IdleTimeout);
    assert_eq!(body.frame().await.unwrap().unwrap_err(), Reason::IdleTimeout);
    assert_eq!(room.requests(), 0);
    let (_sender, body) = answered(&room, 1).await.unwrap();
    assert_eq!(room.requests(), 1);
    drop(body);
    assert_eq!(room.requests(), 0);
}

#[tokio::test]
async fn room_is_free_when_the_call_fails_or_is_dropped() {
    let room = InFlight::new(1, 10);
    let layer = OverloadLayer::new(room.clone());
    let refuses = service_fn(|_: Request<()>| async { Err::<Response<Full<Bytes>>, _>(Reason::NoRoute) });
    assert!(layer.layer(refuses).oneshot(Request::new(())).await.is_err());
    assert_eq!(room.requests(), 0);
    let hangs = service_fn(|_: Request<()>| pending::<Result<Response<Full<Bytes>>, Rejection>>());
    let mut call = Box::pin(layer.layer(hangs).oneshot(Request::new(())));
    assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await);
    assert_eq!(room.requests(), 1);
    drop(call);
    assert_eq!(room.requests(), 0);
}

#[tokio::test]
async fn what_could_never_pass_is_not_told_to_come_back() {
    let refused = answered(&InFlight::new(1, 10), 11).await.err().unwrap();
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::BodyTooLarge, None));
}

#[tokio::test]
async fn bytes_are_what_the_closure_says() {
    let room = InFlight::new(9, 10);
    let inner = service_fn(|_: Request<&str>| async { Ok::<_, Rejection>(Response::new(Full::<Bytes>::from("x"))) });
    let by_body = OverloadLayer::new(room.clone())
        .weigh(|request: &Request<&str>| request.body().len() as u64)
        .retry_after(Duration::from_secs(7))
        .layer(inner);
    let held = by_body.clone().oneshot(Request::new("12345678")).await.unwrap();
    assert_eq!(room.bytes(), 8);
    let refused = by_body.oneshot(Request::new("123")).await.err().unwrap();
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(7)));
    drop(held);

    let unknown = ClaimedLength::or(5);
    let request = |value| Request::builder().header(CONTENT_LENGTH, value).body(()).unwrap();
    assert_eq!(unknown.weigh(&request("3")), 3);
    assert_eq!(unknown.weigh(&request("x")), 5);
    assert_eq!(unknown.weigh(&Request::new(())), 5);
}

#[tokio::test]
async fn an_inner_service_that_is_not_ready_is_not_waited_for() {
    #[derive(Clone)]
    struct Busy;
    impl Service<Request<()>> for Busy {
        type Response = Response<Full<Bytes>>;
        type Error = Rejection;
        type Future = std::future::Ready<Result<Self::Response, Rejection>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
            Poll::Pending
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            unreachable!("it was never ready")
        }
    }
    let refused = OverloadLayer::new(InFlight::new(9, 9))
        .layer(Busy)
        .oneshot(Request::new(()))
        .await;
    assert_eq!(refused.err().unwrap().reason(), Reason::Overloaded);
}
