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
//! The sink may want its charge written down before the answer is complete: it answers with [`Settled::after`], and what
//! completes the answer is held until that is done. Of a stream this is the event that [`Terminal`] names; of an answer of
//! known length, its last frame; of other JSON, all from its closing brace on; of an answer without a body, its head. Where
//! nothing tells the end beforehand, the end itself comes later. SDKs take the event for the end, whatever follows.
//!
//! And it may end a stream that must not grow on ([`Plan::grow`], [`Sink::more`]): in the stream's own dialect, as if the
//! client's cap on tokens were reached. The backend is let go of.
//!
//! Where no usage comes, [`Learned`] says how many tokens the bytes of a prompt or of an answer are likely to be, from
//! what the model's other answers reported. Of a backend that is known to send none, the text of answers can be counted
//! by a real tokenizer as it passes ([`Plan::count`]): in constant memory, on threads of their own ([`CountPool`]), and
//! never waited for. The feature `tokenizer` brings OpenAI's vocabularies (`Vocabulary`).
//!
//! It needs nothing from other layers, and stands around the single attempt, inside of whatever tries another backend.
//!
//! | when | error |
//! | --- | --- |
//! | an answer is encoded (Content-Encoding) although identity was asked | `upstream_failed`, in place of the answer |
//! | a stream ends before its [`Terminal`], or a JSON answer before its last brace | `upstream_failed`, from the body |
//! | what [`Settled::after`] waits for fails | the same, from the body; of an answer without one, in its place |
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
mod count;
mod cut;
mod guard;
mod json;
mod learned;
mod lengths;
mod parts;
mod settled;
mod sse;
mod usage;
#[cfg(feature = "tokenizer")]
mod vocabulary;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use self::body::ResponseBody;
pub use self::count::{Count, CountPool, CountTokens, Counted, Tokenizer};
use self::guard::Guard;
pub use self::learned::{BytesPerToken, Learned};
pub use self::settled::{More, Settled};
pub use self::sse::Terminal;
pub use self::usage::Usage;
#[cfg(feature = "tokenizer")]
pub use self::vocabulary::Vocabulary;
use crate::{Reason, Rejection};

/// Says for each request whether and how to meter it. Implemented for closures.
pub trait Policy<B> {
    /// What takes the outcome.
    type Sink: Sink;

    /// How to meter this request; `None` lets it pass untouched.
    fn plan(&self, request: &Request<B>) -> Option<Plan<Self::Sink>>;
}

/// Takes the outcome of one request. Implemented for closures, also for those that return nothing.
///
/// ```
/// use tollgate_layers::meter::{More, Outcome, Plan, Settled, Sink, Usage};
///
/// /// Charges by the token, and lets an answer grow until the money is spent.
/// struct Purse {
///     tokens_left: u64,
/// }
///
/// impl Sink for Purse {
///     fn settle(self, outcome: Outcome) -> Settled {
///         // Handed over here, waited for there.
///         let (written, durable) = tokio::sync::oneshot::channel::<()>();
///         std::thread::spawn(move || written.send(()));
///         Settled::after(async { durable.await.map_err(|_| tollgate_layers::Reason::LedgerFull.into()) })
///     }
///
///     fn more(&mut self, content_bytes: u64) -> More {
///         if content_bytes / 4 < self.tokens_left {
///             return More::Go;
///         }
///         let mut usage = Usage::default();
///         (usage.prompt, usage.completion) = (7, content_bytes / 4);
///         More::Stop(usage)
///     }
/// }
///
/// let plan = Plan::new(Purse { tokens_left: 500 }).grow(false);
/// # drop(plan);
/// ```
pub trait Sink {
    /// Called once. It may be called from a drop, so it must not block and should not panic.
    ///
    /// When it returns, the charge is on its way and needs nothing more from here: what it returned is polled where an
    /// answer is to be complete, and dropped where none will be (an answer that failed, a client that has gone, before or
    /// while it waits). An error in place of an answer waits like an answer, and tells SDKs not to try again by themselves.
    fn settle(self, outcome: Outcome) -> Settled;

    /// The stream has brought so many bytes of text, from its start, as they stand in the JSON: may it go on?
    ///
    /// Asked where [`Plan::grow`] wants it, before the text goes on, at most once a chunk, and only when there is new text.
    /// A stream of which nothing is open any more goes on to its end, whatever the answer.
    fn more(&mut self, content_bytes: u64) -> More {
        let _ = content_bytes;
        More::Go
    }
}

/// How one request is metered.
#[derive(Debug)]
pub struct Plan<K> {
    sink: K,
    strip: bool,
    terminal: Terminal,
    /// Whether the client is told the usage of a stream that is cut.
    grow: Option<bool>,
    count: Option<Count>,
}

/// What became of one request.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What the backend said it used; `None` when it did not say. Of an answer that was [cut short](Self::cut_short), what the
    /// sink itself said.
    pub usage: Option<Usage>,
    /// How it ended.
    pub end: End,
    /// The answer's status, once there was one.
    pub status: Option<StatusCode>,
    /// Bytes of the answer that went on to the client, or wait to.
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
    /// Whether the sink had the stream end before its end ([`More::Stop`]).
    pub cut_short: bool,
    /// The tokens of that text, when no usage came and the plan had it [counted](Plan::count).
    pub counted: Option<Counted>,
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
    pub struct ResponseFuture<F, K: Sink, B> {
        #[pin]
        inner: F,
        guard: Option<Guard<K>>,
        waiting: Option<Box<Waiting<K, B>>>,
    }
}

/// An answer without a body, or an error in place of one, that waits for its charge.
struct Waiting<K: Sink, B> {
    settled: Settled,
    answer: Answer<K, B>,
}

type Answer<K, B> = Result<Response<ResponseBody<B, K>>, Rejection>;

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

impl<F, R> Sink for F
where
    F: FnOnce(Outcome) -> R,
    R: Into<Settled>,
{
    fn settle(self, outcome: Outcome) -> Settled {
        self(outcome).into()
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
            grow: None,
            count: None,
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

    /// Asks the sink, as the text of a stream passes, whether it may go on ([`Sink::more`]). Streams alone are asked about,
    /// and of those the ones with a [`Terminal`], since only they can be ended so that a client takes it for an end.
    ///
    /// `tell_usage`: the client had asked for usage, and the end of a stream that is cut names it. (Only chat and completions
    /// are asked; the others name it always.)
    pub fn grow(mut self, tell_usage: bool) -> Self {
        self.grow = Some(tell_usage);
        self
    }

    /// Has the tokens of the answer's text counted, for a backend that is known to report no usage. Where it reports one
    /// all the same, the count is let go.
    pub fn count(mut self, count: Count) -> Self {
        self.count = Some(count);
        self
    }
}

// === impl Outcome ===

impl Outcome {
    /// Whether the usage is the backend's own word.
    pub fn reported(&self) -> bool {
        self.usage.is_some() && !self.cut_short
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
    type Future = ResponseFuture<S::Future, P::Sink, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Request<Q>) -> Self::Future {
        let bodiless = req.method() == Method::HEAD;
        let mut guard = self.policy.plan(&req).map(|plan| Guard::new(plan, bodiless));
        let inner = guard::watched(&mut guard, || self.inner.call(req));
        ResponseFuture {
            inner,
            guard,
            waiting: None,
        }
    }
}

impl<F, B, E, K> Future for ResponseFuture<F, K, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Rejection>,
    K: Sink,
    B: Body<Data = Bytes>,
    B::Error: Into<Rejection>,
{
    type Output = Answer<K, B>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.waiting.is_none() {
            let inner = this.inner;
            let answer = ready!(guard::watched(this.guard, || inner.poll(cx))).map_err(Into::into);
            let Some(guard) = this.guard.take() else {
                return Poll::Ready(answer.map(|response| response.map(ResponseBody::unmetered)));
            };
            let (settled, answer) = metered(guard, answer);
            if settled.is_done() {
                return Poll::Ready(answer);
            }
            *this.waiting = Some(Box::new(Waiting { settled, answer }));
        }
        let Some(waiting) = this.waiting else {
            return Poll::Pending;
        };
        let durable = ready!(Pin::new(&mut waiting.settled).poll(cx));
        let Some(waiting) = this.waiting.take() else {
            return Poll::Pending;
        };
        // Once there was a charge, a client that tries again by itself pays twice.
        Poll::Ready(match (waiting.answer, durable) {
            (Ok(answer), Ok(())) => Ok(answer),
            (Ok(_), Err(rejection)) | (Err(rejection), _) => Err(rejection.with_should_retry(false)),
        })
    }
}

/// The answer with its body metered, or what stands in its place; and what it is to wait for.
fn metered<K, B>(mut guard: Guard<K>, answer: Result<Response<B>, Rejection>) -> (Settled, Answer<K, B>)
where
    K: Sink,
    B: Body<Data = Bytes>,
    B::Error: Into<Rejection>,
{
    let response = match answer {
        Ok(response) => response,
        Err(rejection) => return (guard.settle(End::Refused(rejection.reason())), Err(rejection)),
    };
    let (mut head, body) = response.into_parts();
    if let Err(rejection) = guard.head(&mut head) {
        return (guard.settle(End::Failed(rejection.reason())), Err(rejection));
    }
    let mut body = ResponseBody::metered(body, guard, &head.headers);
    (body.end_if_empty(), Ok(Response::from_parts(head, body)))
}

#[cfg(test)]
mod tests;
