//! Gives every request an id: the client's own when it is sane, else a new one.
//!
//! It never refuses and needs nothing. It stands outermost, so that every answer, also one made by a layer further
//! in, bears `x-request-id`. Layers further in find the id in the request's extensions as [`RequestId`].
//!
//! A client's id is kept when it is sent once and is 1 to 128 characters of `[A-Za-z0-9._:-]`: what can go into logs,
//! headers and file names without being escaped.
//!
//! ```
//! use http::{Request, Response};
//! use tollgate_layers::request_id::{RequestId, RequestIdLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), std::convert::Infallible> {
//! let service = ServiceBuilder::new().layer(RequestIdLayer::new()).service(service_fn(|request: Request<()>| async move {
//!     assert!(request.extensions().get::<RequestId>().is_some());
//!     Ok::<_, std::convert::Infallible>(Response::new(()))
//! }));
//! let request = Request::builder().header("x-request-id", "mine-1").body(()).expect("a request");
//! let response = service.clone().oneshot(request).await?;
//! assert_eq!(response.headers()["x-request-id"], "mine-1");
//!
//! let request = Request::builder().header("x-request-id", "not { sane }").body(()).expect("a request");
//! let response = service.oneshot(request).await?;
//! assert_ne!(response.headers()["x-request-id"], "not { sane }");
//! # Ok(()) }
//! ```

use std::fmt::{self, Write};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// The header an id arrives and leaves in.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LEN: usize = 128;

/// The id of a request, found in its extensions. Cloning it copies no text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

/// Puts [`RequestIdLayer`] around a service; see the [module](self).
#[derive(Clone, Debug)]
pub struct RequestIdLayer {
    ids: Arc<Ids>,
}

/// The service of [`RequestIdLayer`].
#[derive(Clone, Debug)]
pub struct SetRequestId<S> {
    inner: S,
    ids: Arc<Ids>,
}

/// Ids that differ between processes by their prefix and within one by their number. They can be guessed: nothing may
/// be granted for knowing one.
#[derive(Debug)]
struct Ids {
    prefix: u64,
    next: AtomicU64,
}

pin_project! {
    /// The future of [`SetRequestId`].
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        id: Option<HeaderValue>,
    }
}

// === impl RequestId ===

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as the value of a header.
    pub fn header_value(&self) -> &HeaderValue {
        &self.0
    }

    /// The client's own id, when it sent exactly one and that one is sane.
    fn sent(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(X_REQUEST_ID).iter();
        let (value, None) = (values.next()?, values.next()) else {
            return None;
        };
        let sane = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        let bytes = value.as_bytes();
        ((1..=MAX_LEN).contains(&bytes.len()) && bytes.iter().all(sane)).then(|| Self(value.clone()))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestId").field(&self.as_str()).finish()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Ids ===

impl Ids {
    fn new() -> Self {
        // A `RandomState` is seeded by the system, but only once a thread; the time keeps two of one thread apart.
        let prefix = RandomState::new().hash_one((SystemTime::now(), std::process::id()));
        Self {
            prefix,
            next: AtomicU64::new(0),
        }
    }

    fn make(&self) -> RequestId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = BytesMut::with_capacity(40);
        // Writing to a `BytesMut` fails only when its length overflows.
        let _ = write!(text, "{:016x}-{number:08x}", self.prefix);
        RequestId(HeaderValue::from_maybe_shared(text.freeze()).expect("hexadecimal digits make a header value"))
    }
}

// === impl RequestIdLayer ===

impl RequestIdLayer {
    /// A layer whose ids begin with a prefix of their own.
    pub fn new() -> Self {
        Self {
            ids: Arc::new(Ids::new()),
        }
    }

    /// A new id, for an answer that is given before there is a request to go through the layer.
    pub fn make(&self) -> RequestId {
        self.ids.make()
    }
}

impl Default for RequestIdLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RequestIdLayer {
    type Service = SetRequestId<S>;

    fn layer(&self, inner: S) -> SetRequestId<S> {
        SetRequestId {
            inner,
            ids: self.ids.clone(),
        }
    }
}

// === impl SetRequestId ===

impl<S, ReqB, ResB> Service<Request<ReqB>> for SetRequestId<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let id = RequestId::sent(request.headers()).unwrap_or_else(|| self.ids.make());
        let value = id.0.clone();
        request.extensions_mut().insert(id);
        ResponseFuture {
            inner: self.inner.call(request),
            id: Some(value),
        }
    }
}

// === impl ResponseFuture ===

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(id)) = (&mut result, this.id.take()) {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::convert::Infallible;

    use tower::{ServiceExt, service_fn};

    use super::*;

    /// The id on the answer, having checked that it is the one which the inner service saw.
    async fn answered(layer: &RequestIdLayer, sent: &[&str]) -> String {
        let inner = service_fn(|request: Request<()>| async move {
            let id = request.extensions().get::<RequestId>().unwrap().to_string();
            Ok::<_, Infallible>(
                Response::builder()
                    .header("x-request-id", "backend's")
                    .body(id)
                    .unwrap(),
            )
        });
        let mut request = Request::new(());
        for id in sent {
            request.headers_mut().append(X_REQUEST_ID, id.parse().unwrap());
        }
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        assert_eq!(response.headers().get_all(X_REQUEST_ID).iter().count(), 1);
        assert_eq!(response.headers()[X_REQUEST_ID], *response.body());
        response.into_body()
    }

    #[tokio::test]
    async fn keeps_a_sane_id_and_replaces_the_others() {
        let layer = RequestIdLayer::new();
        let long = "a".repeat(MAX_LEN);
        for sane in ["a", "A.b_c:d-9", long.as_str()] {
            assert_eq!(answered(&layer, &[sane]).await, sane);
        }
        let too_long = "a".repeat(MAX_LEN + 1);
        for insane in ["", "a b", "a,b", "a\"b", "a/b", too_long.as_str()] {
            assert_ne!(answered(&layer, &[insane]).await, insane);
        }
        assert_ne!(answered(&layer, &["one", "two"]).await, "one");
    }

    #[tokio::test]
    async fn made_ids_differ_and_would_be_kept() {
        let (layer, other) = (RequestIdLayer::new(), RequestIdLayer::new());
        let first = answered(&layer, &[]).await;
        assert_ne!(first, answered(&layer, &[]).await);
        assert_ne!(first, answered(&other, &[]).await);
        assert_eq!(answered(&other, &[&first]).await, first);
    }

    #[tokio::test]
    async fn an_error_passes_unchanged() {
        let inner = service_fn(|_: Request<()>| async { Err::<Response<()>, _>("broken") });
        assert_eq!(
            RequestIdLayer::new()
                .layer(inner)
                .oneshot(Request::new(()))
                .await
                .unwrap_err(),
            "broken"
        );
    }
}
