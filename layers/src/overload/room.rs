use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests stand in the upper bits of one word and bytes in the lower, so that both are taken in one step.
const BYTE_BITS: u32 = 40;
/// What can be counted: a tebibyte, and 16 million requests.
const MAX_BYTES: u64 = (1 << BYTE_BITS) - 1;
const MAX_REQUESTS: u64 = (1 << (u64::BITS - BYTE_BITS)) - 1;

/// How many requests and bytes are in flight, and how many may be.
///
/// Cloning gives another handle to the same room: hold on to one to read it or to change its limits.
#[derive(Clone)]
pub struct InFlight(Arc<Room>);

/// Room for one request and its bytes, given back when dropped.
#[must_use = "dropped, it holds no room"]
#[derive(Debug)]
pub struct Permit {
    room: InFlight,
    taken: u64,
}

struct Room {
    used: AtomicU64,
    max_requests: AtomicU64,
    max_bytes: AtomicU64,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Too much is in flight.
    Now,
    /// It is more than there is room for at all.
    Ever,
}

// === impl InFlight ===

impl InFlight {
    /// Room for `max_requests` (up to 16,777,215) that claim `max_bytes` (up to a tebibyte) in all.
    pub fn new(max_requests: u64, max_bytes: u64) -> Self {
        let room = Self(Arc::new(Room {
            used: AtomicU64::new(0),
            max_requests: AtomicU64::new(0),
            max_bytes: AtomicU64::new(0),
        }));
        room.resize(max_requests, max_bytes);
        room
    }

    /// New limits for what comes; what is in flight stays counted.
    pub fn resize(&self, max_requests: u64, max_bytes: u64) {
        self.0
            .max_requests
            .store(max_requests.min(MAX_REQUESTS), Ordering::Relaxed);
        self.0.max_bytes.store(max_bytes.min(MAX_BYTES), Ordering::Relaxed);
    }

    /// Requests in flight.
    pub fn requests(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed) >> BYTE_BITS
    }

    /// Bytes that the requests in flight claim.
    pub fn bytes(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed) & MAX_BYTES
    }

    pub(super) fn enter(&self, bytes: u64) -> Result<Permit, Full> {
        let max_bytes = self.0.max_bytes.load(Ordering::Relaxed);
        if bytes > max_bytes {
            return Err(Full::Ever);
        }
        let max_requests = self.0.max_requests.load(Ordering::Relaxed);
        let taken = 1 << BYTE_BITS | bytes;
        let fits = |used: u64| {
            // Neither sum can run over: the bytes are below the limit, which leaves its bits, and so are the requests.
            let free = used >> BYTE_BITS < max_requests && (used & MAX_BYTES) + bytes <= max_bytes;
            free.then(|| used + taken)
        };
        let entered = self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        entered.map_err(|_| Full::Now)?;
        Ok(Permit {
            room: self.clone(),
            taken,
        })
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("requests", &self.requests())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

// === impl Permit ===

impl Drop for Permit {
    fn drop(&mut self) {
        self.room.0.used.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn both_limits_hold_and_what_is_refused_takes_nothing() {
        let room = InFlight::new(2, 10);
        let one = room.enter(6).unwrap();
        assert_eq!(room.enter(5).unwrap_err(), Full::Now);
        assert_eq!((room.requests(), room.bytes()), (1, 6));
        let two = room.enter(4).unwrap();
        assert_eq!(room.enter(0).unwrap_err(), Full::Now, "of requests");
        assert_eq!(room.enter(11).unwrap_err(), Full::Ever);
        drop((one, two));
        assert_eq!((room.requests(), room.bytes()), (0, 0));
    }

    #[test]
    fn the_largest_limits_do_not_run_into_each_other() {
        let room = InFlight::new(u64::MAX, u64::MAX);
        let whole = room.enter(MAX_BYTES).unwrap();
        assert_eq!((room.requests(), room.bytes()), (1, MAX_BYTES));
        assert_eq!(room.enter(1).unwrap_err(), Full::Now);
        let second = room.enter(0).unwrap();
        assert_eq!((room.requests(), room.bytes()), (2, MAX_BYTES));
        drop((whole, second));
        assert_eq!(room.0.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn limits_may_shrink_below_what_is_in_flight() {
        let room = InFlight::new(4, 100);
        let held = room.enter(80).unwrap();
        room.resize(1, 10);
        assert_eq!(room.enter(1).unwrap_err(), Full::Now);
        drop(held);
        assert!(room.enter(1).is_ok());
    }

    #[test]
    fn never_more_than_the_limit_whoever_asks() {
        let room = InFlight::new(3, 20);
        std::thread::scope(|scope| {
            for bytes in [1, 9, 10, 12] {
                let room = &room;
                scope.spawn(move || {
                    for _ in 0..5000 {
                        let permit = room.enter(bytes);
                        let (requests, used) = (room.requests(), room.bytes());
                        assert!(requests <= 3 && used <= 20, "{requests} requests, {used} bytes");
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!((room.requests(), room.bytes()), (0, 0));
    }
}
