//! The body that is read along.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Sink;
use super::guard::{self, Guard};
use crate::Rejection;

pin_project! {
    /// The body of a metered answer.
    ///
    /// Settles when it ends, fails or is dropped; when its end can be told beforehand, before the last frame goes on.
    pub struct ResponseBody<B, K: Sink> {
        #[pin]
        inner: B,
        // None: not metered.
        guard: Option<Guard<K>>,
        out: VecDeque<Bytes>,
        trailers: Option<HeaderMap>,
        failure: Option<Rejection>,
        ended: bool,
        // Bytes still to come, by the answer's Content-Length.
        left: Option<u64>,
    }
}

impl<B, K: Sink> ResponseBody<B, K> {
    pub(super) fn unmetered(inner: B) -> Self {
        Self::new(inner, None, None)
    }

    pub(super) fn metered(inner: B, guard: Guard<K>, headers: &HeaderMap) -> Self {
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Self::new(inner, Some(guard), length)
    }

    fn new(inner: B, guard: Option<Guard<K>>, left: Option<u64>) -> Self {
        Self {
            inner,
            guard,
            out: VecDeque::new(),
            trailers: None,
            failure: None,
            ended: false,
            left,
        }
    }
}

type Next = Option<Result<Frame<Bytes>, Rejection>>;

impl<B, K> Body for ResponseBody<B, K>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Rejection>,
    K: Sink,
{
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next> {
        let mut this = self.project();
        if this.guard.is_none() {
            return this.inner.poll_frame(cx).map_err(Into::into);
        }
        loop {
            if let Some(chunk) = this.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if let Some(trailers) = this.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if let Some(failure) = this.failure.take() {
                return Poll::Ready(Some(Err(failure)));
            }
            if *this.ended {
                return Poll::Ready(None);
            }
            let inner = this.inner.as_mut();
            let next = ready!(guard::watched(this.guard, || inner.poll_frame(cx)));
            let Some(guard) = this.guard else {
                return Poll::Ready(None);
            };
            let mut over = false;
            match next.map(|next| next.map(Frame::into_data)) {
                Some(Ok(Ok(chunk))) => {
                    *this.left = this.left.map(|left| left.saturating_sub(chunk.len() as u64));
                    guard.feed(chunk, this.out);
                    // Who reads a body of known length need not ask for what comes after its last byte.
                    over = this.inner.is_end_stream() || *this.left == Some(0);
                    if !over {
                        guard.count(this.out);
                    }
                }
                Some(Ok(Err(frame))) => *this.trailers = frame.into_trailers().ok(),
                Some(Err(error)) => {
                    *this.failure = Some(guard.fail(error.into(), this.out));
                    *this.ended = true;
                }
                None => over = true,
            }
            if over {
                *this.failure = guard.finish(this.out).err();
                *this.ended = true;
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.guard.is_none() {
            return self.inner.is_end_stream();
        }
        let nothing_left = self.out.is_empty() && self.trailers.is_none() && self.failure.is_none();
        nothing_left && self.ended
    }

    fn size_hint(&self) -> SizeHint {
        match &self.guard {
            Some(guard) if guard.shortens() || !self.out.is_empty() => SizeHint::default(),
            _ => self.inner.size_hint(),
        }
    }
}
