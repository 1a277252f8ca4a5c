use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Each doubling is so many buckets: a length is known to an eighth.
const STEPS: u32 = 8;
/// Up to here, in doublings; what is longer counts as that long.
const DOUBLINGS: u32 = 24;
const BUCKETS: usize = ((DOUBLINGS - 2) * STEPS) as usize;
/// Before so many answers nothing is known.
const TELLING: u32 = 20;
/// After so many, all that is known counts half.
const HALVED_AT: u32 = 4096;
/// While they are few each report counts at once, later one in so many.
const EACH: u32 = 64;

/// How long a model's answers are, in tokens: counts in buckets that grow with the length, the older ones fading.
///
/// Under a kilobyte, and it never waits. Reports at the same instant may be counted a little late, or one too few.
pub(super) struct Lengths {
    buckets: [AtomicU32; BUCKETS],
    reports: AtomicU32,
    median: AtomicU64,
    p99: AtomicU64,
}

impl Lengths {
    /// Learns of an answer.
    pub(super) fn learn(&self, tokens: u64) {
        self.buckets[bucket(tokens)].fetch_add(1, Ordering::Relaxed);
        let reports = self.reports.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let full = || {
            let halved = self
                .reports
                .compare_exchange(reports, HALVED_AT / 2, Ordering::Relaxed, Ordering::Relaxed);
            halved.is_ok()
        };
        if reports >= HALVED_AT && full() {
            for bucket in &self.buckets {
                // Not to be counted below nothing by two who halve.
                let half = |count: u32| Some(count / 2);
                let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, half);
            }
        }
        if reports >= TELLING && (reports < EACH || reports.is_multiple_of(EACH)) {
            self.sum_up();
        }
    }

    /// Half of the answers are no longer; `None` until enough are known.
    pub(super) fn median(&self) -> Option<u64> {
        known(&self.median)
    }

    /// All but one in a hundred are shorter than this, with an eighth on top: what a cap is set to must be seen to be too
    /// low when it is. `None` until enough are known.
    pub(super) fn p99(&self) -> Option<u64> {
        known(&self.p99)
    }

    fn sum_up(&self) {
        let counts = self
            .buckets
            .each_ref()
            .map(|bucket| u64::from(bucket.load(Ordering::Relaxed)));
        let all: u64 = counts.iter().sum();
        let reaching = |share: u64| {
            let mut sum = 0;
            let reached = |count: &u64| {
                sum += count;
                sum * 100 >= all * share
            };
            counts.iter().position(reached).unwrap_or(0)
        };
        self.median.store(most(reaching(50)), Ordering::Relaxed);
        self.p99
            .store(most((reaching(99) + 1).min(BUCKETS - 1)), Ordering::Relaxed);
    }
}

impl Default for Lengths {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU32::new(0) }; BUCKETS],
            reports: AtomicU32::new(0),
            median: AtomicU64::new(0),
            p99: AtomicU64::new(0),
        }
    }
}

impl fmt::Debug for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Lengths");
        out.field("median", &self.median()).field("p99", &self.p99()).finish()
    }
}

/// 0 is not known: no bucket ends there but the one of answers without a token, which are not counted.
fn known(length: &AtomicU64) -> Option<u64> {
    Some(length.load(Ordering::Relaxed)).filter(|length| *length > 0)
}

/// Up to twice the steps each length has its own; from there on the leading bits say which.
fn bucket(tokens: u64) -> usize {
    let tokens = tokens.min((1 << DOUBLINGS) - 1);
    let shift = (u64::BITS - tokens.leading_zeros()).saturating_sub(STEPS.ilog2() + 1);
    let index = u64::from(shift * STEPS) + (tokens >> shift);
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The longest length of a bucket.
fn most(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let steps = u64::from(STEPS);
    let shift = (bucket / steps).saturating_sub(1);
    ((bucket - shift * steps + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lengths: impl IntoIterator<Item = u64>) -> Lengths {
        let known = Lengths::default();
        lengths.into_iter().for_each(|tokens| known.learn(tokens));
        known
    }

    #[test]
    fn a_bucket_is_an_eighth_wide_and_they_follow_on_each_other() {
        for tokens in (0..5000).chain([1 << 20, (1 << 24) - 1]) {
            let at = bucket(tokens);
            assert!(
                tokens <= most(at) && most(at) <= tokens + tokens / 8,
                "{tokens}: {}",
                most(at)
            );
            assert!(at == 0 || most(at - 1) < tokens, "{tokens}");
        }
        assert_eq!(bucket((1 << 24) - 1), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn nothing_is_known_of_a_few() {
        let known = after(std::iter::repeat_n(100, 19));
        assert_eq!((known.median(), known.p99()), (None, None));
        known.learn(100);
        assert_eq!((known.median(), known.p99()), (Some(103), Some(111)));
    }

    #[test]
    fn the_tail_is_the_tail() {
        let known = after((0..2000).map(|at| if at % 50 == 0 { 8000 } else { 300 }));
        let (median, p99) = (known.median().unwrap_or(0), known.p99().unwrap_or(0));
        assert!(
            (300..=340).contains(&median) && (8000..=10_200).contains(&p99),
            "{known:?}"
        );
        let known = after((0..2000).map(|at| if at % 500 == 0 { 8000 } else { 300 }));
        assert!(known.p99().is_some_and(|p99| p99 < 400), "{known:?}");
    }

    #[test]
    fn what_was_long_ago_fades() {
        let known = after(std::iter::repeat_n(5000, 10_000));
        (0..40_000).for_each(|_| known.learn(50));
        assert!(known.p99().is_some_and(|p99| p99 < 70), "{known:?}");
    }

    /// Answers that a cap of the p99 has cut teach that it was too low.
    #[test]
    fn a_cap_of_it_does_not_keep_it_down() {
        let known = after(std::iter::repeat_n(100, 5000));
        for _ in 0..50_000 {
            known.learn(known.p99().unwrap_or(0).min(1000));
        }
        assert!(known.p99().is_some_and(|p99| p99 >= 1000), "{known:?}");
    }

    #[test]
    fn many_may_teach_it_at_once() {
        let known = Lengths::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20_000).for_each(|_| known.learn(200)));
            }
        });
        let sum: u64 = known
            .buckets
            .iter()
            .map(|bucket| u64::from(bucket.load(Ordering::Relaxed)))
            .sum();
        assert!(sum <= u64::from(HALVED_AT) + 64, "{sum}");
        assert_eq!(known.median(), Some(207));
    }
}
