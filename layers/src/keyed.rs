//! Counters by key, for the layers that limit: which of them a request touches, and a map of them in shards.
//!
//! One request may touch several counters, all of which must agree before any is changed. So their shards are locked
//! together, always in the same order.

use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};
use http::Extensions;
use smallvec::SmallVec;

/// Far more than cores, so that two requests seldom meet in one by chance.
const SHARDS: usize = 64;

/// Which limits a request is under: keys, each with its limit. Up to four need no allocation.
///
/// ```
/// # #[cfg(feature = "rate_limit")] {
/// use tollgate_layers::rate_limit::Picks;
///
/// let picks = Picks::from_iter([("account 7", 600), ("key 9", 60)]);
/// assert_eq!(picks.len(), 2);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Picks<K>(SmallVec<[(K, u64); 4]>);

/// Says which limits a request is under. Closures over the request's extensions are policies.
pub trait Policy {
    /// What a limit counts by, such as the number of an account.
    type Key;

    /// The limits that all must pass. With none the request passes unlimited.
    fn picks(&self, extensions: &Extensions) -> Picks<Self::Key>;
}

#[derive(Debug)]
pub(crate) struct Shards<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    /// Seeded anew for each set of shards: whoever chooses keys cannot choose where they fall.
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct Shard<K, V> {
    table: HashTable<(K, V)>,
    /// At this size idle entries are looked for.
    sweep_at: usize,
}

/// The shards of some picks, locked. Each pick is hashed once, however often it is looked up.
pub(crate) struct Held<'a, K, V> {
    hasher: &'a DefaultHashBuilder,
    guards: SmallVec<[MutexGuard<'a, Shard<K, V>>; 4]>,
    /// The shards of `guards`, in order.
    locked: SmallVec<[usize; 4]>,
    /// Of each pick.
    hashes: SmallVec<[u64; 4]>,
}

/// Where the value of one pick stands, or would stand.
pub(crate) struct Place<'a, K, V> {
    hasher: &'a DefaultHashBuilder,
    shard: &'a mut Shard<K, V>,
    hash: u64,
}

// === impl Picks ===

impl<K: Eq> Picks<K> {
    /// No limit.
    pub fn none() -> Self {
        Self(SmallVec::new())
    }

    /// Adds a limit. Where the key is there already, the lower of both limits stays.
    pub fn push(&mut self, key: K, limit: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = limit.min(*known),
            None => self.0.push((key, limit)),
        }
    }

    /// How many limits there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no limit.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys with their limits.
    pub fn iter(&self) -> impl Iterator<Item = &(K, u64)> {
        self.0.iter()
    }
}

impl<K: Eq> Default for Picks<K> {
    fn default() -> Self {
        Self::none()
    }
}

impl<K: Eq> Extend<(K, u64)> for Picks<K> {
    fn extend<I: IntoIterator<Item = (K, u64)>>(&mut self, limits: I) {
        limits.into_iter().for_each(|(key, limit)| self.push(key, limit));
    }
}

impl<K: Eq> FromIterator<(K, u64)> for Picks<K> {
    fn from_iter<I: IntoIterator<Item = (K, u64)>>(limits: I) -> Self {
        let mut picks = Self::none();
        picks.extend(limits);
        picks
    }
}

impl<F, K> Policy for F
where
    F: Fn(&Extensions) -> Picks<K>,
{
    type Key = K;

    fn picks(&self, extensions: &Extensions) -> Picks<K> {
        self(extensions)
    }
}

// === impl Shards ===

impl<K: Hash + Eq, V> Shards<K, V> {
    pub(crate) fn new() -> Self {
        let shard = || {
            Mutex::new(Shard {
                table: HashTable::new(),
                sweep_at: 0,
            })
        };
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Locks the shards of all `picks` for as long as `f` runs.
    pub(crate) fn with<R>(&self, picks: &Picks<K>, f: impl FnOnce(&mut Held<'_, K, V>) -> R) -> R {
        let hashes: SmallVec<[u64; 4]> = picks.iter().map(|(key, _)| self.hasher.hash_one(key)).collect();
        let mut locked: SmallVec<[usize; 4]> = hashes.iter().copied().map(shard_of).collect();
        if locked.len() > 1 {
            locked.sort_unstable();
            locked.dedup();
        }
        let guards = locked.iter().map(|&shard| self.lock(shard)).collect();
        f(&mut Held {
            hasher: &self.hasher,
            guards,
            locked,
            hashes,
        })
    }

    /// How many keys are known.
    pub(crate) fn len(&self) -> usize {
        (0..SHARDS).map(|shard| self.lock(shard).table.len()).sum()
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard<K, V>> {
        // A panic under the lock leaves whole entries: nothing runs there between two changes of one.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not by the low bits, nor by the highest: the tables find their places by those.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

// === impl Held ===

impl<K, V> Held<'_, K, V> {
    /// The place of the pick at `index`.
    pub(crate) fn place(&mut self, index: usize) -> Place<'_, K, V> {
        let hash = self.hashes[index];
        let guard = self.locked.binary_search(&shard_of(hash)).expect("each was sorted in");
        Place {
            hasher: self.hasher,
            shard: &mut self.guards[guard],
            hash,
        }
    }
}

// === impl Place ===

impl<'a, K: Hash + Eq, V> Place<'a, K, V> {
    pub(crate) fn get(self, key: &K) -> Option<&'a V> {
        let found = self.shard.table.find(self.hash, |(known, _)| known == key);
        found.map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let found = self.shard.table.find_mut(self.hash, |(known, _)| known == key);
        found.map(|(_, value)| value)
    }

    pub(crate) fn remove(self, key: &K) {
        if let Ok(entry) = self.shard.table.find_entry(self.hash, |(known, _)| known == key) {
            entry.remove();
        }
    }

    /// Sets the value of `key`. When the shard has grown twofold, entries that `in_use` denies are forgotten first, so
    /// that the cost of looking at all is spread over what made it grow.
    pub(crate) fn insert(mut self, key: &K, value: V, in_use: impl Fn(&V) -> bool)
    where
        K: Clone,
    {
        const SMALL: usize = 32;
        if let Some(known) = self.get_mut(key) {
            *known = value;
            return;
        }
        let Self { hasher, shard, hash } = self;
        if shard.table.len() >= shard.sweep_at.max(SMALL) {
            shard.table.retain(|(_, v)| in_use(v));
            shard.sweep_at = shard.table.len() * 2;
        }
        shard
            .table
            .insert_unique(hash, (key.clone(), value), |(known, _)| hasher.hash_one(known));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_of_two_limits_stays() {
        let picks = Picks::from_iter([(1, 10), (2, 5), (1, 20), (2, 3)]);
        assert_eq!(picks.iter().copied().collect::<Vec<_>>(), [(1, 10), (2, 3)]);
    }

    #[test]
    fn idle_entries_are_forgotten() {
        let shards = Shards::<u32, bool>::new();
        for key in 0..100_000 {
            let picks = Picks::from_iter([(key, 1)]);
            shards.with(&picks, |held| held.place(0).insert(&key, key % 1000 == 0, |used| *used));
        }
        assert!(shards.len() < 64 * 40, "{}", shards.len());
        for key in (0..100_000).step_by(1000) {
            let picks = Picks::from_iter([(key, 1)]);
            assert_eq!(
                shards.with(&picks, |held| held.place(0).get(&key).copied()),
                Some(true),
                "{key}"
            );
        }
    }

    #[test]
    fn picks_in_any_order_do_not_lock_each_other_out() {
        let shards = Shards::<u32, u64>::new();
        let add = |keys: [u32; 3]| {
            let picks = keys.into_iter().map(|key| (key, 1)).collect();
            shards.with(&picks, |held| {
                for (i, (key, _)) in picks.iter().enumerate() {
                    let sum = held.place(i).get(key).map_or(1, |v| v + 1);
                    held.place(i).insert(key, sum, |_| true);
                }
            });
        };
        std::thread::scope(|scope| {
            for keys in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
                scope.spawn(move || (0..2000).for_each(|_| add(keys)));
            }
        });
        for key in 1..=3 {
            let picks = Picks::from_iter([(key, 1)]);
            assert_eq!(shards.with(&picks, |held| held.place(0).get(&key).copied()), Some(6000));
        }
    }
}
