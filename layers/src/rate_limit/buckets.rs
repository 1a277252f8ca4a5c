use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use crate::keyed::{Picks, Shards};
use crate::share::Share;

/// Parts of one token. A limit is per minute and time is counted in microseconds, so a bucket with a limit of L gains
/// exactly L parts a microsecond: no rounding, however often it is asked.
const PARTS: u64 = 60_000_000;

/// A minute: what a client is told to wait where the limit is nothing at all.
const MINUTE: Duration = Duration::from_mins(1);

/// Token buckets by key: each holds its limit and refills evenly at its limit a minute.
///
/// What is counted is what has been used, not what is left. So a limit that is changed counts at once, a key that is
/// not known has a full bucket, and one whose bucket is full again is forgotten. What is used may exceed the limit:
/// that is debt, and nothing passes until it has been refilled.
///
/// With a [`Share`] (see [`sharing`](Self::sharing)) all limits are whole ones, and the buckets hold and refill this
/// process's part of them.
///
/// A key that is a number takes at most 80 bytes, a million of them 80 MB.
///
/// Time is [`tokio::time`]'s, which tests can pause. Cloning gives another handle to the same buckets: hold on to one
/// where limits must outlive the layer, as when a stack is built anew.
pub struct Buckets<K> {
    shared: Arc<Shared<K>>,
}

/// How a bucket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// What the bucket holds when full, and gains in a minute; of all processes together, where they share.
    pub limit: u64,
    /// What may be taken now and here, in whole tokens.
    pub remaining: u64,
    /// When the bucket is full again if nothing is taken.
    pub reset: Duration,
}

/// A bucket that did not hold enough; nothing was taken from any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// How the bucket stands that takes longest to hold enough.
    pub state: State,
    /// When it holds enough if nothing else is taken. Never zero.
    pub retry_after: Duration,
}

struct Shared<K> {
    shards: Shards<K, Bucket>,
    share: Share,
    /// Times are told from here on.
    start: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// What was used at `at` and not yet refilled, in parts.
    used: u64,
    /// In tokens: this process's part.
    limit: u64,
    /// In microseconds since `start`.
    at: u64,
}

// === impl Buckets ===

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Buckets, all full.
    pub fn new() -> Self {
        Self::sharing(Share::default())
    }

    /// The same, of which each holds this share of its limit. When the share changes, what was used stays used.
    pub fn sharing(share: Share) -> Self {
        Self {
            shared: Arc::new(Shared {
                shards: Shards::new(),
                share,
                start: Instant::now(),
            }),
        }
    }

    /// Takes `tokens` from the buckets of all `picks`, or from none. Returns how the tightest stands afterwards; `None`
    /// without picks.
    ///
    /// More than a bucket can ever hold is given by a full one, which then is in debt.
    pub fn take(&self, picks: &Picks<K>, tokens: u64) -> Result<Option<State>, Exhausted> {
        if picks.is_empty() {
            return Ok(None);
        }
        let (now, part) = (self.now(), self.shared.share.now());
        self.shared.shards.with(picks, |held| {
            let mut worst: Option<Exhausted> = None;
            let mut buckets: SmallVec<[Bucket; 4]> = SmallVec::new();
            for (i, (key, limit)) in picks.iter().enumerate() {
                let bucket = Bucket::current(held.place(i).get(key), part.of(*limit), now);
                if let Some(retry_after) = bucket.wait_for(tokens)
                    && worst.is_none_or(|worst| worst.retry_after < retry_after)
                {
                    worst = Some(Exhausted {
                        state: bucket.state(*limit),
                        retry_after,
                    });
                }
                buckets.push(bucket);
            }
            if let Some(worst) = worst {
                return Err(worst);
            }
            let mut tightest: Option<State> = None;
            for (i, ((key, limit), bucket)) in picks.iter().zip(&mut buckets).enumerate() {
                bucket.used = bucket.used.saturating_add(tokens.saturating_mul(PARTS));
                tightest = Some(tighter(tightest, bucket.state(*limit)));
                held.place(i).insert(key, *bucket, |other| other.at(now).used > 0);
            }
            Ok(tightest)
        })
    }

    /// Gives `tokens` back to the buckets of all `picks`; none gets more than full.
    pub fn give_back(&self, picks: &Picks<K>, tokens: u64) {
        let (now, part) = (self.now(), self.shared.share.now());
        self.shared.shards.with(picks, |held| {
            for (i, (key, limit)) in picks.iter().enumerate() {
                let mut place = held.place(i);
                let Some(known) = place.get_mut(key) else { continue };
                *known = Bucket::current(Some(known), part.of(*limit), now);
                known.used = known.used.saturating_sub(tokens.saturating_mul(PARTS));
                if known.used == 0 {
                    place.remove(key);
                }
            }
        });
    }

    /// Takes `tokens` whether the buckets hold them or not: what they do not hold is debt.
    pub fn charge(&self, picks: &Picks<K>, tokens: u64) {
        let (now, part) = (self.now(), self.shared.share.now());
        self.shared.shards.with(picks, |held| {
            for (i, (key, limit)) in picks.iter().enumerate() {
                let mut bucket = Bucket::current(held.place(i).get(key), part.of(*limit), now);
                bucket.used = bucket.used.saturating_add(tokens.saturating_mul(PARTS));
                held.place(i).insert(key, bucket, |other| other.at(now).used > 0);
            }
        });
    }

    /// How the tightest of the buckets stands; `None` without picks.
    pub fn state(&self, picks: &Picks<K>) -> Option<State> {
        let (now, part) = (self.now(), self.shared.share.now());
        self.shared.shards.with(picks, |held| {
            let states = picks.iter().enumerate().map(|(i, (key, limit))| {
                let known = held.place(i).get(key).copied();
                Bucket::current(known.as_ref(), part.of(*limit), now).state(*limit)
            });
            states.fold(None, |tightest, state| Some(tighter(tightest, state)))
        })
    }

    /// How many keys are remembered: those whose bucket is not full, and some that have been.
    pub fn len(&self) -> usize {
        self.shared.shards.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn now(&self) -> u64 {
        let micros = Instant::now().saturating_duration_since(self.shared.start).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    }
}

impl<K: Hash + Eq + Clone> Default for Buckets<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Clone for Buckets<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<K> fmt::Debug for Buckets<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buckets").finish_non_exhaustive()
    }
}

/// The one that leaves less; of two that leave the same, the one that takes longer to be full.
fn tighter(one: Option<State>, other: State) -> State {
    let rank = |state: &State| (state.remaining, std::cmp::Reverse(state.reset));
    one.filter(|one| rank(one) <= rank(&other)).unwrap_or(other)
}

// === impl Bucket ===

impl Bucket {
    /// The bucket as it is `now` under `limit`. Where it had another one, nobody knows since when that is over: the time
    /// that has passed refilled it at the lower of both.
    fn current(known: Option<&Self>, limit: u64, now: u64) -> Self {
        let at = |known: &Self| {
            let lower = limit.min(known.limit);
            Self { limit: lower, ..*known }.at(now)
        };
        let fresh = Self {
            used: 0,
            limit,
            at: now,
        };
        Self {
            limit,
            ..known.map_or(fresh, at)
        }
    }

    fn at(self, now: u64) -> Self {
        // Another thread may have read its clock later and come first.
        let now = now.max(self.at);
        let refilled = (now - self.at).saturating_mul(self.limit);
        Self {
            used: self.used.saturating_sub(refilled),
            at: now,
            ..self
        }
    }

    fn capacity(self) -> u64 {
        self.limit.saturating_mul(PARTS)
    }

    /// `None` when `tokens` can be taken, else how long it is till then.
    fn wait_for(self, tokens: u64) -> Option<Duration> {
        if self.limit == 0 {
            return Some(MINUTE);
        }
        // What may have been used at most; for more than the bucket holds, nothing.
        let allowed = self.capacity().saturating_sub(tokens.saturating_mul(PARTS));
        (self.used > allowed).then(|| self.refills(self.used - allowed))
    }

    fn refills(self, parts: u64) -> Duration {
        if self.limit == 0 {
            MINUTE
        } else {
            Duration::from_micros(parts.div_ceil(self.limit))
        }
    }

    /// How it stands, as part of this `whole` limit.
    fn state(self, whole: u64) -> State {
        State {
            limit: whole,
            remaining: self.capacity().saturating_sub(self.used) / PARTS,
            reset: self.refills(self.used),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::HashMap;

    use tokio::time::advance;

    use super::*;

    fn picks(limits: &[(u32, u64)]) -> Picks<u32> {
        limits.iter().copied().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn refills_evenly_up_to_the_limit() {
        let buckets = Buckets::new();
        let one = picks(&[(1, 60)]);
        for left in (0..60).rev() {
            let state = buckets.take(&one, 1).unwrap().unwrap();
            assert_eq!((state.limit, state.remaining), (60, left));
            assert_eq!(state.reset, Duration::from_secs(60 - left));
        }
        let refused = buckets.take(&one, 1).unwrap_err();
        assert_eq!(
            (refused.state.remaining, refused.retry_after),
            (0, Duration::from_secs(1))
        );

        advance(Duration::from_micros(999_999)).await;
        assert_eq!(buckets.take(&one, 1).unwrap_err().retry_after, Duration::from_micros(1));
        advance(Duration::from_micros(1)).await;
        assert_eq!(buckets.take(&one, 1).unwrap().unwrap().remaining, 0);

        advance(Duration::from_hours(1)).await;
        assert_eq!(
            buckets.state(&one).unwrap(),
            State {
                limit: 60,
                remaining: 60,
                reset: Duration::ZERO
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn all_or_nothing() {
        let buckets = Buckets::new();
        let both = picks(&[(1, 10), (2, 3)]);
        for _ in 0..3 {
            buckets.take(&both, 1).unwrap();
        }
        let refused = buckets.take(&both, 1).unwrap_err();
        assert_eq!((refused.state.limit, refused.retry_after), (3, Duration::from_secs(20)));
        assert_eq!(
            buckets.state(&picks(&[(1, 10)])).unwrap().remaining,
            7,
            "the refusal took nothing"
        );
        assert_eq!(buckets.state(&both).unwrap().limit, 3, "the tightest is shown");
        assert_eq!(buckets.take(&Picks::none(), 1), Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_bucket_holds_passes_when_it_is_full() {
        let buckets = Buckets::new();
        let one = picks(&[(1, 100)]);
        let state = buckets.take(&one, 250).unwrap().unwrap();
        assert_eq!((state.remaining, state.reset), (0, Duration::from_secs(150)));
        assert_eq!(
            buckets.take(&one, 1).unwrap_err().retry_after,
            Duration::from_millis(90_600),
            "debt is carried"
        );
        advance(Duration::from_micros(149_999_999)).await;
        assert_eq!(
            buckets.take(&one, 101).unwrap_err().retry_after,
            Duration::from_micros(1)
        );
        advance(Duration::from_micros(1)).await;
        buckets.take(&one, 101).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_limit_counts_at_once_and_nothing_is_nothing() {
        let buckets = Buckets::new();
        buckets.take(&picks(&[(1, 10)]), 8).unwrap();
        assert_eq!(buckets.state(&picks(&[(1, 100)])).unwrap().remaining, 92);
        assert_eq!(buckets.state(&picks(&[(1, 5)])).unwrap().remaining, 0);
        let refused = buckets.take(&picks(&[(2, 0)]), 1).unwrap_err();
        assert_eq!((refused.state.remaining, refused.retry_after), (0, MINUTE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_limit_refills_at_the_lower_one() {
        for (before, after) in [(60, 6), (6, 60)] {
            let buckets = Buckets::new();
            buckets.charge(&picks(&[(1, before)]), 90);
            advance(Duration::from_secs(60)).await;
            let state = buckets.state(&picks(&[(1, after)])).unwrap();
            let wait = Duration::from_secs(84 * 60) / u32::try_from(after).unwrap();
            assert_eq!(state.reset, wait, "6 of 90 are back");
        }
    }

    /// Two processes, one of which comes later: together they admit what one would.
    #[tokio::test(start_paused = true)]
    async fn a_share_that_changes_counts_nothing_anew() {
        for used in [0, 10, 30] {
            let (share, other) = (Share::default(), Share::default());
            other.set(2, 1);
            let (buckets, others) = (Buckets::sharing(share.clone()), Buckets::sharing(other.clone()));
            let one = picks(&[(1, 60)]);
            buckets.take(&one, used).unwrap();
            share.set(2, 0);
            let left = [&buckets, &others].map(|buckets| buckets.state(&one).unwrap());
            assert_eq!(left.map(|state| state.limit), [60, 60], "the whole limit is shown");
            assert_eq!(left.map(|state| state.remaining), [30 - used, 30]);
            for _ in used..30 {
                buckets.take(&one, 1).unwrap();
            }
            others.take(&one, 30).unwrap();
            for buckets in [&buckets, &others] {
                let refused = buckets.take(&one, 1).unwrap_err();
                assert_eq!((refused.state.limit, refused.retry_after), (60, Duration::from_secs(2)));
            }
            // The other one alone again, and not for the first time.
            for _ in 0..3 {
                other.set(1, 0);
                assert_eq!(others.state(&one).unwrap().remaining, 30);
                other.set(2, 0);
                assert_eq!(others.state(&one).unwrap().remaining, 0);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_share_is_owed() {
        let share = Share::default();
        let (buckets, one) = (Buckets::sharing(share.clone()), picks(&[(1, 60)]));
        buckets.take(&one, 50).unwrap();
        share.set(2, 0);
        let refused = buckets.take(&one, 1).unwrap_err();
        // 20 too many and the one that is asked for, at 30 a minute.
        assert_eq!(
            (refused.state.remaining, refused.retry_after),
            (0, Duration::from_secs(42))
        );
        // A request that was under way when the share was another one.
        buckets.charge(&one, 5);
        buckets.give_back(&one, 10);
        assert_eq!(buckets.take(&one, 1).unwrap_err().retry_after, Duration::from_secs(32));
        advance(Duration::from_secs(32)).await;
        assert_eq!(buckets.take(&one, 1).unwrap().unwrap().remaining, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn full_buckets_are_forgotten() {
        let buckets = Buckets::new();
        buckets.take(&picks(&[(1, 60)]), 1).unwrap();
        buckets.give_back(&picks(&[(1, 60)]), 1);
        assert!(buckets.is_empty());
        for key in 0..50_000 {
            buckets.take(&picks(&[(key, 60)]), 1).unwrap();
            if key % 100 == 0 {
                advance(Duration::from_millis(100)).await;
            }
        }
        assert!(buckets.len() < 64 * 70, "{}", buckets.len());
    }

    /// What a bucket is, written down as plainly as can be: a balance that grows.
    #[derive(Default)]
    struct Plain(HashMap<u32, (i128, i128)>, i128);

    impl Plain {
        fn balance(&mut self, key: u32, limit: u64) -> &mut i128 {
            let (full, now) = (i128::from(limit) * 60_000_000, self.1);
            let (balance, at) = self.0.entry(key).or_insert((full, now));
            *balance = full.min(*balance + (now - *at) * i128::from(limit));
            *at = now;
            balance
        }

        fn take(&mut self, limits: &[(u32, u64)], tokens: i128) -> bool {
            let passes = limits.iter().all(|&(key, limit)| {
                let (full, balance) = (i128::from(limit) * 60_000_000, *self.balance(key, limit));
                balance >= tokens * 60_000_000 || balance == full
            });
            if passes {
                for &(key, limit) in limits {
                    *self.balance(key, limit) -= tokens * 60_000_000;
                }
            }
            passes
        }

        fn add(&mut self, limits: &[(u32, u64)], tokens: i128) {
            for &(key, limit) in limits {
                let full = i128::from(limit) * 60_000_000;
                let balance = self.balance(key, limit);
                *balance = full.min(*balance + tokens * 60_000_000);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn agrees_with_the_plain_bucket() {
        const LIMITS: [(u32, u64); 4] = [(0, 7), (1, 60), (2, 601), (3, 90_000)];
        let (buckets, mut plain) = (Buckets::new(), Plain::default());
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        // Marsaglia's xorshift: any sequence does, if it is the same each time.
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) % below
        };
        let mut outcomes = [0; 2];
        for step in 0..20_000 {
            let limits: Vec<_> = LIMITS.into_iter().filter(|_| random(2) == 0).collect();
            let chosen = picks(&limits);
            let tokens = random(12) * if random(20) == 0 { 40 } else { 1 };
            match random(10) {
                0 => {
                    buckets.give_back(&chosen, tokens);
                    plain.add(&limits, tokens.into());
                }
                1 => {
                    buckets.charge(&chosen, tokens);
                    plain.add(&limits, -i128::from(tokens));
                }
                2..5 => {
                    let micros = random(3_000_000);
                    advance(Duration::from_micros(micros)).await;
                    plain.1 += i128::from(micros);
                }
                _ => {
                    let passes = plain.take(&limits, tokens.into());
                    assert_eq!(buckets.take(&chosen, tokens).is_ok(), passes, "step {step}");
                    outcomes[usize::from(passes)] += 1;
                }
            }
            for (key, limit) in LIMITS {
                let left = u64::try_from(*plain.balance(key, limit) / 60_000_000).unwrap_or(0);
                assert_eq!(
                    buckets.state(&picks(&[(key, limit)])).unwrap().remaining,
                    left,
                    "step {step}, key {key}"
                );
            }
        }
        assert!(
            outcomes.iter().all(|n| *n > 1000),
            "both outcomes are tried: {outcomes:?}"
        );
    }
}
