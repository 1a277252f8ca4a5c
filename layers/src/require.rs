//! A decision made at once, given as a closure: the request passes, or it is refused with the closure's [`Rejection`].
//!
//! The decision may look at and change the whole request; it must not block. Nothing is allocated for a request that
//! passes. It stands wherever what the decision looks at has been put into the request.
//!
//! ```
//! use http::{Method, Request, Response};
//! use tollgate_layers::require::RequireLayer;
//! use tollgate_layers::{Reason, Rejection};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let only_post = |request: &mut Request<()>| match *request.method() {
//!     Method::POST => Ok(()),
//!     _ => Err(Rejection::new(Reason::MethodNotAllowed)),
//! };
//! let service = ServiceBuilder::new()
//!     .layer(RequireLayer::new(only_post))
//!     .service(service_fn(|_: Request<()>| async { Ok::<_, Rejection>(Response::new(())) }));
//! let request = |method: Method| Request::builder().method(method).body(()).expect("a request");
//! assert!(service.clone().oneshot(request(Method::POST)).await.is_ok());
//! let refused = service.oneshot(request(Method::GET)).await.unwrap_err();
//! assert_eq!(refused.status(), 405);
//! # }
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::Rejection;

/// A decision about a request. Closures over `&mut Request<B>` are decisions; implement the trait for one that is
/// generic over the body.
pub trait Decide<B> {
    /// Passes the request, changed or not, or refuses it.
    fn decide(&self, request: &mut Request<B>) -> Result<(), Rejection>;
}

/// Puts [`Require`] around a service; see the [module](self).
#[derive(Clone, Debug)]
pub struct RequireLayer<D> {
    decide: D,
}

/// The service of [`RequireLayer`].
#[derive(Clone, Debug)]
pub struct Require<S, D> {
    inner: S,
    decide: D,
}

pin_project! {
    /// The future of a layer that decides at once: the inner service's, or the refusal.
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Passed { #[pin] future: F },
        Refused { rejection: Option<Rejection> },
    }
}

impl<F, B> Decide<B> for F
where
    F: Fn(&mut Request<B>) -> Result<(), Rejection>,
{
    fn decide(&self, request: &mut Request<B>) -> Result<(), Rejection> {
        self(request)
    }
}

// === impl RequireLayer ===

impl<D> RequireLayer<D> {
    /// A layer that asks `decide` about every request.
    pub fn new(decide: D) -> Self {
        Self { decide }
    }
}

impl<S, D: Clone> Layer<S> for RequireLayer<D> {
    type Service = Require<S, D>;

    fn layer(&self, inner: S) -> Require<S, D> {
        Require {
            inner,
            decide: self.decide.clone(),
        }
    }
}

// === impl Require ===

impl<S, D, ReqB, ResB> Service<Request<ReqB>> for Require<S, D>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<Rejection>,
    D: Decide<ReqB>,
{
    type Response = Response<ResB>;
    type Error = Rejection;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        match self.decide.decide(&mut request) {
            Ok(()) => ResponseFuture::passed(self.inner.call(request)),
            Err(rejection) => ResponseFuture::refused(rejection),
        }
    }
}

// === impl ResponseFuture ===

impl<F> ResponseFuture<F> {
    pub(crate) fn passed(future: F) -> Self {
        Self {
            state: State::Passed { future },
        }
    }

    pub(crate) fn refused(rejection: Rejection) -> Self {
        Self {
            state: State::Refused {
                rejection: Some(rejection),
            },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Rejection>,
{
    type Output = Result<Response<B>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Passed { future } => future.poll(cx).map_err(Into::into),
            StateProj::Refused { rejection } => Poll::Ready(Err(rejection.take().expect("polled after it was ready"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::Reason;

    #[tokio::test]
    async fn a_refused_request_never_gets_in_and_a_changed_one_does() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let inner = service_fn(move |request: Request<u32>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if request.into_body() < 10 {
                    Ok(Response::new(()))
                } else {
                    Err(Reason::Overloaded)
                }
            }
        });
        let service = RequireLayer::new(|request: &mut Request<u32>| {
            *request.body_mut() += 1;
            if *request.body() == 1 {
                Err(Reason::ModelMissing.into())
            } else {
                Ok(())
            }
        })
        .layer(inner);
        let outcome = async |body| {
            service
                .clone()
                .oneshot(Request::new(body))
                .await
                .map(drop)
                .map_err(|r| r.reason())
        };

        assert_eq!(outcome(0).await, Err(Reason::ModelMissing));
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        assert_eq!(outcome(8).await, Ok(()));
        assert_eq!(outcome(9).await, Err(Reason::Overloaded), "the inner error passes");
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }
}
