//! Answers that are kept: of which models, for whom and how long, and what is written down of one that is given again.
//!
//! The cache is the stack's own, so that a reload, which may have sent a model elsewhere, begins with an empty one. An
//! answer by another model than the one asked for is not kept: not everybody who may call the one may call the other.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use http::header::{ACCEPT, HeaderName, HeaderValue};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tollgate_layers::Rejection;
use tollgate_layers::buffer::Held;
use tollgate_layers::response_cache::{Kept, Policy, ResponseCache, ResponseCacheLayer, Scope};
use tower::{Layer, Service};

use super::attempt::Call;
use crate::config::{Cache, Config};
use crate::telemetry::Tokens;
use crate::wiring::Caller;

/// Whether an answer was kept from before: `hit` or `miss`, of models that have a cache.
const HEADER: HeaderName = HeaderName::from_static("x-tollgate-cache");

/// What an answer has used, once that is known: goes along with the answer. Nothing, where it is not kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent(Option<Arc<OnceLock<Use>>>);

#[derive(Clone, Copy, Debug)]
struct Use {
    tokens: Tokens,
    /// It ended where its caller's credit did. It would have gone on for another, or for the same one tomorrow.
    shortened: bool,
}

/// As each model is configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByModel;

/// Stands outside of the cache and sees which answers were kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoteLayer;

#[derive(Clone, Debug)]
pub(super) struct Note<S>(S);

pin_project! {
    pub(super) struct Noting<F> {
        #[pin]
        inner: F,
        // Of a model with a cache.
        call: Option<Call>,
    }
}

/// The cache of a configuration.
pub(super) fn layer(config: &Config) -> ResponseCacheLayer<ByModel> {
    let cache = ResponseCache::new(config.server.max_cached, Cache::LONGEST);
    // All that is passed on to a backend and may change what it says.
    let passed = config.backends.iter().flat_map(|backend| backend.pass_headers.clone());
    let always = ["anthropic-beta", "anthropic-version", "openai-beta"].map(HeaderName::from_static);
    let vary: BTreeSet<_> = passed
        .chain(always)
        .chain([ACCEPT])
        .map(|name| name.as_str().to_owned())
        .collect();
    ResponseCacheLayer::new(cache, ByModel)
        .vary(vary.iter().filter_map(|name| name.parse().ok()))
        .carry::<Spent>()
        .keep_when(|answer| {
            let spent = answer.extensions.get::<Spent>().and_then(Spent::get);
            answer.is_whole() && spent.is_none_or(|spent| !spent.shortened)
        })
}

fn cache_of(request: &Request<Held>) -> Option<Cache> {
    request.extensions().get::<Call>()?.model.config.cache
}

impl Policy for ByModel {
    fn scope(&self, request: &Request<Held>) -> Option<Scope> {
        if cache_of(request)?.shared {
            return Some(Scope::Shared);
        }
        let caller = request.extensions().get::<Caller>()?;
        Some(Scope::Owner(caller.account_number()))
    }

    fn ttl(&self, request: &Request<Held>) -> Option<std::time::Duration> {
        cache_of(request).map(|cache| cache.ttl)
    }
}

impl Spent {
    /// Of an answer that may be kept.
    pub(super) fn of(cache: Option<Cache>) -> Self {
        Self(cache.map(|_| Arc::default()))
    }

    pub(super) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn set(&self, tokens: Tokens, shortened: bool) {
        if let Some(spent) = &self.0 {
            // An answer is settled once.
            let _ = spent.set(Use { tokens, shortened });
        }
    }

    fn get(&self) -> Option<Use> {
        self.0.as_ref()?.get().copied()
    }
}

// === impl Note ===

impl<S> Layer<S> for NoteLayer {
    type Service = Note<S>;

    fn layer(&self, inner: S) -> Note<S> {
        Note(inner)
    }
}

impl<S, B> Service<Request<Held>> for Note<S>
where
    S: Service<Request<Held>, Response = Response<B>, Error = Rejection>,
{
    type Response = Response<B>;
    type Error = Rejection;
    type Future = Noting<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Held>) -> Self::Future {
        let call = request.extensions().get::<Call>();
        let call = call.filter(|call| call.model.config.cache.is_some()).cloned();
        Noting {
            inner: self.0.call(request),
            call,
        }
    }
}

impl<F, B> Future for Noting<F>
where
    F: Future<Output = Result<Response<B>, Rejection>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(call)) = (&mut answer, this.call) {
            note(response, call);
        }
        Poll::Ready(answer)
    }
}

/// No backend did anything for an answer that was kept: it takes nothing of the limits on tokens nor of credit, and is
/// marked, with what it had used when it was made.
fn note<B>(response: &mut Response<B>, call: &Call) {
    let hit = response.extensions().get::<Kept>().is_some();
    let said = HeaderValue::from_static(if hit { "hit" } else { "miss" });
    response.headers_mut().insert(HEADER, said);
    if !hit {
        return;
    }
    if let Some(reserved) = &call.tokens {
        reserved.cancel();
    }
    if let Some(bill) = &call.bill {
        // Not left to the drop: nothing is spent any more, however slowly the client reads.
        bill.hold.release();
    }
    let spent = response.extensions().get::<Spent>().and_then(Spent::get);
    call.record.note(|facts| {
        facts.cached = true;
        facts.tokens = spent.map(|spent| spent.tokens);
    });
}
