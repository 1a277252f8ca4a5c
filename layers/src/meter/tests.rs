#![expect(clippy::unwrap_used, reason = "tests")]

mod durable;
mod growth;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tower::{ServiceExt, service_fn};

use super::*;

const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n";

/// What a scripted body does next.
#[derive(Clone)]
enum Step {
    Data(&'static str),
    Fail(Reason),
    Panic,
    Pend,
}

struct Script(VecDeque<Step>);

impl Body for Script {
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        Poll::Ready(match self.0.pop_front() {
            Some(Step::Data(text)) => Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))),
            Some(Step::Fail(reason)) => Some(Err(reason.into())),
            Some(Step::Panic) => panic!("scripted"),
            Some(Step::Pend) => return Poll::Pending,
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

type Metered = Response<ResponseBody<Script, Box<dyn FnOnce(Outcome) + Send>>>;

/// Calls a service that answers with `steps`, stripping and expecting `[DONE]`.
async fn stream(steps: &[Step]) -> (Metered, Receiver<Outcome>) {
    let (sender, outcomes) = channel();
    let policy = move |_: &Request<()>| {
        let sender = sender.clone();
        let sink: Box<dyn FnOnce(Outcome) + Send> = Box::new(move |outcome| sender.send(outcome).unwrap());
        Some(Plan::new(sink).strip(true).expect(Terminal::Done))
    };
    let steps: VecDeque<Step> = steps.iter().cloned().collect();
    let svc = MeterLayer::new(policy).layer(service_fn(move |_: Request<()>| {
        let body = Script(steps.clone());
        async {
            Ok::<_, Infallible>(
                Response::builder()
                    .header(CONTENT_TYPE, "text/event-stream")
                    .body(body)
                    .unwrap(),
            )
        }
    }));
    (svc.oneshot(Request::new(())).await.unwrap(), outcomes)
}

fn only(outcomes: &Receiver<Outcome>) -> Outcome {
    let outcome = outcomes.try_recv().unwrap();
    assert!(outcomes.try_recv().is_err(), "settled more than once");
    outcome
}

async fn read(metered: Metered) -> (String, Option<Reason>) {
    let mut body = metered.into_body();
    let mut out = String::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => out.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()),
            Err(rejection) => return (out, Some(rejection.reason())),
        }
    }
    assert!(body.is_end_stream());
    (out, None)
}

#[tokio::test]
async fn a_whole_stream_is_metered_and_stripped() {
    let (metered, outcomes) = stream(&[Step::Data(TEXT), Step::Data(USAGE), Step::Data(DONE)]).await;
    assert_eq!(read(metered).await, (format!("{TEXT}{DONE}"), None));
    let outcome = only(&outcomes);
    assert_eq!(outcome.end, End::Complete);
    assert_eq!(outcome.usage.unwrap().total, 9);
    assert_eq!(outcome.bytes_out, (TEXT.len() + DONE.len()) as u64);
    assert_eq!((outcome.content_bytes, outcome.estimated_completion()), (5, 2));
    assert!(outcome.reported() && outcome.saw_done && !outcome.saw_error_event && outcome.first_byte.is_some());
    assert_eq!(outcome.status, Some(StatusCode::OK));
}

#[tokio::test]
async fn a_stream_that_dies_as_a_clean_200_fails() {
    let (metered, outcomes) = stream(&[Step::Data(TEXT), Step::Data("data: {\"id\":")]).await;
    assert_eq!(
        read(metered).await,
        (format!("{TEXT}data: {{\"id\":"), Some(Reason::UpstreamFailed))
    );
    assert_eq!(only(&outcomes).end, End::Failed(Reason::UpstreamFailed));
}

#[tokio::test]
async fn an_error_event_is_a_failure_even_before_done() {
    let (metered, outcomes) = stream(&[Step::Data("data: {\"error\":{}}\n\n"), Step::Data(DONE)]).await;
    assert_eq!(read(metered).await.1, None, "the backend said all it had to say");
    let outcome = only(&outcomes);
    assert_eq!(
        (outcome.end, outcome.saw_error_event),
        (End::Failed(Reason::UpstreamFailed), true)
    );
}

#[tokio::test]
async fn an_error_of_the_body_settles_and_passes_on() {
    let (metered, outcomes) = stream(&[Step::Data("data: {"), Step::Fail(Reason::IdleTimeout)]).await;
    assert_eq!(read(metered).await, ("data: {".to_owned(), Some(Reason::IdleTimeout)));
    assert_eq!(only(&outcomes).end, End::Failed(Reason::IdleTimeout));
}

#[tokio::test]
async fn a_client_that_leaves_is_settled_with_what_came() {
    for (steps, read, end, usage) in [
        (vec![Step::Pend], 0, End::Disconnected, false),
        (vec![Step::Data(TEXT), Step::Pend], 1, End::Disconnected, false),
        (
            vec![Step::Data(USAGE), Step::Data(TEXT), Step::Pend],
            1,
            End::Disconnected,
            true,
        ),
        (
            vec![Step::Data(USAGE), Step::Data(DONE), Step::Pend],
            1,
            End::Complete,
            true,
        ),
    ] {
        let (metered, outcomes) = stream(&steps).await;
        let mut body = metered.into_body();
        for _ in 0..read {
            body.frame().await.unwrap().unwrap();
        }
        let early = outcomes.try_recv().ok();
        assert_eq!(
            early.is_some(),
            end == End::Complete,
            "the end is settled before it goes on"
        );
        drop(body);
        let outcome = early.unwrap_or_else(|| outcomes.try_recv().unwrap());
        assert_eq!((outcome.end, outcome.reported()), (end, usage));
        assert!(outcomes.try_recv().is_err(), "settled more than once");
    }
}

#[tokio::test]
async fn a_panic_of_the_body_settles_whether_it_unwinds_through_or_is_caught() {
    let (metered, outcomes) = stream(&[Step::Data(TEXT), Step::Panic]).await;
    let mut body = metered.into_body();
    body.frame().await.unwrap().unwrap();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut pinned = Pin::new(&mut body);
    std::panic::catch_unwind(AssertUnwindSafe(|| pinned.as_mut().poll_frame(&mut cx).is_ready())).unwrap_err();
    drop(body);
    assert_eq!(only(&outcomes).end, End::Failed(Reason::Internal));
}

type Kind = Result<Response<Full<Bytes>>, Rejection>;

/// Calls a service that answers with `answer`, or panics for `None`.
async fn plain(answer: Option<Kind>) -> (Result<(), Reason>, Receiver<Outcome>) {
    let (sender, outcomes) = channel();
    let policy = move |_: &Request<()>| {
        let sender = sender.clone();
        Some(Plan::new(move |outcome| sender.send(outcome).unwrap()).expect(Terminal::Done))
    };
    let svc = MeterLayer::new(policy).layer(service_fn(move |_: Request<()>| {
        let answer = answer.clone();
        async { answer.expect("scripted") }
    }));
    let run = tokio::spawn(async move {
        let response = svc.oneshot(Request::new(())).await?;
        // As a server does that knows the length: no read past the last byte.
        let mut body = response.into_body();
        while !body.is_end_stream() {
            body.frame().await.unwrap()?;
        }
        Ok::<_, Rejection>(())
    });
    (
        run.await.map_or(Err(Reason::Internal), |result| {
            result.map_err(|rejection| rejection.reason())
        }),
        outcomes,
    )
}

fn json(text: &'static str) -> http::response::Builder {
    Response::builder()
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .header(CONTENT_LENGTH, text.len())
}

#[tokio::test]
async fn a_json_answer_is_settled_by_its_last_byte() {
    let text = r#"{"choices":[{"message":{"content":"Hello"}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
    let (result, outcomes) = plain(Some(Ok(json(text).body(Full::from(text)).unwrap()))).await;
    result.unwrap();
    let outcome = only(&outcomes);
    assert_eq!((outcome.end, outcome.usage.unwrap().prompt), (End::Complete, 7));
    assert_eq!((outcome.content_bytes, outcome.bytes_out), (5, text.len() as u64));
}

#[tokio::test]
async fn a_json_answer_that_is_cut_or_an_error_fails_whatever_its_length_says() {
    let failed = End::Failed(Reason::UpstreamFailed);
    for (text, cut, content) in [
        (r#"{"choices":[{"message":{"content":"Hello"}}],"usa"#, true, 5),
        ("", true, 0),
        (r#"{"error":{"message":"out of memory"}}"#, false, 0),
        (
            r#"{"choices":[{"message":{"content":"Hello"}}],"error":"cut short"}"#,
            false,
            5,
        ),
    ] {
        for length in [true, false] {
            let mut answer = json(text);
            if !length {
                answer.headers_mut().unwrap().remove(CONTENT_LENGTH);
            }
            let (result, outcomes) = plain(Some(Ok(answer.body(Full::from(text)).unwrap()))).await;
            assert_eq!(result.is_err(), cut, "{text}");
            let outcome = only(&outcomes);
            assert_eq!((outcome.end, outcome.content_bytes), (failed, content), "{text}");
            assert_eq!(outcome.saw_error_event, !cut);
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_success_has_no_usage() {
    let text = r#"{"usage":{"prompt_tokens":7}}"#;
    let (result, outcomes) = plain(Some(Ok(json(text).status(400).body(Full::from(text)).unwrap()))).await;
    result.unwrap();
    let outcome = only(&outcomes);
    assert_eq!(
        (outcome.end, outcome.usage, outcome.status),
        (End::Complete, None, Some(StatusCode::BAD_REQUEST))
    );
}

#[tokio::test]
async fn an_encoded_answer_is_refused() {
    let response = json("x")
        .header(CONTENT_ENCODING, "gzip")
        .body(Full::from("x"))
        .unwrap();
    let (result, outcomes) = plain(Some(Ok(response))).await;
    assert_eq!(result, Err(Reason::UpstreamFailed));
    assert_eq!(only(&outcomes).end, End::Failed(Reason::UpstreamFailed));
}

#[tokio::test]
async fn an_error_before_the_head_and_a_panic_settle() {
    let (result, outcomes) = plain(Some(Err(Reason::ConnectTimeout.into()))).await;
    assert_eq!(result, Err(Reason::ConnectTimeout));
    assert_eq!(only(&outcomes).end, End::Refused(Reason::ConnectTimeout));
    let (result, outcomes) = plain(None).await;
    assert_eq!(result, Err(Reason::Internal));
    assert_eq!(only(&outcomes).end, End::Failed(Reason::Internal));
}

#[tokio::test]
async fn a_wait_that_is_dropped_settles() {
    let (sender, outcomes) = channel();
    let policy = move |_: &Request<()>| {
        let sender = sender.clone();
        Some(Plan::new(move |outcome| sender.send(outcome).unwrap()))
    };
    let mut svc = MeterLayer::new(policy).layer(service_fn(|_: Request<()>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    }));
    drop(svc.call(Request::new(())));
    let outcome = only(&outcomes);
    assert_eq!((outcome.end, outcome.status), (End::Disconnected, None));
}

/// Counts characters.
struct Characters(u64);

impl Tokenizer for Characters {
    fn counter(&self) -> Box<dyn CountTokens> {
        Box::new(Characters(0))
    }
}

impl CountTokens for Characters {
    fn feed(&mut self, part: &str) {
        self.0 += part.chars().count() as u64;
    }

    fn finish(&mut self) -> u64 {
        std::mem::take(&mut self.0)
    }
}

/// What an answer in these chunks comes to, when its text is counted; `None` when there is nothing to count.
async fn counted(kind: &'static str, chunks: Vec<Bytes>) -> Option<u64> {
    let pool = CountPool::new(1, 1024).unwrap();
    let tokenizer: Arc<dyn Tokenizer> = Arc::new(Characters(0));
    let (sender, outcomes) = channel();
    let policy = move |_: &Request<()>| {
        let sender = sender.clone();
        let sink = move |outcome| sender.send(outcome).unwrap();
        Some(Plan::new(sink).count(pool.start(&tokenizer)))
    };
    let svc = MeterLayer::new(policy).layer(service_fn(async |_: Request<()>| {
        let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(chunks.len() + 1);
        for chunk in &chunks {
            sender.try_send(Frame::data(chunk.clone())).unwrap();
        }
        Ok::<_, Infallible>(Response::builder().header(CONTENT_TYPE, kind).body(body).unwrap())
    }));
    let answer = svc.oneshot(Request::new(())).await.unwrap();
    answer.into_body().collect().await.unwrap();
    let (teller, counts) = channel();
    only(&outcomes).counted?.then(move |count| teller.send(count).unwrap());
    Some(counts.recv().unwrap().expect("there is room in the queue"))
}

#[tokio::test]
async fn an_answer_without_usage_is_counted_however_it_is_cut() {
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"H\u{e9}\\n\\ud83d\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"\\ude42\u{1f642}\"}}]}\n\ndata: [DONE]\n\n";
    let json = r#"{"choices":[{"message":{"content":"Hé\n\ud83d\ude42"}},{"message":{"content":"🙂"}}]}"#;
    for (kind, text) in [("text/event-stream", stream), ("application/json", json)] {
        let text = Bytes::from(text);
        let cut = |at: usize| vec![text.slice(..at), text.slice(at..)];
        for at in 1..text.len() {
            assert_eq!(counted(kind, cut(at)).await, Some(5), "{kind} cut at {at}");
        }
        let bytes = (0..text.len()).map(|at| text.slice(at..=at)).collect();
        assert_eq!(counted(kind, bytes).await, Some(5));
    }
    // A line that is longer than what is gathered of one.
    let long = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(200_000)
    );
    let (left, right) = long.split_at(150_000);
    let chunks = vec![
        Bytes::copy_from_slice(left.as_bytes()),
        Bytes::copy_from_slice(right.as_bytes()),
    ];
    assert_eq!(counted("text/event-stream", chunks).await, Some(200_000));
}

#[tokio::test]
async fn an_answer_with_usage_and_one_without_text_have_no_count() {
    for (kind, text) in [("text/event-stream", USAGE), ("audio/mpeg", "x")] {
        assert_eq!(
            counted(kind, vec![Bytes::from_static(text.as_bytes())]).await,
            None,
            "{kind}"
        );
    }
    let silent = vec![Bytes::from_static(DONE.as_bytes())];
    assert_eq!(counted("text/event-stream", silent).await, Some(0));
}
