//! One attempt after another, each reported once it is over.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::body::{ResponseBody, begin};
use super::failures::Failures;
use super::share::Tally;
use super::{Attempt, AttemptEnd, Budget, Policy, Seen, Verdict};
use crate::Rejection;
use crate::buffer::Held;

/// Reports an attempt on drop, when nothing did before.
struct Watch<'a, P: Policy> {
    policy: &'a P,
    candidate: &'a P::Candidate,
    started: Instant,
    end: AttemptEnd,
}

/// `inner` comes ready for one call.
pub(super) async fn drive<S, P, B>(
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
