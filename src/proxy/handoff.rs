//! How an upload reaches the stack: chunk by chunk, and only when the stack asks.
//!
//! The connection belongs to the edge's loop, the body to a service deep in the stack, and both run in one task. A
//! body that is polled leaves a note here that it wants more; the edge reads the socket only then. So a request that
//! is refused for its key or its rate has cost no memory for its body, and a slow consumer slows its client down.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::body::BodyError;

#[derive(Default)]
struct State {
    slot: Option<Result<Bytes, BodyError>>,
    ended: bool,
    wanted: bool,
    consumer: Option<Waker>,
    producer: Option<Waker>,
}

#[derive(Default)]
struct Shared(Mutex<State>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The edge's end.
pub(super) struct Producer(Arc<Shared>);

/// The body's end.
pub(super) struct Consumer(Arc<Shared>);

pub(super) fn handoff() -> (Producer, Consumer) {
    let shared = Arc::new(Shared::default());
    (Producer(Arc::clone(&shared)), Consumer(shared))
}

// === impl Producer ===

impl Producer {
    /// Ready once the body has been polled for a chunk that it does not have yet.
    pub(super) fn poll_wanted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.wanted {
            return Poll::Ready(());
        }
        state.producer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn push(&self, chunk: Result<Bytes, BodyError>) {
        let mut state = self.0.lock();
        state.ended |= chunk.is_err();
        state.slot = Some(chunk);
        state.wanted = false;
        Self::wake(state);
    }

    pub(super) fn finish(&self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.wanted = false;
        Self::wake(state);
    }

    fn wake(mut state: MutexGuard<'_, State>) {
        let waker = state.consumer.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

// === impl Consumer ===

impl Consumer {
    pub(super) fn poll_chunk(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut state = self.0.lock();
        if let Some(chunk) = state.slot.take() {
            return Poll::Ready(Some(chunk));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.wanted = true;
        state.consumer = Some(cx.waker().clone());
        let producer = state.producer.take();
        drop(state);
        if let Some(producer) = producer {
            producer.wake();
        }
        Poll::Pending
    }

    pub(super) fn is_end(&self) -> bool {
        let state = self.0.lock();
        state.ended && state.slot.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noop() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn nothing_is_wanted_until_the_body_is_polled() {
        let (producer, mut consumer) = handoff();
        assert!(producer.poll_wanted(&noop()).is_pending());
        assert!(consumer.poll_chunk(&noop()).is_pending());
        assert!(producer.poll_wanted(&noop()).is_ready());
    }

    #[test]
    fn a_chunk_is_delivered_before_the_end() {
        let (producer, mut consumer) = handoff();
        producer.push(Ok(Bytes::from_static(b"a")));
        producer.finish();
        assert!(!consumer.is_end());
        assert!(matches!(consumer.poll_chunk(&noop()), Poll::Ready(Some(Ok(chunk))) if chunk == "a"));
        assert!(consumer.is_end());
        assert!(matches!(consumer.poll_chunk(&noop()), Poll::Ready(None)));
    }

    #[test]
    fn an_error_ends_the_body() {
        let (producer, mut consumer) = handoff();
        producer.push(Err(BodyError::ClientGone));
        assert!(matches!(
            consumer.poll_chunk(&noop()),
            Poll::Ready(Some(Err(BodyError::ClientGone)))
        ));
        assert!(matches!(consumer.poll_chunk(&noop()), Poll::Ready(None)));
    }
}
