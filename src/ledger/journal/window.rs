//! Batches on their way from the journal to the store: the newest in memory, older ones in the file.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::{Id, Lines};

/// Bytes of committed batches that are kept in memory for the filler; what is beyond it reads from the file.
const IN_MEMORY: u64 = 16 << 20;
/// Rows of one transaction of the store, at most and about: together they cost it less.
pub(in crate::ledger) const ENOUGH: usize = 3000;

/// Batches that were committed and are not in the store yet.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Window {
    batches: Mutex<Batches>,
    committed: AtomicI64,
    filled: AtomicI64,
    /// A batch was committed.
    pub(in crate::ledger) wake: Notify,
}

#[derive(Debug, Default)]
struct Batches {
    kept: VecDeque<Batch>,
    bytes: u64,
}

/// One commit, or some that follow each other.
#[derive(Debug)]
pub(in crate::ledger) struct Batch {
    pub(in crate::ledger) seq: i64,
    pub(in crate::ledger) process: Id,
    /// Of each commit.
    pub(in crate::ledger) lines: Vec<Lines>,
    pub(in crate::ledger) bytes: u64,
}

/// What is to be filled next.
#[derive(Debug)]
pub(in crate::ledger) enum Next {
    /// All is.
    Nothing,
    /// This, merged of one batch or more.
    Batch(Batch),
    /// What lies in the file only, after this batch and up to that one.
    InFile { after: i64, upto: i64 },
}

// === impl Window ===

impl Window {
    /// A batch was committed. The next one in number.
    pub(in crate::ledger) fn push(&self, batch: Batch) {
        let seq = batch.seq;
        {
            let mut batches = self.batches.lock();
            if batches.bytes + batch.bytes <= IN_MEMORY {
                batches.bytes += batch.bytes;
                batches.kept.push_back(batch);
            }
            self.committed.store(seq, Ordering::Release);
        }
        self.wake.notify_one();
    }

    /// What is to be filled next, in the order of commits.
    pub(in crate::ledger) fn next(&self) -> Next {
        let mut batches = self.batches.lock();
        let after = self.filled();
        let committed = self.committed.load(Ordering::Acquire);
        if after == committed {
            return Next::Nothing;
        }
        match batches.kept.front() {
            Some(first) if first.seq == after + 1 => {}
            Some(first) => {
                return Next::InFile {
                    after,
                    upto: first.seq - 1,
                };
            }
            None => return Next::InFile { after, upto: committed },
        }
        batches.merge().map_or(Next::Nothing, Next::Batch)
    }

    /// Everything up to this batch is in the store.
    pub(in crate::ledger) fn done(&self, seq: i64) {
        self.filled.store(seq, Ordering::Release);
    }

    /// Up to which batch the store has it.
    pub(in crate::ledger) fn filled(&self) -> i64 {
        self.filled.load(Ordering::Acquire)
    }
}

// === impl Batch ===

impl Batch {
    /// How many rows.
    pub(in crate::ledger) fn rows(&self) -> usize {
        self.lines.iter().map(Lines::len).sum()
    }
}

// === impl Batches ===

impl Batches {
    /// The first batch, with those that follow it in number, of the same process, while they are few rows.
    fn merge(&mut self) -> Option<Batch> {
        let mut merged = self.kept.pop_front()?;
        let mut rows = merged.rows();
        while let Some(next) = self.kept.front() {
            rows += next.rows();
            if rows > ENOUGH || next.seq != merged.seq + 1 || next.process != merged.process {
                break;
            }
            let Some(next) = self.kept.pop_front() else {
                break;
            };
            merged.seq = next.seq;
            merged.bytes += next.bytes;
            merged.lines.extend(next.lines);
        }
        self.bytes -= merged.bytes;
        Some(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(seq: i64, bytes: u64) -> Batch {
        Batch {
            seq,
            process: Id::new(1),
            lines: Vec::new(),
            bytes,
        }
    }

    #[test]
    fn what_finds_no_room_is_read_from_the_file_in_order() {
        let window = Window::default();
        assert!(matches!(window.next(), Next::Nothing));
        window.push(batch(1, IN_MEMORY - 1));
        window.push(batch(2, 10));
        window.push(batch(3, 1));
        let Next::Batch(first) = window.next() else {
            panic!("the first is in memory");
        };
        assert_eq!(first.seq, 1);
        // Not done: it must be read again, from the file, before what follows.
        assert!(matches!(window.next(), Next::InFile { after: 0, upto: 2 }));
        window.done(1);
        assert!(matches!(window.next(), Next::InFile { after: 1, upto: 2 }));
        window.done(2);
        assert!(matches!(window.next(), Next::Batch(Batch { seq: 3, .. })));
        window.done(3);
        assert!(matches!(window.next(), Next::Nothing));
        window.push(batch(4, 1));
        window.push(batch(5, 1));
        assert!(matches!(window.next(), Next::Batch(Batch { seq: 5, bytes: 2, .. })));
    }
}
