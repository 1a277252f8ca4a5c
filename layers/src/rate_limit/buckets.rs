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
mod tests;
