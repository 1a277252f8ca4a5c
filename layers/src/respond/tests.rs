#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceExt, service_fn};

use super::*;
use crate::Reason;

const EVENT: &str = "data: {\"error\":{\"message\":\"The model's backend stopped answering.\",\"type\":\"timeout_error\",\"param\":null,\"code\":504,\"reason\":\"idle_timeout\"}}\n\n";

fn assert_service<T: Clone + Send + Sync>(_: &T) {}

/// A body that yields `pieces` and then fails or ends, as the answer of the layer under test.
async fn through(
    content_type: &'static str,
    pieces: &[&'static str],
    end: Result<(), Reason>,
) -> Response<ResponseBody<Channel<Bytes, Rejection>, OpenAi>> {
    let pieces = pieces.to_vec();
    let inner = service_fn(move |_: Request<()>| {
        let pieces = pieces.clone();
        async move {
            let (mut sender, body) = Channel::<Bytes, Rejection>::new(16);
            for piece in pieces {
                sender.try_send(Frame::data(Bytes::from(piece))).unwrap();
            }
            if let Err(reason) = end {
                sender.abort(reason.into());
            }
            let response = Response::builder()
                .header("content-type", content_type)
                .header("content-length", "99");
            Ok::<_, Rejection>(response.body(body).unwrap())
        }
    });
    let service = RespondLayer::new(OpenAi::default()).layer(inner);
    assert_service(&service);
    service.oneshot(Request::new(())).await.unwrap()
}

/// What was sent, and how it ended.
async fn read<B: Body<Data = Bytes, Error = Rejection> + Unpin>(mut body: B) -> (String, Option<Reason>) {
    let mut sent = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => sent.extend_from_slice(&frame.into_data().unwrap()),
            Err(e) => {
                assert!(body.is_end_stream());
                assert!(body.frame().await.is_none());
                return (String::from_utf8(sent).unwrap(), Some(e.reason()));
            }
        }
    }
    (String::from_utf8(sent).unwrap(), None)
}

#[tokio::test]
async fn a_stream_that_fails_tells_and_then_breaks() {
    let response = through(
        "text/event-stream; charset=utf-8",
        &["data: 1\n", "\n"],
        Err(Reason::IdleTimeout),
    )
    .await;
    assert!(response.headers().get("content-length").is_none());
    assert_eq!(response.body().size_hint().exact(), None);
    let (sent, end) = read(response.into_body()).await;
    assert_eq!(sent, format!("data: 1\n\n{EVENT}"));
    assert_eq!(end, Some(Reason::IdleTimeout));
}

#[tokio::test]
async fn the_last_event_stands_by_itself() {
    let cut = through(
        "Text/Event-Stream",
        &["data: 1\n\ndata: {\"cho"],
        Err(Reason::IdleTimeout),
    )
    .await;
    assert_eq!(
        read(cut.into_body()).await.0,
        format!("data: 1\n\ndata: {{\"cho\n\n{EVENT}")
    );
    let empty = through("text/event-stream", &[], Err(Reason::IdleTimeout)).await;
    assert_eq!(read(empty.into_body()).await.0, EVENT);
}

#[tokio::test]
async fn a_stream_that_ends_gets_nothing_added() {
    let response = through("text/event-stream", &["data: 1\n\ndata: [DONE]\n\n"], Ok(())).await;
    assert_eq!(
        read(response.into_body()).await,
        ("data: 1\n\ndata: [DONE]\n\n".to_owned(), None)
    );
}

#[tokio::test]
async fn other_bodies_only_break() {
    let response = through("application/json", &["{\"a\":"], Err(Reason::TotalTimeout)).await;
    assert_eq!(response.headers()["content-length"], "99");
    assert_eq!(
        read(response.into_body()).await,
        ("{\"a\":".to_owned(), Some(Reason::TotalTimeout))
    );
}

#[tokio::test]
async fn the_inner_body_is_dropped_before_its_event_is_sent() {
    struct Guarded(#[expect(dead_code, reason = "held to be dropped")] Arc<()>);
    impl Body for Guarded {
        type Data = Bytes;
        type Error = Rejection;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
            Poll::Ready(Some(Err(Reason::IdleTimeout.into())))
        }
    }
    let guard = Arc::new(());
    let mut body = ResponseBody::events(Guarded(guard.clone()), OpenAi::default(), Context::default());
    assert_eq!(Arc::strong_count(&guard), 2);
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), EVENT);
    assert_eq!(Arc::strong_count(&guard), 1);
    assert!(!body.is_end_stream());
}

#[tokio::test]
async fn passes_sizes_and_renders_refusals() {
    let inner = service_fn(|request: Request<()>| async move {
        match request.uri().path() {
            "/ok" => Ok(Response::new(Full::new(Bytes::from("abc")))),
            _ => Err(Reason::Draining),
        }
    });
    let service = RespondLayer::new(OpenAi::default()).layer(inner);
    let passed = service
        .clone()
        .oneshot(Request::get("/ok").body(()).unwrap())
        .await
        .unwrap();
    assert_eq!(passed.body().size_hint().exact(), Some(3));
    let refused = service.oneshot(Request::get("/").body(()).unwrap()).await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    let length = refused.body().size_hint().exact().unwrap();
    assert_eq!(read(refused.into_body()).await.0.len() as u64, length);
}

#[tokio::test]
async fn a_service_that_is_not_ready_is_answered_for() {
    #[derive(Clone)]
    struct Unready;
    impl Service<Request<()>> for Unready {
        type Response = Response<Full<Bytes>>;
        type Error = Rejection;
        type Future = std::future::Ready<Result<Self::Response, Rejection>>;
        fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Rejection>> {
            Poll::Ready(Err(Reason::Overloaded.into()))
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            unreachable!("it was never ready")
        }
    }
    let response = RespondLayer::new(OpenAi::default())
        .layer(Unready)
        .oneshot(Request::new(()))
        .await
        .unwrap();
    assert_eq!(response.status(), 503);
}
