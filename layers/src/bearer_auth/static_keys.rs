use std::collections::HashMap;
use std::fmt;
use std::future::Ready;
use std::sync::Arc;

use http::Extensions;
use subtle::ConstantTimeEq;

use super::{ApiKey, Verdict, Verify};
use crate::{Reason, Rejection};

/// A fixed list of keys, each by the SHA-256 of the key as sent, with its principal.
///
/// Keys in clear are nowhere kept. Found by a part of the hash, a key is compared whole and in constant time. Cloning
/// it copies no keys.
pub struct StaticKeys<P>(Arc<HashMap<u64, Vec<Entry<P>>>>);

struct Entry<P> {
    hash: [u8; 32],
    principal: P,
}

impl<P> StaticKeys<P> {
    /// Whose the key with this hash is.
    pub fn get(&self, hash: &[u8; 32]) -> Option<&P> {
        let entries = self.0.get(&bucket(hash))?;
        entries
            .iter()
            .find(|entry| entry.hash.ct_eq(hash).into())
            .map(|entry| &entry.principal)
    }
}

/// The part of a hash that entries are found by.
fn bucket(hash: &[u8; 32]) -> u64 {
    let (start, _) = hash.split_first_chunk().expect("a hash is longer than its start");
    u64::from_ne_bytes(*start)
}

/// Of two entries with one hash the first counts.
impl<P> FromIterator<([u8; 32], P)> for StaticKeys<P> {
    fn from_iter<I: IntoIterator<Item = ([u8; 32], P)>>(keys: I) -> Self {
        let mut map = HashMap::<_, Vec<_>>::new();
        for (hash, principal) in keys {
            map.entry(bucket(&hash)).or_default().push(Entry { hash, principal });
        }
        Self(Arc::new(map))
    }
}

impl<P> Verify for StaticKeys<P>
where
    P: Clone + Send + Sync + 'static,
{
    type Principal = P;
    type Future = Ready<Result<P, Rejection>>;

    fn verify(&self, key: ApiKey<'_>, _: &Extensions) -> Verdict<P> {
        Verdict::Now(
            self.get(&key.sha256())
                .cloned()
                .ok_or_else(|| Reason::KeyInvalid.into()),
        )
    }
}

impl<P> Clone for StaticKeys<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P> fmt::Debug for StaticKeys<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticKeys")
            .field("keys", &self.0.len())
            .finish_non_exhaustive()
    }
}
