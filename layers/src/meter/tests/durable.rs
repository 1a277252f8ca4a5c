//! The charge is durable before the answer is complete: wherever a stream is cut, and however an answer ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::*;

/// Each dialect: what goes before, and the event that completes the stream.
const STREAMS: [(Terminal, &str, &str); 4] = [
    (
        Terminal::Done,
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n",
        DONE,
    ),
    (
        Terminal::Messages,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5}}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":2}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
    (
        Terminal::Responses,
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":2}}}\n\n",
    ),
    (
        Terminal::Responses,
        "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n",
        "data: {\"type\":\"response.incomplete\",\"response\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":2}}}\n\n",
    ),
];

const JSON: &str = r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;

type Commit = oneshot::Sender<Result<(), Reason>>;

/// A sink whose charge is durable when a test says so, or never when `done`.
struct Ledger {
    told: Arc<Mutex<Vec<Outcome>>>,
    durable: Option<oneshot::Receiver<Result<(), Reason>>>,
    gone: Gone,
}

/// Counts what waited and waits no more.
struct Gone(Arc<AtomicUsize>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Sink for Ledger {
    fn settle(self, outcome: Outcome) -> Settled {
        self.told.lock().unwrap().push(outcome);
        let gone = self.gone;
        match self.durable {
            None => Settled::done(),
            Some(durable) => Settled::after(async move {
                let _gone = gone;
                // Not the runtime's turn to say that it is another's.
                Ok(tokio::task::unconstrained(durable).await.unwrap()?)
            }),
        }
    }
}

/// What a test holds of it.
struct Books {
    told: Arc<Mutex<Vec<Outcome>>>,
    commit: Option<Commit>,
    gone: Arc<AtomicUsize>,
}

impl Books {
    /// The ledger, and the books of it.
    fn open() -> (Ledger, Self) {
        let (commit, durable) = oneshot::channel();
        let books = Self {
            told: Arc::default(),
            commit: Some(commit),
            gone: Arc::default(),
        };
        let ledger = Ledger {
            told: Arc::clone(&books.told),
            durable: Some(durable),
            gone: Gone(Arc::clone(&books.gone)),
        };
        (ledger, books)
    }

    fn settled(&self) -> usize {
        self.told.lock().unwrap().len()
    }

    /// How it ended, and the tokens.
    fn only(&self) -> (End, u64) {
        let told = self.told.lock().unwrap();
        assert_eq!(told.len(), 1);
        (told[0].end, told[0].usage.map_or(0, |usage| usage.total))
    }

    fn commit(&mut self, result: Result<(), Reason>) {
        self.commit.take().unwrap().send(result).unwrap();
    }
}

/// A body of given chunks; it knows which is the last, or not.
struct Pieces {
    left: VecDeque<Bytes>,
    knows: bool,
    fails: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        Poll::Ready(match self.left.pop_front() {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None if std::mem::take(&mut self.fails) => Some(Err(Reason::IdleTimeout.into())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.knows && self.left.is_empty()
    }
}

fn pieces(text: &str, cuts: &[usize]) -> Pieces {
    let text = Bytes::copy_from_slice(text.as_bytes());
    let ends = cuts.iter().copied().chain([text.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let left = starts.zip(ends).map(|(from, to)| text.slice(from..to));
    Pieces {
        left: left.filter(|piece| !piece.is_empty()).collect(),
        knows: false,
        fails: false,
    }
}

/// Every way to cut a text once, not at all, and everywhere.
fn cuts(text: &str) -> impl Iterator<Item = Vec<usize>> {
    (0..text.len()).map(|at| vec![at]).chain([(1..text.len()).collect()])
}

type Charged = Response<ResponseBody<Pieces, Ledger>>;

fn ask(
    method: Method,
    answer: Result<Response<Pieces>, Rejection>,
    terminal: Terminal,
    ledger: Ledger,
) -> impl Future<Output = Result<Charged, Rejection>> + Send {
    let plan = Arc::new(Mutex::new(Some(Plan::new(ledger).strip(true).expect(terminal))));
    let mut answer = Some(answer);
    let service = service_fn(move |_: Request<()>| std::future::ready(answer.take().unwrap()));
    let service = MeterLayer::new(move |_: &Request<()>| plan.lock().unwrap().take()).layer(service);
    service.oneshot(Request::builder().method(method).body(()).unwrap())
}

fn typed(kind: &str, body: Pieces) -> Response<Pieces> {
    Response::builder().header(CONTENT_TYPE, kind).body(body).unwrap()
}

async fn answered(response: Response<Pieces>, terminal: Terminal, ledger: Ledger) -> ResponseBody<Pieces, Ledger> {
    ask(Method::POST, Ok(response), terminal, ledger)
        .await
        .unwrap()
        .into_body()
}

async fn streamed(text: &str, cuts: &[usize], terminal: Terminal, ledger: Ledger) -> ResponseBody<Pieces, Ledger> {
    answered(typed("text/event-stream", pieces(text, cuts)), terminal, ledger).await
}

/// What comes without waiting, and how it ended, if it did.
fn readable(body: &mut ResponseBody<Pieces, Ledger>) -> (String, Option<Result<(), Reason>>) {
    let mut out = Vec::new();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let end = loop {
        if body.is_end_stream() {
            break Some(Ok(()));
        }
        match Pin::new(&mut *body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => out.extend_from_slice(frame.data_ref().unwrap()),
            Poll::Ready(Some(Err(rejection))) => break Some(Err(rejection.reason())),
            Poll::Ready(None) => break Some(Ok(())),
            Poll::Pending => break None,
        }
    };
    (String::from_utf8(out).unwrap(), end)
}

fn got(text: &str, end: Option<Result<(), Reason>>) -> (String, Option<Result<(), Reason>>) {
    (text.to_owned(), end)
}

#[tokio::test]
async fn the_terminal_event_waits_wherever_the_stream_is_cut() {
    for (terminal, head, end) in STREAMS {
        for eol in ["\n", "\r\n"] {
            let (head, end) = (head.replace('\n', eol), end.replace('\n', eol));
            let after = format!(": behind it{eol}");
            let text = [&*head, &*end, &*after].concat();
            for cut in cuts(&text) {
                let (ledger, mut books) = Books::open();
                let mut body = streamed(&text, &cut, terminal, ledger).await;
                assert_eq!(readable(&mut body), got(&head, None), "{terminal:?} at {cut:?}");
                assert_eq!(books.only(), (End::Complete, 7), "the usage stood before");
                books.commit(Ok(()));
                assert_eq!(
                    readable(&mut body),
                    got(&(end.clone() + &after), Some(Ok(()))),
                    "at {cut:?}"
                );
                drop(body);
                assert_eq!(books.settled(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_charge_that_cannot_be_written_leaves_the_stream_without_its_end() {
    for (terminal, head, end) in STREAMS {
        for cut in cuts(&[head, end].concat()) {
            let (ledger, mut books) = Books::open();
            let mut body = streamed(&[head, end].concat(), &cut, terminal, ledger).await;
            books.commit(Err(Reason::LedgerFull));
            assert_eq!(
                readable(&mut body),
                got(head, Some(Err(Reason::LedgerFull))),
                "{terminal:?} at {cut:?}"
            );
            assert_eq!(readable(&mut body), got("", Some(Ok(()))));
            assert_eq!(books.settled(), 1);
        }
    }
}

#[tokio::test]
async fn a_stream_whose_last_line_has_no_end_waits_too() {
    let text = format!("{TEXT}data: [DONE]");
    for cut in cuts(&text) {
        let (ledger, mut books) = Books::open();
        let mut body = streamed(&text, &cut, Terminal::Done, ledger).await;
        assert_eq!(readable(&mut body), got(TEXT, None), "at {cut:?}");
        books.commit(Ok(()));
        assert_eq!(readable(&mut body), got("data: [DONE]", Some(Ok(()))));
    }
}

#[tokio::test]
async fn of_a_terminal_event_too_large_to_hold_the_end_is_held() {
    let long = "x".repeat(5 * sse::HOLD_MAX);
    for name in ["event: response.completed\n", ""] {
        let text = format!(
            "{name}data: {{\"type\":\"response.completed\",\"response\":{{\"text\":\"{long}\",\"usage\":{{\"total_tokens\":7}}}}}}\n\n"
        );
        for size in [1, 1000, 30_000] {
            let (ledger, mut books) = Books::open();
            let cuts: Vec<usize> = (1..text.len()).filter(|at| at % size == 0).collect();
            let mut body = streamed(&text, &cuts, Terminal::Responses, ledger).await;
            let (before, end) = readable(&mut body);
            assert_eq!(end, None);
            assert!(
                text.len() - before.len() <= sse::HOLD_MAX + size,
                "{} held",
                text.len() - before.len()
            );
            assert!(!before.ends_with('\n') || before == name, "in chunks of {size}");
            assert_eq!(books.only().1, 7);
            books.commit(Ok(()));
            let (after, end) = readable(&mut body);
            assert_eq!((before + &after, end), got(&text, Some(Ok(()))));
        }
    }
}

#[tokio::test]
async fn a_stream_without_a_terminal_event_ends_only_when_it_is_charged() {
    for knows in [true, false] {
        let mut text = pieces(&[TEXT, TEXT].concat(), &[TEXT.len()]);
        text.knows = knows;
        let (ledger, mut books) = Books::open();
        let mut body = answered(typed("text/event-stream", text), Terminal::None, ledger).await;
        let known = if knows { TEXT } else { "" };
        let first = [TEXT, TEXT].concat();
        assert_eq!(readable(&mut body), got(first.strip_suffix(known).unwrap(), None));
        books.commit(Ok(()));
        assert_eq!(readable(&mut body), got(known, Some(Ok(()))));
        assert_eq!(books.settled(), 1);
    }
}

#[tokio::test]
async fn the_frame_that_completes_a_body_of_known_length_waits() {
    for by_length in [true, false] {
        for cut in cuts(JSON) {
            let (ledger, mut books) = Books::open();
            let mut response = typed("application/json", pieces(JSON, &cut));
            if by_length {
                response.headers_mut().insert(CONTENT_LENGTH, JSON.len().into());
            } else {
                response.body_mut().knows = true;
            }
            let mut body = answered(response, Terminal::Done, ledger).await;
            let (first, last) = JSON.split_at(*cut.last().unwrap());
            assert_eq!(readable(&mut body), got(first, None), "at {cut:?}");
            assert_eq!(books.only(), (End::Complete, 7));
            books.commit(Ok(()));
            assert_eq!(readable(&mut body), got(last, Some(Ok(()))));
        }
    }
}

#[tokio::test]
async fn json_of_unknown_length_waits_from_its_last_brace_on() {
    let text = format!("{JSON}\r\n");
    for cut in cuts(&text) {
        for result in [Ok(()), Err(Reason::LedgerFull)] {
            let (ledger, mut books) = Books::open();
            let mut body = answered(typed("application/json", pieces(&text, &cut)), Terminal::Done, ledger).await;
            assert_eq!(readable(&mut body), got(&JSON[..JSON.len() - 1], None), "at {cut:?}");
            books.commit(result);
            let rest = if result.is_ok() { "}\r\n" } else { "" };
            assert_eq!(readable(&mut body), got(rest, Some(result)));
            assert_eq!(books.settled(), 1);
        }
    }
}

#[tokio::test]
async fn json_that_goes_on_after_a_brace_is_not_kept_waiting() {
    let (ledger, mut books) = Books::open();
    let text = pieces("{\"a\":1}\n{\"b\":2}\n", &[7, 8, 9]);
    let mut body = answered(typed("application/x-ndjson", text), Terminal::None, ledger).await;
    assert_eq!(readable(&mut body), got("{\"a\":1}\n{\"b\":2", None));
    books.commit(Ok(()));
    assert_eq!(readable(&mut body), got("}\n", Some(Ok(()))));
    // What follows the last brace without end is not gathered without end.
    let (ledger, books) = Books::open();
    let text = format!("{{}}{}", " ".repeat(4 * sse::HOLD_MAX));
    let cuts: Vec<usize> = (1..text.len()).filter(|at| at % 1000 == 0).collect();
    let mut body = answered(typed("application/json", pieces(&text, &cuts)), Terminal::None, ledger).await;
    assert_eq!(readable(&mut body), got("{", None));
    assert_eq!(books.settled(), 1);
    assert!(body.guard_held() <= sse::HOLD_MAX + 1000);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_charged_once() {
    for json in [true, false] {
        let (ledger, books) = Books::open();
        let mut body = if json {
            answered(typed("application/json", pieces(JSON, &[])), Terminal::Done, ledger).await
        } else {
            streamed(&[TEXT, DONE].concat(), &[], Terminal::Done, ledger).await
        };
        assert_eq!(readable(&mut body).1, None);
        assert_eq!(books.gone.load(Ordering::Relaxed), 0);
        drop(body);
        assert_eq!((books.settled(), books.gone.load(Ordering::Relaxed)), (1, 1));
        assert!(books.commit.is_some_and(|commit| commit.is_closed()));
    }
}

/// The backend breaks off after all was said, but before the end: there is no end.
#[tokio::test]
async fn a_body_that_fails_does_not_get_its_end() {
    let mut text = pieces(JSON, &[]);
    text.fails = true;
    let (ledger, books) = Books::open();
    let mut body = answered(typed("application/json", text), Terminal::None, ledger).await;
    let cut = JSON.strip_suffix('}').unwrap();
    assert_eq!(readable(&mut body), got(cut, Some(Err(Reason::IdleTimeout))));
    let told = books.told.lock().unwrap();
    assert_eq!(
        (told[0].end, told[0].bytes_out),
        (End::Failed(Reason::IdleTimeout), cut.len() as u64)
    );
}

#[tokio::test]
async fn an_answer_without_a_body_waits_with_its_head() {
    let empty = || pieces("", &[]);
    for (method, status, length) in [
        (Method::POST, 204, None),
        (Method::POST, 200, Some("0")),
        (Method::POST, 500, Some("0")),
        (Method::HEAD, 200, Some("20")),
    ] {
        for result in [Ok(()), Err(Reason::LedgerFull)] {
            let (ledger, mut books) = Books::open();
            let mut response = Response::builder().status(status);
            if let Some(length) = length {
                response = response.header(CONTENT_LENGTH, length);
            }
            if method == Method::HEAD {
                response = response.header(CONTENT_TYPE, "application/json");
            }
            let mut body = empty();
            body.knows = length != Some("0");
            let answer = tokio::spawn(ask(
                method.clone(),
                Ok(response.body(body).unwrap()),
                Terminal::Done,
                ledger,
            ));
            tokio::task::yield_now().await;
            assert!(!answer.is_finished());
            assert_eq!(books.only(), (End::Complete, 0));
            books.commit(result);
            match answer.await.unwrap() {
                Ok(response) => assert!(result.is_ok() && response.body().is_end_stream()),
                Err(rejection) => {
                    assert_eq!(Err(rejection.reason()), result);
                    assert_eq!(rejection.should_retry(), Some(false));
                }
            }
            assert_eq!(books.settled(), 1);
        }
    }
}

#[tokio::test]
async fn an_error_after_a_charge_waits_and_is_not_to_be_tried_again() {
    for result in [Ok(()), Err(Reason::LedgerFull)] {
        let (ledger, mut books) = Books::open();
        books.commit(result);
        let refused = Err(Reason::FirstByteTimeout.into());
        let rejection = ask(Method::POST, refused, Terminal::Done, ledger).await.err().unwrap();
        assert_eq!(
            (rejection.reason(), rejection.should_retry()),
            (Reason::FirstByteTimeout, Some(false))
        );
    }
    let (mut ledger, _books) = Books::open();
    ledger.durable = None;
    let refused = ask(
        Method::POST,
        Err(Reason::FirstByteTimeout.into()),
        Terminal::Done,
        ledger,
    );
    assert_eq!(refused.await.err().unwrap().should_retry(), None, "nothing was charged");
}

/// Where nobody waits, the same memory goes on, in as many frames.
#[tokio::test]
async fn a_sink_that_is_done_at_once_costs_nothing() {
    for (kind, text) in [
        ("application/json", JSON.to_owned()),
        ("text/event-stream", [TEXT, DONE].concat()),
    ] {
        let (mut ledger, _books) = Books::open();
        ledger.durable = None;
        let mut whole = pieces(&text, &[]);
        whole.knows = kind == "application/json";
        let memory = whole.left[0].as_ptr();
        let mut body = answered(typed(kind, whole), Terminal::Done, ledger).await;
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((frame.as_ptr(), frame.len()), (memory, text.len()));
        assert!(body.frame().await.is_none());
    }
}
