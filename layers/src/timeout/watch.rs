use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Connected, Timeouts};
use crate::{Reason, Rejection};

/// Watches one request from its call to the end of its answer.
///
/// One timer serves all deadlines. It is made when something is first waited for, goes with the answer from the future
/// to the body, and is set anew only when it fires before the deadline that holds by then: a frame costs no timer.
pub(super) struct Watch {
    /// Until the answer's head: who is connected has none.
    connect: Option<(Duration, Connected)>,
    first_byte: Option<Duration>,
    idle: Option<Duration>,
    whole: Option<Duration>,
    started: Instant,
    begun: bool,
    /// Since when the frame that comes next is waited for. Asked for while data was there, the clock is not read.
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    /// `None` where there is nothing to watch.
    pub(super) fn start(timeouts: Timeouts) -> Option<Self> {
        let Timeouts {
            streamed,
            connect,
            first_byte,
            idle,
            total,
            stream_total,
        } = timeouts;
        let (first_byte, idle, whole) = if streamed {
            (first_byte, idle, stream_total)
        } else {
            (None, None, total)
        };
        connect.or(first_byte).or(idle).or(whole)?;
        let started = Instant::now();
        Some(Self {
            connect: connect.map(|connect| (connect, Connected::default())),
            first_byte,
            idle,
            whole,
            started,
            begun: false,
            waiting: None,
            timer: None,
        })
    }

    /// What tells this that a connection was made.
    pub(super) fn connected(&self) -> Option<Connected> {
        self.connect.as_ref().map(|(_, connected)| connected.clone())
    }

    /// The answer's head came.
    pub(super) fn answered(&mut self) {
        self.connect = None;
    }

    /// A frame came; `any` says that it held a byte.
    pub(super) fn progress(&mut self, any: bool) {
        self.begun |= any;
        self.waiting = None;
    }

    /// Ready when a deadline has passed. To be polled whenever what is watched is pending.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Rejection> {
        let Some((deadline, reason)) = self.deadline() else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(rejection(reason));
            }
            timer.as_mut().reset(deadline);
        }
    }

    /// The next deadline, and what has happened once it is past.
    fn deadline(&mut self) -> Option<(Instant, Reason)> {
        let step = match (self.begun, self.first_byte, self.idle) {
            (false, Some(first_byte), _) => after(self.started, first_byte, Reason::FirstByteTimeout),
            (true, _, Some(idle)) => {
                let waiting = *self.waiting.get_or_insert_with(Instant::now);
                after(waiting, idle, Reason::IdleTimeout)
            }
            _ => None,
        };
        let whole = self
            .whole
            .and_then(|whole| after(self.started, whole, Reason::TotalTimeout));
        // Asked for anew each time: whoever connects wakes nobody here.
        let connect = self.connect.as_ref().filter(|(_, connected)| !connected.is_told());
        let connect = connect.and_then(|(connect, _)| after(self.started, *connect, Reason::ConnectTimeout));
        // Of two that are due at once, the first.
        let all = [connect, step, whole].into_iter().flatten();
        all.min_by_key(|(deadline, _)| *deadline)
    }
}

/// `None` where the time is too long to be told: never.
fn after(start: Instant, time: Duration, reason: Reason) -> Option<(Instant, Reason)> {
    start.checked_add(time).map(|deadline| (deadline, reason))
}

fn rejection(reason: Reason) -> Rejection {
    let rejection = Rejection::new(reason);
    // By then the backend has done the work, and would do it again.
    if reason == Reason::TotalTimeout {
        rejection.with_should_retry(false)
    } else {
        rejection
    }
}
