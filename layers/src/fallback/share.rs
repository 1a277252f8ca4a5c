use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A window moves on by one part in so many at a time.
const SLOTS: usize = 10;

/// How many attempts beyond each request's first all requests together may have.
///
/// When every backend is in trouble, each request that is tried again adds to it: four attempts a request are four times
/// the load, just then. A share bounds what is added whatever one request may try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// So many further attempts for each hundred requests of the window.
    pub percent: u32,
    /// So many in each window besides, for when there are few requests.
    pub reserve: u32,
    /// How long a request counts.
    pub window: Duration,
}

/// The requests and the further attempts of a window.
#[derive(Debug)]
pub(super) struct Tally {
    share: Share,
    begun: Instant,
    /// Held for the time of a few additions.
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    slots: [Counts; SLOTS],
    /// Which slot is the newest, counted from the beginning.
    at: u128,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u64,
    further: u64,
}

// === impl Share ===

impl Default for Share {
    /// A fifth, and ten besides, in ten seconds.
    fn default() -> Self {
        Self {
            percent: 20,
            reserve: 10,
            window: Duration::from_secs(10),
        }
    }
}

// === impl Tally ===

impl Tally {
    pub(super) fn new(share: Share, now: Instant) -> Self {
        Self {
            share,
            begun: now,
            ring: Mutex::default(),
        }
    }

    /// Counts a request.
    pub(super) fn request(&self, now: Instant) {
        self.with(now, |ring| ring.newest().requests += 1);
    }

    /// Counts a further attempt, when there may be one.
    pub(super) fn further(&self, now: Instant) -> bool {
        self.with(now, |ring| {
            let sum = |of: fn(&Counts) -> u64| ring.slots.iter().map(of).sum::<u64>();
            let earned = sum(|counts| counts.requests).saturating_mul(self.share.percent.into()) / 100;
            let allowed = sum(|counts| counts.further) < earned.saturating_add(self.share.reserve.into());
            if allowed {
                ring.newest().further += 1;
            }
            allowed
        })
    }

    fn with<T>(&self, now: Instant, run: impl FnOnce(&mut Ring) -> T) -> T {
        let (elapsed, window) = (now.saturating_duration_since(self.begun), self.share.window);
        let slot = elapsed.as_nanos().saturating_mul(SLOTS as u128) / window.as_nanos().max(1);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.advance(slot);
        run(&mut ring)
    }
}

// === impl Ring ===

impl Ring {
    /// Forgets what has become too old by the time of slot `to`.
    fn advance(&mut self, to: u128) {
        let stale = to.saturating_sub(self.at).min(SLOTS as u128);
        for step in 0..stale {
            self.slots[index(to - step)] = Counts::default();
        }
        self.at = self.at.max(to);
    }

    fn newest(&mut self) -> &mut Counts {
        &mut self.slots[index(self.at)]
    }
}

fn index(slot: u128) -> usize {
    usize::try_from(slot % SLOTS as u128).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn tally(percent: u32, reserve: u32) -> (Tally, Instant) {
        let now = Instant::now();
        let share = Share {
            percent,
            reserve,
            window: 10 * SECOND,
        };
        (Tally::new(share, now), now)
    }

    /// How many further attempts there may be now.
    fn left(tally: &Tally, now: Instant) -> usize {
        (0..1000).take_while(|_| tally.further(now)).count()
    }

    #[test]
    fn further_attempts_are_a_share_of_the_requests_and_the_reserve() {
        let (tally, now) = tally(20, 3);
        assert_eq!(left(&tally, now), 3);
        (0..50).for_each(|_| tally.request(now));
        assert_eq!(left(&tally, now), 10);
        assert_eq!(left(&tally, now + 9 * SECOND), 0, "the window is not over");
    }

    #[test]
    fn what_is_older_than_the_window_counts_no_more() {
        let (tally, now) = tally(10, 0);
        (0..100).for_each(|_| tally.request(now));
        (0..50).for_each(|_| tally.request(now + 5 * SECOND));
        assert_eq!(left(&tally, now + 9 * SECOND), 15);
        // The hundred have gone, and what was tried for them has not.
        assert_eq!(left(&tally, now + 10 * SECOND), 0);
        (0..100).for_each(|_| tally.request(now + 12 * SECOND));
        assert_eq!(left(&tally, now + 12 * SECOND), 0);
        assert_eq!(left(&tally, now + 19 * SECOND), 10);
        assert_eq!(left(&tally, now + 1000 * SECOND), 0);
    }

    #[test]
    fn a_clock_that_goes_back_and_a_window_of_nothing_do_no_harm() {
        let (tally, now) = tally(0, 1);
        assert_eq!(left(&tally, now + 5 * SECOND), 1);
        assert_eq!(left(&tally, now), 0);
        let share = Share {
            window: Duration::ZERO,
            ..Share::default()
        };
        assert!(Tally::new(share, now).further(now));
    }

    #[test]
    fn never_more_than_the_share_whoever_asks() {
        let (tally, now) = tally(50, 7);
        (0..100).for_each(|_| tally.request(now));
        let count = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| count.fetch_add(left(&tally, now), std::sync::atomic::Ordering::Relaxed));
            }
        });
        assert_eq!(count.into_inner(), 57);
    }
}
