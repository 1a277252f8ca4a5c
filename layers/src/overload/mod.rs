//! Refuses at once what would be too much: a cap on the requests in flight, and on the bytes they claim.
//!
//! Nothing waits here: a request that finds no room is answered `overloaded` (503, `retry-after`) in the time it takes
//! to compare two numbers, so that a service that is full stays able to say so. The room is held until the answer's
//! body has ended, failed or been dropped, as when the client leaves. A request that is larger than all the room there
//! is could never pass, and is refused with `body_too_large` (413) instead.
//!
//! How many bytes a request counts for is said by a [`Weigh`]: by default its `content-length`. It needs nothing from
//! other layers and stands outside of whatever costs time or memory, just inside of `respond`. An inner service that is
//! not ready counts as full.
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tollgate_layers::overload::{InFlight, OverloadLayer};
//! use tollgate_layers::{Reason, Rejection};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Rejection> {
//! let room = InFlight::new(100, 1 << 20);
//! let service = ServiceBuilder::new().layer(OverloadLayer::new(room.clone())).service(service_fn(
//!     |_: Request<()>| async { Ok::<_, Rejection>(Response::new(Full::<bytes::Bytes>::from("hello"))) },
//! ));
//! let of = |bytes: u32| Request::builder().header("content-length", bytes).body(()).expect("a request");
//! let answer = service.clone().oneshot(of(1_000_000)).await?;
//! let refused = service.clone().oneshot(of(100_000)).await.err().expect("the first is not read yet");
//! assert_eq!((refused.reason(), refused.status().as_u16()), (Reason::Overloaded, 503));
//! drop(answer);
//! assert!(service.oneshot(of(100_000)).await.is_ok());
//! # Ok(()) }
//! ```

mod room;

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use self::room::Full;
pub use self::room::{InFlight, Permit};
use crate::{Reason, Rejection};

/// Says how many bytes a request counts for. Closures over `&Request<B>` do.
pub trait Weigh<B> {
    /// The bytes of `request`, held till the end of its answer.
    fn weigh(&self, request: &Request<B>) -> u64;
}

/// A request counts for its `content-length`; one without, for what is given here.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClaimedLength {
    unknown: u64,
}

/// Puts [`Overload`] around a service; see the [module](self).
#[derive(Clone, Debug)]
pub struct OverloadLayer<W = ClaimedLength> {
    room: InFlight,
    weigh: W,
    retry_after: Duration,
}

/// The service of [`OverloadLayer`].
#[derive(Debug)]
pub struct Overload<S, W = ClaimedLength> {
    inner: S,
    layer: OverloadLayer<W>,
    ready: bool,
}

pin_project! {
    /// The future of [`Overload`].
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    /// The body of [`Overload`]'s answers: it holds the room.
    pub struct ResponseBody<B> {
        #[pin]
        inner: B,
        permit: Option<Permit>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Passed { #[pin] future: F, permit: Option<Permit> },
        Refused { rejection: Option<Rejection> },
    }
}

// === impl Weigh ===

impl<F: Fn(&Request<B>) -> u64, B> Weigh<B> for F {
    fn weigh(&self, request: &Request<B>) -> u64 {
        self(request)
    }
}

impl ClaimedLength {
    /// Counts a request that claims no length, because it is sent in chunks, as `bytes`.
    pub fn or(bytes: u64) -> Self {
        Self { unknown: bytes }
    }
}

impl<B> Weigh<B> for ClaimedLength {
    fn weigh(&self, request: &Request<B>) -> u64 {
        let claimed = request.headers().get(CONTENT_LENGTH);
        claimed
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(self.unknown)
    }
}

// === impl OverloadLayer ===

impl OverloadLayer {
    /// A layer that lets through what `room` has room for.
    pub fn new(room: InFlight) -> Self {
        Self {
            room,
            weigh: ClaimedLength::default(),
            retry_after: Duration::from_secs(1),
        }
    }
}

impl<W> OverloadLayer<W> {
    /// Lets `weigh` say how many bytes a request counts for.
    pub fn weigh<V>(self, weigh: V) -> OverloadLayer<V> {
        OverloadLayer {
            room: self.room,
            weigh,
            retry_after: self.retry_after,
        }
    }

    /// What refused clients are told to wait; a second, if not set.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = after;
        self
    }
}

impl<S, W: Clone> Layer<S> for OverloadLayer<W> {
    type Service = Overload<S, W>;

    fn layer(&self, inner: S) -> Overload<S, W> {
        Overload {
            inner,
            layer: self.clone(),
            ready: false,
        }
    }
}

// === impl Overload ===

/// A clone has not been polled ready, whatever the original was.
impl<S: Clone, W: Clone> Clone for Overload<S, W> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
            ready: false,
        }
    }
}

impl<S, W, ReqB, ResB> Service<Request<ReqB>> for Overload<S, W>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<Rejection>,
    W: Weigh<ReqB>,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = Rejection;
    type Future = ResponseFuture<S::Future>;

    /// Ready at once: whoever had to wait here would be in a queue.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.ready = match self.inner.poll_ready(cx) {
            Poll::Ready(result) => result.map(|()| true).map_err(Into::into)?,
            Poll::Pending => false,
        };
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let permit = if std::mem::take(&mut self.ready) {
            self.layer.room.enter(self.layer.weigh.weigh(&request))
        } else {
            Err(Full::Now)
        };
        let state = match permit {
            Ok(permit) => State::Passed {
                future: self.inner.call(request),
                permit: Some(permit),
            },
            Err(full) => State::Refused {
                rejection: Some(match full {
                    Full::Now => Rejection::new(Reason::Overloaded).with_retry_after(self.layer.retry_after),
                    Full::Ever => Reason::BodyTooLarge.into(),
                }),
            },
        };
        ResponseFuture { state }
    }
}

// === impl ResponseFuture ===

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Rejection>,
{
    type Output = Result<Response<ResponseBody<B>>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Passed { future, permit } => {
                let result = ready!(future.poll(cx));
                let permit = permit.take();
                Poll::Ready(match result {
                    Ok(response) => Ok(response.map(|inner| ResponseBody { inner, permit })),
                    Err(e) => Err(e.into()),
                })
            }
            StateProj::Refused { rejection } => Poll::Ready(Err(rejection.take().expect("polled after it was ready"))),
        }
    }
}

// === impl ResponseBody ===

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        // Not left to the drop: a server may keep the body until a slow client has taken what was sent.
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            *this.permit = None;
        }
        Poll::Ready(frame)
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
