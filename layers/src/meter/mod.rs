//! Metering what a backend's answer says it used, while the answer passes.
//!
//! The layer reads along: the bytes go on as they came, chunk by chunk, and nothing is kept but the usage. A [`Policy`]
//! says for each request whether to meter it and hands over a [`Sink`], which is told the [`Outcome`] exactly once:
//! at the end of the answer, at an error, when the client has gone and the answer is dropped, and when the service
//! panics.
//!
//! What can be changed on the way is one thing: the event that a stream carries because usage was asked for although
//! the client had not ([`Plan::strip`]). And one thing is added: a stream that ends without saying that it is complete
//! ([`Terminal`]), or a JSON answer that is cut, ends here with an error, so that what broke never looks finished.
//!
//! Where no usage comes, [`Learned`] says how many tokens the bytes of a prompt or of an answer are likely to be, from
//! what the model's other answers reported.
//!
//! It needs nothing from other layers, and stands around the single attempt, inside of whatever tries another backend.
//!
//! | when | error |
//! | --- | --- |
//! | an answer is encoded (Content-Encoding) although identity was asked | `upstream_failed`, in place of the answer |
//! | a stream ends before its [`Terminal`], or a JSON answer before its last brace | `upstream_failed`, from the body |
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::convert::Infallible;
//! use std::sync::mpsc;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate_layers::Reason;
//! use tollgate_layers::meter::{End, MeterLayer, Outcome, Plan};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let (settled, outcomes) = mpsc::channel();
//! let layer = MeterLayer::new(move |_: &Request<()>| {
//!     let settled = settled.clone();
//!     Some(Plan::new(move |outcome: Outcome| settled.send(outcome).expect("the test listens")))
//! });
//! let svc = layer.layer(service_fn(async |_: Request<()>| {
//!     let answer = Full::from(r#"{"usage":{"prompt_tokens":7,"completion_tokens":2}}"#);
//!     Ok::<_, Infallible>(Response::builder().header("content-type", "application/json").body(answer).unwrap())
//! }));
//!
//! svc.oneshot(Request::new(())).await.unwrap().into_body().collect().await.unwrap();
//! let usage = outcomes.recv().unwrap().usage.unwrap();
//! assert_eq!((usage.prompt, usage.completion, usage.total), (7, 2, 9));
//!
//! // What is encoded cannot be read along.
//! let svc = layer.layer(service_fn(async |_: Request<()>| {
//!     let answer = Response::builder().header("content-encoding", "gzip").body(Full::from("…"));
//!     Ok::<_, Infallible>(answer.unwrap())
//! }));
//! let refused = svc.oneshot(Request::new(())).await.err().expect("it is encoded");
//! assert_eq!(refused.reason(), Reason::UpstreamFailed);
//! assert_eq!(outcomes.recv().unwrap().end, End::Failed(Reason::UpstreamFailed));
//! # }
//! ```

mod body;
mod guard;
mod json;
mod learned;
mod sse;
mod usage;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use self::body::ResponseBody;
use self::guard::Guard;
pub use self::learned::{BytesPerToken, Learned};
pub use self::sse::Terminal;
pub use self::usage::Usage;
use crate::{Reason, Rejection};

/// Says for each request whether and how to meter it. Implemented for closures.
pub trait Policy<B> {
    /// What takes the outcome.
    type Sink: Sink;

    /// How to meter this request; `None` lets it pass untouched.
    fn plan(&self, request: &Request<B>) -> Option<Plan<Self::Sink>>;
}

/// Takes the outcome of one request. Implemented for closures.
pub trait Sink {
    /// Called once. It may be called from a drop, so it must not block and should not panic.
    fn settle(self, outcome: Outcome);
}

/// How one request is metered.
#[derive(Clone, Debug)]
pub struct Plan<K> {
    sink: K,
    strip: bool,
    terminal: Terminal,
}

/// What became of one request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What the backend said it used; `None` when it did not say.
    pub usage: Option<Usage>,
    /// How it ended.
    pub end: End,
    /// The answer's status, once there was one.
    pub status: Option<StatusCode>,
    /// Bytes of the answer that went on to the client.
    pub bytes_out: u64,
    /// From the call to the first byte of the answer's body.
    pub first_byte: Option<Duration>,
    /// From the call to this.
    pub elapsed: Duration,
    /// Whether `data: [DONE]` came.
    pub saw_done: bool,
    /// Whether the answer carried an error: an event of its stream, or the `error` of its JSON.
    pub saw_error_event: bool,
    /// Whether a stream named a `finish_reason`.
    pub saw_finish_reason: bool,
    /// Bytes of the answer's text as it stands in the JSON, to estimate from when no usage came.
    pub content_bytes: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The answer came to its end.
    Complete,
    /// The answer broke off, or said in band that it failed; or the service panicked (`internal`).
    Failed(Reason),
    /// The answer, or the wait for it, was dropped: the client has gone.
    Disconnected,
    /// There was no answer but this error.
    Refused(Reason),
}

/// Meters answers. See the [module](self).
#[derive(Clone, Debug)]
pub struct MeterLayer<P> {
    policy: P,
}

/// The service made by [`MeterLayer`].
#[derive(Clone, Debug)]
pub struct Meter<S, P> {
    inner: S,
    policy: P,
}

pin_project! {
    /// The future of [`Meter`].
    pub struct ResponseFuture<F, K: Sink> {
        #[pin]
        inner: F,
        guard: Option<Guard<K>>,
    }
}

// === impl Policy, Sink ===

impl<F, B, K> Policy<B> for F
where
    F: Fn(&Request<B>) -> Option<Plan<K>>,
    K: Sink,
{
    type Sink = K;

    fn plan(&self, request: &Request<B>) -> Option<Plan<K>> {
        self(request)
    }
}

impl<F: FnOnce(Outcome)> Sink for F {
    fn settle(self, outcome: Outcome) {
        self(outcome);
    }
}

// === impl Plan ===

impl<K: Sink> Plan<K> {
    /// Meters into `sink`, strips nothing and lets a stream end as it likes.
    pub fn new(sink: K) -> Self {
        Self {
            sink,
            strip: false,
            terminal: Terminal::None,
        }
    }

    /// Takes the event with `choices: []` and a usage object out of a stream: usage was asked for, but not by the client.
    pub fn strip(mut self, strip: bool) -> Self {
        self.strip = strip;
        self
    }

    /// What a stream must have said when it ends.
    pub fn expect(mut self, terminal: Terminal) -> Self {
        self.terminal = terminal;
        self
    }
}

// === impl Outcome ===

impl Outcome {
    /// Whether the usage is the backend's own word.
    pub fn reported(&self) -> bool {
        self.usage.is_some()
    }

    /// Tokens of the answer by its bytes, four to a token and never 0, for when usage was not reported. [`Learned`] knows
    /// better.
    pub fn estimated_completion(&self) -> u64 {
        self.content_bytes.div_ceil(4).max(1)
    }
}

// === impl MeterLayer, Meter ===

impl<P> MeterLayer<P> {
    /// A layer that meters as `policy` says.
    pub fn new(policy: P) -> Self {
        Self { policy }
    }
}

impl<S, P: Clone> Layer<S> for MeterLayer<P> {
    type Service = Meter<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Meter {
            inner,
            policy: self.policy.clone(),
        }
    }
}

impl<S, P, Q, B> Service<Request<Q>> for Meter<S, P>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Error: Into<Rejection>,
    P: Policy<Q>,
    B: Body<Data = Bytes>,
    B::Error: Into<Rejection>,
{
    type Response = Response<ResponseBody<B, P::Sink>>;
    type Error = Rejection;
    type Future = ResponseFuture<S::Future, P::Sink>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Request<Q>) -> Self::Future {
        let mut guard = self.policy.plan(&req).map(Guard::new);
        let inner = guard::watched(&mut guard, || self.inner.call(req));
        ResponseFuture { inner, guard }
    }
}

impl<F, B, E, K> Future for ResponseFuture<F, K>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Rejection>,
    K: Sink,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B, K>>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let inner = this.inner;
        let answer = ready!(guard::watched(this.guard, || inner.poll(cx))).map_err(Into::into);
        let Some(mut guard) = this.guard.take() else {
            return Poll::Ready(answer.map(|response| response.map(ResponseBody::unmetered)));
        };
        match answer {
            Err(rejection) => {
                guard.settle(End::Refused(rejection.reason()));
                Poll::Ready(Err(rejection))
            }
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                if let Err(rejection) = guard.head(&mut head) {
                    guard.settle(End::Failed(rejection.reason()));
                    return Poll::Ready(Err(rejection));
                }
                let body = ResponseBody::metered(body, guard, &head.headers);
                Poll::Ready(Ok(Response::from_parts(head, body)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
