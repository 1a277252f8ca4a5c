//! How many refused requests of a key are written down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Refusals of one key that become rows in a second. A client that hammers a closed door must not fill the store; the
/// metrics count all of them.
const A_SECOND: u64 = 10;
/// Bits of the count below the second.
const COUNT: u32 = 16;

/// Counts the refusals of one second.
#[derive(Debug, Default)]
pub struct Refusals(AtomicU64);

impl Refusals {
    /// Whether one more of this moment is written down.
    pub fn admits(&self, time: SystemTime) -> bool {
        let second = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() << COUNT;
        let one_more = |known: u64| {
            if known >> COUNT == second >> COUNT {
                (known - second < A_SECOND).then_some(known + 1)
            } else {
                Some(second + 1)
            }
        };
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ten_a_second_are_written_down() {
        let refusals = Refusals::default();
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_100);
        let admitted = |at| (0..100).filter(|_| refusals.admits(at)).count();
        assert_eq!(admitted(at), 10);
        assert_eq!(admitted(at + Duration::from_millis(800)), 0, "the same second");
        assert_eq!(admitted(at + Duration::from_secs(1)), 10);
    }
}
