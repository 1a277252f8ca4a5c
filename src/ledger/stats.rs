//! The ledger in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::inner::Inner;
use crate::money::Nanos;

/// The ledger in numbers, for metrics. Counts are since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What this process may spend of accounts' money, what is reserved included.
    pub held: Nanos,
    /// What requests in flight have reserved of accounts' money.
    pub reserved: Nanos,
    /// What requests in flight have reserved of keys' quotas.
    pub reserved_keys: Nanos,
    /// Rows that the store does not have yet.
    pub pending_rows: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Rows that were made durable.
    pub written: u64,
    /// Commits that made them so.
    pub commits: u64,
    /// Rows that reached the store.
    pub filled: u64,
    /// Rows without a charge that were dropped because the journal was full.
    pub dropped: u64,
    /// Rows that the store refused, set aside in the journal.
    pub aside: u64,
    /// Writes whose answer was not completed because they took too long.
    pub late: u64,
    /// Rows with a charge that found no room at all: their answers were not completed, and they are not charged.
    pub lost: u64,
    /// Whether the last call to the store was answered.
    pub store_up: bool,
    /// Whether charges can be written.
    pub writable: bool,
}

// === impl Inner ===

impl Inner {
    pub(super) fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let mut stats = Stats {
            pending_rows: get(&counters.rows),
            pending_bytes: get(&counters.bytes),
            written: get(&counters.written),
            commits: get(&counters.commits),
            filled: get(&counters.filled),
            dropped: get(&counters.dropped),
            aside: get(&counters.aside),
            late: get(&counters.late),
            lost: get(&counters.lost),
            store_up: self.store_up(),
            writable: !counters.failing.load(Ordering::Relaxed) && !counters.dead.load(Ordering::Relaxed),
            ..Stats::default()
        };
        for funds in self.all() {
            let purses = funds.purses.lock();
            stats.held = stats.held.saturating_add(purses.account.held());
            stats.reserved = stats.reserved.saturating_add(purses.account.reserved());
            let keys = purses.keys().map(|(_, key)| key.reserved());
            stats.reserved_keys = keys.fold(stats.reserved_keys, Nanos::saturating_add);
        }
        stats
    }
}
