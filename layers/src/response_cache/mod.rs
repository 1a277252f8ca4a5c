//! Answers a request with what an equal one was answered before.
//!
//! Equal are requests of one owner with the same method, path and query, the same headers that answers
//! [vary](ResponseCacheLayer::vary) by, and the same body; in JSON neither the order of keys nor spaces nor escapes
//! count. A [`Policy`] says whether a request is one to keep answers to and whose it is: by default of thought answers
//! are never shared, since whoever shares them shows one tenant's to another ([`Scope::Shared`] does so by choice).
//!
//! Kept are whole answers with a 2xx: streams with their chunks as they came, if they said that they were complete; no
//! stream or JSON that says that it failed; nothing encoded, with a cookie, or larger than an entry may be.
//! `Cache-Control` is obeyed (RFC 9111): `no-store`, `no-cache` and `max-age` of request and answer, `private` of an
//! answer that would be shared; so is [`DoNotKeep`] in an answer's extensions. An answer that was kept bears `age`, and
//! [`Kept`] in its extensions, by which a meter tells that no backend did anything for it.
//!
//! Of equal requests at one time one goes to the service, and the others wait for its whole answer, though no longer
//! than [patience](ResponseCacheLayer::patience) has it. If its client leaves, another goes in its place; if its answer
//! cannot be kept, each goes for itself.
//!
//! It never refuses. It needs the body [held](crate::buffer) and Tokio's timer, and stands inside of all that must
//! also count or refuse what is answered from here, outside of whatever reaches a backend.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate_layers::buffer::Held;
//! use tollgate_layers::response_cache::{Kept, ResponseCache, ResponseCacheLayer, Scope};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #[derive(Clone)]
//! struct User(u64);
//!
//! let cache = ResponseCache::new(64 << 20, Duration::from_secs(600));
//! let by_user = |request: &Request<Held>| request.extensions().get().map(|User(id)| Scope::Owner(*id));
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//! let service = ServiceBuilder::new().layer(ResponseCacheLayer::new(cache, by_user)).service(service_fn(
//!     async |_: Request<Held>| {
//!         let call = CALLS.fetch_add(1, Ordering::Relaxed);
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from(format!("call {call}"))))
//!     },
//! ));
//! let ask = async |user, body: &'static str| {
//!     let request = Request::post("/").extension(User(user)).body(Held::from(Bytes::from(body))).expect("a request");
//!     let answer = service.clone().oneshot(request).await.expect("infallible");
//!     let kept = answer.extensions().get::<Kept>().is_some();
//!     (kept, answer.into_body().collect().await.expect("infallible").to_bytes())
//! };
//! assert_eq!(ask(1, r#"{"model":"a","n":1}"#).await, (false, Bytes::from("call 0")));
//! assert_eq!(ask(1, r#"{ "n": 1, "model": "a" }"#).await, (true, Bytes::from("call 0")));
//! assert_eq!(ask(2, r#"{"model":"a","n":1}"#).await, (false, Bytes::from("call 1")));
//! # Ok(()) }
//! ```

mod body;
mod control;
mod key;
mod store;
mod whole;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AGE};
use http::{Extensions, HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tower_layer::Layer;
use tower_service::Service;

use self::body::Recorder;
pub use self::body::ResponseBody;
use self::control::Control;
use self::key::Key;
pub use self::store::ResponseCache;
use self::store::{Entry, Flight, Joined, Landing, Shared};
use crate::buffer::Held;

/// Who may be answered with an answer that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Its owner alone: whatever tells owners apart, such as an account's row id.
    Owner(u64),
    /// Everybody who sends the same request.
    Shared,
}

/// Says whether answers to a request may be kept, and for whom. Implemented for closures.
pub trait Policy {
    /// `None` lets the request pass, as if there were no cache.
    fn scope(&self, request: &Request<Held>) -> Option<Scope>;

    /// For how long at most its answer is kept, within the [cache](ResponseCache)'s own time. By default for that.
    fn ttl(&self, request: &Request<Held>) -> Option<Duration> {
        let _ = request;
        None
    }
}

/// The mark of an answer that was kept, in its extensions: no backend did anything for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How old it is.
    pub age: Duration,
}

/// In the extensions of an answer: it is not to be kept, whatever its headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoNotKeep;

/// A whole answer, as it is looked at before it is kept.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Answer<'a> {
    /// Its status, which is a success.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
    /// What goes along with it ([`ResponseCacheLayer::carry`]).
    pub extensions: &'a Extensions,
}

type Keep = Arc<dyn Fn(&Answer<'_>) -> bool + Send + Sync>;

/// Takes something along from one answer's extensions to another's.
type Carry = fn(&Extensions, &mut Extensions);

/// Puts [`CacheResponses`] around a service; see the [module](self).
#[derive(Clone)]
pub struct ResponseCacheLayer<P> {
    policy: P,
    settings: Settings,
}

/// The service of [`ResponseCacheLayer`].
#[derive(Clone)]
pub struct CacheResponses<S, P> {
    inner: S,
    policy: P,
    settings: Settings,
}

#[derive(Clone)]
struct Settings {
    shared: Arc<Shared>,
    vary: Arc<[HeaderName]>,
    patience: Duration,
    keep: Keep,
    carry: Option<Carry>,
}

pin_project! {
    /// The future of [`CacheResponses`].
    pub struct ResponseFuture<F, R> {
        #[pin]
        state: State<F>,
        // Of a request that waits for another's answer.
        waiting: Option<Pin<Box<dyn Future<Output = R> + Send>>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Kept { entry: Option<Arc<Entry>> },
        Called { #[pin] future: F, fetch: Option<Fetch> },
        Waiting,
    }
}

/// What is to become of the answer of a request that goes to the service.
struct Fetch {
    settings: Settings,
    key: Key,
    scope: Scope,
    ttl: Duration,
    flight: Option<Flight>,
}

// === impl Policy ===

impl<F: Fn(&Request<Held>) -> Option<Scope>> Policy for F {
    fn scope(&self, request: &Request<Held>) -> Option<Scope> {
        self(request)
    }
}

// === impl Answer ===

impl Answer<'_> {
    /// Whether it is one to keep by the rules for streams and JSON in the [module](self).
    pub fn is_whole(&self) -> bool {
        whole::is_whole(self)
    }
}

// === impl ResponseCacheLayer ===

impl<P: Policy> ResponseCacheLayer<P> {
    /// A layer that keeps in `cache` what `policy` lets it.
    pub fn new(cache: ResponseCache, policy: P) -> Self {
        let vary = [ACCEPT]
            .into_iter()
            .chain(["anthropic-beta", "anthropic-version", "openai-beta"].map(HeaderName::from_static));
        let settings = Settings {
            shared: cache.0,
            vary: vary.collect(),
            patience: Duration::from_secs(30),
            keep: Arc::new(whole::is_whole),
            carry: None,
        };
        Self { policy, settings }
    }

    /// The headers of a request by which answers differ, in place of `accept`, `anthropic-beta`, `anthropic-version` and
    /// `openai-beta`. An answer that says it varies by others is not kept.
    pub fn vary(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.settings.vary = headers.into_iter().collect();
        self
    }

    /// How long a request waits for the answer to an equal one: 30 s, if not set. Without any, none waits.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// Keeps what an answer's extensions have of this type with it, for whoever meters: there is one such type.
    pub fn carry<T: Clone + Send + Sync + 'static>(mut self) -> Self {
        self.settings.carry = Some(|from, to| {
            if let Some(value) = from.get::<T>() {
                to.insert(value.clone());
            }
        });
        self
    }

    /// Decides about each answer that could be kept, in place of [`Answer::is_whole`].
    pub fn keep_when(mut self, keep: impl Fn(&Answer<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.settings.keep = Arc::new(keep);
        self
    }
}

impl<P: fmt::Debug> fmt::Debug for ResponseCacheLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseCacheLayer")
            .field("policy", &self.policy)
            .field("vary", &self.settings.vary)
            .field("patience", &self.settings.patience)
            .finish_non_exhaustive()
    }
}

impl<S, P: Clone> Layer<S> for ResponseCacheLayer<P> {
    type Service = CacheResponses<S, P>;

    fn layer(&self, inner: S) -> CacheResponses<S, P> {
        CacheResponses {
            inner,
            policy: self.policy.clone(),
            settings: self.settings.clone(),
        }
    }
}

// === impl CacheResponses ===

type Answered<B, E> = Result<Response<ResponseBody<B>>, E>;

impl<S, P, B> Service<Request<Held>> for CacheResponses<S, P>
where
    S: Service<Request<Held>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    P: Policy,
    B: Body<Data = Bytes> + 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, Answered<B, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Held>) -> Self::Future {
        // First, so that a request which has nothing to do with a cache costs no more than this question.
        let Some(scope) = self.policy.scope(&request) else {
            return ResponseFuture::called(self.inner.call(request), None);
        };
        let control = Control::read(request.headers());
        if !control::may_ask(request.headers(), control) {
            return ResponseFuture::called(self.inner.call(request), None);
        }
        let ttl = self.policy.ttl(&request).unwrap_or(Duration::MAX);
        let key = key::of(&request, scope, &self.settings.vary);
        let fetch = |flight| Fetch {
            settings: self.settings.clone(),
            key,
            scope,
            ttl,
            flight,
        };
        // Who wants no kept answer wants none that is on its way either, but what comes of it is news to others.
        if control.no_cache {
            return ResponseFuture::called(self.inner.call(request), Some(fetch(None)));
        }
        let shared = &self.settings.shared;
        if let Some(entry) = shared.get(&key, control.max_age) {
            return ResponseFuture::kept(entry);
        }
        match shared.join(key) {
            Joined::Leads(flight) => {
                // The answer may have come between the look and the lead.
                if let Some(entry) = shared.get(&key, control.max_age) {
                    return ResponseFuture::kept(entry);
                }
                ResponseFuture::called(self.inner.call(request), Some(fetch(Some(flight))))
            }
            Joined::Follows(leader) => {
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                let waiting = follow(ready, request, leader, control.max_age, fetch(None));
                ResponseFuture {
                    state: State::Waiting,
                    waiting: Some(Box::pin(waiting)),
                }
            }
        }
    }
}

/// Waits for what becomes of `leader`; then answers with it, or with what `inner` says.
async fn follow<S, B>(
    mut inner: S,
    request: Request<Held>,
    mut leader: watch::Receiver<Landing>,
    max_age: Option<Duration>,
    mut fetch: Fetch,
) -> Answered<B, S::Error>
where
    S: Service<Request<Held>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    let deadline = Instant::now() + fetch.settings.patience;
    while fetch.flight.is_none() {
        let landed = leader.wait_for(|landing| !matches!(landing, Landing::Flying));
        let landing = match timeout_at(deadline, landed).await {
            Err(_) => break,
            Ok(landing) => landing.map_or(Landing::Left, |landing| landing.clone()),
        };
        match landing {
            Landing::Stored(entry) if max_age.is_none_or(|max| entry.age() <= max) => return Ok(replayed(&entry)),
            Landing::Stored(_) | Landing::Unfit => break,
            Landing::Flying | Landing::Left => match fetch.settings.shared.join(fetch.key) {
                Joined::Leads(flight) => fetch.flight = Some(flight),
                Joined::Follows(next) => leader = next,
            },
        }
        // Another may have taken the place, and been answered, before this one woke.
        if fetch.flight.is_some()
            && let Some(entry) = fetch.settings.shared.get(&fetch.key, max_age)
        {
            return Ok(replayed(&entry));
        }
    }
    let answer = inner.call(request).await;
    fetch.answered(answer)
}

// === impl Fetch ===

impl Fetch {
    /// Has the answer recorded, if it may be kept.
    fn answered<B, E>(mut self, answer: Result<Response<B>, E>) -> Answered<B, E>
    where
        B: Body<Data = Bytes>,
    {
        let Settings {
            shared,
            vary,
            keep,
            carry,
            ..
        } = self.settings;
        let may = |response: &&Response<B>| response.extensions().get::<DoNotKeep>().is_none();
        let kept = answer.as_ref().ok().filter(may).and_then(|response| {
            let (status, headers) = (response.status(), response.headers());
            control::keeps(status, headers, self.scope, &vary, shared.ttl().min(self.ttl))
        });
        let (Some(times), Ok(response)) = (kept, &answer) else {
            if let Some(flight) = self.flight.take() {
                flight.land(Landing::Unfit);
            }
            return answer.map(|response| response.map(ResponseBody::passing));
        };
        let head = (response.status(), response.headers());
        let mut recorder = Recorder::new(shared, self.key, self.flight.take(), keep, head, times);
        if let Some(carry) = carry {
            carry(response.extensions(), &mut recorder.extensions);
        }
        answer.map(|response| response.map(|body| ResponseBody::recorded(body, recorder)))
    }
}

fn replayed<B: Body<Data = Bytes>>(entry: &Arc<Entry>) -> Response<ResponseBody<B>> {
    let age = entry.age();
    let mut response = Response::new(ResponseBody::kept(entry.clone()));
    *response.status_mut() = entry.status;
    response.headers_mut().clone_from(&entry.headers);
    response.headers_mut().insert(AGE, age.as_secs().into());
    response.extensions_mut().clone_from(&entry.extensions);
    response.extensions_mut().insert(Kept { age });
    response
}

// === impl ResponseFuture ===

impl<F, R> ResponseFuture<F, R> {
    fn called(future: F, fetch: Option<Fetch>) -> Self {
        Self {
            state: State::Called { future, fetch },
            waiting: None,
        }
    }

    fn kept(entry: Arc<Entry>) -> Self {
        Self {
            state: State::Kept { entry: Some(entry) },
            waiting: None,
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, Answered<B, E>>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Answered<B, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(waiting) = this.waiting {
            return waiting.as_mut().poll(cx);
        }
        match this.state.project() {
            StateProj::Kept { entry } => Poll::Ready(Ok(replayed(&entry.take().expect("polled after it was ready")))),
            StateProj::Called { future, fetch } => {
                let answer = ready!(future.poll(cx));
                Poll::Ready(match fetch.take() {
                    Some(fetch) => fetch.answered(answer),
                    None => answer.map(|response| response.map(ResponseBody::passing)),
                })
            }
            StateProj::Waiting => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
