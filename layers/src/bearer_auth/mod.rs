//! Finds the API key of a request and asks a verifier whose it is.
//!
//! A key comes as `Authorization: Bearer KEY` (RFC 6750, section 2.1) or as `x-api-key: KEY`. Both may be sent if they
//! agree. Refused are `key_missing` (401) without a key; `key_invalid` (401) when two keys differ, a header comes twice,
//! the scheme is another or the key is no visible ASCII; and whatever the verifier refuses with. Every 401 bears
//! `www-authenticate: Bearer`.
//!
//! The [`Verify`]'s principal goes into the request's extensions as itself, and the credential headers are taken out of
//! the request, so that no layer further in can log or forward them. It stands inside of `client_addr`, outside of
//! whatever asks who is calling.
//!
//! A verifier that knows the answer says so at once ([`Verdict::Now`]): then nothing is allocated and no service is
//! cloned. One that has to ask elsewhere returns a future ([`Verdict::Later`]). [`StaticKeys`] is a fixed list of keys
//! by their hash.
//!
//! ```
//! use http::{Request, Response};
//! use tollgate_layers::bearer_auth::{ApiKey, BearerAuthLayer, StaticKeys};
//! use tollgate_layers::{Reason, Rejection};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! #[derive(Clone)]
//! struct User(&'static str);
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = StaticKeys::from_iter([(ApiKey::new("sk-1").sha256(), User("ada"))]);
//! let service = ServiceBuilder::new().layer(BearerAuthLayer::new(keys)).service(service_fn(
//!     |request: Request<()>| async move {
//!         assert!(!request.headers().contains_key("authorization"));
//!         let User(name) = request.extensions().get().expect("a principal");
//!         Ok::<_, Rejection>(Response::new(*name))
//!     },
//! ));
//! let with = |key| Request::builder().header("authorization", format!("Bearer {key}")).body(());
//! assert_eq!(service.clone().oneshot(with("sk-1")?).await?.into_body(), "ada");
//! let refused = service.oneshot(with("sk-2")?).await.unwrap_err();
//! assert_eq!(refused.reason(), Reason::KeyInvalid);
//! # Ok(()) }
//! ```

mod key;
mod static_keys;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Extensions, HeaderValue, Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use self::key::ApiKey;
pub use self::static_keys::StaticKeys;
use crate::Rejection;

/// Knows whose a key is. Closures of the same shape are verifiers; a closure that always knows at once returns
/// `Verdict<P>`.
pub trait Verify {
    /// Who is calling: what layers further in find in the request's extensions.
    type Principal: Clone + Send + Sync + 'static;
    /// The answer that takes a while. It cannot borrow the key: take its [hash](ApiKey::sha256) along.
    type Future: Future<Output = Result<Self::Principal, Rejection>>;

    /// Looks `key` up. Refuse an unknown key with `key_invalid`.
    fn verify(&self, key: ApiKey<'_>, extensions: &Extensions) -> Verdict<Self::Principal, Self::Future>;
}

/// What a verifier says about a key.
#[derive(Debug)]
pub enum Verdict<P, F = std::future::Ready<Result<P, Rejection>>> {
    /// Known without asking.
    Now(Result<P, Rejection>),
    /// To be known when this future is ready. The request waits, its body unread.
    Later(F),
}

/// Puts [`BearerAuth`] around a service; see the [module](self).
#[derive(Clone, Debug)]
pub struct BearerAuthLayer<V> {
    verifier: V,
}

/// The service of [`BearerAuthLayer`].
#[derive(Clone, Debug)]
pub struct BearerAuth<S, V> {
    inner: S,
    verifier: V,
}

pin_project! {
    /// The future of [`BearerAuth`].
    // Not boxed: the request that waits takes the room which the inner future takes afterwards, and that is the larger.
    pub struct ResponseFuture<S, V, B>
    where
        S: Service<Request<B>>,
        V: Verify,
    {
        #[pin]
        state: State<S, S::Future, V::Future, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F, V, B> {
        Verifying { #[pin] verdict: V, waiting: Option<(S, Request<B>)> },
        Passed { #[pin] future: F },
        Refused { rejection: Option<Rejection> },
    }
}

// === impl Verify ===

impl<C, P, F> Verify for C
where
    C: Fn(ApiKey<'_>, &Extensions) -> Verdict<P, F>,
    P: Clone + Send + Sync + 'static,
    F: Future<Output = Result<P, Rejection>>,
{
    type Principal = P;
    type Future = F;

    fn verify(&self, key: ApiKey<'_>, extensions: &Extensions) -> Verdict<P, F> {
        self(key, extensions)
    }
}

// === impl BearerAuthLayer ===

impl<V: Verify> BearerAuthLayer<V> {
    /// A layer that asks `verifier` about every key. The verifier is cloned with the service: put what is large behind
    /// an `Arc`.
    pub fn new(verifier: V) -> Self {
        Self { verifier }
    }
}

impl<S, V: Clone> Layer<S> for BearerAuthLayer<V> {
    type Service = BearerAuth<S, V>;

    fn layer(&self, inner: S) -> BearerAuth<S, V> {
        BearerAuth {
            inner,
            verifier: self.verifier.clone(),
        }
    }
}

// === impl BearerAuth ===

impl<S, V, ReqB, ResB> Service<Request<ReqB>> for BearerAuth<S, V>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone,
    S::Error: Into<Rejection>,
    V: Verify,
{
    type Response = Response<ResB>;
    type Error = Rejection;
    type Future = ResponseFuture<S, V, ReqB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        // Taken out before it is known whether they are good: what is refused is not looked at again.
        let verdict = match key::take(request.headers_mut()) {
            Ok(key) => self.verifier.verify(key.borrow(), request.extensions()),
            Err(reason) => Verdict::Now(Err(reason.into())),
        };
        let state = match verdict {
            Verdict::Now(Ok(principal)) => {
                request.extensions_mut().insert(principal);
                State::Passed {
                    future: self.inner.call(request),
                }
            }
            Verdict::Now(Err(rejection)) => State::Refused {
                rejection: Some(rejection),
            },
            Verdict::Later(verdict) => {
                // The instance that was polled ready waits with the request; its clone takes its place here.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                State::Verifying {
                    verdict,
                    waiting: Some((ready, request)),
                }
            }
        };
        ResponseFuture { state }
    }
}

// === impl ResponseFuture ===

impl<S, V, ReqB, ResB> Future for ResponseFuture<S, V, ReqB>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<Rejection>,
    V: Verify,
{
    type Output = Result<Response<ResB>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Verifying { verdict, waiting } => match ready!(verdict.poll(cx)) {
                    Ok(principal) => {
                        let (mut inner, mut request) = waiting.take().expect("polled after it was ready");
                        request.extensions_mut().insert(principal);
                        State::Passed {
                            future: inner.call(request),
                        }
                    }
                    Err(rejection) => State::Refused {
                        rejection: Some(rejection),
                    },
                },
                StateProj::Passed { future } => return future.poll(cx).map_err(Into::into),
                StateProj::Refused { rejection } => {
                    return Poll::Ready(Err(challenge(rejection.take().expect("polled after it was ready"))));
                }
            };
            state.set(next);
        }
    }
}

/// A 401 says what would be accepted (RFC 9110, section 15.5.2).
fn challenge(mut rejection: Rejection) -> Rejection {
    if rejection.status() == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer");
        rejection
            .headers_mut()
            .entry(header::WWW_AUTHENTICATE)
            .or_insert(challenge);
    }
    rejection
}

#[cfg(test)]
mod tests;
