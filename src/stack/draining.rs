//! The last word to who is still waiting when the process must end.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tollgate_layers::{Reason, Rejection};
use tower::{Layer, Service};

use crate::proxy::Lifecycle;

/// Refuses what is still under way once its [`Lifecycle`] is stopped: before its head, or in the middle of its body.
/// What it wraps is dropped first, so that backends are left and guards have settled when the client is told.
///
/// It waits for nothing itself: who drives the request polls it again when the stop comes, and here that costs one look
/// at a flag for each poll.
#[derive(Clone, Debug)]
pub(super) struct DrainingLayer(pub(super) Lifecycle);

/// The service made by [`DrainingLayer`].
#[derive(Clone, Debug)]
pub(super) struct Draining<S> {
    inner: S,
    lifecycle: Lifecycle,
}

pin_project! {
    /// The future of [`Draining`], and the body of its answer.
    pub(super) struct UntilStopped<T> {
        #[pin]
        inner: Option<T>,
        lifecycle: Lifecycle,
    }
}

impl<S> Layer<S> for DrainingLayer {
    type Service = Draining<S>;

    fn layer(&self, inner: S) -> Draining<S> {
        Draining {
            inner,
            lifecycle: self.0.clone(),
        }
    }
}

impl<S, Q, B> Service<Request<Q>> for Draining<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Error: Into<Rejection>,
{
    type Response = Response<UntilStopped<B>>;
    type Error = Rejection;
    type Future = UntilStopped<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        UntilStopped {
            inner: Some(self.inner.call(request)),
            lifecycle: self.lifecycle.clone(),
        }
    }
}

impl<F, B, E> Future for UntilStopped<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Rejection>,
{
    type Output = Result<Response<UntilStopped<B>>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = this.inner.as_mut().as_pin_mut().expect("polled after it was ready");
        if let Poll::Ready(result) = inner.poll(cx) {
            let body = |inner| UntilStopped {
                inner: Some(inner),
                lifecycle: this.lifecycle.clone(),
            };
            return Poll::Ready(result.map(|response| response.map(body)).map_err(Into::into));
        }
        if !this.lifecycle.is_stopped() {
            return Poll::Pending;
        }
        this.inner.set(None);
        Poll::Ready(Err(Reason::Draining.into()))
    }
}

impl<B> Body for UntilStopped<B>
where
    B: Body,
    B::Error: Into<Rejection>,
{
    type Data = B::Data;
    type Error = Rejection;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Rejection>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        // A backend that always has more must not outrun the end.
        let stopped = this.lifecycle.is_stopped() && !inner.is_end_stream();
        if !stopped && let Poll::Ready(frame) = inner.poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !stopped {
            return Poll::Pending;
        }
        this.inner.set(None);
        Poll::Ready(Some(Err(Reason::Draining.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
