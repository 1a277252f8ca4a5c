//! What limits count by, instead of names.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// A number for every name of a configuration. A name keeps its number for as long as the process runs, so that a
/// reload resets no count. Ids of the store are times, and so far above what is counted from 0 that neither meets the
/// other.
#[derive(Debug, Default)]
pub struct Numbers(Mutex<HashMap<Arc<str>, u64>>);

impl Numbers {
    /// The number of `name`: a new one, if it was never asked for.
    pub fn of(&self, name: &Arc<str>) -> u64 {
        let mut known = self.0.lock();
        let next = known.len() as u64;
        *known.entry(Arc::clone(name)).or_insert(next)
    }
}
