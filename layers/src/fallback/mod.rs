//! Trying one candidate after another, until one begins an answer.
//!
//! A [`Policy`] names the candidates for a request (routes of its model, then other models), makes the request ready
//! for each, and judges what came of it. The layer drives: one attempt at a time, each with the body as the client sent
//! it, the loser dropped before the next begins. Once an answer has begun there is no other attempt: what has gone out
//! cannot be taken back.
//!
//! An answer begins with its head, or where the policy [awaits](Policy::awaits_start) it, with its first bytes: a
//! backend that says 200 and then fails, says nothing, or sends its error in band has not begun.
//!
//! A [`Budget`] bounds what is tried for one request, and with a [`Share`] what all requests together may try: where
//! every backend is in trouble, trying again makes it worse.
//!
//! It needs the body [held](crate::buffer) and stands inside of all that decides about the request as a whole, around
//! what is done anew for each attempt: timeouts, metering, the call itself.
//!
//! When no attempt was accepted, the client is told one thing about all of them:
//!
//! | attempts | error |
//! | --- | --- |
//! | there were none | `no_route`, Retry-After 1 s |
//! | each was rate limited (429) | `upstream_rate_limited`, with the longest Retry-After of them |
//! | the last timed out, or all failed with one and the same error | that error |
//! | else | `upstream_failed` |
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use tollgate_layers::{Reason, Rejection, buffer::Held, fallback::{Budget, FallbackLayer, Policy}};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! #[derive(Clone)]
//! struct Ports;
//!
//! impl Policy for Ports {
//!     type Candidate = u16;
//!     fn candidates(&self, _: &Request<Held>) -> Result<Vec<u16>, Rejection> {
//!         Ok(vec![500, 503, 200])
//!     }
//!     fn prepare(&self, status: &u16, req: &mut Request<Held>) -> Result<(), Rejection> {
//!         req.extensions_mut().insert(*status);
//!         Ok(())
//!     }
//! }
//!
//! let backend = service_fn(async |req: Request<Held>| {
//!     let status = *req.extensions().get::<u16>().expect("set by prepare");
//!     Ok::<_, Infallible>(Response::builder().status(status).body(String::new()).expect("a status"))
//! });
//! let svc = FallbackLayer::new(Ports).layer(backend.clone());
//! let ask = || Request::new(Held::from(Bytes::new()));
//! let answer = svc.clone().oneshot(ask()).await.unwrap();
//! assert_eq!(answer.status(), 200);
//!
//! // With one attempt less there is no answer to accept.
//! let budget = Budget { attempts: 2, ..Budget::default() };
//! let svc = FallbackLayer::new(Ports).with_budget(budget).layer(backend);
//! let refused = svc.oneshot(ask()).await.unwrap_err();
//! assert_eq!(refused.reason(), Reason::UpstreamFailed);
//! # }
//! ```

mod body;
mod drive;
mod failures;
mod share;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

pub use self::body::ResponseBody;
use self::drive::drive;
pub use self::share::Share;
use self::share::Tally;
use crate::buffer::Held;
use crate::{Reason, Rejection};

/// Which candidates there are, and what is made of each.
pub trait Policy {
    /// One place a request may go.
    type Candidate: Send + Sync + 'static;

    /// The candidates for this request, in order. Each must be one that the client may use.
    fn candidates(&self, request: &Request<Held>) -> Result<Vec<Self::Candidate>, Rejection>;

    /// Makes the request, which is as the client sent it, ready for this candidate.
    ///
    /// An error stands for the attempt's outcome, and is judged.
    fn prepare(&self, candidate: &Self::Candidate, request: &mut Request<Held>) -> Result<(), Rejection>;

    /// Whether what came goes to the client, or the next candidate is tried. By default [`Seen::verdict`].
    fn judge(&self, candidate: &Self::Candidate, seen: &Seen<'_>) -> Verdict {
        let _ = candidate;
        seen.verdict()
    }

    /// Whether an answer that was accepted by its head is held until its first bytes have come. By default not.
    fn awaits_start(&self, candidate: &Self::Candidate, status: StatusCode, headers: &HeaderMap) -> bool {
        let _ = (candidate, status, headers);
        false
    }

    /// What the first bytes of such an answer say; `bytes` is all that has come so far, and never empty.
    fn start(&self, candidate: &Self::Candidate, bytes: &[u8]) -> Start {
        let _ = (candidate, bytes);
        Start::Begun
    }

    /// Told about each attempt once it is over, also when it was dropped.
    fn attempted(&self, candidate: &Self::Candidate, attempt: Attempt) {
        let _ = (candidate, attempt);
    }
}

/// What came of an attempt, as far as it is judged by.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// An answer began.
    Head {
        /// Its status.
        status: StatusCode,
        /// Its headers.
        headers: &'a HeaderMap,
    },
    /// There was no answer.
    Refused(&'a Rejection),
}

/// What is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the client, answer or error.
    Accept,
    /// The next candidate is tried.
    Next,
}

/// What the first bytes of an answer say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The answer has begun, and goes to the client.
    Begun,
    /// More of it must come before that can be told. At its end it counts as begun.
    More,
    /// They are the backend's word that it failed. It is judged as this refusal.
    Failed(Reason),
}

/// One attempt, when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What came of it.
    pub end: AttemptEnd,
    /// How long it took until the answer began, or to the error.
    pub elapsed: Duration,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// An answer that went to the client.
    Accepted(StatusCode),
    /// An answer that did not.
    Rejected(StatusCode),
    /// No answer.
    Refused(Reason),
    /// It was dropped while it was under way: the client left.
    Cancelled,
}

/// How much may be tried for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How many attempts.
    pub attempts: usize,
    /// After how long no further attempt begins. Those under way have timeouts of their own.
    pub time: Duration,
    /// How many attempts all requests together may have beyond their first. By default there is no such bound.
    pub share: Option<Share>,
}

/// Tries candidates in turn. See the [module](self).
#[derive(Clone, Debug)]
pub struct FallbackLayer<P> {
    policy: P,
    budget: Budget,
    tally: Option<Arc<Tally>>,
}

/// The service made by [`FallbackLayer`].
#[derive(Clone, Debug)]
pub struct Fallback<S, P> {
    inner: S,
    policy: P,
    budget: Budget,
    tally: Option<Arc<Tally>>,
}

/// The future of [`Fallback`].
pub struct ResponseFuture<R> {
    inner: Pin<Box<dyn Future<Output = Result<R, Rejection>> + Send>>,
}

// === impl Seen ===

impl<'a> Seen<'a> {
    fn of<B>(response: &'a Response<B>) -> Self {
        Self::Head {
            status: response.status(),
            headers: response.headers(),
        }
    }

    /// What is right for most: on to the next for a backend that refuses our credential or our rate (401, 402, 403, 429), took
    /// too long (408) or failed (5xx), and for errors that another backend may not have. Any other answer is the client's,
    /// as is an error that the client made. So is `total_timeout`: the work was done once and would be paid for twice.
    pub fn verdict(&self) -> Verdict {
        let next = match self {
            Self::Head { status, .. } => {
                matches!(status.as_u16(), 401 | 402 | 403 | 408 | 429) || status.is_server_error()
            }
            Self::Refused(rejection) => matches!(
                rejection.reason(),
                Reason::UpstreamFailed
                    | Reason::UpstreamRateLimited
                    | Reason::ConnectTimeout
                    | Reason::FirstByteTimeout
                    | Reason::IdleTimeout
                    | Reason::Overloaded
                    | Reason::NoRoute
            ),
        };
        if next { Verdict::Next } else { Verdict::Accept }
    }
}

// === impl Budget ===

impl Default for Budget {
    /// Four attempts, the last of which begins within a minute.
    fn default() -> Self {
        Self {
            attempts: 4,
            time: Duration::from_mins(1),
            share: None,
        }
    }
}

// === impl FallbackLayer, Fallback ===

impl<P> FallbackLayer<P> {
    /// A layer that tries what `policy` names, within the default [`Budget`].
    pub fn new(policy: P) -> Self {
        Self {
            policy,
            budget: Budget::default(),
            tally: None,
        }
    }

    /// Tries as much as `budget` allows. A [`Share`] in it is one for all that this layer and its clones make.
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self.tally = budget.share.map(|share| Arc::new(Tally::new(share, Instant::now())));
        self
    }
}

impl<S, P: Clone> Layer<S> for FallbackLayer<P> {
    type Service = Fallback<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback {
            inner,
            policy: self.policy.clone(),
            budget: self.budget,
            tally: self.tally.clone(),
        }
    }
}

impl<S, P, B> Service<Request<Held>> for Fallback<S, P>
where
    S: Service<Request<Held>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Rejection>,
    S::Future: Send,
    P: Policy + Clone + Send + Sync + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Rejection>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Rejection;
    type Future = ResponseFuture<Response<ResponseBody<B>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Request<Held>) -> Self::Future {
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let (policy, budget, tally) = (self.policy.clone(), self.budget, self.tally.clone());
        ResponseFuture {
            inner: Box::pin(drive(inner, policy, budget, tally, req)),
        }
    }
}

impl<R> Future for ResponseFuture<R> {
    type Output = Result<R, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests;
