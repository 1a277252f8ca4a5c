//! Batches of the file, read together: the store takes many rows at once for little more than a few.

use std::io;

use super::reader::{Reader, Stored};
use super::window::ENOUGH;
use crate::store::{Id, Lines};

/// Batches that follow each other, of one registration.
#[derive(Debug)]
pub(in crate::ledger) struct Group {
    /// The last batch.
    pub(in crate::ledger) seq: i64,
    pub(in crate::ledger) process: Id,
    pub(in crate::ledger) lines: Lines,
    /// Lines that are no rows, and why.
    pub(in crate::ledger) bad: Vec<(String, String)>,
    pub(in crate::ledger) bytes: u64,
}

// === impl Reader ===

impl Reader {
    /// [`Reader::group`], where it holds nobody up.
    pub(in crate::ledger) async fn group_aside(mut self, after: i64, upto: i64) -> io::Result<(Self, Option<Group>)> {
        let read = tokio::task::spawn_blocking(move || {
            let group = self.group(after, upto)?;
            Ok((self, group))
        });
        read.await.map_err(io::Error::other)?
    }

    /// What follows this batch, up to that one.
    fn group(&mut self, after: i64, upto: i64) -> io::Result<Option<Group>> {
        let Some(first) = self.next(after, upto)? else {
            return Ok(None);
        };
        let (lines, bad) = Lines::read(&first.rows);
        let mut group = Group {
            seq: first.seq,
            process: first.process,
            lines,
            bad,
            bytes: first.rows.len() as u64,
        };
        while group.lines.len() < ENOUGH {
            match self.next(group.seq, upto)? {
                Some(next) if next.process == group.process => group.add(&next),
                _ => break,
            }
        }
        Ok(Some(group))
    }
}

// === impl Group ===

impl Group {
    fn add(&mut self, next: &Stored) {
        let (lines, bad) = Lines::read(&next.rows);
        self.seq = next.seq;
        self.lines.append(&lines);
        self.bad.extend(bad);
        self.bytes += next.rows.len() as u64;
    }

    /// Rows and lines that are none.
    pub(in crate::ledger) fn count(&self) -> usize {
        self.lines.len() + self.bad.len()
    }
}
