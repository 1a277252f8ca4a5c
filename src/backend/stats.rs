//! What the backend counted, for `GET /_stats` and for tests that wait on it.

use serde::Serialize;
use tokio::sync::watch;

/// One reading of the counters. Requests for `/_stats` and `/_last` are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Requests whose head came in.
    pub requests: u64,
    /// Requests for which all was done that the script wanted, faults included.
    pub completed: u64,
    /// Requests whose client left before that.
    pub cancelled: u64,
    /// Connections accepted so far.
    pub connections: u64,
    /// Requests begun and neither completed nor cancelled.
    pub in_flight: u64,
    /// The most requests that were in flight at one time.
    pub max_in_flight: u64,
    /// Prompt tokens of all answered requests.
    pub prompt_tokens: u64,
    /// Completion tokens written, those of cancelled streams included.
    pub completion_tokens: u64,
    /// Connections open now; not part of `GET /_stats`.
    #[serde(skip)]
    pub open_connections: u64,
}

/// The live counters; a clone reads the same ones.
#[derive(Clone, Debug)]
pub struct Stats(watch::Sender<Counts>);

/// One request in flight. Dropped unfinished, it counts as cancelled.
#[derive(Debug)]
pub(super) struct InFlight {
    stats: Stats,
    finished: bool,
}

/// One open connection, until dropped.
#[derive(Debug)]
pub(super) struct Connected(Stats);

// === impl Stats ===

impl Stats {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Counts::default()))
    }

    /// The counters as they are.
    pub fn now(&self) -> Counts {
        *self.0.borrow()
    }

    /// Waits until the counters satisfy `reached`, and returns them as they then were.
    pub async fn wait_for(&self, reached: impl FnMut(&Counts) -> bool) -> Counts {
        let mut receiver = self.0.subscribe();
        let seen = receiver.wait_for(reached).await;
        // A watch fails only when its sender is gone, and `self` is one.
        seen.map_or_else(|_| self.now(), |counts| *counts)
    }

    pub(super) fn begin(&self) -> InFlight {
        self.0.send_modify(|counts| {
            counts.requests += 1;
            counts.in_flight += 1;
            counts.max_in_flight = counts.max_in_flight.max(counts.in_flight);
        });
        InFlight {
            stats: self.clone(),
            finished: false,
        }
    }

    pub(super) fn connect(&self) -> Connected {
        self.0.send_modify(|counts| {
            counts.connections += 1;
            counts.open_connections += 1;
        });
        Connected(self.clone())
    }
}

// === impl InFlight ===

impl InFlight {
    /// Adds prompt tokens.
    pub(super) fn read(&self, prompt_tokens: u64) {
        self.stats.0.send_modify(|counts| counts.prompt_tokens += prompt_tokens);
    }

    /// Adds completion tokens.
    pub(super) fn wrote(&self, completion_tokens: u64) {
        if completion_tokens > 0 {
            self.stats
                .0
                .send_modify(|counts| counts.completion_tokens += completion_tokens);
        }
    }

    /// The answer is complete.
    pub(super) fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            self.stats.0.send_modify(|counts| {
                counts.completed += 1;
                counts.in_flight -= 1;
            });
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.finished {
            self.stats.0.send_modify(|counts| {
                counts.cancelled += 1;
                counts.in_flight -= 1;
            });
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.0.send_modify(|counts| counts.open_connections -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_once_and_unfinished_ones_are_cancelled() {
        let stats = Stats::new();
        let mut first = stats.begin();
        let second = stats.begin();
        first.finish();
        first.finish();
        drop((first, second));
        let counts = stats.now();
        assert_eq!((counts.requests, counts.completed, counts.cancelled), (2, 1, 1));
        assert_eq!((counts.in_flight, counts.max_in_flight), (0, 2));
    }

    #[tokio::test]
    async fn a_waiter_sees_a_change_made_after_it_began() {
        let stats = Stats::new();
        let waiter = tokio::spawn({
            let stats = stats.clone();
            async move { stats.wait_for(|counts| counts.completion_tokens >= 3).await }
        });
        let request = stats.begin();
        request.wrote(2);
        request.wrote(2);
        assert_eq!(waiter.await.expect("the waiter ends").completion_tokens, 4);
    }
}
