//! The answers that are kept, and the requests that wait for one.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap, StatusCode};
use moka::sync::Cache;
use tokio::sync::watch;
use tokio::time::Instant;

use super::key::Key;

/// How many locks the flights are spread over.
const SHARDS: usize = 16;
/// What an entry costs besides its bytes, roughly.
const OVERHEAD: usize = 512;

/// Answers, kept within a number of bytes and for a time.
///
/// Cloning gives another handle to the same answers: hold on to one where they must outlive the layer, as when a stack
/// is built anew, or to share them between several.
#[derive(Clone)]
pub struct ResponseCache(pub(super) Arc<Shared>);

pub(super) struct Shared {
    kept: Cache<Key, Arc<Entry>>,
    flights: [Mutex<HashMap<Key, watch::Receiver<Landing>>>; SHARDS],
    /// Bytes of answers that are being recorded; as many as may be kept.
    recording: AtomicU64,
    capacity: u64,
    ttl: Duration,
    max_entry: usize,
}

/// One whole answer.
pub(super) struct Entry {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) extensions: Extensions,
    pub(super) data: Bytes,
    /// Where each chunk ends.
    pub(super) ends: Box<[u32]>,
    pub(super) stored: Instant,
    /// How old it was when it came, by its own word.
    pub(super) age: Duration,
    pub(super) fresh: Duration,
}

/// What became of the request that others wait for.
#[derive(Clone)]
pub(super) enum Landing {
    Flying,
    Stored(Arc<Entry>),
    /// Its answer cannot be kept: each for itself.
    Unfit,
    /// Its client has gone: another takes its place.
    Left,
}

/// A request that others may wait for. Dropped without a word, it was left.
pub(super) struct Flight {
    shared: Arc<Shared>,
    key: Key,
    sender: watch::Sender<Landing>,
}

pub(super) enum Joined {
    Leads(Flight),
    Follows(watch::Receiver<Landing>),
}

// === impl ResponseCache ===

impl ResponseCache {
    /// Keeps up to `capacity` bytes of answers, each for `ttl` at most. One answer may take a sixteenth of it, a mebibyte at
    /// most, if not [set](Self::max_entry) otherwise. While answers are recorded, they may take as much again.
    pub fn new(capacity: u64, ttl: Duration) -> Self {
        let max_entry = usize::try_from(capacity / 16).unwrap_or(usize::MAX).min(1 << 20);
        Self::build(capacity, ttl, max_entry)
    }

    /// An empty cache like this one, but for answers of up to `bytes`.
    pub fn max_entry(&self, bytes: usize) -> Self {
        // Chunks are told by 32 bits.
        Self::build(self.0.capacity, self.0.ttl, bytes.min(u32::MAX as usize))
    }

    fn build(capacity: u64, ttl: Duration, max_entry: usize) -> Self {
        let kept = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.weight()).unwrap_or(u32::MAX))
            .time_to_live(ttl)
            .build();
        Self(Arc::new(Shared {
            kept,
            flights: std::array::from_fn(|_| Mutex::default()),
            recording: AtomicU64::new(0),
            capacity,
            ttl,
            max_entry,
        }))
    }

    /// How many answers are kept, and their bytes. What is to be evicted is evicted before it is counted.
    pub fn usage(&self) -> (u64, u64) {
        self.0.kept.run_pending_tasks();
        (self.0.kept.entry_count(), self.0.kept.weighted_size())
    }

    /// Forgets all answers.
    pub fn clear(&self) {
        self.0.kept.invalidate_all();
    }
}

impl fmt::Debug for ResponseCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseCache")
            .field("capacity", &self.0.capacity)
            .field("ttl", &self.0.ttl)
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The answer kept under `key`, if it is fresh and no older than `max_age`.
    pub(super) fn get(&self, key: &Key, max_age: Option<Duration>) -> Option<Arc<Entry>> {
        let entry = self.kept.get(key)?;
        let fresh = entry.stored.elapsed() < entry.fresh && max_age.is_none_or(|max| entry.age() <= max);
        fresh.then_some(entry)
    }

    pub(super) fn put(&self, key: Key, entry: Arc<Entry>) {
        self.kept.insert(key, entry);
    }

    /// Takes `more` bytes for an answer that has `recorded`, if it may be so large and all of them together, too.
    pub(super) fn reserve(&self, recorded: usize, more: usize) -> bool {
        if recorded.saturating_add(more) > self.max_entry {
            return false;
        }
        let within = |used: u64| used.checked_add(more as u64).filter(|sum| *sum <= self.capacity);
        self.recording
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .is_ok()
    }

    pub(super) fn release(&self, bytes: usize) {
        self.recording.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn join(self: &Arc<Self>, key: Key) -> Joined {
        let mut flights = self.flights(&key);
        if let Some(flight) = flights.get(&key) {
            return Joined::Follows(flight.clone());
        }
        let (sender, receiver) = watch::channel(Landing::Flying);
        flights.insert(key, receiver);
        let shared = self.clone();
        Joined::Leads(Flight { shared, key, sender })
    }

    fn flights(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, watch::Receiver<Landing>>> {
        let shard = &self.flights[usize::from(key[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> bool {
        let none = |shard: &Mutex<HashMap<_, _>>| shard.lock().is_ok_and(|flights| flights.is_empty());
        self.flights.iter().all(none) && self.recording.load(Ordering::Relaxed) == 0
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn age(&self) -> Duration {
        self.age + self.stored.elapsed()
    }

    pub(super) fn chunk(&self, index: usize) -> Option<Bytes> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(self.data.slice(start..end))
    }

    fn weight(&self) -> usize {
        let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + 64;
        let headers: usize = self.headers.iter().map(line).sum();
        OVERHEAD + headers + self.data.len() + self.ends.len() * size_of::<u32>()
    }
}

// === impl Flight ===

impl Flight {
    /// Tells those who wait what became of it.
    pub(super) fn land(self, landing: Landing) {
        // Forgotten first, as on drop: who comes now finds the answer, not the flight.
        self.shared.flights(&self.key).remove(&self.key);
        self.sender.send_replace(landing);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let flying = matches!(*self.sender.borrow(), Landing::Flying);
        if flying {
            self.shared.flights(&self.key).remove(&self.key);
            self.sender.send_replace(Landing::Left);
        }
    }
}
