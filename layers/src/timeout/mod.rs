//! Limits how long an answer may take.
//!
//! A [`Policy`] picks the [`Timeouts`] of a request. For a streamed answer these are the time to its first byte (not
//! merely to its head), the time between its frames, and the time of the whole; for any other answer only the time of
//! the whole, since a backend that computes for a minute sends nothing meanwhile. For both there is the time to connect,
//! where the service [tells](Connected) when it has. Refused are `connect_timeout`, `first_byte_timeout`, `idle_timeout`
//! and `total_timeout` (504), the last with `x-should-retry: false`. After the head they are the error of the body. What
//! was waited for is dropped at once.
//!
//! Only waiting is timed: what has come is passed on, however late it is asked for, so a slow client is not taken for a
//! slow backend. It stands around a single attempt, inside of whatever tries another backend. It needs Tokio's timer.
//!
//! ```
//! use std::time::Duration;
//!
//! use http::{Extensions, Request, Response};
//! use http_body_util::Empty;
//! use tollgate_layers::timeout::{TimeoutLayer, Timeouts};
//! use tollgate_layers::{Reason, Rejection};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let policy = |_: &Extensions| Timeouts { total: Some(Duration::from_secs(120)), ..Timeouts::default() };
//! let service = ServiceBuilder::new().layer(TimeoutLayer::new(policy)).service(service_fn(
//!     |request: Request<Duration>| async move {
//!         tokio::time::sleep(request.into_body()).await;
//!         Ok::<_, Rejection>(Response::new(Empty::<bytes::Bytes>::new()))
//!     },
//! ));
//! assert!(service.clone().oneshot(Request::new(Duration::from_secs(119))).await.is_ok());
//! let refused = service.oneshot(Request::new(Duration::from_secs(121))).await.err().expect("it took too long");
//! assert_eq!(refused.reason(), Reason::TotalTimeout);
//! # }
//! ```

mod watch;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use http::{Extensions, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use self::watch::Watch;
use crate::Rejection;

/// How long an answer may take. What is `None` is not limited; the default limits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Whether the answer was asked for as a stream: then `total` does not count, else nothing but `total` does.
    pub streamed: bool,
    /// From the call to the connection, as the service tells it with [`Connected`]. A client's transport mostly has such a
    /// timeout of its own, which is then the one to set.
    pub connect: Option<Duration>,
    /// From the call to the first byte of the body.
    pub first_byte: Option<Duration>,
    /// Between frames of the body, after its first byte.
    pub idle: Option<Duration>,
    /// From the call to the end of the body.
    pub total: Option<Duration>,
    /// The same for streams.
    pub stream_total: Option<Duration>,
}

/// By which the service says that it is connected: an extension of each request with a [`connect`](Timeouts::connect)
/// timeout.
///
/// It is shared with the clones of the request's extensions. Whoever never tells is taken to be connecting until the head
/// of the answer comes.
///
/// ```
/// use std::time::Duration;
///
/// use http::{Extensions, Request, Response};
/// use http_body_util::Empty;
/// use tollgate_layers::timeout::{Connected, TimeoutLayer, Timeouts};
/// use tollgate_layers::{Reason, Rejection};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let policy = |_: &Extensions| Timeouts { connect: Some(Duration::from_secs(5)), ..Timeouts::default() };
/// let service = ServiceBuilder::new().layer(TimeoutLayer::new(policy)).service(service_fn(
///     |request: Request<Duration>| async move {
///         tokio::time::sleep(*request.body()).await;
///         request.extensions().get::<Connected>().expect("there is a timeout").tell();
///         tokio::time::sleep(Duration::from_mins(1)).await;
///         Ok::<_, Rejection>(Response::new(Empty::<bytes::Bytes>::new()))
///     },
/// ));
/// assert!(service.clone().oneshot(Request::new(Duration::from_secs(4))).await.is_ok());
/// let refused = service.oneshot(Request::new(Duration::from_secs(6))).await.err().expect("it took too long");
/// assert_eq!(refused.reason(), Reason::ConnectTimeout);
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Connected(Arc<AtomicBool>);

/// Picks the timeouts of a request. Closures over the request's extensions are policies.
pub trait Policy {
    /// The timeouts that hold for this request.
    fn timeouts(&self, extensions: &Extensions) -> Timeouts;
}

/// Puts [`Timeout`] around a service; see the [module](self).
#[derive(Clone, Debug)]
pub struct TimeoutLayer<P> {
    policy: P,
}

/// The service of [`TimeoutLayer`].
#[derive(Clone, Debug)]
pub struct Timeout<S, P> {
    inner: S,
    policy: P,
}

pin_project! {
    /// The future of [`Timeout`].
    pub struct ResponseFuture<F> {
        // Gone once it has timed out.
        #[pin]
        inner: Option<F>,
        watch: Option<Watch>,
    }
}

pin_project! {
    /// The body of [`Timeout`]'s answers.
    pub struct ResponseBody<B> {
        // Gone once it has timed out.
        #[pin]
        inner: Option<B>,
        watch: Option<Watch>,
    }
}

impl<F: Fn(&Extensions) -> Timeouts> Policy for F {
    fn timeouts(&self, extensions: &Extensions) -> Timeouts {
        self(extensions)
    }
}

// === impl Connected ===

impl Connected {
    /// The request goes out now: the time to connect is over, and what is waited for is the answer.
    pub fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl TimeoutLayer ===

impl<P: Policy> TimeoutLayer<P> {
    /// A layer that asks `policy` about every request.
    pub fn new(policy: P) -> Self {
        Self { policy }
    }
}

impl<S, P: Clone> Layer<S> for TimeoutLayer<P> {
    type Service = Timeout<S, P>;

    fn layer(&self, inner: S) -> Timeout<S, P> {
        Timeout {
            inner,
            policy: self.policy.clone(),
        }
    }
}

// === impl Timeout ===

impl<S, P, ReqB, ResB> Service<Request<ReqB>> for Timeout<S, P>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<Rejection>,
    P: Policy,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = Rejection;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let watch = Watch::start(self.policy.timeouts(request.extensions()));
        if let Some(connected) = watch.as_ref().and_then(Watch::connected) {
            request.extensions_mut().insert(connected);
        }
        ResponseFuture {
            inner: Some(self.inner.call(request)),
            watch,
        }
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
        let mut this = self.project();
        let inner = this.inner.as_mut().as_pin_mut().expect("polled after it was ready");
        if let Poll::Ready(result) = inner.poll(cx) {
            if let Some(watch) = this.watch.as_mut() {
                watch.answered();
            }
            let body = |inner| ResponseBody {
                inner: Some(inner),
                watch: this.watch.take(),
            };
            return Poll::Ready(result.map(|response| response.map(body)).map_err(Into::into));
        }
        let Some(watch) = this.watch else { return Poll::Pending };
        watch.poll_expired(cx).map(|rejection| {
            this.inner.set(None);
            Err(rejection)
        })
    }
}

// === impl ResponseBody ===

impl<B> Body for ResponseBody<B>
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
        if let Poll::Ready(frame) = inner.poll_frame(cx) {
            if let (Some(watch), Some(Ok(frame))) = (this.watch, &frame) {
                watch.progress(frame.data_ref().is_some_and(Buf::has_remaining));
            }
            return Poll::Ready(frame.map(|result| result.map_err(Into::into)));
        }
        let Some(watch) = this.watch else { return Poll::Pending };
        watch.poll_expired(cx).map(|rejection| {
            this.inner.set(None);
            Some(Err(rejection))
        })
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

#[cfg(test)]
mod tests;
