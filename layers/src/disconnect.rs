//! What becomes of the work for a client that has gone.
//!
//! A server drops the future or the body of whoever left, and with it all that is below: the backend's connection is
//! cut, and what it was about to say about usage is lost. For most streams that is right, since it saves tokens. Where
//! the backend goes on and charges all the same, an unstreamed answer for instance, it is better to read on to the end.
//! This layer does so for the requests that a [`Policy`] names, within bounds: a deadline for each, and slots for all.
//! With no slot free the work is dropped after all.
//!
//! An answer that is no success is not worth reading on: its body is dropped.
//!
//! It never refuses. Put it outside of what must see the end, such as a meter. A request that nobody drops pays one box for the future
//! and one for the body; a request under [`OnDisconnect::Cancel`] pays nothing.
//!
//! The rest is read on the Tokio runtime in which the drop happens, which must have its timer on. A server that ends
//! in good order waits for it: see [`Drain::with_spawn`].
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::convert::Infallible;
//! use std::sync::Arc;
//! use std::time::Duration;
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use bytes::Bytes;
//! use tokio::sync::{Semaphore, oneshot};
//! use tollgate_layers::disconnect::{Drain, DrainLayer, OnDisconnect};
//! use tower::{Layer, Service, service_fn};
//!
//! let drain = Drain::new(Duration::from_secs(120), Arc::new(Semaphore::new(64)));
//! let layer = DrainLayer::new(move |_: &Request<()>| OnDisconnect::Drain(drain.clone()));
//! let (finished, finish) = oneshot::channel();
//! let finished = std::sync::Mutex::new(Some(finished));
//! let mut svc = layer.layer(service_fn(|_: Request<()>| {
//!     let finished = finished.lock().unwrap().take();
//!     async {
//!         tokio::task::yield_now().await;
//!         finished.unwrap().send(()).unwrap();
//!         Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
//!     }
//! }));
//!
//! drop(svc.call(Request::new(())));
//! finish.await.expect("the work went on to its end");
//! # }
//! ```

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tower_layer::Layer;
use tower_service::Service;

use crate::Rejection;

/// Says for each request what becomes of it when its client has gone. Implemented for closures.
pub trait Policy<B> {
    /// What to do, should the client leave.
    fn on_disconnect(&self, request: &Request<B>) -> OnDisconnect;
}

/// What to do when the client has gone.
#[derive(Clone, Debug)]
pub enum OnDisconnect {
    /// The work is dropped.
    Cancel,
    /// The work goes on to its end, within bounds.
    Drain(Drain),
}

/// Runs the rest of some work. Implemented for closures.
pub trait Spawn: Send + Sync {
    /// Runs `rest` to its end, or drops it when the process cannot wait any longer.
    fn spawn(&self, rest: Rest);
}

/// Work that nobody waits for.
pub type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The bounds of work that nobody waits for.
#[derive(Clone)]
pub struct Drain {
    deadline: Duration,
    slots: Arc<Semaphore>,
    spawn: Option<Arc<dyn Spawn>>,
    worth_it: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

/// Reads on when the client has gone. See the [module](self).
#[derive(Clone, Debug)]
pub struct DrainLayer<P> {
    policy: P,
}

/// The service made by [`DrainLayer`].
#[derive(Clone, Debug)]
pub struct DrainOnDrop<S, P> {
    inner: S,
    policy: P,
}

pin_project! {
    /// The future of [`DrainOnDrop`].
    pub struct ResponseFuture<F> {
        #[pin]
        work: Work<F>,
    }
}

pin_project! {
    /// The body of an answer that may be read on.
    pub struct ResponseBody<B> {
        #[pin]
        work: Work<B>,
    }
}

pin_project! {
    #[project = Projected]
    enum Work<T> {
        Dropped { #[pin] inner: T },
        Drained { kept: Kept<T> },
    }
}

/// Work that goes on when it is dropped.
struct Kept<T> {
    /// Gone once it is over; away while it is polled, so that work that panicked is not gone on with.
    work: Option<Pin<Box<T>>>,
    drain: Drain,
    /// Made where the bounds on `T` are known, so that the types here need none.
    go_on: fn(Pin<Box<T>>, Drain),
}

// === impl Policy ===

impl<F, B> Policy<B> for F
where
    F: Fn(&Request<B>) -> OnDisconnect,
{
    fn on_disconnect(&self, request: &Request<B>) -> OnDisconnect {
        self(request)
    }
}

// === impl Drain ===

impl Drain {
    /// Work may go on for `deadline` from when the client left, and takes one of the `slots` meanwhile.
    pub fn new(deadline: Duration, slots: Arc<Semaphore>) -> Self {
        Self {
            deadline,
            slots,
            spawn: None,
            worth_it: None,
        }
    }

    /// Goes on only with work for which this holds when the client leaves: what nobody has begun to work on need not be begun.
    pub fn only_if(mut self, worth_it: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.worth_it = Some(Arc::new(worth_it));
        self
    }

    /// Hands the work to `spawn`, for a server that waits for it when it ends; else it is a task that the end of the
    /// runtime drops.
    pub fn with_spawn(mut self, spawn: Arc<dyn Spawn>) -> Self {
        self.spawn = Some(spawn);
        self
    }
}

impl<F: Fn(Rest) + Send + Sync> Spawn for F {
    fn spawn(&self, rest: Rest) {
        self(rest);
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("deadline", &self.deadline)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

// === impl Kept ===

impl<T> Kept<T> {
    fn poll<R>(&mut self, poll: impl FnOnce(Pin<&mut T>) -> Poll<R>, over: impl FnOnce(&R) -> bool) -> Poll<R> {
        let mut work = self.work.take().expect("polled after it was over");
        let polled = poll(work.as_mut());
        if !matches!(&polled, Poll::Ready(result) if over(result)) {
            self.work = Some(work);
        }
        polled
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take()
            && !std::thread::panicking()
        {
            (self.go_on)(work, self.drain.clone());
        }
    }
}

/// Runs the rest of something, if there is a slot for it.
fn go_on(rest: impl Future<Output = ()> + Send + 'static, drain: Drain) {
    if drain.worth_it.is_some_and(|worth_it| !worth_it()) {
        return;
    }
    let Ok(runtime) = Handle::try_current() else { return };
    let Ok(slot) = drain.slots.try_acquire_owned() else {
        return;
    };
    let deadline = drain.deadline;
    let rest = async move {
        // At the deadline the rest is dropped, and with it the backend's connection.
        drop(tokio::time::timeout(deadline, rest).await);
        drop(slot);
    };
    match drain.spawn {
        None => drop(runtime.spawn(rest)),
        Some(spawn) => spawn.spawn(Box::pin(rest)),
    }
}

fn go_on_waiting<F, B, E>(work: Pin<Box<F>>, drain: Drain)
where
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body + Send + 'static,
{
    let rest = async {
        // The error need not be `Send`, so it is gone before the next await.
        let answer = work.await.ok();
        if let Some(response) = answer
            && response.status().is_success()
        {
            read(Box::pin(response.into_body())).await;
        }
    };
    go_on(rest, drain);
}

fn go_on_reading<B: Body + Send + 'static>(body: Pin<Box<B>>, drain: Drain) {
    if !body.is_end_stream() {
        go_on(read(body), drain);
    }
}

async fn read<B: Body>(mut body: Pin<Box<B>>) {
    while let Some(Ok(_)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
}

// === impl DrainLayer, DrainOnDrop ===

impl<P> DrainLayer<P> {
    /// A layer that does as `policy` says.
    pub fn new(policy: P) -> Self {
        Self { policy }
    }
}

impl<S, P: Clone> Layer<S> for DrainLayer<P> {
    type Service = DrainOnDrop<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        DrainOnDrop {
            inner,
            policy: self.policy.clone(),
        }
    }
}

impl<S, P, Q, B> Service<Request<Q>> for DrainOnDrop<S, P>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<Rejection>,
    P: Policy<Q>,
    B: Body + Send + 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Rejection;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Request<Q>) -> Self::Future {
        let policy = self.policy.on_disconnect(&req);
        let inner = self.inner.call(req);
        let work = match policy {
            OnDisconnect::Cancel => Work::Dropped { inner },
            OnDisconnect::Drain(drain) => Work::Drained {
                kept: Kept {
                    work: Some(Box::pin(inner)),
                    drain,
                    go_on: go_on_waiting,
                },
            },
        };
        ResponseFuture { work }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Rejection>,
    B: Body + Send + 'static,
{
    type Output = Result<Response<ResponseBody<B>>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (response, drain) = match self.project().work.project() {
            Projected::Dropped { inner } => (ready!(inner.poll(cx)), None),
            Projected::Drained { kept } => (
                ready!(kept.poll(|work| work.poll(cx), |_| true)),
                Some(kept.drain.clone()),
            ),
        };
        // Whoever drops an answer that is no success tries elsewhere, or has been told all that there is to know.
        let success = matches!(&response, Ok(response) if response.status().is_success());
        let body = |inner| match drain.filter(|_| success) {
            None => Work::Dropped { inner },
            Some(drain) => Work::Drained {
                kept: Kept {
                    work: Some(Box::pin(inner)),
                    drain,
                    go_on: go_on_reading,
                },
            },
        };
        Poll::Ready(
            response
                .map(|response| response.map(|inner| ResponseBody { work: body(inner) }))
                .map_err(Into::into),
        )
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
        let next = match self.project().work.project() {
            Projected::Dropped { inner } => ready!(inner.poll_frame(cx)),
            Projected::Drained { kept } if kept.work.is_none() => None,
            Projected::Drained { kept } => {
                ready!(kept.poll(|work| work.poll_frame(cx), |next| !matches!(next, Some(Ok(_)))))
            }
        };
        Poll::Ready(next.map(|next| next.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.work {
            Work::Dropped { inner } => inner.is_end_stream(),
            Work::Drained { kept } => kept.work.as_ref().is_none_or(|work| Body::is_end_stream(&**work)),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.work {
            Work::Dropped { inner } => inner.size_hint(),
            Work::Drained { kept } => kept
                .work
                .as_ref()
                .map_or_else(|| SizeHint::with_exact(0), |work| Body::size_hint(&**work)),
        }
    }
}

#[cfg(test)]
mod tests;
