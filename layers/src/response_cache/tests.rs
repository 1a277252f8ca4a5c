#![expect(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::advance;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{Reason, Rejection};

type Stream = Channel<Bytes, Reason>;

#[expect(clippy::unnecessary_wraps, reason = "a policy")]
fn shared(_: &Request<Held>) -> Option<Scope> {
    Some(Scope::Shared)
}

fn cache() -> ResponseCache {
    ResponseCache::new(1 << 20, Duration::from_mins(1))
}

fn ask(body: &'static str) -> http::request::Builder {
    Request::post("/v1/chat/completions").header("x-body", body)
}

fn request(builder: http::request::Builder) -> Request<Held> {
    let body = builder.headers_ref().and_then(|headers| headers.get("x-body")).cloned();
    let body = body.map_or(Bytes::from("{}"), |body| Bytes::copy_from_slice(body.as_bytes()));
    builder.body(Held::from(body)).unwrap()
}

/// A service that counts its calls and answers as `head` begins, with the number of the call.
fn counted(
    calls: &Arc<AtomicU32>,
    head: fn() -> http::response::Builder,
) -> impl Service<Request<Held>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
    let calls = calls.clone();
    service_fn(move |_: Request<Held>| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move { Ok(head().body(Full::from(format!("call {call}"))).unwrap()) }
    })
}

async fn text<B: Body<Data = Bytes, Error: std::fmt::Debug>>(answer: Response<B>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_its_time_and_shows_its_age() {
    let calls = Arc::default();
    let service = ResponseCacheLayer::new(cache(), shared).layer(counted(&calls, || {
        Response::builder()
            .status(201)
            .header("x-kept", "1")
            .header("cache-control", "max-age=30")
    }));
    let call = async || service.clone().oneshot(request(ask("{}"))).await.unwrap();
    let first = call().await;
    assert!(first.headers().get("age").is_none() && first.extensions().get::<Kept>().is_none());
    assert_eq!(text(first).await, "call 0");
    advance(Duration::from_secs(29)).await;
    let second = call().await;
    assert_eq!(
        (second.status(), &second.headers()["x-kept"], &second.headers()["age"]),
        (StatusCode::CREATED, &"1".parse().unwrap(), &"29".parse().unwrap())
    );
    assert_eq!(
        second.extensions().get(),
        Some(&Kept {
            age: Duration::from_secs(29)
        })
    );
    assert_eq!(second.body().size_hint().exact(), Some(6));
    assert_eq!(text(second).await, "call 0");
    advance(Duration::from_secs(1)).await;
    assert_eq!(text(call().await).await, "call 1");
}

#[tokio::test(start_paused = true)]
async fn the_client_s_cache_control_is_obeyed() {
    let calls = Arc::default();
    let service = ResponseCacheLayer::new(cache(), shared).layer(counted(&calls, Response::builder));
    let call = async |control: &'static str| {
        let asked = request(ask("{}").header("cache-control", control));
        text(service.clone().oneshot(asked).await.unwrap()).await
    };
    assert_eq!(call("no-store").await, "call 0");
    assert_eq!(call("").await, "call 1", "what must not be stored was not");
    assert_eq!(call("").await, "call 1");
    assert_eq!(call("no-store").await, "call 2", "nor is it answered from what is");
    assert_eq!(call("no-cache").await, "call 3");
    assert_eq!(call("").await, "call 3", "but what came of no-cache is kept");
    advance(Duration::from_secs(5)).await;
    assert_eq!(call("max-age=5").await, "call 3");
    assert_eq!(call("max-age=4").await, "call 4");
    assert_eq!(call("max-age=4").await, "call 4");
}

#[tokio::test]
async fn only_what_may_be_kept_is_and_never_for_another_owner() {
    for head in [
        || Response::builder().status(500),
        || Response::builder().status(404),
        || Response::builder().header("cache-control", "no-store"),
        || Response::builder().header("content-type", "application/json"),
        || Response::builder().header("content-length", "7"),
    ] as [fn() -> http::response::Builder; 5]
    {
        let (calls, cache) = (Arc::default(), cache());
        let service = ResponseCacheLayer::new(cache.clone(), shared).layer(counted(&calls, head));
        for _ in 0..2 {
            text(service.clone().oneshot(request(ask("{}"))).await.unwrap()).await;
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2, "{:?}", head());
        assert!(cache.0.idle());
    }
    let calls = Arc::default();
    let by_owner = |request: &Request<Held>| request.extensions().get().copied().map(Scope::Owner);
    let service = ResponseCacheLayer::new(cache(), by_owner).layer(counted(&calls, Response::builder));
    let call = async |owner: Option<u64>| {
        let mut asked = request(ask("{}"));
        owner.map(|owner| asked.extensions_mut().insert(owner));
        text(service.clone().oneshot(asked).await.unwrap()).await
    };
    assert_eq!(
        (call(Some(1)).await, call(Some(2)).await),
        ("call 0".into(), "call 1".into())
    );
    assert_eq!(
        (call(Some(1)).await, call(Some(2)).await),
        ("call 0".into(), "call 1".into())
    );
    assert_eq!(
        (call(None).await, call(None).await),
        ("call 2".into(), "call 3".into()),
        "no owner, no cache"
    );
}

#[tokio::test]
async fn an_entry_and_all_of_them_have_their_bounds() {
    let cache = ResponseCache::new(100_000, Duration::from_mins(1)).max_entry(10_000);
    let answers = service_fn(|asked: Request<Held>| async move {
        let size: usize = asked.headers()["x-size"].to_str().unwrap().parse().unwrap();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(vec![b'x'; size])))
    });
    let service = ResponseCacheLayer::new(cache.clone(), shared)
        .vary([HeaderName::from_static("x-n"), HeaderName::from_static("x-size")])
        .layer(answers);
    let call = async |n: usize, size: usize| {
        let asked = request(ask("{}").header("x-n", n).header("x-size", size));
        let answer = service.clone().oneshot(asked).await.unwrap();
        let kept = answer.extensions().get::<Kept>().is_some();
        assert_eq!(text(answer).await.len(), size);
        kept
    };
    for size in [10_000, 20_000] {
        call(0, size).await;
        assert!(!call(0, size).await, "{size} is too large");
    }
    call(0, 9_990).await;
    assert!(call(0, 9_990).await);
    for n in 0..500 {
        call(n, 9_000).await;
    }
    let (entries, bytes) = cache.usage();
    assert!(entries > 0 && bytes <= 100_000, "{entries} entries, {bytes} bytes");
    assert!(cache.0.idle());
    cache.clear();
    assert_eq!(cache.usage().0, 0);
}

// === streams ===

type Feeds = mpsc::UnboundedReceiver<Sender<Bytes, Reason>>;

/// A service whose answers are streams, handed out with what feeds them.
fn streams() -> (
    impl Service<Request<Held>, Response = Response<Stream>, Error = Rejection, Future: Send> + Clone + Send + 'static,
    Feeds,
) {
    let (fed, feeds) = mpsc::unbounded_channel();
    let service = service_fn(move |_: Request<Held>| {
        let (sender, body) = Stream::new(8);
        fed.send(sender).unwrap();
        async {
            Ok(Response::builder()
                .header("content-type", "text/event-stream")
                .body(body)
                .unwrap())
        }
    });
    (service, feeds)
}

async fn feed(sender: &mut Sender<Bytes, Reason>, chunks: &[&'static str]) {
    for chunk in chunks {
        sender.send_data(Bytes::from_static(chunk.as_bytes())).await.unwrap();
    }
}

async fn frames<B: Body<Data = Bytes, Error: std::fmt::Debug> + Unpin>(mut body: B) -> Vec<Bytes> {
    let mut out = Vec::new();
    while let Some(frame) = body.frame().await {
        out.push(frame.unwrap().into_data().unwrap());
    }
    out
}

const CHUNKS: [&str; 3] = ["data: {\"a\":1}\n", "\nda", "ta: [DONE]\n\n"];

#[tokio::test]
async fn a_stream_is_replayed_as_a_stream() {
    let (inner, mut feeds) = streams();
    let service = ResponseCacheLayer::new(cache(), shared).layer(inner);
    let first = service.clone().oneshot(request(ask("{}"))).await.unwrap();
    let mut sender = feeds.recv().await.unwrap();
    feed(&mut sender, &CHUNKS).await;
    drop(sender);
    assert_eq!(frames(first.into_body()).await, CHUNKS);
    let again = service.oneshot(request(ask("{}"))).await.unwrap();
    assert_eq!(again.headers()["content-type"], "text/event-stream");
    assert!(!again.body().is_end_stream());
    assert_eq!(frames(again.into_body()).await, CHUNKS);
}

#[tokio::test]
async fn broken_streams_are_never_kept() {
    for (chunks, abort) in [
        (&CHUNKS[..2], false),
        (&CHUNKS[..], true),
        (&["data: {\"error\":{}}\n\n", "data: [DONE]\n\n"], false),
    ] {
        let (inner, mut feeds) = streams();
        let cache = cache();
        let service = ResponseCacheLayer::new(cache.clone(), shared).layer(inner);
        let first = service.clone().oneshot(request(ask("{}"))).await.unwrap();
        let mut sender = feeds.recv().await.unwrap();
        feed(&mut sender, chunks).await;
        if abort {
            sender.abort(Reason::IdleTimeout);
        } else {
            drop(sender);
        }
        assert_eq!(first.into_body().collect().await.is_err(), abort);
        assert_eq!(cache.usage().0, 0, "{chunks:?}");
        assert!(cache.0.idle());
    }
}

// === single flight ===

type Waiting = tokio::task::JoinHandle<Result<(bool, Vec<Bytes>), Rejection>>;

/// Sends a request that another equal one is under way for, and lets it come as far as it can.
async fn send<S, B>(service: &S) -> Waiting
where
    S: Service<Request<Held>, Response = Response<B>, Error = Rejection, Future: Send> + Clone + Send + 'static,
    B: Body<Data = Bytes, Error: std::fmt::Debug> + Send + Unpin + 'static,
{
    let service = service.clone();
    let waiting = tokio::spawn(async move {
        let answer = service.oneshot(request(ask("{}"))).await?;
        let kept = answer.extensions().get::<Kept>().is_some();
        Ok((kept, frames(answer.into_body()).await))
    });
    for _ in 0..10 {
        yield_now().await;
    }
    waiting
}

#[tokio::test(start_paused = true)]
async fn equal_requests_wait_for_one() {
    let (inner, mut feeds) = streams();
    let service = ResponseCacheLayer::new(cache(), shared).layer(inner);
    let leader = send(&service).await;
    let mut sender = feeds.recv().await.unwrap();
    feed(&mut sender, &CHUNKS[..1]).await;
    let followers = [send(&service).await, send(&service).await];
    feed(&mut sender, &CHUNKS[1..]).await;
    drop(sender);
    assert_eq!(
        leader.await.unwrap().unwrap(),
        (false, CHUNKS.map(Bytes::from).to_vec())
    );
    for follower in followers {
        assert_eq!(
            follower.await.unwrap().unwrap(),
            (true, CHUNKS.map(Bytes::from).to_vec())
        );
    }
    assert!(feeds.try_recv().is_err(), "one call did for all");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_is_followed_by_the_next() {
    let (inner, mut feeds) = streams();
    let cache = cache();
    let service = ResponseCacheLayer::new(cache.clone(), shared).layer(inner);
    let leader = send(&service).await;
    let mut sender = feeds.recv().await.unwrap();
    feed(&mut sender, &CHUNKS[..1]).await;
    let followers = [send(&service).await, send(&service).await];
    leader.abort();
    let mut next = feeds.recv().await.unwrap();
    for _ in 0..10 {
        yield_now().await;
    }
    assert!(feeds.try_recv().is_err(), "the other one still waits");
    feed(&mut next, &CHUNKS).await;
    drop(next);
    let mut kept = Vec::new();
    for follower in followers {
        let (was_kept, chunks) = follower.await.unwrap().unwrap();
        assert_eq!(chunks, CHUNKS);
        kept.push(was_kept);
    }
    kept.sort_unstable();
    assert_eq!(kept, [false, true]);
    assert!(cache.0.idle());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_fails_lets_all_go_at_once() {
    let (inner, mut feeds) = streams();
    let service = ResponseCacheLayer::new(cache(), shared).layer(inner);
    let leader = send(&service).await;
    let sender = feeds.recv().await.unwrap();
    let followers = [send(&service).await, send(&service).await];
    sender.abort(Reason::IdleTimeout);
    assert!(leader.await.is_err(), "its own stream broke");
    let (mut one, mut two) = (feeds.recv().await.unwrap(), feeds.recv().await.unwrap());
    for sender in [&mut one, &mut two] {
        feed(sender, &CHUNKS).await;
    }
    drop((one, two));
    for follower in followers {
        assert_eq!(
            follower.await.unwrap().unwrap(),
            (false, CHUNKS.map(Bytes::from).to_vec())
        );
    }

    // The same before the head, for an error and for an answer that is not to be kept.
    for outcome in [Err(Reason::ConnectTimeout), Ok(503)] {
        let answer = tokio::sync::broadcast::Sender::new(8);
        let answers = answer.clone();
        let calls = Arc::new(AtomicU32::new(0));
        let counts = calls.clone();
        let inner = service_fn(move |_: Request<Held>| {
            counts.fetch_add(1, Ordering::Relaxed);
            let mut answers = answers.subscribe();
            async move {
                let outcome: Result<u16, Reason> = answers.recv().await.unwrap();
                let status = outcome.map_err(Rejection::from)?;
                Ok::<_, Rejection>(
                    Response::builder()
                        .status(status)
                        .body(Full::<Bytes>::default())
                        .unwrap(),
                )
            }
        });
        let service = ResponseCacheLayer::new(cache(), shared).layer(inner);
        let all = [send(&service).await, send(&service).await, send(&service).await];
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        answer.send(outcome).unwrap();
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        answer.send(outcome).unwrap();
        for one in all {
            assert_eq!(
                one.await.unwrap().map(|_| ()).map_err(|rejection| rejection.reason()),
                outcome.map(|_| ())
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_patience() {
    let calls = Arc::new(AtomicU32::new(0));
    let counts = calls.clone();
    let inner = service_fn(move |_: Request<Held>| {
        let first = counts.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if first {
                pending::<()>().await;
            }
            Ok::<_, Rejection>(Response::new(Full::<Bytes>::from("late")))
        }
    });
    let service = ResponseCacheLayer::new(cache(), shared)
        .patience(Duration::from_secs(3))
        .layer(inner);
    let leader = send(&service).await;
    let follower = send(&service).await;
    advance(Duration::from_millis(2_999)).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    advance(Duration::from_millis(2)).await;
    assert_eq!(follower.await.unwrap().unwrap(), (false, vec![Bytes::from("late")]));
    let next = send(&service).await;
    assert!(next.await.unwrap().unwrap().0, "what came of it is kept");
    leader.abort();
}

/// Keeps answers to `/short` for a second.
#[derive(Clone)]
struct ByPath;

impl Policy for ByPath {
    fn scope(&self, _: &Request<Held>) -> Option<Scope> {
        Some(Scope::Shared)
    }

    fn ttl(&self, request: &Request<Held>) -> Option<Duration> {
        (request.uri().path() == "/short").then_some(Duration::from_secs(1))
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_may_have_a_shorter_time_than_the_cache() {
    let calls = Arc::default();
    let service = ResponseCacheLayer::new(cache(), ByPath).layer(counted(&calls, Response::builder));
    let call = async |path: &str| {
        let ask = request(Request::post(path));
        text(service.clone().oneshot(ask).await.unwrap()).await
    };
    let first = [call("/short").await, call("/long").await];
    advance(Duration::from_secs(2)).await;
    assert_eq!(
        [call("/short").await, call("/long").await],
        ["call 2".to_owned(), first[1].clone()]
    );
    assert_eq!(call("/short").await, "call 2");
}

#[tokio::test]
async fn extensions_tell_what_is_not_kept_and_go_along_with_what_is() {
    #[derive(Clone, Debug, PartialEq)]
    struct Cost(u32);
    let calls = Arc::default();
    let service = ResponseCacheLayer::new(cache(), shared)
        .carry::<Cost>()
        .layer(counted(&calls, || {
            Response::builder().extension(Cost(7)).extension("another")
        }));
    for _ in 0..2 {
        let answer = service.clone().oneshot(request(ask("{}"))).await.unwrap();
        assert_eq!(answer.extensions().get(), Some(&Cost(7)));
        let kept = answer.extensions().get::<Kept>().is_some();
        assert_eq!(answer.extensions().get::<&str>().is_none(), kept);
        assert_eq!(text(answer).await, "call 0");
    }
    let service =
        ResponseCacheLayer::new(cache(), shared).layer(counted(&calls, || Response::builder().extension(DoNotKeep)));
    for call in ["call 1", "call 2"] {
        assert_eq!(
            text(service.clone().oneshot(request(ask("{}"))).await.unwrap()).await,
            call
        );
    }
}
