//! Whether a charge has been written.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

/// Done once a row is durable. Dropped, the row is written all the same.
#[derive(Debug)]
#[must_use = "an answer is complete only when its charge is durable"]
pub struct Committed(oneshot::Receiver<()>);

/// The row could not be made durable in time. It may still be, later: it is charged, and its answer must not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDurable;

// === impl Committed ===

impl Committed {
    pub(super) const fn new(done: oneshot::Receiver<()>) -> Self {
        Self(done)
    }
}

impl Future for Committed {
    type Output = Result<(), NotDurable>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(done.map_err(|_| NotDurable))
    }
}

// === impl NotDurable ===

impl fmt::Display for NotDurable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the charge could not be written in time")
    }
}

impl std::error::Error for NotDurable {}
