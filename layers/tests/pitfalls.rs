//! What other gateways get wrong, shown not to happen here: usage that a client can switch off, streams that die as a
//! clean 200, and a throttled client whose bodies fill the memory.
#![cfg(feature = "full")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tollgate_layers::buffer::{Budget, BufferLayer, Config, Held};
use tollgate_layers::meter::{End, Learned, MeterLayer, Outcome, Plan, Terminal};
use tollgate_layers::model::{Keys, ModelLayer, ModelRequest};
use tollgate_layers::rate_limit::{Buckets, Picks, RateLimitLayer};
use tollgate_layers::respond::{OpenAi, RespondLayer};
use tollgate_layers::splice::splice;
use tollgate_layers::timeout::{TimeoutLayer, Timeouts};
use tollgate_layers::{Reason, Rejection};
use tower::{ServiceBuilder, ServiceExt, service_fn};

// === usage that a client can switch off ===

/// A backend that writes two tokens an answer, and in a stream reports them only when asked. By its path it never
/// reports, or encodes.
async fn backend(request: Request<Held>) -> Result<Response<Full<Bytes>>, Rejection> {
    let asked = request.extensions().get::<ModelRequest>().unwrap();
    let mut edits: Vec<_> = asked.with_include_usage().into_iter().collect();
    let sent: serde_json::Value = serde_json::from_slice(&splice(request.body().bytes(), &mut edits)).unwrap();
    let answers = sent["n"].as_u64().unwrap_or(1);
    let silent = request.uri().path() == "/silent";
    let usage = format!(r#"{{"prompt_tokens":7,"completion_tokens":{}}}"#, 2 * answers);
    let (kind, text) = if sent["stream"] == true {
        let delta = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi there\"}}]}\n\n";
        let mut events = vec![delta.to_owned(); usize::try_from(answers).unwrap()];
        if sent["stream_options"]["include_usage"] == true && !silent {
            events.push(format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n"));
        }
        events.push(DONE.to_owned());
        ("text/event-stream", events.concat())
    } else {
        let choices = vec![r#"{"message":{"content":"Hi there"}}"#; usize::try_from(answers).unwrap()].join(",");
        let usage = if silent { "null" } else { &usage };
        (
            "application/json",
            format!(r#"{{"choices":[{choices}],"usage":{usage}}}"#),
        )
    };
    let mut response = Response::builder().header("content-type", kind);
    if request.uri().path() == "/gzip" {
        response = response.header("content-encoding", "gzip");
    }
    Ok(response.body(Full::from(text)).unwrap())
}

/// What a client gets for `body`, and what is settled of it.
async fn metered(path: &str, body: String) -> (Result<String, Reason>, Option<Outcome>) {
    let (settled, outcomes) = mpsc::channel();
    let service = ServiceBuilder::new()
        .layer(BufferLayer::new(Config::new(1 << 20, Budget::new(1 << 20, 1))))
        .layer(ModelLayer::new(Keys::default()))
        .layer(MeterLayer::new(move |request: &Request<Held>| {
            let (settled, asked) = (settled.clone(), request.extensions().get::<ModelRequest>()?);
            let plan = Plan::new(move |outcome| settled.send(outcome).unwrap()).expect(Terminal::Done);
            Some(plan.strip(!asked.asked_usage))
        }))
        .service(service_fn(backend));
    let request = Request::post(path).body(Full::from(body)).unwrap();
    let got = async {
        let body = service.oneshot(request).await?.into_body().collect().await?;
        Ok::<_, Rejection>(String::from_utf8(body.to_bytes().into()).unwrap())
    };
    let got = got.await.map_err(|rejection| rejection.reason());
    (got, outcomes.try_recv().ok())
}

/// Each is metered or refused. What the backend does not tell is estimated, and not nothing.
#[tokio::test]
async fn no_client_switches_usage_off() {
    let of = |rest: &str| format!(r#"{{"model":"m"{rest}}}"#);
    for (rest, completion, sees) in [
        ("", 2, true),
        (r#","n":3"#, 6, true),
        (r#","service_tier":"auto","background":false"#, 2, true),
        (r#","stream":true"#, 2, false),
        (r#","stream":true,"n":4"#, 8, false),
        (r#","stream":true,"stream_options":null"#, 2, false),
        (r#","stream":true,"stream_options":{}"#, 2, false),
        (r#","stream":true,"stream_options":{"include_usage":false}"#, 2, false),
        (r#","stream":true,"stream_options":{"include_usage":null}"#, 2, false),
        (r#","stream":true,"stream_options":{"include_usage":true}"#, 2, true),
    ] {
        let (got, outcome) = metered("/", of(rest)).await;
        let usage = outcome.unwrap().usage.unwrap();
        assert_eq!((usage.prompt, usage.completion), (7, completion), "{rest}");
        assert_eq!(got.unwrap().contains("prompt_tokens"), sees, "{rest}");

        let (_, outcome) = metered("/silent", of(rest)).await;
        let outcome = outcome.unwrap();
        let estimate = Learned::default().completion().tokens(outcome.content_bytes);
        assert_eq!((outcome.reported(), outcome.end), (false, End::Complete));
        assert_eq!(
            (estimate, outcome.estimated_completion()),
            (completion, completion),
            "{rest}"
        );

        let (got, outcome) = metered("/gzip", of(rest)).await;
        assert_eq!(got, Err(Reason::UpstreamFailed), "what is encoded cannot be metered");
        assert_eq!(outcome.unwrap().end, End::Failed(Reason::UpstreamFailed));
    }
    for (body, reason) in [
        (of(r#","stream":true,"stream":false"#), Reason::MalformedBody),
        (of(r#","stream":true,"str\u0065am":false"#), Reason::MalformedBody),
        (
            of(r#","stream_options":{"include_usage":true,"include_usage":false}"#),
            Reason::MalformedBody,
        ),
        (
            of(r#","stream_options":{"include_usage":true},"stream_options":{}"#),
            Reason::MalformedBody,
        ),
        (of(r#","n":1,"n":9"#), Reason::MalformedBody),
        (of(r#","service_tier":"priority""#), Reason::UnsupportedParameter),
        (of(r#","background":true"#), Reason::UnsupportedParameter),
        (
            r#"{"model":"m","stream":true,"messages":[{"role":"user""#.to_owned(),
            Reason::MalformedBody,
        ),
        (r#"{"model":"m","stream":true}}"#.to_owned(), Reason::MalformedBody),
    ] {
        let (got, outcome) = metered("/", body.clone()).await;
        assert_eq!((got, outcome.is_none()), (Err(reason), true), "{body}");
    }
}

// === streams that die ===

/// How an answer goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The connection breaks.
    Cut,
    /// Nothing comes any more.
    Stall,
    /// The JSON stops in its midst, and the body ends as if that were all.
    BrokenJson,
    ErrorEvent,
    /// The backend's own 429, within an answer that began as a 200.
    LimitedInside,
    /// The body ends without the event that says it is complete.
    NoDone,
}

const FAULTS: [Fault; 6] = [
    Fault::Cut,
    Fault::Stall,
    Fault::BrokenJson,
    Fault::ErrorEvent,
    Fault::LimitedInside,
    Fault::NoDone,
];

/// Yields its pieces, then fails, ends or hangs.
struct Dying {
    pieces: VecDeque<&'static str>,
    fault: Fault,
}

impl Body for Dying {
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece.as_bytes())))));
        }
        match self.fault {
            Fault::Cut => Poll::Ready(Some(Err(Reason::UpstreamFailed.into()))),
            Fault::Stall => Poll::Pending,
            _ => Poll::Ready(None),
        }
    }
}

const ROLE: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const CONTENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn streamed(fault: Fault, after_content: bool) -> VecDeque<&'static str> {
    let mut pieces = VecDeque::from([if after_content { CONTENT } else { ROLE }]);
    match fault {
        Fault::Cut | Fault::Stall | Fault::NoDone => {}
        Fault::BrokenJson => pieces.push_back("data: {\"choices\":[{\"del"),
        Fault::ErrorEvent => pieces.extend(["data: {\"error\":{\"message\":\"out of memory\"}}\n\n", DONE]),
        Fault::LimitedInside => pieces.push_back("event: error\ndata: {\"error\":{\"code\":429}}\n\n"),
    }
    pieces
}

/// What the client got, whether its connection was cut, and what the meter settled.
async fn seen(body: Dying, stream: bool) -> (String, bool, Outcome) {
    let (settled, outcomes) = mpsc::channel();
    let (kind, terminal) = if stream {
        ("text/event-stream", Terminal::Done)
    } else {
        ("application/json", Terminal::None)
    };
    let body = std::sync::Mutex::new(Some(body));
    let limits = Timeouts {
        streamed: stream,
        idle: Some(Duration::from_secs(5)),
        total: Some(Duration::from_mins(1)),
        ..Timeouts::default()
    };
    let service = ServiceBuilder::new()
        .layer(RespondLayer::new(OpenAi::default()))
        .layer(MeterLayer::new(move |_: &Request<()>| {
            let settled = settled.clone();
            Some(Plan::new(move |outcome| settled.send(outcome).unwrap()).expect(terminal))
        }))
        .layer(TimeoutLayer::new(move |_: &Extensions| limits))
        .service(service_fn(move |_: Request<()>| {
            let body = body.lock().unwrap().take().unwrap();
            async move { Ok::<_, Rejection>(Response::builder().header("content-type", kind).body(body).unwrap()) }
        }));
    let response = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "the head is out");
    let (mut body, mut text, mut cut) = (response.into_body(), String::new(), false);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()),
            Err(_) => cut = true,
        }
    }
    let outcome = outcomes.recv().unwrap();
    assert!(outcomes.try_recv().is_err(), "settled once");
    (text, cut, outcome)
}

#[tokio::test(start_paused = true)]
async fn no_stream_dies_as_a_clean_200() {
    for fault in FAULTS {
        for after_content in [false, true] {
            let pieces = streamed(fault, after_content);
            let sent: String = pieces.iter().copied().collect();
            let (text, cut, outcome) = seen(Dying { pieces, fault }, true).await;
            let case = format!("{fault:?}, after content: {after_content}: {text}");
            assert!(matches!(outcome.end, End::Failed(_)), "{case}");
            assert!(text.starts_with(&sent), "{case}");
            assert_eq!(outcome.content_bytes, if after_content { 2 } else { 0 }, "{case}");
            // An error that the backend told itself is passed on and not told twice; the cut is to come all the same,
            // unless it said `[DONE]` too.
            let told = matches!(fault, Fault::ErrorEvent | Fault::LimitedInside);
            assert_eq!((cut, text == sent), (fault != Fault::ErrorEvent, told), "{case}");
            if !told {
                let (_, last) = text.trim_end().rsplit_once("\n\n").unwrap();
                assert!(last.starts_with("data: {\"error\":{") && last.ends_with("}}"), "{case}");
                assert!(!text.contains("[DONE]"), "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_unstreamed_answer_that_breaks_looks_whole() {
    for fault in [Fault::Cut, Fault::Stall] {
        for pieces in [&[][..], &["{\"choices\":[{\"message\":{\"content\":\"Hi"]] {
            let body = Dying {
                pieces: pieces.iter().copied().collect(),
                fault,
            };
            let (text, cut, outcome) = seen(body, false).await;
            assert_eq!((text, cut), (pieces.concat(), true), "{fault:?}");
            assert!(matches!(outcome.end, End::Failed(_)), "{fault:?}");
        }
    }
    // What came is not nothing, also where no usage did.
    let pieces = VecDeque::from(["{\"choices\":[{\"message\":{\"content\":\"Hello there\"}}],\"usa"]);
    let (_, cut, outcome) = seen(
        Dying {
            pieces,
            fault: Fault::BrokenJson,
        },
        false,
    )
    .await;
    assert!(cut && outcome.end == End::Failed(Reason::UpstreamFailed));
    assert!(!outcome.reported() && outcome.estimated_completion() == 3);
}

// === a throttled client's bodies ===

/// A megabyte that counts how often it is asked for.
struct Large(Arc<AtomicU32>, bool);

impl Body for Large {
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let first = !std::mem::replace(&mut self.1, true);
        Poll::Ready(first.then(|| Ok(Frame::data(Bytes::from(vec![b'x'; 1 << 20])))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_client_fills_no_memory() {
    let (budget, read) = (Budget::new(8 << 20, 4), Arc::new(AtomicU32::new(0)));
    let held = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = held.clone();
    let service = ServiceBuilder::new()
        .layer(RateLimitLayer::new(Buckets::new(), |_: &Extensions| {
            Picks::from_iter([("throttled", 5)])
        }))
        .layer(BufferLayer::new(
            Config::new(2 << 20, budget.clone()).with_owner(|_: &http::request::Parts| Some(7)),
        ))
        .service(service_fn(move |request: Request<Held>| {
            // As slow as can be: it holds on to every body.
            keep.lock().unwrap().push(request.into_body());
            async { Ok::<_, Rejection>(Response::new(Full::<Bytes>::default())) }
        }));
    let mut reasons = Vec::new();
    for _ in 0..1000 {
        let request = Request::new(Large(read.clone(), false));
        if let Err(rejection) = service.clone().oneshot(request).await {
            reasons.push(rejection.reason());
        }
    }
    assert_eq!(
        held.lock().unwrap().len(),
        2,
        "a quarter of the budget is the owner's share"
    );
    assert_eq!((budget.used(), budget.used_by(7)), (2 << 20, 2 << 20));
    let count = |reason| reasons.iter().filter(|one| **one == reason).count();
    // Refused for want of room, a request counts as not made: so it is the budget that refuses on.
    assert_eq!(
        (count(Reason::Overloaded) + count(Reason::Rpm), reasons.len()),
        (998, 998)
    );
    held.lock().unwrap().clear();
    assert_eq!(budget.used(), 0);

    // With the limit used up, bodies are not even asked for.
    for _ in 0..5 {
        drop(service.clone().oneshot(Request::new(Large(read.clone(), false))).await);
        held.lock().unwrap().clear();
    }
    let before = read.load(Ordering::Relaxed);
    for _ in 0..1000 {
        let refused = service.clone().oneshot(Request::new(Large(read.clone(), false))).await;
        assert_eq!(refused.err().unwrap().reason(), Reason::Rpm);
    }
    assert_eq!((read.load(Ordering::Relaxed), budget.used()), (before, 0));
}
