//! Rows that wait to be written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::committed::Committed;
use super::counters::{Counters, add, sub};
use crate::money::Nanos;
use crate::store::Row;

/// Bytes of rows that wait in memory while nothing can be written. New requests are refused long before; this bounds what
/// those in flight can still bring.
const MAX_WAITING: u64 = 64 << 20;
/// About the bytes of a row, its texts aside.
const ROW: usize = 640;

/// Rows that wait to be written, in their order.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    counters: Arc<Counters>,
    /// A row came that somebody waits for, or the queue was closed.
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Item>,
    bytes: u64,
    closed: bool,
}

/// A row that waits, and who waits for it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) row: Row,
    pub(super) bytes: u64,
    since: Instant,
    waiter: Option<oneshot::Sender<()>>,
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
    pub(super) fn write(&self, row: Row) -> Committed {
        let (done, committed) = oneshot::channel();
        if let Err(row) = self.put(row, Some(done), MAX_WAITING) {
            add(&self.counters.lost, 1);
            tracing::error!(id = %row.id, account = %row.account, charge = %row.charge, "a charge is not taken: there is no room, or the end has come; its answer fails");
        }
        self.wake.notify_one();
        Committed::new(committed)
    }

    /// Puts a row in that nobody waits for: it goes with the next commit.
    pub(super) fn note(&self, row: Row) {
        debug_assert_eq!(row.charge, Nanos::ZERO, "a charge that nobody waits for");
        if self.put(row, None, MAX_WAITING / 4).is_err() {
            add(&self.counters.dropped, 1);
        }
    }

    fn put(&self, row: Row, waiter: Option<oneshot::Sender<()>>, room: u64) -> Result<(), Box<Row>> {
        let bytes = size(&row);
        let item = Item {
            row,
            bytes,
            since: Instant::now(),
            waiter,
        };
        let mut waiting = self.waiting.lock();
        if waiting.closed || waiting.bytes + bytes > room {
            return Err(Box::new(item.row));
        }
        waiting.bytes += bytes;
        // Counted before the writer can see it: it counts down.
        add(&self.counters.rows, 1);
        add(&self.counters.bytes, bytes);
        waiting.items.push_back(item);
        Ok(())
    }

    /// The next rows, about so many bytes and at least one; none when there are none.
    pub(super) fn take(&self, bytes: u64) -> Vec<Item> {
        let mut waiting = self.waiting.lock();
        let mut taken = 0;
        let count = waiting.items.iter().take_while(|item| {
            let fits = taken < bytes;
            taken += item.bytes;
            fits
        });
        let count = count.count();
        let items: Vec<Item> = waiting.items.drain(..count).collect();
        waiting.bytes -= items.iter().map(|item| item.bytes).sum::<u64>();
        items
    }

    /// Tells who waits longer than that that it takes too long. Their rows stay. Whether there was one.
    pub(super) fn expire(&self, max_wait: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        expire(&mut waiting.items, max_wait, &self.counters)
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
    pub(super) fn done(&self, items: Vec<Item>, bytes: u64) -> Vec<Row> {
        add(&self.counters.commits, 1);
        add(&self.counters.written, items.len() as u64);
        add(&self.counters.bytes, bytes);
        sub(&self.counters.bytes, items.iter().map(|item| item.bytes).sum());
        let done = |item: Item| {
            if let Some(waiter) = item.waiter {
                let _left = waiter.send(());
            }
            item.row
        };
        items.into_iter().map(done).collect()
    }
}

/// Tells who waits longer than that that it takes too long. Whether there was one.
pub(super) fn expire<'a>(
    items: impl IntoIterator<Item = &'a mut Item>,
    max_wait: Duration,
    counters: &Counters,
) -> bool {
    let mut late = false;
    for item in items {
        if item.since.elapsed() < max_wait {
            break;
        }
        if let Some(waiter) = item.waiter.take() {
            // Counted before who waits can wake and look.
            add(&counters.late, 1);
            drop(waiter);
            late = true;
        }
    }
    late
}

/// About the bytes of a row.
fn size(row: &Row) -> u64 {
    let texts = [
        &row.served,
        &row.reason,
        &row.price,
        &row.tag,
        &row.user,
        &row.backend_request_id,
    ];
    let texts: usize = texts.iter().filter_map(|text| text.as_ref().map(String::len)).sum();
    let names = row.request_id.len() + row.group.len() + row.endpoint.len() + row.model.len();
    let attempts: usize = row.attempts.iter().map(|attempt| attempt.backend.len() + 40).sum();
    (ROW + texts + names + attempts) as u64
}
