//! Limits how much a caller asks for: requests a minute with [`RateLimitLayer`], tokens a minute with
//! [`TokenLimitLayer`].
//!
//! Both count in [`Buckets`] by keys of the caller's choice. A [`Policy`] says which of them a request is under; all
//! must pass, and what one of them refuses takes nothing from the others. Refused are `rpm` and `tpm` (429), each with
//! `retry-after`. They stand inside of auth; the token limit also inside of what reads the model and the body.
//!
//! Every answer of a limited request, refusals from further in included, shows the tightest limit in
//! `x-ratelimit-{limit,remaining,reset}-requests` and `…-tokens`. Several of these layers may be stacked: the tightest
//! of all is shown. Answers of another service's limits must have lost such headers before.
//!
//! Where several processes serve the same callers, a [`Share`] makes each enforce its part. The limit that is shown stays
//! the whole one, the one that callers were promised; what remains and when it is full again is told of the part, which
//! is what decides about the next request here. So `remaining` promises no more than there is.
//!
//! What a request took is given back when another limit or want of credit refuses it further in; a request refused for
//! what it says still counts.
//!
//! ```
//! use http::{Extensions, Request, Response};
//! use tollgate_layers::rate_limit::{Buckets, Picks, RateLimitLayer};
//! use tollgate_layers::{Reason, Rejection};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! #[derive(Clone)]
//! struct User(u64);
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let two_a_minute = |extensions: &Extensions| -> Picks<u64> {
//!     extensions.get().map(|User(id)| (*id, 2)).into_iter().collect()
//! };
//! let service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new(Buckets::new(), two_a_minute))
//!     .service(service_fn(|_: Request<()>| async { Ok::<_, Rejection>(Response::new(())) }));
//! let by = |user| Request::builder().extension(User(user)).body(());
//! assert_eq!(service.clone().oneshot(by(7)?).await?.headers()["x-ratelimit-remaining-requests"], "1");
//! assert_eq!(service.clone().oneshot(by(7)?).await?.headers()["x-ratelimit-remaining-requests"], "0");
//! let refused = service.clone().oneshot(by(7)?).await.unwrap_err();
//! assert_eq!(refused.reason(), Reason::Rpm);
//! assert!(service.oneshot(by(8)?).await.is_ok());
//! # Ok(()) }
//! ```

mod buckets;
mod headers;
mod tokens;

use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use self::buckets::{Buckets, Exhausted, State};
use self::headers::{Names, REQUESTS};
pub use self::tokens::{Estimate, TokenLimit, TokenLimitFuture, TokenLimitLayer, TokenReservation};
pub use crate::keyed::{Picks, Policy};
pub use crate::share::Share;
use crate::{Reason, Rejection};

/// Puts [`RateLimit`] around a service; see the [module](self).
#[derive(Clone, Debug)]
pub struct RateLimitLayer<P: Policy> {
    buckets: Buckets<P::Key>,
    policy: P,
}

/// The service of [`RateLimitLayer`].
#[derive(Clone, Debug)]
pub struct RateLimit<S, P: Policy> {
    inner: S,
    buckets: Buckets<P::Key>,
    policy: P,
}

pin_project! {
    /// The future of [`RateLimit`].
    pub struct ResponseFuture<F, K> {
        #[pin]
        state: FutureState<F, K>,
    }
}

pin_project! {
    #[project = FutureStateProj]
    enum FutureState<F, K> {
        Passed { #[pin] future: F, taken: Option<Taken<K>> },
        Refused { rejection: Option<Rejection> },
    }
}

struct Taken<K> {
    buckets: Buckets<K>,
    picks: Picks<K>,
    state: State,
}

// === impl RateLimitLayer ===

impl<P> RateLimitLayer<P>
where
    P: Policy<Key: Hash + Eq + Clone>,
{
    /// A layer that counts in `buckets` what `policy` picks. The limits are requests a minute.
    pub fn new(buckets: Buckets<P::Key>, policy: P) -> Self {
        Self { buckets, policy }
    }
}

impl<S, P: Policy + Clone> Layer<S> for RateLimitLayer<P> {
    type Service = RateLimit<S, P>;

    fn layer(&self, inner: S) -> RateLimit<S, P> {
        RateLimit {
            inner,
            buckets: self.buckets.clone(),
            policy: self.policy.clone(),
        }
    }
}

// === impl RateLimit ===

impl<S, P, ReqB, ResB> Service<Request<ReqB>> for RateLimit<S, P>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<Rejection>,
    P: Policy<Key: Hash + Eq + Clone>,
{
    type Response = Response<ResB>;
    type Error = Rejection;
    type Future = ResponseFuture<S::Future, P::Key>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let picks = self.policy.picks(request.extensions());
        let state = match self.buckets.take(&picks, 1) {
            Err(exhausted) => FutureState::Refused {
                rejection: Some(refusal(Reason::Rpm, &REQUESTS, &exhausted)),
            },
            Ok(state) => {
                let taken = state.map(|state| Taken {
                    buckets: self.buckets.clone(),
                    picks,
                    state,
                });
                FutureState::Passed {
                    future: self.inner.call(request),
                    taken,
                }
            }
        };
        ResponseFuture { state }
    }
}

fn refusal(reason: Reason, names: &Names, exhausted: &Exhausted) -> Rejection {
    let mut rejection = Rejection::new(reason).with_retry_after(exhausted.retry_after);
    names.stamp(rejection.headers_mut(), &exhausted.state);
    rejection
}

// === impl ResponseFuture ===

impl<F, K, B, E> Future for ResponseFuture<F, K>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Rejection>,
    K: Hash + Eq + Clone,
{
    type Output = Result<Response<B>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (result, taken) = match self.project().state.project() {
            FutureStateProj::Passed { future, taken } => (ready!(future.poll(cx)), taken.take()),
            FutureStateProj::Refused { rejection } => {
                return Poll::Ready(Err(rejection.take().expect("polled after it was ready")));
            }
        };
        let Some(taken) = taken else {
            return Poll::Ready(result.map_err(Into::into));
        };
        Poll::Ready(match result {
            Ok(mut response) => {
                REQUESTS.stamp(response.headers_mut(), &taken.state);
                Ok(response)
            }
            Err(e) => Err(taken.refused_further_in(e.into())),
        })
    }
}

// === impl Taken ===

impl<K: Hash + Eq + Clone> Taken<K> {
    fn refused_further_in(self, mut rejection: Rejection) -> Rejection {
        if is_given_back(rejection.reason()) {
            self.buckets.give_back(&self.picks, 1);
        }
        let state = self.buckets.state(&self.picks).unwrap_or(self.state);
        REQUESTS.stamp(rejection.headers_mut(), &state);
        rejection
    }
}

/// Whether a request refused for this did not get what it asked for through no fault of its own.
fn is_given_back(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Rpm
            | Reason::Tpm
            | Reason::Concurrency
            | Reason::InsufficientCredit
            | Reason::KeyExhausted
            | Reason::Overloaded
            | Reason::Draining
            | Reason::LedgerFull
    )
}

#[cfg(test)]
mod tests;
