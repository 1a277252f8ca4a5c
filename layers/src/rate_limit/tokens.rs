use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::headers::TOKENS;
use super::{Buckets, Picks, Policy, State, refusal};
use crate::{Reason, Rejection};

/// Guesses how many tokens a request will use, prompt and completion. Closures over `&Request<B>` do.
pub trait Estimate<B> {
    /// The guess, taken from the limits at once and corrected when the real number is known.
    fn estimate(&self, request: &Request<B>) -> u64;
}

/// Puts [`TokenLimit`] around a service: so many tokens a minute.
///
/// How many tokens a request uses is known when it has been answered. So an [`Estimate`] is taken first, and a
/// [`TokenReservation`] goes along in the request's extensions, with which the layer that meters corrects it. Debt is
/// carried; a request estimated above the whole limit passes when nothing has been used.
///
/// Any refusal from further in gives the estimate back.
///
/// ```
/// use http::{Extensions, Request, Response};
/// use tollgate_layers::rate_limit::{Buckets, Picks, TokenLimitLayer, TokenReservation};
/// use tollgate_layers::{Reason, Rejection};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Rejection> {
/// let buckets = Buckets::new();
/// let policy = |_: &Extensions| Picks::from_iter([("all", 1000)]);
/// let estimate = |request: &Request<&str>| request.body().len() as u64 / 4 + 100;
/// let service = ServiceBuilder::new().layer(TokenLimitLayer::new(buckets, policy, estimate)).service(service_fn(
///     |request: Request<&'static str>| async move {
///         // What meters the answer does this when it has ended.
///         request.extensions().get::<TokenReservation>().expect("it is limited").settle(1500);
///         Ok::<_, Rejection>(Response::new(()))
///     },
/// ));
/// service.clone().oneshot(Request::new("How are you?")).await?;
/// let refused = service.oneshot(Request::new("And you?")).await.unwrap_err();
/// assert_eq!(refused.reason(), Reason::Tpm);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TokenLimitLayer<P: Policy, E> {
    buckets: Buckets<P::Key>,
    policy: P,
    estimate: E,
}

/// The service of [`TokenLimitLayer`].
#[derive(Clone, Debug)]
pub struct TokenLimit<S, P: Policy, E> {
    inner: S,
    buckets: Buckets<P::Key>,
    policy: P,
    estimate: E,
}

/// What a request has taken from its token limits, to be corrected once. Clones are handles to the same.
///
/// Dropped without a word, the estimate stays taken: a request whose real number nobody learned is not free.
#[derive(Clone)]
pub struct TokenReservation(Arc<dyn Settle>);

pin_project! {
    /// The future of [`TokenLimit`].
    pub struct TokenLimitFuture<F> {
        #[pin]
        state: FutureState<F>,
    }
}

pin_project! {
    #[project = FutureStateProj]
    enum FutureState<F> {
        Passed { #[pin] future: F, taken: Option<(TokenReservation, State)> },
        Refused { rejection: Option<Rejection> },
    }
}

/// Hides the type of the key from whoever settles.
trait Settle: Send + Sync {
    fn settle(&self, actual: u64) -> bool;
    fn estimate(&self) -> u64;
    fn state(&self) -> Option<State>;
}

struct Reserved<K> {
    buckets: Buckets<K>,
    picks: Picks<K>,
    estimate: u64,
    settled: AtomicBool,
}

impl<F, B> Estimate<B> for F
where
    F: Fn(&Request<B>) -> u64,
{
    fn estimate(&self, request: &Request<B>) -> u64 {
        self(request)
    }
}

// === impl TokenReservation ===

impl TokenReservation {
    /// Puts the real number in the place of the estimate. Only the first call counts; true says that it was this one.
    pub fn settle(&self, actual_tokens: u64) -> bool {
        self.0.settle(actual_tokens)
    }

    /// Gives the whole estimate back: nothing was used.
    pub fn cancel(&self) -> bool {
        self.0.settle(0)
    }

    /// What was taken.
    pub fn estimate(&self) -> u64 {
        self.0.estimate()
    }
}

impl fmt::Debug for TokenReservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReservation")
            .field("estimate", &self.estimate())
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone + Send + Sync> Settle for Reserved<K> {
    fn settle(&self, actual: u64) -> bool {
        if self.settled.swap(true, Ordering::AcqRel) {
            return false;
        }
        if actual > self.estimate {
            self.buckets.charge(&self.picks, actual - self.estimate);
        } else {
            self.buckets.give_back(&self.picks, self.estimate - actual);
        }
        true
    }

    fn estimate(&self) -> u64 {
        self.estimate
    }

    fn state(&self) -> Option<State> {
        self.buckets.state(&self.picks)
    }
}

// === impl TokenLimitLayer ===

impl<P, E> TokenLimitLayer<P, E>
where
    P: Policy<Key: Hash + Eq + Clone + Send + Sync + 'static>,
{
    /// A layer that counts in `buckets` what `policy` picks. The limits are tokens a minute.
    pub fn new(buckets: Buckets<P::Key>, policy: P, estimate: E) -> Self {
        Self {
            buckets,
            policy,
            estimate,
        }
    }
}

impl<S, P: Policy + Clone, E: Clone> Layer<S> for TokenLimitLayer<P, E> {
    type Service = TokenLimit<S, P, E>;

    fn layer(&self, inner: S) -> TokenLimit<S, P, E> {
        let (buckets, policy) = (self.buckets.clone(), self.policy.clone());
        TokenLimit {
            inner,
            buckets,
            policy,
            estimate: self.estimate.clone(),
        }
    }
}

// === impl TokenLimit ===

impl<S, P, E, ReqB, ResB> Service<Request<ReqB>> for TokenLimit<S, P, E>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<Rejection>,
    P: Policy<Key: Hash + Eq + Clone + Send + Sync + 'static>,
    E: Estimate<ReqB>,
{
    type Response = Response<ResB>;
    type Error = Rejection;
    type Future = TokenLimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let picks = self.policy.picks(request.extensions());
        if picks.is_empty() {
            return TokenLimitFuture {
                state: FutureState::Passed {
                    future: self.inner.call(request),
                    taken: None,
                },
            };
        }
        let estimate = self.estimate.estimate(&request);
        let state = match self.buckets.take(&picks, estimate) {
            Err(exhausted) => FutureState::Refused {
                rejection: Some(refusal(Reason::Tpm, &TOKENS, &exhausted)),
            },
            Ok(state) => {
                let (buckets, settled) = (self.buckets.clone(), AtomicBool::new(false));
                let reservation = TokenReservation(Arc::new(Reserved {
                    buckets,
                    picks,
                    estimate,
                    settled,
                }));
                request.extensions_mut().insert(reservation.clone());
                FutureState::Passed {
                    future: self.inner.call(request),
                    taken: state.map(|state| (reservation, state)),
                }
            }
        };
        TokenLimitFuture { state }
    }
}

// === impl TokenLimitFuture ===

impl<F, B, E> Future for TokenLimitFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Rejection>,
{
    type Output = Result<Response<B>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (result, taken) = match self.project().state.project() {
            FutureStateProj::Passed { future, taken } => (ready!(future.poll(cx)), taken.take()),
            FutureStateProj::Refused { rejection } => {
                return Poll::Ready(Err(rejection.take().expect("polled after it was ready")));
            }
        };
        let Some((reservation, state)) = taken else {
            return Poll::Ready(result.map_err(Into::into));
        };
        Poll::Ready(match result {
            Ok(mut response) => {
                TOKENS.stamp(response.headers_mut(), &state);
                Ok(response)
            }
            Err(e) => {
                let mut rejection = e.into();
                reservation.cancel();
                TOKENS.stamp(rejection.headers_mut(), &reservation.0.state().unwrap_or(state));
                Err(rejection)
            }
        })
    }
}
