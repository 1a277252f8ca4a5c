//! The body of an answer: one that passes and is recorded, or one that was kept.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Extensions, HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::key::Key;
use super::store::{Entry, Flight, Landing, Shared};
use super::{Answer, Keep};

pin_project! {
    /// The body of an answer, made by the inner service or kept from before.
    pub struct ResponseBody<B> {
        // None: it was kept.
        #[pin]
        inner: Option<B>,
        recorder: Option<Box<Recorder>>,
        replay: Option<Replay>,
    }
}

struct Replay {
    entry: Arc<Entry>,
    next: usize,
}

/// Writes an answer down while it passes, and keeps it once it is whole.
pub(super) struct Recorder {
    pub(super) shared: Arc<Shared>,
    pub(super) key: Key,
    /// Those who wait for it, if there may be any.
    pub(super) flight: Option<Flight>,
    pub(super) keep: Keep,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// What goes along with the answer.
    pub(super) extensions: Extensions,
    pub(super) fresh: Duration,
    pub(super) age: Duration,
    data: Vec<u8>,
    ends: Vec<u32>,
    /// What was reserved of the memory that all recorders share.
    reserved: usize,
    /// Bytes still to come, by Content-Length.
    left: Option<u64>,
}

// === impl ResponseBody ===

impl<B: Body<Data = Bytes>> ResponseBody<B> {
    pub(super) fn passing(inner: B) -> Self {
        Self {
            inner: Some(inner),
            recorder: None,
            replay: None,
        }
    }

    pub(super) fn recorded(inner: B, recorder: Recorder) -> Self {
        let recorder = if inner.is_end_stream() {
            recorder.end();
            None
        } else {
            Some(Box::new(recorder))
        };
        Self {
            inner: Some(inner),
            recorder,
            replay: None,
        }
    }

    pub(super) fn kept(entry: Arc<Entry>) -> Self {
        Self {
            inner: None,
            recorder: None,
            replay: Some(Replay { entry, next: 0 }),
        }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        if let Some(replay) = this.replay {
            let chunk = replay.entry.chunk(replay.next);
            replay.next += 1;
            return Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))));
        }
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(inner.as_mut().poll_frame(cx));
        if let Some(recorder) = this.recorder.take() {
            *this.recorder = recorder.note(frame.as_ref().map(Result::as_ref), inner.is_end_stream());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match (&self.replay, &self.inner) {
            (Some(replay), _) => replay.next >= replay.entry.ends.len(),
            (None, inner) => inner.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.replay, &self.inner) {
            (Some(Replay { entry, next }), _) => {
                let sent = next.checked_sub(1).and_then(|last| entry.ends.get(last));
                SizeHint::with_exact((entry.data.len() - sent.map_or(0, |end| *end as usize)) as u64)
            }
            (None, Some(inner)) => inner.size_hint(),
            (None, None) => SizeHint::with_exact(0),
        }
    }
}

// === impl Recorder ===

impl Recorder {
    pub(super) fn new(
        shared: Arc<Shared>,
        key: Key,
        flight: Option<Flight>,
        keep: Keep,
        (status, headers): (StatusCode, &HeaderMap),
        (fresh, age): (Duration, Duration),
    ) -> Self {
        let length = headers.get(CONTENT_LENGTH);
        Self {
            shared,
            key,
            flight,
            keep,
            status,
            headers: headers.clone(),
            extensions: Extensions::new(),
            fresh,
            age,
            data: Vec::new(),
            ends: Vec::new(),
            reserved: 0,
            left: length.and_then(|length| length.to_str().ok()?.parse().ok()),
        }
    }

    /// Notes what came; returns itself while there is more to come that may be kept.
    fn note<E>(mut self: Box<Self>, frame: Option<Result<&Frame<Bytes>, &E>>, last: bool) -> Option<Box<Self>> {
        let chunk = match frame {
            Some(Ok(frame)) => frame.data_ref(),
            Some(Err(_)) => None,
            None => {
                self.end();
                return None;
            }
        };
        // An error, trailers, or more than may be kept.
        let Some(chunk) = chunk.filter(|chunk| self.add(chunk)) else {
            self.give_up();
            return None;
        };
        self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
        // Who reads a body of known length need not ask for what comes after its last byte.
        if last || self.left == Some(0) {
            self.end();
            return None;
        }
        Some(self)
    }

    fn add(&mut self, chunk: &Bytes) -> bool {
        let more = chunk.len() + size_of::<u32>();
        if !self.shared.reserve(self.reserved, more) {
            return false;
        }
        self.reserved += more;
        // Copied: what comes from a connection may be a small piece of a large buffer, which it would hold.
        self.data.extend_from_slice(chunk);
        let Ok(end) = u32::try_from(self.data.len()) else {
            return false;
        };
        self.ends.push(end);
        true
    }

    /// The body ended. If by its own word there was more to come, it is broken.
    fn end(self) {
        if self.left.is_none_or(|left| left == 0) {
            self.finish();
        } else {
            self.give_up();
        }
    }

    fn give_up(mut self) {
        if let Some(flight) = self.flight.take() {
            flight.land(Landing::Unfit);
        }
    }

    fn finish(mut self) {
        let answer = Answer {
            status: self.status,
            headers: &self.headers,
            body: &self.data,
            extensions: &self.extensions,
        };
        if !(self.keep)(&answer) {
            return self.give_up();
        }
        let entry = Arc::new(Entry {
            status: self.status,
            headers: std::mem::take(&mut self.headers),
            extensions: std::mem::take(&mut self.extensions),
            data: std::mem::take(&mut self.data).into_boxed_slice().into(),
            ends: std::mem::take(&mut self.ends).into(),
            stored: Instant::now(),
            age: self.age,
            fresh: self.fresh,
        });
        self.shared.put(self.key, entry.clone());
        if let Some(flight) = self.flight.take() {
            flight.land(Landing::Stored(entry));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.release(self.reserved);
    }
}
