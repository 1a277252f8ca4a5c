//! Drives the public layers without a runtime: nothing here ever waits.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body::{Body, Frame};
use tollgate_layers::Rejection;
use tollgate_layers::buffer::Held;
use tollgate_layers::meter::{MeterLayer, Outcome, Plan, Terminal};
use tollgate_layers::model::{Keys, ModelLayer, ModelRequest};
use tower_layer::Layer;
use tower_service::Service;

/// A body that yields its chunks and ends.
#[derive(Clone)]
pub struct Chunks(pub VecDeque<Bytes>);

/// What of an outcome does not depend on the clock.
#[derive(Debug, PartialEq)]
pub struct Metered {
    /// What reached the client.
    pub out: Vec<u8>,
    /// What the meter said.
    pub told: String,
    /// Whether the body failed.
    pub failed: bool,
}

/// A service that answers with one response.
#[derive(Clone)]
struct Answer<B>(&'static str, B);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }
}

impl<B: Clone> Service<Request<()>> for Answer<B> {
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Ready<Result<Response<B>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let response = Response::builder().header(CONTENT_TYPE, self.0).body(self.1.clone());
        ready(Ok(response.expect("a response")))
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// Cuts `text` where `cuts` say, each a step from the one before.
pub fn cut(text: &[u8], cuts: &[u8]) -> VecDeque<Bytes> {
    let (mut rest, mut chunks) = (Bytes::copy_from_slice(text), VecDeque::new());
    let mut steps = cuts.iter().cycle().map(|step| usize::from(*step) + 1);
    while !rest.is_empty() {
        let step = steps.next().map_or(rest.len(), |step| step.min(rest.len()));
        chunks.push_back(rest.split_to(step));
    }
    chunks
}

/// Lets an answer of `kind` pass a meter in these chunks.
pub fn meter(kind: &'static str, strip: bool, terminal: Terminal, chunks: VecDeque<Bytes>) -> Metered {
    let told = Rc::new(RefCell::new(None));
    let teller = told.clone();
    let policy = move |_: &Request<()>| {
        let teller = teller.clone();
        let sink = move |outcome: Outcome| {
            let again = teller.replace(Some(outcome));
            assert!(again.is_none(), "settled twice");
        };
        Some(Plan::new(sink).strip(strip).expect(terminal))
    };
    let mut service = MeterLayer::new(policy).layer(Answer(kind, Chunks(chunks)));
    let response = now(service.call(Request::new(())));
    let mut metered = Metered {
        out: Vec::new(),
        told: String::new(),
        failed: response.is_err(),
    };
    if let Ok(response) = response {
        let mut body = pin!(response.into_body());
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match body.as_mut().poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => metered.out.extend_from_slice(frame.data_ref().expect("data")),
                Poll::Ready(Some(Err(_))) => metered.failed = true,
                Poll::Ready(None) => break,
                Poll::Pending => panic!("it waits"),
            }
        }
    }
    let outcome = told.take().expect("settled once");
    // It settles at the event that completes a stream: what still follows goes on, and is not in the count.
    assert!(outcome.bytes_out <= metered.out.len() as u64);
    metered.told = format!(
        "{:?} {:?} {} {} {} {}",
        outcome.usage,
        outcome.end,
        outcome.saw_done,
        outcome.saw_error_event,
        outcome.saw_finish_reason,
        outcome.content_bytes
    );
    metered
}

/// What the model layer reads from a body of this type.
pub fn asked(kind: &str, body: Bytes) -> Result<ModelRequest, Rejection> {
    #[derive(Clone)]
    struct Read;

    impl Service<Request<Held>> for Read {
        type Response = ModelRequest;
        type Error = Infallible;
        type Future = Ready<Result<ModelRequest, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, mut request: Request<Held>) -> Self::Future {
            ready(Ok(request.extensions_mut().remove().expect("set by the layer")))
        }
    }

    let request = Request::builder().header(CONTENT_TYPE, kind).body(Held::from(body));
    let mut service = ModelLayer::new(Keys::default()).layer(Read);
    now(service.call(request.expect("a request")))
}
