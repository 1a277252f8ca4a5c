#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;

use http::Response;
use http_body_util::{BodyExt, Full};
use tower::{ServiceExt, service_fn};

use super::*;

/// A body of given frames, which says nothing about its length.
struct Frames(VecDeque<Result<Bytes, Rejection>>);

impl Frames {
    fn new<const N: usize>(frames: [&'static str; N]) -> Self {
        Self(
            frames
                .into_iter()
                .map(|text| Ok(Bytes::from_static(text.as_bytes())))
                .collect(),
        )
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        Poll::Ready(self.0.pop_front().map(|next| next.map(Frame::data)))
    }
}

type Next = Poll<Option<Result<Frame<Bytes>, Rejection>>>;

/// A body that does what it is told when it is read.
struct Probe(fn() -> Next);

impl Body for Probe {
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Next {
        (self.0)()
    }
}

fn owned(budget: &Arc<Budget>, cap: usize) -> Config<impl Owner + Clone + use<>> {
    Config::new(cap, budget.clone()).with_owner(|head: &Parts| head.extensions.get::<u64>().copied())
}

async fn held<B, O>(config: Config<O>, req: Request<B>) -> Result<Held, Rejection>
where
    O: Owner + Clone,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Rejection>,
{
    let svc = service_fn(async |req: Request<Held>| Ok::<_, Infallible>(Response::new(req.into_body())));
    BufferLayer::new(config)
        .layer(svc)
        .oneshot(req)
        .await
        .map(Response::into_body)
}

#[tokio::test]
async fn one_frame_is_kept_uncopied_and_many_are_joined() {
    let budget = Budget::new(100, 1);
    let one = Bytes::from_static(b"{\"model\":1}");
    let got = held(Config::new(50, budget.clone()), Request::new(Full::new(one.clone())))
        .await
        .unwrap();
    assert_eq!(got.bytes().as_ptr(), one.as_ptr());
    let got = held(
        Config::new(50, budget.clone()),
        Request::new(Frames::new(["ab", "", "cd", "e"])),
    )
    .await;
    assert_eq!(got.unwrap().bytes(), "abcde");
}

#[tokio::test]
async fn the_budget_is_held_till_the_last_clone_goes() {
    let budget = Budget::new(100, 2);
    let mut req = Request::new(Full::from("x".repeat(30)));
    req.extensions_mut().insert(7_u64);
    let one = held(owned(&budget, 50), req).await.unwrap();
    let mut two = one.clone();
    let too_long = Bytes::from("x".repeat(1000));
    assert_eq!(two.replace(too_long).unwrap_err().reason(), Reason::Overloaded);
    assert_eq!((budget.used(), budget.used_by(7)), (30, 30));
    two.replace(Bytes::from_static(b"other")).unwrap();
    // Two bodies are held, and both are counted.
    assert_eq!((budget.used(), budget.used_by(7)), (35, 35));
    drop(one);
    assert_eq!((budget.used(), budget.used_by(7)), (5, 5));
    assert_eq!(two.collect().await.unwrap().to_bytes(), "other");
    assert_eq!((budget.used(), budget.used_by(7)), (0, 0));
}

#[tokio::test]
async fn one_owner_gets_its_share_and_no_more() {
    let budget = Budget::new(100, 4);
    let req = |owner: u64, size: usize| {
        let mut req = Request::new(Full::from("x".repeat(size)));
        req.extensions_mut().insert(owner);
        req
    };
    let _first = held(owned(&budget, 100), req(1, 20)).await.unwrap();
    let refused = held(owned(&budget, 100), req(1, 6)).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Overloaded);
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(
        budget.used(),
        20,
        "a refusal by the owner's share leaves nothing in the total"
    );
    held(owned(&budget, 100), req(2, 25)).await.unwrap();
}

#[tokio::test]
async fn too_large_is_refused_by_its_header_unread_and_by_its_bytes() {
    let budget = Budget::new(100, 1);
    let body = Probe(|| panic!("the body was read"));
    let req = Request::builder().header(CONTENT_LENGTH, "11").body(body).unwrap();
    let refused = held(Config::new(10, budget.clone()), req).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::BodyTooLarge);
    assert!(refused.message().contains("10 bytes"));
    let req = Request::new(Frames::new(["12345678", "901"]));
    assert_eq!(
        held(Config::new(10, budget.clone()), req).await.unwrap_err().reason(),
        Reason::BodyTooLarge
    );
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn the_budget_grows_with_chunks_of_unknown_length() {
    let budget = Budget::new(10, 1);
    let refused = held(
        Config::new(100, budget.clone()),
        Request::new(Frames::new(["123456", "78901"])),
    )
    .await;
    assert_eq!(refused.unwrap_err().reason(), Reason::Overloaded);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn encodings_lengths_and_errors() {
    let budget = Budget::new(100, 1);
    let with = |name, value: &str| Request::builder().header(name, value).body(Full::from("{}")).unwrap();
    for (req, reason) in [
        (with(CONTENT_ENCODING, "gzip"), Reason::UnsupportedEncoding),
        (with(CONTENT_ENCODING, "identity, gzip"), Reason::UnsupportedEncoding),
        (with(CONTENT_LENGTH, "+2"), Reason::MalformedBody),
        (with(CONTENT_LENGTH, "99999999999999999999999"), Reason::MalformedBody),
    ] {
        assert_eq!(
            held(Config::new(50, budget.clone()), req).await.unwrap_err().reason(),
            reason
        );
    }
    assert!(
        held(Config::new(50, budget.clone()), with(CONTENT_ENCODING, "Identity"))
            .await
            .is_ok()
    );
    let broken = Frames([Ok(Bytes::from_static(b"{")), Err(Reason::RequestTimeout.into())].into());
    let failed = held(Config::new(50, budget.clone()), Request::new(broken))
        .await
        .unwrap_err();
    assert_eq!(failed.reason(), Reason::RequestTimeout);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_reader_that_is_dropped_gives_its_bytes_back() {
    let budget = Budget::new(100, 1);
    let svc = service_fn(async |_: Request<Held>| Ok::<_, Infallible>(Response::new(())));
    let svc = BufferLayer::new(Config::new(50, budget.clone())).layer(svc);
    let body = Probe(|| Poll::Pending);
    let req = Request::builder().header(CONTENT_LENGTH, "40").body(body).unwrap();
    let mut reading = Box::pin(svc.oneshot(req));
    poll_fn(|cx| {
        assert!(reading.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    assert_eq!(budget.used(), 40);
    drop(reading);
    assert_eq!(budget.used(), 0);
}
