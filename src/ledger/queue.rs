//! Rows that wait to be written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::committed::Committed;
use super::counters::{Counters, add, sub};
use crate::money::Nanos;
use crate::store::{Draft, Ids, Lines};

/// Bytes of rows that wait in memory while nothing can be written. New requests are refused long before; this bounds what
/// those in flight can still bring.
const MAX_WAITING: u64 = 64 << 20;
/// About the bytes of one commit, at most.
const COMMIT: usize = 1 << 20;

/// Rows that wait to be written, in their order, which is that of their ids.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    counters: Arc<Counters>,
    /// A row came that somebody waits for, or the queue was closed.
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    parts: VecDeque<Part>,
    bytes: u64,
    closed: bool,
}

/// Rows of one commit, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) lines: Lines,
    pub(super) waiters: Vec<Waiter>,
    /// About what they take in memory.
    pub(super) bytes: u64,
}

/// Who waits for a commit.
#[derive(Debug)]
pub(super) struct Waiter {
    since: Instant,
    /// Absent when it was told that it takes too long.
    done: Option<oneshot::Sender<()>>,
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self {
            waiting: Mutex::default(),
            counters,
            wake: Notify::new(),
        }
    }

    /// Puts a row in; the writer wakes.
    pub(super) fn write(&self, draft: &Draft, ids: &Ids) -> Committed {
        let (done, committed) = oneshot::channel();
        let waiter = Waiter {
            since: Instant::now(),
            done: Some(done),
        };
        if !self.put(draft, ids, Some(waiter), MAX_WAITING) {
            add(&self.counters.lost, 1);
            let (account, charge) = (draft.account(), draft.charge());
            tracing::error!(%account, %charge, "a charge is not taken: there is no room, or the end has come; its answer fails");
        }
        self.wake.notify_one();
        Committed::new(committed)
    }

    /// Puts a row in that nobody waits for: it goes with the next commit.
    pub(super) fn note(&self, draft: &Draft, ids: &Ids) {
        debug_assert_eq!(draft.charge(), Nanos::ZERO, "a charge that nobody waits for");
        if !self.put(draft, ids, None, MAX_WAITING / 4) {
            add(&self.counters.dropped, 1);
        }
    }

    /// Whether there was room.
    fn put(&self, draft: &Draft, ids: &Ids, waiter: Option<Waiter>, room: u64) -> bool {
        let bytes = draft.size();
        let mut waiting = self.waiting.lock();
        if waiting.closed || waiting.bytes + bytes > room {
            return false;
        }
        waiting.bytes += bytes;
        // Counted before the writer can see it: it counts down.
        add(&self.counters.rows, 1);
        add(&self.counters.bytes, bytes);
        let full = |part: &Part| part.lines.text().len() >= COMMIT;
        if waiting.parts.back().is_none_or(full) {
            waiting.parts.push_back(Part::default());
        }
        if let Some(part) = waiting.parts.back_mut() {
            // Here, so that ids grow in the order of the rows: by that the store sees which are new.
            part.lines.push(draft, ids.next());
            part.waiters.extend(waiter);
            part.bytes += bytes;
        }
        true
    }

    /// The next rows, of one commit; none when there are none.
    pub(super) fn take(&self) -> Option<Part> {
        let mut waiting = self.waiting.lock();
        let part = waiting.parts.pop_front()?;
        waiting.bytes -= part.bytes;
        Some(part)
    }

    /// Tells who waits longer than that that it takes too long. Their rows stay. Whether there was one.
    pub(super) fn expire(&self, max_wait: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        let waiters = waiting.parts.iter_mut().flat_map(|part| &mut part.waiters);
        expire(waiters, max_wait, &self.counters)
    }

    /// How many bytes wait.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.lock().bytes
    }

    pub(super) fn closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Takes no more rows.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_one();
    }

    /// These rows are durable, in so many bytes.
    pub(super) fn done(&self, part: Part, bytes: u64) -> Lines {
        add(&self.counters.commits, 1);
        add(&self.counters.written, part.lines.len() as u64);
        add(&self.counters.bytes, bytes);
        sub(&self.counters.bytes, part.bytes);
        for waiter in part.waiters {
            if let Some(done) = waiter.done {
                let _left = done.send(());
            }
        }
        part.lines
    }
}

/// Tells who waits longer than that that it takes too long. Whether there was one.
pub(super) fn expire<'a>(
    waiters: impl IntoIterator<Item = &'a mut Waiter>,
    max_wait: Duration,
    counters: &Counters,
) -> bool {
    let mut late = false;
    for waiter in waiters {
        if waiter.since.elapsed() < max_wait {
            break;
        }
        if let Some(done) = waiter.done.take() {
            // Counted before who waits can wake and look.
            add(&counters.late, 1);
            drop(done);
            late = true;
        }
    }
    late
}
