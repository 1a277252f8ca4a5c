//! Batches of the file, read together: the store takes many rows at once for little more than a few.

use super::file::File;
use super::lines;
use crate::store::{Id, Row};

/// Rows from which on no further batch is read.
const ENOUGH: usize = 500;

/// Batches that follow each other, of one registration.
#[derive(Debug)]
pub(in crate::ledger) struct Group {
    /// The last batch.
    pub(in crate::ledger) seq: i64,
    pub(in crate::ledger) process: Id,
    pub(in crate::ledger) rows: Vec<Row>,
    /// Lines that are no rows, and why.
    pub(in crate::ledger) bad: Vec<(String, String)>,
    pub(in crate::ledger) bytes: u64,
}

// === impl File ===

impl File {
    /// What follows this batch, up to that one.
    pub(in crate::ledger) async fn group(&mut self, after: i64, upto: i64) -> Result<Option<Group>, sqlx::Error> {
        let Some(first) = self.next(after, upto).await? else {
            return Ok(None);
        };
        let (rows, bad) = lines::read(&first.rows);
        let mut group = Group {
            seq: first.seq,
            process: first.process,
            rows,
            bad,
            bytes: first.rows.len() as u64,
        };
        while group.rows.len() < ENOUGH {
            match self.next(group.seq, upto).await? {
                Some(next) if next.process == group.process => group.add(&next),
                _ => break,
            }
        }
        Ok(Some(group))
    }
}

// === impl Group ===

impl Group {
    fn add(&mut self, next: &super::file::Stored) {
        let (rows, bad) = lines::read(&next.rows);
        self.seq = next.seq;
        self.rows.extend(rows);
        self.bad.extend(bad);
        self.bytes += next.rows.len() as u64;
    }

    /// Rows and lines that are none.
    pub(in crate::ledger) fn count(&self) -> usize {
        self.rows.len() + self.bad.len()
    }
}
