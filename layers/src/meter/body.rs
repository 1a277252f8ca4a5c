//! The body that is read along.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::guard::{self, Guard};
use super::{Settled, Sink};
use crate::Rejection;

pin_project! {
    /// The body of a metered answer.
    ///
    /// Settles when it ends, fails or is dropped; when its end can be told beforehand, before that goes on.
    #[project = Projected]
    pub struct ResponseBody<B, K: Sink> {
        // None: let go of, because the answer ended before it.
        #[pin]
        inner: Option<B>,
        // None: not metered.
        guard: Option<Guard<K>>,
        // What the end of the answer waits for.
        settled: Settled,
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
            inner: Some(inner),
            guard,
            settled: Settled::done(),
            trailers: None,
            failure: None,
            ended: false,
            left,
        }
    }
}

#[cfg(test)]
impl<B, K: Sink> ResponseBody<B, K> {
    pub(super) fn guard_held(&self) -> usize {
        self.guard.as_ref().map_or(0, |guard| guard.parts.held())
    }
}

impl<B: Body, K: Sink> ResponseBody<B, K> {
    /// Settles an answer that is complete with its head: nobody may ask for a body of which it is known that there is none.
    pub(super) fn end_if_empty(&mut self) -> Settled {
        let empty = self.left == Some(0) || self.inner.as_ref().is_some_and(Body::is_end_stream);
        let Some(guard) = self.guard.as_mut().filter(|_| empty) else {
            return Settled::done();
        };
        self.ended = true;
        guard.finish().unwrap_or_else(|failure| {
            self.failure = Some(failure);
            Settled::done()
        })
    }
}

type Next = Option<Result<Frame<Bytes>, Rejection>>;

impl<B: Body, K: Sink> Projected<'_, B, K> {
    /// Takes what the inner body said.
    fn read(&mut self, next: Next) {
        let Some(guard) = self.guard else { return };
        match next.map(|next| next.map(Frame::into_data)) {
            Some(Ok(Ok(chunk))) => {
                *self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
                guard.feed(chunk);
                // Who reads a body of known length need not ask for what comes after its last byte.
                let inner = self.inner.as_ref().as_pin_ref();
                if *self.left != Some(0) && inner.is_some_and(|inner| !inner.is_end_stream()) {
                    *self.settled = guard.fed();
                    if guard.is_cut() {
                        *self.ended = true;
                        self.inner.set(None);
                    }
                    return;
                }
            }
            Some(Ok(Err(frame))) => *self.trailers = frame.into_trailers().ok(),
            Some(Err(error)) => {
                *self.failure = Some(guard.fail(error));
                *self.ended = true;
                return;
            }
            None => {}
        }
        *self.ended = true;
        match guard.finish() {
            Ok(settled) => *self.settled = settled,
            Err(failure) => *self.failure = Some(failure),
        }
    }
}

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
        loop {
            let Some(guard) = this.guard else {
                let inner = this.inner.as_pin_mut();
                return inner.map_or(Poll::Ready(None), |inner| inner.poll_frame(cx).map_err(Into::into));
            };
            if let Some(chunk) = guard.parts.pop() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if !this.settled.is_done() {
                if let Err(rejection) = ready!(Pin::new(&mut *this.settled).poll(cx)) {
                    guard.parts.discard();
                    (*this.failure, *this.ended) = (Some(rejection), true);
                }
                guard.parts.release();
                continue;
            }
            if let Some(failure) = this.failure.take() {
                // Trailers are an end, too.
                *this.trailers = None;
                return Poll::Ready(Some(Err(failure)));
            }
            if let Some(trailers) = this.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            let Some(inner) = this.inner.as_mut().as_pin_mut().filter(|_| !*this.ended) else {
                return Poll::Ready(None);
            };
            let next = ready!(guard::watched(this.guard, || inner.poll_frame(cx)));
            this.read(next.map(|next| next.map_err(Into::into)));
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(guard) = &self.guard else {
            return self.inner.as_ref().is_none_or(Body::is_end_stream);
        };
        let nothing_left = guard.parts.is_empty() && self.trailers.is_none() && self.failure.is_none();
        nothing_left && self.settled.is_done() && self.ended
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.guard, &self.inner) {
            (None, Some(inner)) => inner.size_hint(),
            (Some(guard), Some(inner)) if guard.parts.is_empty() && !guard.changes_length() => inner.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
