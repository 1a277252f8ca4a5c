//! Turns a panic further in into a refusal, so that one bad request costs one answer and not a connection.
//!
//! Caught are panics in the inner service's `poll_ready` and `call`, in its future and in the body of its answer. Each
//! becomes `internal` (500); from a body, which has its head out, a failed frame. What panicked is dropped at once and
//! never polled again. It stands just inside of `respond`, and needs a build that unwinds (no `panic = "abort"`).
//!
//! The client learns nothing of what happened. [`CatchPanicLayer::on_panic`] is told the message, for a log or a
//! counter; the panic hook of the process has by then printed it with its place.
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tollgate_layers::catch_panic::CatchPanicLayer;
//! use tollgate_layers::{Reason, Rejection};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(CatchPanicLayer::new().on_panic(|message: &str| assert_eq!(message, "no such path: /bad")))
//!     .service(service_fn(|request: Request<()>| async move {
//!         assert!(request.uri() == "/good", "no such path: {}", request.uri());
//!         Ok::<_, Rejection>(Response::new(Empty::<bytes::Bytes>::new()))
//!     }));
//! let request = |path: &str| Request::get(path).body(()).expect("a request");
//! assert!(service.clone().oneshot(request("/good")).await.is_ok());
//! let refused = service.oneshot(request("/bad")).await.err().expect("it panicked");
//! assert_eq!(refused.reason(), Reason::Internal);
//! # }
//! ```

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Reason, Rejection};

/// Is told of each panic that was caught. Closures over `&str` are hooks; `()` is the one that does nothing.
pub trait OnPanic: Clone {
    /// `message` is what was given to `panic!`, or a stand-in where that was no text. It may hold what a client sent.
    fn on_panic(&self, message: &str);
}

/// Puts [`CatchPanic`] around a service; see the [module](self).
#[derive(Clone, Debug, Default)]
pub struct CatchPanicLayer<H = ()> {
    hook: H,
}

/// The service of [`CatchPanicLayer`].
#[derive(Clone, Debug)]
pub struct CatchPanic<S, H = ()> {
    inner: S,
    hook: H,
}

pin_project! {
    /// The future of [`CatchPanic`].
    pub struct ResponseFuture<F, H> {
        #[pin]
        state: State<F>,
        hook: H,
    }
}

pin_project! {
    /// The body of [`CatchPanic`]'s answers.
    pub struct ResponseBody<B, H> {
        #[pin]
        state: State<B>,
        hook: H,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<T> {
        Running { #[pin] inner: T },
        // It panicked in `call`: there is no future, only what is to be said.
        Panicked { rejection: Option<Rejection> },
        Dropped,
    }
}

// === impl OnPanic ===

impl OnPanic for () {
    fn on_panic(&self, _: &str) {}
}

impl<F: Fn(&str) + Clone> OnPanic for F {
    fn on_panic(&self, message: &str) {
        self(message);
    }
}

/// Runs `f`; a panic in it is told to `hook` and becomes a rejection.
///
/// What `f` touches may be left half changed: callers must not use it again, only drop it.
fn guarded<T>(hook: &impl OnPanic, f: impl FnOnce() -> T) -> Result<T, Rejection> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        hook.on_panic(message(&*payload));
        Rejection::new(Reason::Internal)
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "a panic without a message",
    }
}

// === impl CatchPanicLayer ===

impl CatchPanicLayer {
    /// A layer that tells nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same layer with `hook` told of each panic.
    pub fn on_panic<H: OnPanic>(self, hook: H) -> CatchPanicLayer<H> {
        CatchPanicLayer { hook }
    }
}

impl<S, H: Clone> Layer<S> for CatchPanicLayer<H> {
    type Service = CatchPanic<S, H>;

    fn layer(&self, inner: S) -> CatchPanic<S, H> {
        CatchPanic {
            inner,
            hook: self.hook.clone(),
        }
    }
}

// === impl CatchPanic ===

impl<S, H, ReqB, ResB> Service<Request<ReqB>> for CatchPanic<S, H>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<Rejection>,
    H: OnPanic,
{
    type Response = Response<ResponseBody<ResB, H>>;
    type Error = Rejection;
    type Future = ResponseFuture<S::Future, H>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        match guarded(&self.hook, || self.inner.poll_ready(cx)) {
            Ok(poll) => poll.map_err(Into::into),
            Err(rejection) => Poll::Ready(Err(rejection)),
        }
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let state = match guarded(&self.hook, || self.inner.call(request)) {
            Ok(inner) => State::Running { inner },
            Err(rejection) => State::Panicked {
                rejection: Some(rejection),
            },
        };
        ResponseFuture {
            state,
            hook: self.hook.clone(),
        }
    }
}

// === impl State ===

impl<T> State<T> {
    /// Drops what panicked. It was left in a state nobody foresaw, so that its drop may panic, too.
    fn abandon(mut self: Pin<&mut Self>, hook: &impl OnPanic) {
        // Were `set` to unwind, the slot has its new value all the same: `Pin::set` writes it on the way out.
        let _ = guarded(hook, || self.set(Self::Dropped));
    }
}

// === impl ResponseFuture ===

impl<F, H, B, E> Future for ResponseFuture<F, H>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Rejection>,
    H: OnPanic,
{
    type Output = Result<Response<ResponseBody<B, H>>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let polled = match this.state.as_mut().project() {
            StateProj::Running { inner } => guarded(this.hook, || inner.poll(cx)),
            StateProj::Panicked { rejection } => Err(rejection.take().expect("polled after it was ready")),
            StateProj::Dropped => panic!("polled after it was ready"),
        };
        match polled {
            Ok(poll) => poll.map(|result| {
                let body = |inner| ResponseBody {
                    state: State::Running { inner },
                    hook: this.hook.clone(),
                };
                result.map(|response| response.map(body)).map_err(Into::into)
            }),
            Err(rejection) => {
                this.state.abandon(this.hook);
                Poll::Ready(Err(rejection))
            }
        }
    }
}

// === impl ResponseBody ===

impl<B, H> Body for ResponseBody<B, H>
where
    B: Body,
    B::Error: Into<Rejection>,
    H: OnPanic,
{
    type Data = B::Data;
    type Error = Rejection;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Rejection>>> {
        let mut this = self.project();
        let StateProj::Running { inner } = this.state.as_mut().project() else {
            return Poll::Ready(None);
        };
        match guarded(this.hook, || inner.poll_frame(cx)) {
            Ok(poll) => poll.map(|frame| frame.map(|result| result.map_err(Into::into))),
            Err(rejection) => {
                this.state.abandon(this.hook);
                Poll::Ready(Some(Err(rejection)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Running { inner } => inner.is_end_stream(),
            State::Panicked { .. } | State::Dropped => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Running { inner } => inner.size_hint(),
            State::Panicked { .. } | State::Dropped => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty, Full};
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// Counts its drops, and panics in its drop when told to.
    struct Held(Arc<AtomicUsize>, bool);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            assert!(!self.1, "in drop");
        }
    }

    struct Bad(#[expect(dead_code, reason = "held to be dropped")] Held);

    impl Body for Bad {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            panic!("in body")
        }
    }

    fn told() -> (Arc<Mutex<Vec<String>>>, impl OnPanic) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let hook = {
            let log = log.clone();
            move |message: &str| log.lock().unwrap().push(message.to_owned())
        };
        (log, hook)
    }

    #[tokio::test]
    async fn in_call() {
        #[derive(Clone)]
        struct Panics;
        impl Service<Request<()>> for Panics {
            type Response = Response<Empty<Bytes>>;
            type Error = Infallible;
            type Future = std::future::Ready<Result<Self::Response, Infallible>>;
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }
            fn call(&mut self, _: Request<()>) -> Self::Future {
                panic!("in call")
            }
        }
        let (log, hook) = told();
        let refused = CatchPanicLayer::new()
            .on_panic(hook)
            .layer(Panics)
            .oneshot(Request::new(()))
            .await;
        assert_eq!(refused.err().unwrap().reason(), Reason::Internal);
        assert_eq!(*log.lock().unwrap(), ["in call"]);
    }

    #[tokio::test]
    async fn in_the_future_and_in_its_drop() {
        let drops = Arc::new(AtomicUsize::new(0));
        let (log, hook) = told();
        let held = drops.clone();
        let inner = service_fn(move |_: Request<()>| {
            let held = Held(held.clone(), true);
            std::future::poll_fn(move |_| -> Poll<Result<Response<Empty<Bytes>>, Infallible>> {
                let _keep = &held;
                panic!("in {}", "future")
            })
        });
        let mut future = Box::pin(
            CatchPanicLayer::new()
                .on_panic(hook)
                .layer(inner)
                .oneshot(Request::new(())),
        );
        let refused = (&mut future).await;
        assert_eq!(refused.err().unwrap().reason(), Reason::Internal);
        drop(future);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        assert_eq!(*log.lock().unwrap(), ["in future", "in drop"]);
    }

    #[tokio::test]
    async fn in_the_body() {
        let drops = Arc::new(AtomicUsize::new(0));
        let held = drops.clone();
        let inner = service_fn(move |_: Request<()>| {
            let body = Bad(Held(held.clone(), false));
            async { Ok::<_, Rejection>(Response::new(body)) }
        });
        let response = CatchPanicLayer::new()
            .layer(inner)
            .oneshot(Request::new(()))
            .await
            .unwrap();
        let mut body = response.into_body();
        assert!(!body.is_end_stream());
        assert_eq!(body.frame().await.unwrap().unwrap_err().reason(), Reason::Internal);
        assert_eq!(drops.load(Ordering::SeqCst), 1, "dropped as soon as it failed");
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn what_does_not_panic_passes() {
        let inner = service_fn(|request: Request<bool>| async move {
            if *request.body() {
                Ok(Response::new(Full::new(Bytes::from("abc"))))
            } else {
                Err(Reason::Rpm)
            }
        });
        let service = CatchPanicLayer::new().layer(inner);
        let body = service.clone().oneshot(Request::new(true)).await.unwrap().into_body();
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        assert_eq!(
            service.oneshot(Request::new(false)).await.err().unwrap().reason(),
            Reason::Rpm
        );
    }
}
