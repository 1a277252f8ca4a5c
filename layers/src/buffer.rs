//! Holding a request's body in memory, within a cap for each request and a budget for all of them.
//!
//! What comes after this layer can read the body, rewrite it and send it more than once: it is a [`Held`], cheap to
//! clone. The memory of all held bodies is counted in a [`Budget`], together and for each owner, so that one client
//! with many large requests cannot fill what all share. Order matters: put this layer after those that know who is
//! calling and how often, or bodies are read before limits are asked.
//!
//! | when | refusal |
//! | --- | --- |
//! | Content-Length or the bytes read exceed the cap | `body_too_large`; by Content-Length before a byte is read |
//! | the budget, or the owner's share of it, is used up | `overloaded`, Retry-After 1 s |
//! | Content-Encoding other than `identity` | `unsupported_encoding` |
//! | Content-Length is no number | `malformed_body` |
//! | the body fails | the body's own error |
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::convert::Infallible;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tollgate_layers::{Reason, Rejection, buffer::{Budget, BufferLayer, Config, Held}};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let layer = BufferLayer::new(Config::new(16, Budget::new(1024, 4)));
//! let svc = layer.layer(service_fn(async |req: Request<Held>| {
//!     Ok::<_, Infallible>(Response::new(req.into_body().bytes().len()))
//! }));
//!
//! let ok = svc.clone().oneshot(Request::new(Full::from("{}"))).await;
//! assert_eq!(ok.unwrap().into_body(), 2);
//!
//! let refused: Rejection = svc.oneshot(Request::new(Full::from("x".repeat(17)))).await.unwrap_err();
//! assert_eq!(refused.reason(), Reason::BodyTooLarge);
//! # }
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Reason, Rejection};

/// How many locks the owners' counts are spread over.
const SHARDS: usize = 16;

/// Bytes of held bodies: how many there may be in all, and of one owner.
#[derive(Debug)]
pub struct Budget {
    total: AtomicUsize,
    share: AtomicUsize,
    used: AtomicUsize,
    owners: [Mutex<HashMap<u64, usize>>; SHARDS],
}

/// Which owner a request's bytes count against; `None` counts them in the total alone.
///
/// Implemented for closures. The number is whatever tells owners apart, such as an account's row id.
pub trait Owner {
    /// The owner of this request.
    fn owner(&self, head: &Parts) -> Option<u64>;
}

/// Counts no owner: every request draws on the total alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOwner;

/// What [`BufferLayer`] enforces.
#[derive(Clone, Debug)]
pub struct Config<O = NoOwner> {
    cap: usize,
    budget: Arc<Budget>,
    owner: O,
}

/// Turns `Request<B>` into `Request<Held>`. See the [module](self).
#[derive(Clone, Debug)]
pub struct BufferLayer<O = NoOwner> {
    config: Config<O>,
}

/// The service made by [`BufferLayer`].
#[derive(Clone, Debug)]
pub struct Buffer<S, O = NoOwner> {
    inner: S,
    config: Config<O>,
}

/// The future of [`Buffer`]: reads the body, then calls the inner service.
pub struct ResponseFuture<R> {
    inner: Pin<Box<dyn Future<Output = Result<R, Rejection>> + Send>>,
}

/// A request's whole body in memory.
///
/// A clone shares the bytes. The budget gets its bytes back when the last clone is gone. As a [`Body`] it is one
/// frame; its size is exact.
#[derive(Clone, Debug, Default)]
pub struct Held {
    bytes: Bytes,
    sent: bool,
    permit: Option<Arc<Permit>>,
}

/// Bytes taken from a budget, given back on drop.
#[derive(Debug)]
struct Permit {
    budget: Arc<Budget>,
    owner: Option<u64>,
    bytes: usize,
}

// === impl Budget ===

impl Budget {
    /// At most `total` bytes held at once, and of one owner at most the `owner_share`-th part of that (4: a quarter).
    pub fn new(total: usize, owner_share: usize) -> Arc<Self> {
        Arc::new(Self {
            total: AtomicUsize::new(total),
            share: AtomicUsize::new(total / owner_share.max(1)),
            used: AtomicUsize::new(0),
            owners: std::array::from_fn(|_| Mutex::default()),
        })
    }

    /// New limits for what comes; bodies already held stay counted.
    pub fn resize(&self, total: usize, owner_share: usize) {
        self.total.store(total, Ordering::Relaxed);
        self.share.store(total / owner_share.max(1), Ordering::Relaxed);
    }

    /// Bytes held at present.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that one owner holds at present.
    pub fn used_by(&self, owner: u64) -> usize {
        self.shard(owner).get(&owner).copied().unwrap_or(0)
    }

    fn shard(&self, owner: u64) -> MutexGuard<'_, HashMap<u64, usize>> {
        let shard = usize::try_from(owner % SHARDS as u64).unwrap_or(0);
        self.owners[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, owner: Option<u64>, bytes: usize) -> Result<(), Rejection> {
        let total = self.total.load(Ordering::Relaxed);
        let within = |used: usize, limit: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| within(used, total))
            .map_err(|_| overloaded())?;
        let Some(owner) = owner else { return Ok(()) };
        let mut shard = self.shard(owner);
        let held = shard.get(&owner).copied().unwrap_or(0);
        if let Some(sum) = within(held, self.share.load(Ordering::Relaxed)) {
            shard.insert(owner, sum);
            return Ok(());
        }
        drop(shard);
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        Err(overloaded())
    }

    fn give_back(&self, owner: Option<u64>, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        let Some(owner) = owner else { return };
        let mut shard = self.shard(owner);
        if let Some(held) = shard.get_mut(&owner) {
            *held = held.saturating_sub(bytes);
            // An owner that holds nothing leaves no trace: the map is as large as the owners at work.
            if *held == 0 {
                shard.remove(&owner);
            }
        }
    }
}

fn overloaded() -> Rejection {
    Rejection::new(Reason::Overloaded).with_retry_after(Duration::from_secs(1))
}

// === impl Permit ===

impl Permit {
    fn new(budget: Arc<Budget>, owner: Option<u64>) -> Self {
        Self {
            budget,
            owner,
            bytes: 0,
        }
    }

    fn grow_to(&mut self, bytes: usize) -> Result<(), Rejection> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            self.budget.take(self.owner, more)?;
            self.bytes += more;
        }
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.owner, self.bytes);
        }
    }
}

// === impl Held ===

impl Held {
    /// The body. Cloning the `Bytes` is cheap, but what outlives every `Held` is no longer in the budget.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Puts other bytes in place of the body, for this clone alone. They are memory of their own, which the budget
    /// counts like the body's; that one goes on counting for as long as other clones keep it.
    ///
    /// # Errors
    ///
    /// `overloaded` when the budget has no room for them; then nothing was replaced.
    pub fn replace(&mut self, bytes: Bytes) -> Result<(), Rejection> {
        if let Some(old) = &self.permit {
            let mut permit = Permit::new(Arc::clone(&old.budget), old.owner);
            permit.grow_to(bytes.len())?;
            self.permit = Some(Arc::new(permit));
        }
        self.bytes = bytes;
        self.sent = false;
        Ok(())
    }
}

/// A body that no budget counts, for tests and for requests made here.
impl From<Bytes> for Held {
    fn from(bytes: Bytes) -> Self {
        Self {
            bytes,
            sent: false,
            permit: None,
        }
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.is_end_stream() {
            return Poll::Ready(None);
        }
        this.sent = true;
        Poll::Ready(Some(Ok(Frame::data(this.bytes.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent || self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(if self.sent { 0 } else { self.bytes.len() as u64 })
    }
}

// === impl Owner ===

impl<F: Fn(&Parts) -> Option<u64>> Owner for F {
    fn owner(&self, head: &Parts) -> Option<u64> {
        self(head)
    }
}

impl Owner for NoOwner {
    fn owner(&self, _: &Parts) -> Option<u64> {
        None
    }
}

// === impl Config ===

impl Config {
    /// At most `cap` bytes a request, counted in `budget`.
    pub fn new(cap: usize, budget: Arc<Budget>) -> Self {
        Self {
            cap,
            budget,
            owner: NoOwner,
        }
    }
}

impl<O> Config<O> {
    /// Counts each request against an owner, read from its head (an extension that an earlier layer set).
    pub fn with_owner<P: Owner>(self, owner: P) -> Config<P> {
        Config {
            cap: self.cap,
            budget: self.budget,
            owner,
        }
    }
}

// === impl BufferLayer, Buffer ===

impl<O> BufferLayer<O> {
    /// A layer that enforces `config`.
    pub fn new(config: Config<O>) -> Self {
        Self { config }
    }
}

impl<S, O: Clone> Layer<S> for BufferLayer<O> {
    type Service = Buffer<S, O>;

    fn layer(&self, inner: S) -> Self::Service {
        Buffer {
            inner,
            config: self.config.clone(),
        }
    }
}

impl<S, O, B> Service<Request<B>> for Buffer<S, O>
where
    S: Service<Request<Held>> + Clone + Send + 'static,
    S::Error: Into<Rejection>,
    S::Future: Send,
    O: Owner,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Rejection>,
{
    type Response = S::Response;
    type Error = Rejection;
    type Future = ResponseFuture<S::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        // The instance that was polled ready is the one to call; its clone waits for the next request.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let (mut head, body) = req.into_parts();
        let cap = self.config.cap;
        let permit = Permit::new(self.config.budget.clone(), self.config.owner.owner(&head));
        ResponseFuture {
            inner: Box::pin(async move {
                let held = hold(&head.headers, body, cap, permit).await?;
                // The length is the held body's from here on, and a splice may change it.
                head.headers.remove(CONTENT_LENGTH);
                head.headers.remove(TRANSFER_ENCODING);
                inner.call(Request::from_parts(head, held)).await.map_err(Into::into)
            }),
        }
    }
}

impl<R> Future for ResponseFuture<R> {
    type Output = Result<R, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

async fn hold<B>(headers: &HeaderMap, body: B, cap: usize, mut permit: Permit) -> Result<Held, Rejection>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Rejection>,
{
    identity_only(headers)?;
    let declared = match declared_length(headers)? {
        Some(length) => Some(length),
        None => body.size_hint().exact(),
    };
    let declared = declared.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if declared.is_some_and(|length| length > cap) {
        return Err(too_large(cap));
    }
    permit.grow_to(declared.unwrap_or(0))?;
    let bytes = read(body, declared, cap, &mut permit).await?;
    let permit = (!bytes.is_empty()).then(|| Arc::new(permit));
    Ok(Held {
        bytes,
        sent: false,
        permit,
    })
}

/// Reads `body` to its end. A body that comes as one frame is that frame, uncopied.
async fn read<B>(body: B, declared: Option<usize>, cap: usize, permit: &mut Permit) -> Result<Bytes, Rejection>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Rejection>,
{
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        // Trailers of a request mean nothing to a backend that gets the body whole.
        let Ok(data) = frame.map_err(Into::into)?.into_data() else {
            continue;
        };
        let length = first.len() + rest.len() + data.len();
        if length > cap {
            return Err(too_large(cap));
        }
        permit.grow_to(length)?;
        if length == data.len() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(declared.unwrap_or(0).max(length));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn too_large(cap: usize) -> Rejection {
    Rejection::new(Reason::BodyTooLarge)
        .with_message(format!("The request's body is larger than the {cap} bytes allowed."))
}

fn identity_only(headers: &HeaderMap) -> Result<(), Rejection> {
    let identity = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().all(identity) {
        return Ok(());
    }
    Err(Rejection::new(Reason::UnsupportedEncoding)
        .with_message("The request's body must not be compressed (Content-Encoding)."))
}

fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, Rejection> {
    let Some(value) = headers.get(CONTENT_LENGTH) else {
        return Ok(None);
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|text| text.parse().ok()) {
        Some(length) => Ok(Some(length)),
        None => Err(Rejection::new(Reason::MalformedBody).with_message("Content-Length is not a number of bytes.")),
    }
}

#[cfg(test)]
mod tests;
