//! What the ledger counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The numbers as they are counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) rows: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) filled: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) aside: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) lost: AtomicU64,
    /// Charges cannot be written just now.
    pub(super) failing: AtomicBool,
    /// What writes charges is gone for good.
    pub(super) dead: AtomicBool,
    /// No more rows are taken.
    pub(super) stopped: AtomicBool,
}

/// Counts.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Counts down.
pub(super) fn sub(counter: &AtomicU64, count: u64) {
    counter.fetch_sub(count, Ordering::Relaxed);
}
