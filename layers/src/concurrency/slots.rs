use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use crate::keyed::{Picks, Shards};
use crate::share::Share;

/// How many requests run at once, by key. A key with none is forgotten.
///
/// Cloning gives another handle to the same slots: hold on to one where counts must outlive the layer, as when a stack
/// is built anew.
pub struct Slots<K> {
    counts: Arc<Shards<K, u64>>,
    share: Share,
}

/// A place in the count of each of its keys, given back when dropped.
#[must_use = "dropped, it holds no slot"]
pub struct Permit<K: Hash + Eq> {
    slots: Slots<K>,
    picks: Picks<K>,
}

// === impl Slots ===

impl<K: Hash + Eq> Slots<K> {
    /// Slots, all free.
    pub fn new() -> Self {
        Self::sharing(Share::default())
    }

    /// The same, of which this process gives this share. When it becomes less, whoever holds a slot keeps it, and nobody
    /// gets one till fewer are taken than the share.
    pub fn sharing(share: Share) -> Self {
        Self {
            counts: Arc::new(Shards::new()),
            share,
        }
    }

    /// Takes a slot of every key in `picks`, or, where one has as many as its limit, of none.
    /// Without picks it always succeeds.
    pub fn acquire(&self, picks: Picks<K>) -> Option<Permit<K>>
    where
        K: Clone,
    {
        let part = self.share.now();
        self.counts.with(&picks, |held| {
            for (i, (key, limit)) in picks.iter().enumerate() {
                if held.place(i).get(key).copied().unwrap_or(0) >= part.of(*limit) {
                    return None;
                }
            }
            for (i, (key, _)) in picks.iter().enumerate() {
                let mut place = held.place(i);
                match place.get_mut(key) {
                    Some(count) => *count += 1,
                    None => place.insert(key, 1, |_| true),
                }
            }
            Some(())
        })?;
        Some(Permit {
            slots: self.clone(),
            picks,
        })
    }

    /// How many slots of `key` are taken.
    pub fn in_use(&self, key: K) -> u64 {
        let picks = Picks::from_iter([(key, 0)]);
        self.counts
            .with(&picks, |held| {
                picks
                    .iter()
                    .map(|(key, _)| held.place(0).get(key).copied())
                    .next()
                    .flatten()
            })
            .unwrap_or(0)
    }

    /// How many keys have a slot taken.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether no slot is taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq> Default for Slots<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Clone for Slots<K> {
    fn clone(&self) -> Self {
        Self {
            counts: self.counts.clone(),
            share: self.share.clone(),
        }
    }
}

impl<K> fmt::Debug for Slots<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").finish_non_exhaustive()
    }
}

// === impl Permit ===

impl<K: Hash + Eq> Drop for Permit<K> {
    fn drop(&mut self) {
        self.slots.counts.with(&self.picks, |held| {
            for (i, (key, _)) in self.picks.iter().enumerate() {
                let mut place = held.place(i);
                match place.get_mut(key) {
                    Some(count) if *count > 1 => *count -= 1,
                    _ => place.remove(key),
                }
            }
        });
    }
}

impl<K: Hash + Eq + fmt::Debug> fmt::Debug for Permit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("picks", &self.picks)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn all_or_nothing_and_forgotten_when_idle() {
        let slots = Slots::new();
        let both = || Picks::from_iter([(1, 3), (2, 1)]);
        let held = slots.acquire(both()).unwrap();
        assert!(slots.acquire(both()).is_none());
        assert_eq!((slots.in_use(1), slots.in_use(2)), (1, 1), "the refusal took nothing");
        let other = slots.acquire(Picks::from_iter([(1, 3)])).unwrap();
        drop(held);
        assert_eq!((slots.in_use(1), slots.in_use(2)), (1, 0));
        drop(other);
        assert!(slots.is_empty());
        assert!(slots.acquire(Picks::from_iter([(1, 0)])).is_none(), "a limit of none");
    }

    #[test]
    fn a_share_that_shrinks_takes_no_slot_away() {
        let share = Share::default();
        let slots = Slots::sharing(share.clone());
        let four = || Picks::from_iter([(1, 4)]);
        let mut held: Vec<_> = (0..4).map(|_| slots.acquire(four()).unwrap()).collect();
        share.set(2, 0);
        for taken in (2..=4).rev() {
            assert!(slots.clone().acquire(four()).is_none(), "{taken} of 2 are taken");
            held.pop();
        }
        held.push(slots.acquire(four()).unwrap());
        assert!(slots.acquire(four()).is_none());
        share.set(1, 0);
        held.push(slots.acquire(four()).unwrap());
        assert_eq!(slots.in_use(1), 3);
    }

    #[test]
    fn never_more_than_the_limit_whoever_asks() {
        let (slots, running, most) = (Slots::new(), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (slots, running, most) = (&slots, &running, &most);
                scope.spawn(move || {
                    for _ in 0..2000 {
                        let Some(permit) = slots.acquire([(9, 2), (thread, 1)].into_iter().collect()) else {
                            continue;
                        };
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert!(slots.is_empty());
    }
}
