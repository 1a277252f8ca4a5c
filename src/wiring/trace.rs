//! The outermost witness of a request: it opens the record and sees the answer as the client gets it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tollgate_layers::request_id::RequestId;
use tollgate_layers::{Reason, Rejection};
use tower::{Layer, Service};

use crate::telemetry::{End, Record, Telemetry};

/// What the gateway itself took of the time to an answer's head, in microseconds.
const OVERHEAD: HeaderName = HeaderName::from_static("x-tollgate-overhead-us");

/// Puts a [`Record`] into each request's extensions.
#[derive(Clone, Debug)]
pub struct TraceLayer {
    telemetry: Telemetry,
    overhead: bool,
}

/// The service made by [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct Trace<S> {
    inner: S,
    layer: TraceLayer,
}

pin_project! {
    /// The future of [`Trace`].
    pub struct ResponseFuture<F> {
        // Dropped before the record, so that a request cancelled inside has said all when the record closes.
        #[pin]
        inner: F,
        record: Record,
        overhead: bool,
    }
}

pin_project! {
    /// The body of [`Trace`]'s answer.
    pub struct ResponseBody<B> {
        #[pin]
        inner: B,
        record: Record,
        bytes: u64,
    }

    impl<B> PinnedDrop for ResponseBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let (bytes, record) = (*this.bytes, this.record);
            let elapsed = record.elapsed();
            record.note(|facts| {
                facts.bytes_out = bytes;
                facts.elapsed = elapsed;
            });
        }
    }
}

impl TraceLayer {
    /// Records go to `telemetry`; with `overhead`, answers say what the gateway itself took.
    pub fn new(telemetry: Telemetry, overhead: bool) -> Self {
        Self { telemetry, overhead }
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for Trace<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>, Error = Infallible>,
    ResB: Body,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let id = request.extensions().get::<RequestId>().map_or("", RequestId::as_str);
        let record = Record::new(
            self.layer.telemetry.clone(),
            request.method().clone(),
            request.uri().path(),
            id,
        );
        request.extensions_mut().insert(record.clone());
        ResponseFuture {
            inner: self.inner.call(request),
            record,
            overhead: self.layer.overhead,
        }
    }
}

impl<F, B> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(cx));
        let elapsed = this.record.elapsed();
        let status = response.status().as_u16();
        let refused = response.extensions().get::<Reason>().map(|reason| reason.as_str());
        let empty = response.body().is_end_stream();
        let mut waited = std::time::Duration::ZERO;
        this.record.note(|facts| {
            facts.status = status;
            if empty {
                // Nobody will poll a body that has nothing to give.
                facts.end = End::Complete;
            }
            facts.reason = refused.or(facts.reason);
            waited = facts.attempts.iter().map(|attempt| attempt.elapsed).sum();
        });
        if *this.overhead {
            let micros = u64::try_from(elapsed.saturating_sub(waited).as_micros()).unwrap_or(u64::MAX);
            response.headers_mut().insert(OVERHEAD, HeaderValue::from(micros));
        }
        let record = this.record.clone();
        Poll::Ready(Ok(response.map(|inner| ResponseBody {
            inner,
            record,
            bytes: 0,
        })))
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes, Error = Rejection>,
{
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                if *this.bytes == 0 && bytes > 0 {
                    let elapsed = this.record.elapsed();
                    this.record.note(|facts| facts.first_byte = Some(elapsed));
                }
                *this.bytes += bytes;
                if this.inner.is_end_stream() {
                    this.record.note(|facts| facts.end = End::Complete);
                }
            }
            Some(Err(rejection)) => this.record.note(|facts| {
                facts.end = End::Failed;
                // Who failed first has said why; what is cut from here, as at the end of a drain, has nobody else to say it.
                facts.reason.get_or_insert(rejection.reason().as_str());
            }),
            None => this.record.note(|facts| {
                // After an error a body ends, too; that is no completion.
                if facts.end == End::Disconnected {
                    facts.end = End::Complete;
                }
            }),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
