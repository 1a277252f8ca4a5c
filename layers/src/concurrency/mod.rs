//! Limits how many requests of a caller run at once, to the end of their answers.
//!
//! [`Slots`] counts by keys of the caller's choice, a [`Policy`] says which of them a request is under. A request takes
//! a slot of each, or is refused with `concurrency` (429, `retry-after: 1`) and takes none. The slots travel in the
//! body of the answer: they are free again when it has ended, failed or been dropped, as when the client leaves. It
//! stands inside of auth and outside of whatever spends memory or time on a request.
//!
//! ```
//! use http::{Extensions, Request, Response};
//! use http_body_util::Full;
//! use tollgate_layers::concurrency::{ConcurrencyLayer, Picks, Slots};
//! use tollgate_layers::{Reason, Rejection};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Rejection> {
//! let one_at_once = |_: &Extensions| Picks::from_iter([("everybody", 1)]);
//! let service = ServiceBuilder::new().layer(ConcurrencyLayer::new(Slots::new(), one_at_once)).service(service_fn(
//!     |_: Request<()>| async { Ok::<_, Rejection>(Response::new(Full::<bytes::Bytes>::from("hello"))) },
//! ));
//! let answer = service.clone().oneshot(Request::new(())).await?;
//! let refused = service.clone().oneshot(Request::new(())).await.err().expect("the first is not read yet");
//! assert_eq!(refused.reason(), Reason::Concurrency);
//! drop(answer);
//! assert!(service.oneshot(Request::new(())).await.is_ok());
//! # Ok(()) }
//! ```

mod slots;

use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use self::slots::{Permit, Slots};
pub use crate::keyed::{Picks, Policy};
pub use crate::share::Share;
use crate::{Reason, Rejection};

/// Nobody knows when a slot will be free: soon, as requests go.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Puts [`Concurrency`] around a service; see the [module](self).
#[derive(Clone, Debug)]
pub struct ConcurrencyLayer<P: Policy> {
    slots: Slots<P::Key>,
    policy: P,
}

/// The service of [`ConcurrencyLayer`].
#[derive(Clone, Debug)]
pub struct Concurrency<S, P: Policy> {
    inner: S,
    slots: Slots<P::Key>,
    policy: P,
}

pin_project! {
    /// The future of [`Concurrency`].
    pub struct ResponseFuture<F, K>
    where
        K: Hash,
        K: Eq,
    {
        #[pin]
        state: FutureState<F, K>,
    }
}

pin_project! {
    /// The body of [`Concurrency`]'s answers: it holds the slots.
    pub struct ResponseBody<B, K>
    where
        K: Hash,
        K: Eq,
    {
        #[pin]
        inner: B,
        permit: Option<Permit<K>>,
    }
}

pin_project! {
    #[project = FutureStateProj]
    enum FutureState<F, K>
    where
        K: Hash,
        K: Eq,
    {
        Passed { #[pin] future: F, permit: Option<Permit<K>> },
        Refused { rejection: Option<Rejection> },
    }
}

// === impl ConcurrencyLayer ===

impl<P> ConcurrencyLayer<P>
where
    P: Policy<Key: Hash + Eq + Clone>,
{
    /// A layer that counts in `slots` what `policy` picks.
    pub fn new(slots: Slots<P::Key>, policy: P) -> Self {
        Self { slots, policy }
    }
}

impl<S, P: Policy + Clone> Layer<S> for ConcurrencyLayer<P> {
    type Service = Concurrency<S, P>;

    fn layer(&self, inner: S) -> Concurrency<S, P> {
        Concurrency {
            inner,
            slots: self.slots.clone(),
            policy: self.policy.clone(),
        }
    }
}

// === impl Concurrency ===

impl<S, P, ReqB, ResB> Service<Request<ReqB>> for Concurrency<S, P>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<Rejection>,
    P: Policy<Key: Hash + Eq + Clone>,
{
    type Response = Response<ResponseBody<ResB, P::Key>>;
    type Error = Rejection;
    type Future = ResponseFuture<S::Future, P::Key>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let picks = self.policy.picks(request.extensions());
        let state = if let Some(permit) = self.slots.acquire(picks) {
            FutureState::Passed {
                future: self.inner.call(request),
                permit: Some(permit),
            }
        } else {
            let rejection = Rejection::new(Reason::Concurrency).with_retry_after(RETRY_AFTER);
            FutureState::Refused {
                rejection: Some(rejection),
            }
        };
        ResponseFuture { state }
    }
}

// === impl ResponseFuture ===

impl<F, K, B, E> Future for ResponseFuture<F, K>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Rejection>,
    K: Hash + Eq,
{
    type Output = Result<Response<ResponseBody<B, K>>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            FutureStateProj::Passed { future, permit } => {
                let result = ready!(future.poll(cx));
                let permit = permit.take();
                Poll::Ready(match result {
                    Ok(response) => Ok(response.map(|inner| ResponseBody { inner, permit })),
                    Err(e) => Err(e.into()),
                })
            }
            FutureStateProj::Refused { rejection } => {
                Poll::Ready(Err(rejection.take().expect("polled after it was ready")))
            }
        }
    }
}

// === impl ResponseBody ===

impl<B, K> Body for ResponseBody<B, K>
where
    B: Body,
    B::Error: Into<Rejection>,
    K: Hash + Eq,
{
    type Data = B::Data;
    type Error = Rejection;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Rejection>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        // Not left to the drop: a server may keep the body until a slow client has taken what was sent.
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            *this.permit = None;
        }
        Poll::Ready(frame.map(|result| result.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
