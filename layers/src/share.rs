//! The part of every limit that one process enforces, where several share one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The part of every limit that one process enforces, where several serve the same callers. Clones are the same one.
///
/// With n processes each has a limit's nth part, and the remainder goes to the lowest ranks: the parts of a limit L sum up
/// to L. Where L < n no whole part is left for some; they have 1 nevertheless, as a caller must not depend on who
/// answers it: then the parts sum up to n, which is n − L too many.
///
/// When the part changes nothing is counted anew: what was used stays used. So what a newcomer's part allows comes
/// out of what the others have left, and who had used more than its part by then owes it. Only what a process had
/// admitted before it left is not remembered by anybody.
///
/// ```
/// use tollgate_layers::rate_limit::Share;
///
/// let share = Share::default();
/// assert_eq!(share.of(100), 100);
/// // The second of three.
/// share.set(3, 1);
/// assert_eq!((share.of(100), share.of(101), share.of(2), share.of(1)), (33, 34, 1, 1));
/// ```
#[derive(Clone)]
pub struct Share(Arc<AtomicU64>);

/// The share as it is now, for all limits that one request is under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    processes: u64,
    rank: u64,
}

/// One process alone. In the upper half how many there are, in the lower one the rank: both change as one.
const ALONE: u64 = 1 << 32;

// === impl Share ===

impl Share {
    /// There are `processes`, and this one is the one of this `rank`, from 0. None at all counts as one.
    pub fn set(&self, processes: u32, rank: u32) {
        let packed = u64::from(processes.max(1)) << 32 | u64::from(rank);
        self.0.store(packed, Ordering::Relaxed);
    }

    /// What this process enforces of a limit. At least 1 of any limit but 0.
    pub fn of(&self, limit: u64) -> u64 {
        self.now().of(limit)
    }

    pub(crate) fn now(&self) -> Part {
        let packed = self.0.load(Ordering::Relaxed);
        Part {
            processes: packed >> 32,
            rank: packed & u64::from(u32::MAX),
        }
    }
}

impl Default for Share {
    /// All of it.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(ALONE)))
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}

// === impl Part ===

impl Part {
    pub(crate) fn of(self, limit: u64) -> u64 {
        // Divisions are for those who are not alone.
        if self.processes == 1 {
            return limit;
        }
        let remainder = u64::from(self.rank < limit % self.processes);
        (limit / self.processes + remainder).max(limit.min(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(limit: u64, processes: u32) -> Vec<u64> {
        let share = Share::default();
        let part = |rank| {
            share.set(processes, rank);
            share.of(limit)
        };
        (0..processes).map(part).collect()
    }

    #[test]
    fn the_parts_sum_up_to_the_whole() {
        for limit in (0..300).chain([4_294_967_295, 10_000_000_000_000, u64::MAX]) {
            for processes in 1..40 {
                let parts = parts(limit, processes);
                let sum = parts.iter().map(|part| u128::from(*part)).sum::<u128>();
                let least = if limit == 0 { 0 } else { u64::from(processes) };
                assert_eq!(sum, u128::from(limit.max(least)), "{limit} among {processes}");
                assert!(parts.is_sorted_by(|one, next| *one == *next || *one == next + 1));
            }
        }
    }

    #[test]
    fn the_remainder_goes_to_the_lowest_ranks() {
        assert_eq!(parts(7, 3), [3, 2, 2]);
        assert_eq!(parts(2, 4), [1, 1, 1, 1]);
        assert_eq!(parts(0, 2), [0, 0]);
        let share = Share::default();
        let clone = share.clone();
        assert_eq!(share.of(u64::MAX), u64::MAX);
        clone.set(2, 1);
        assert_eq!(share.of(9), 4);
        clone.set(0, 0);
        assert_eq!(share.of(9), 9);
    }
}
