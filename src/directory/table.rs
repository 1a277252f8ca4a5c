//! Principals by the hash of their key.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use parking_lot::RwLock;

use super::Principal;
use crate::store::Millis;

/// Parts with a lock each, so that a change holds up a fraction of the lookups for the time of one insertion.
const PARTS: usize = 64;

type Map = HashMap<[u8; 32], Slot, BuildHasherDefault<FirstBytes>>;

/// A map from the SHA-256 of a key. A look at it tells nothing about a key by its time: whoever can choose hashes to
/// try has no way to choose keys for them.
pub(super) struct Table([RwLock<Map>; PARTS]);

struct Slot {
    principal: Arc<Principal>,
    /// Until when it is found; absent, for good.
    until: Option<Millis>,
}

/// A SHA-256 is as good as any hash of it.
#[derive(Default)]
struct FirstBytes(u64);

impl Default for Table {
    fn default() -> Self {
        Self(std::array::from_fn(|_| RwLock::default()))
    }
}

impl Table {
    pub(super) fn get(&self, hash: &[u8; 32]) -> Option<Arc<Principal>> {
        let part = self.part(hash).read();
        let slot = part.get(hash)?;
        let lives = slot.until.is_none_or(|until| Millis::now() < until);
        lives.then(|| Arc::clone(&slot.principal))
    }

    pub(super) fn insert(&self, hash: [u8; 32], principal: Arc<Principal>, until: Option<Millis>) {
        self.part(&hash).write().insert(hash, Slot { principal, until });
    }

    pub(super) fn remove(&self, hash: &[u8; 32]) {
        self.part(hash).write().remove(hash);
    }

    /// These and no others.
    pub(super) fn replace(&self, entries: Vec<([u8; 32], Arc<Principal>)>) {
        let mut parts: Vec<Map> = std::iter::repeat_with(Map::default).take(PARTS).collect();
        for (hash, principal) in entries {
            parts[Self::index(&hash)].insert(hash, Slot { principal, until: None });
        }
        for (part, new) in self.0.iter().zip(parts) {
            *part.write() = new;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|part| part.read().len()).sum()
    }

    fn part(&self, hash: &[u8; 32]) -> &RwLock<Map> {
        &self.0[Self::index(hash)]
    }

    fn index(hash: &[u8; 32]) -> usize {
        usize::from(hash[31]) % PARTS
    }
}

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The length prefix of an array comes as a write of its own; what is longer is the hash.
        if let Some(first) = bytes.first_chunk::<8>()
            && bytes.len() == 32
        {
            self.0 = u64::from_le_bytes(*first);
        }
    }
}
