use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use super::Usage;
use crate::Rejection;

/// Whether an answer may be complete at once when its [`Sink`](super::Sink) was told, or only after something: that its
/// charge has been written down where no crash can take it.
///
/// As a future it is what the answer waits for; it may be polled on after it was ready.
#[derive(Default)]
pub struct Settled(Option<Mutex<Durable>>);

// Behind a lock that is never taken, so that a body that holds it is `Sync` where it was.
type Durable = Pin<Box<dyn Future<Output = Result<(), Rejection>> + Send>>;

/// Whether a stream may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// It may.
    Go,
    /// It ends here, and used so much: what the client is told, and the [`Outcome`](super::Outcome) too.
    Stop(Usage),
}

impl Settled {
    /// There is nothing to wait for.
    pub const fn done() -> Self {
        Self(None)
    }

    /// The answer is complete only when `durable` is. Fails it, the body of the answer fails with the same.
    ///
    /// It is not polled before all that precedes the end of the answer has gone on, and not polled to its end, or not at all,
    /// when the client leaves meanwhile: it waits for the charge and must not be what makes it.
    pub fn after(durable: impl Future<Output = Result<(), Rejection>> + Send + 'static) -> Self {
        Self(Some(Mutex::new(Box::pin(durable))))
    }

    /// Whether there is nothing to wait for, now.
    pub const fn is_done(&self) -> bool {
        self.0.is_none()
    }
}

impl Future for Settled {
    type Output = Result<(), Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(durable) = &mut self.0 else {
            return Poll::Ready(Ok(()));
        };
        let durable = durable.get_mut().unwrap_or_else(PoisonError::into_inner);
        let result = std::task::ready!(durable.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(result)
    }
}

impl From<()> for Settled {
    fn from((): ()) -> Self {
        Self::done()
    }
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_done() {
            "Settled(done)"
        } else {
            "Settled(after …)"
        })
    }
}
