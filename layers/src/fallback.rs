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

mod share;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tower_layer::Layer;
use tower_service::Service;

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

/// The body of an answer, with what was read of it before it began put back.
#[derive(Debug)]
pub struct ResponseBody<B> {
    inner: B,
    first: Option<Frame<Bytes>>,
    more: VecDeque<Frame<Bytes>>,
}

/// The attempts that were not accepted, as far as the client is told of them.
#[derive(Debug, Default)]
struct Failures {
    count: u32,
    rate_limited: u32,
    retry_after: Option<Duration>,
    /// The last one, when there was no answer in it.
    last: Option<Rejection>,
    /// How many of the latest in a row failed with the last one's reason.
    alike: u32,
}

/// Reports an attempt on drop, when nothing did before.
struct Watch<'a, P: Policy> {
    policy: &'a P,
    candidate: &'a P::Candidate,
    started: Instant,
    end: AttemptEnd,
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

// === impl Failures ===

impl Failures {
    fn note(&mut self, seen: &Seen<'_>) {
        self.count += 1;
        let (limited, after) = match seen {
            Seen::Head { status, headers } => {
                self.last = None;
                (*status == StatusCode::TOO_MANY_REQUESTS, retry_after(headers))
            }
            Seen::Refused(rejection) => {
                let same = self
                    .last
                    .as_ref()
                    .is_some_and(|last| last.reason() == rejection.reason());
                self.alike = if same { self.alike + 1 } else { 1 };
                self.last = Some((*rejection).clone());
                (
                    rejection.reason() == Reason::UpstreamRateLimited,
                    rejection.retry_after(),
                )
            }
        };
        if limited {
            self.rate_limited += 1;
            self.retry_after = self.retry_after.max(after);
        }
    }

    fn verdict(self) -> Rejection {
        let second = Duration::from_secs(1);
        if self.count == 0 {
            return Rejection::new(Reason::NoRoute).with_retry_after(second);
        }
        if self.rate_limited == self.count {
            let after = self.retry_after.unwrap_or(second);
            return Rejection::new(Reason::UpstreamRateLimited).with_retry_after(after);
        }
        match self.last {
            Some(last) if last.status() == StatusCode::GATEWAY_TIMEOUT || self.alike == self.count => last,
            _ => Reason::UpstreamFailed.into(),
        }
    }
}

/// Retry-After in seconds; the form with a date is read as absent.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

// === impl Watch ===

impl<P: Policy> Drop for Watch<'_, P> {
    fn drop(&mut self) {
        self.policy.attempted(
            self.candidate,
            Attempt {
                end: self.end,
                elapsed: self.started.elapsed(),
            },
        );
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

/// `inner` comes ready for one call.
async fn drive<S, P, B>(
    mut inner: S,
    policy: P,
    budget: Budget,
    tally: Option<Arc<Tally>>,
    request: Request<Held>,
) -> Result<Response<ResponseBody<B>>, Rejection>
where
    S: Service<Request<Held>, Response = Response<B>>,
    S::Error: Into<Rejection>,
    P: Policy,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Rejection>,
{
    let mut candidates = policy
        .candidates(&request)?
        .into_iter()
        .take(budget.attempts)
        .peekable();
    let mut begun = None;
    let mut request = Some(request);
    let mut ready = true;
    let mut failures = Failures::default();
    while let Some(candidate) = candidates.next() {
        // The last attempt takes the request itself, so that its body is freed as soon as it has been sent.
        let attempt = if candidates.peek().is_some() {
            request.clone()
        } else {
            request.take()
        };
        let Some(mut attempt) = attempt else { break };
        let started = Instant::now();
        let first = *begun.get_or_insert_with(|| {
            if let Some(tally) = &tally {
                tally.request(started);
            }
            started
        });
        let mut watch = Watch {
            policy: &policy,
            candidate: &candidate,
            started,
            end: AttemptEnd::Cancelled,
        };
        let answer = match policy.prepare(&candidate, &mut attempt) {
            Ok(()) => call(&mut inner, std::mem::take(&mut ready), attempt).await,
            Err(rejection) => Err(rejection),
        };
        let answer = match answer {
            Ok(response) => begin(&policy, &candidate, response).await,
            Err(rejection) => Err(rejection),
        };
        let seen = match &answer {
            Ok(response) => Seen::of(response),
            Err(rejection) => Seen::Refused(rejection),
        };
        let verdict = policy.judge(&candidate, &seen);
        watch.end = match (&seen, verdict) {
            (Seen::Head { status, .. }, Verdict::Accept) => AttemptEnd::Accepted(*status),
            (Seen::Head { status, .. }, Verdict::Next) => AttemptEnd::Rejected(*status),
            (Seen::Refused(rejection), _) => AttemptEnd::Refused(rejection.reason()),
        };
        drop(watch);
        if verdict == Verdict::Accept {
            return answer;
        }
        failures.note(&seen);
        if candidates.peek().is_some() && (first.elapsed() >= budget.time || !may_go_on(tally.as_deref())) {
            break;
        }
    }
    Err(failures.verdict())
}

/// Whether the share that all requests have of further attempts has room for one more, which is then taken.
fn may_go_on(tally: Option<&Tally>) -> bool {
    tally.is_none_or(|tally| tally.further(Instant::now()))
}

async fn call<S, B>(inner: &mut S, ready: bool, request: Request<Held>) -> Result<Response<B>, Rejection>
where
    S: Service<Request<Held>, Response = Response<B>>,
    S::Error: Into<Rejection>,
{
    if !ready {
        poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
    }
    inner.call(request).await.map_err(Into::into)
}

/// Reads an answer up to where it has begun. What ends or fails before that is no answer.
async fn begin<P, B>(
    policy: &P,
    candidate: &P::Candidate,
    response: Response<B>,
) -> Result<Response<ResponseBody<B>>, Rejection>
where
    P: Policy,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Rejection>,
{
    let accepted = policy.judge(candidate, &Seen::of(&response)) == Verdict::Accept;
    let awaits = accepted && policy.awaits_start(candidate, response.status(), response.headers());
    let mut response = response.map(ResponseBody::new);
    if !awaits {
        return Ok(response);
    }
    let body = response.body_mut();
    // All that has come, once that is more than one frame.
    let mut joined = Vec::new();
    loop {
        let next = poll_fn(|cx| Pin::new(&mut body.inner).poll_frame(cx)).await;
        let Some(frame) = next.transpose().map_err(Into::into)? else {
            return if body.first.is_some() {
                Ok(response)
            } else {
                Err(Reason::UpstreamFailed.into())
            };
        };
        let start = match frame.data_ref() {
            Some(data) if data.is_empty() => continue,
            Some(data) if body.first.is_none() => policy.start(candidate, data),
            Some(data) => {
                if joined.is_empty() {
                    joined.extend_from_slice(body.first.as_ref().and_then(Frame::data_ref).map_or(&[], |data| data));
                }
                joined.extend_from_slice(data);
                policy.start(candidate, &joined)
            }
            None => Start::Begun,
        };
        body.put_back(frame);
        match start {
            Start::Begun => return Ok(response),
            Start::More => {}
            Start::Failed(reason) => return Err(reason.into()),
        }
    }
}

// === impl ResponseBody ===

impl<B> ResponseBody<B> {
    fn new(inner: B) -> Self {
        Self {
            inner,
            first: None,
            more: VecDeque::new(),
        }
    }

    fn put_back(&mut self, frame: Frame<Bytes>) {
        if self.first.is_none() && self.more.is_empty() {
            self.first = Some(frame);
        } else {
            self.more.push_back(frame);
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(frame) = self.first.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(frame) = self.more.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.more.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.first.iter().chain(&self.more).filter_map(Frame::data_ref);
        let held = held.map(|data| data.len() as u64).sum::<u64>();
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(held));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

#[cfg(test)]
mod tests;
