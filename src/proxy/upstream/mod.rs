//! The innermost service: one exchange with a backend, on Pingora's connector and its pool.

mod body;
mod error;
mod exchange;
mod head;
mod origin;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};

use super::body::{Body, BoxError};
pub(super) use body::UpstreamBody;
pub use error::UpstreamError;
use exchange::exchange;
use head::Head;
pub use origin::{HttpVersion, Origin, OriginSettings, TlsFiles};

/// Whether the exchange went over a connection from the pool: an extension of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reused(pub bool);

/// Whether anything of a request has gone out to its backend: an extension of the request, shared with who put it there.
#[derive(Clone, Debug, Default)]
pub struct Sent(Arc<AtomicBool>);

impl Sent {
    /// Whether the backend may have seen the request. False while it waits for a connection.
    pub fn is_sent(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The backend has refused it: it has not done anything for it.
    pub fn is_refused(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn begins(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The service. The request must carry the [`Arc<Origin>`](Origin) to call in its extensions; its URI's path and
/// query are sent as they are, and `host` and the framing are set here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upstream;

impl<B> tower::Service<Request<B>> for Upstream
where
    B: http_body::Body<Data = Bytes> + Clone + Send + Sync + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(Self::send(request))
    }
}

impl Upstream {
    /// What [`call`](tower::Service::call) does, for a caller that boxes it with what it does itself.
    pub async fn send<B>(mut request: Request<B>) -> Result<Response<Body>, UpstreamError>
    where
        B: http_body::Body<Data = Bytes> + Clone + Unpin,
        B::Error: Into<BoxError>,
    {
        let origin = request
            .extensions_mut()
            .remove::<Arc<Origin>>()
            .ok_or_else(|| UpstreamError::exchange("the request names no origin", false))?;
        let sent = request.extensions_mut().remove::<Sent>().unwrap_or_default();
        let (parts, body) = request.into_parts();
        let head = Head::new(parts.method, &parts.uri, parts.headers, &body, &origin);
        exchange(&origin, head, body, &sent).await
    }
}
