//! The segments of a journal, read from the first batch to the last.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::frame::{Found, Frame};
use crate::store::Id;

/// Reads a journal's batches in their order. It may be written meanwhile.
#[derive(Debug)]
pub(in crate::ledger) struct Reader {
    folder: PathBuf,
    /// The segment that is read, whole, and where its next frame begins.
    segment: Option<Segment>,
    /// The last batch that was read.
    last: i64,
    processes: Vec<Id>,
    /// Something in it is damaged.
    damaged: bool,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    bytes: Vec<u8>,
    at: usize,
}

/// One batch as it was read.
#[derive(Debug)]
pub(in crate::ledger) struct Stored {
    pub(in crate::ledger) seq: i64,
    /// Under which registration the charges were made.
    pub(in crate::ledger) process: Id,
    pub(in crate::ledger) rows: Vec<u8>,
}

// === impl Reader ===

impl Reader {
    pub(in crate::ledger) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            segment: None,
            last: 0,
            processes: Vec::new(),
            damaged: false,
        }
    }

    /// The first batch after this one and up to that one.
    pub(in crate::ledger) fn next(&mut self, after: i64, upto: i64) -> io::Result<Option<Stored>> {
        if self.last == after
            && let Some(stored) = self.find(after, upto)?
        {
            return Ok(Some(stored));
        }
        // What was read may have been deleted and written over since.
        (self.segment, self.last) = (None, 0);
        self.find(after, upto)
    }

    /// The registrations of all that was read, each once.
    pub(in crate::ledger) fn processes(&self) -> &[Id] {
        &self.processes
    }

    /// Whether a frame, or a whole batch, is missing from what was read: one that was torn while it was written is not.
    pub(in crate::ledger) const fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Deletes all that was read or is to be read.
    pub(in crate::ledger) fn remove(self) -> io::Result<()> {
        while let Some(segment) = open_next(&self.folder, None)? {
            fs::remove_file(segment.path)?;
        }
        Ok(())
    }

    fn find(&mut self, after: i64, upto: i64) -> io::Result<Option<Stored>> {
        loop {
            let Some(segment) = &mut self.segment else {
                self.segment = open_next(&self.folder, None)?;
                match self.segment {
                    Some(_) => continue,
                    None => return Ok(None),
                }
            };
            match Frame::read(&segment.bytes, segment.at, self.last) {
                Found::Frame(frame, next) => {
                    if frame.seq > upto {
                        return Ok(None);
                    }
                    segment.at = next;
                    if !self.processes.contains(&frame.process) {
                        self.processes.push(frame.process);
                    }
                    if let Some(after) = frame.noted() {
                        // What the store has is let go of from the front, never between two.
                        self.damaged |= self.last > 0 && after > self.last;
                        self.last = self.last.max(after);
                        continue;
                    }
                    // What lay in the file before it was this segment; or a batch whose sync failed, written again in the
                    // next one.
                    if frame.seq <= self.last {
                        continue;
                    }
                    self.damaged |= self.last > 0 && frame.seq != self.last + 1;
                    self.last = frame.seq;
                    if frame.seq > after {
                        return Ok(Some(Stored {
                            seq: frame.seq,
                            process: frame.process,
                            rows: frame.rows.to_vec(),
                        }));
                    }
                }
                Found::End | Found::Torn => match open_next(&self.folder, Some(&segment.path))? {
                    Some(next) => self.segment = Some(next),
                    None => return Ok(None),
                },
                Found::Damaged(next) => {
                    self.damaged = true;
                    segment.at = next;
                }
            }
        }
    }
}

/// The segment after this one, or the first.
fn open_next(folder: &Path, after: Option<&Path>) -> io::Result<Option<Segment>> {
    let mut next: Option<PathBuf> = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_segment = path.extension().is_some_and(|end| end == "log");
        if is_segment && after.is_none_or(|after| *path > *after) && next.as_ref().is_none_or(|next| path < *next) {
            next = Some(path);
        }
    }
    let Some(path) = next else { return Ok(None) };
    let bytes = fs::read(&path)?;
    Ok(Some(Segment { path, bytes, at: 0 }))
}
