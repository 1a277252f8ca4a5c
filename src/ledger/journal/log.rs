//! The segments of a journal, as their one writer sees them.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::frame::Frame;
use crate::store::Id;

/// Bytes from which on a segment gets no more frames: what the store has is deleted by whole segments.
const SEGMENT: u64 = 8 << 20;

/// What the writer has open.
#[derive(Debug)]
pub(in crate::ledger) struct Log {
    folder: PathBuf,
    /// Whether a commit survives a loss of power.
    sync: bool,
    /// Every registration that charges were made under.
    processes: Vec<Id>,
    /// Older segments, and their last batches.
    closed: VecDeque<(PathBuf, i64)>,
    active: Option<Active>,
    next: u32,
    /// Kept from one commit to the next.
    buffer: Vec<u8>,
}

/// The segment that is written.
#[derive(Debug)]
struct Active {
    file: File,
    path: PathBuf,
    /// Bytes of what heads it: the registrations.
    head: u64,
    /// Bytes up to which it is sound.
    length: u64,
    /// Its last batch.
    last: i64,
}

// === impl Log ===

impl Log {
    /// A new journal, in a folder that is made for it.
    pub(in crate::ledger) fn create(folder: &Path, sync: bool, process: Id) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut log = Self {
            folder: folder.to_path_buf(),
            sync,
            processes: vec![process],
            closed: VecDeque::new(),
            active: None,
            next: 1,
            buffer: Vec::new(),
        };
        // Whether it can be written shows at the start.
        log.roll()?;
        if let (true, Some(parent)) = (sync, folder.parent()) {
            sync_folder(parent)?;
        }
        Ok(log)
    }

    /// One commit. After an error the same batch may come again, and none other before it has succeeded.
    pub(in crate::ledger) fn append(&mut self, seq: i64, process: Id, rows: &[u8]) -> io::Result<()> {
        if !self.processes.contains(&process) {
            self.processes.push(process);
            self.close();
        }
        if self.active.as_ref().is_some_and(|active| active.length >= SEGMENT) {
            self.close();
        }
        if self.active.is_none() {
            self.roll()?;
        }
        let Some(active) = &mut self.active else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.buffer.clear();
        let frame = Frame { seq, process, rows };
        frame.write(&mut self.buffer).ok_or(io::ErrorKind::FileTooLarge)?;
        // At the place that is known to be sound: what an attempt before this one has left there is written over.
        active.file.write_all_at(&self.buffer, active.length)?;
        if self.sync
            && let Err(error) = active.file.sync_data()
        {
            // What the disk has of it is unknown, and a later sync that succeeds would not tell: not here again.
            self.close();
            return Err(error);
        }
        active.length += self.buffer.len() as u64;
        active.last = seq;
        // A batch of unusual size should not be kept for good.
        self.buffer.shrink_to(1 << 20);
        Ok(())
    }

    /// Deletes what lies up to this batch, as far as it fills segments.
    pub(in crate::ledger) fn forget(&mut self, seq: i64) -> io::Result<()> {
        while let Some((path, last)) = self.closed.front() {
            if *last > seq {
                return Ok(());
            }
            remove(path)?;
            self.closed.pop_front();
        }
        if let Some(active) = &mut self.active
            && active.last <= seq
            && active.length > active.head
        {
            active.file.set_len(active.head)?;
            active.length = active.head;
        }
        Ok(())
    }

    /// Begins a segment.
    fn roll(&mut self) -> io::Result<()> {
        let path = self.folder.join(format!("{:08}.log", self.next));
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        self.buffer.clear();
        for process in &self.processes {
            let note = Frame::note(*process);
            note.write(&mut self.buffer).ok_or(io::ErrorKind::FileTooLarge)?;
        }
        file.write_all_at(&self.buffer, 0)?;
        if self.sync {
            file.sync_data()?;
            sync_folder(&self.folder)?;
        }
        self.next += 1;
        let head = self.buffer.len() as u64;
        let last = self.closed.back().map_or(0, |(_, last)| *last);
        self.active = Some(Active {
            file,
            path,
            head,
            length: head,
            last,
        });
        Ok(())
    }

    /// Ends the segment that is written.
    fn close(&mut self) {
        if let Some(active) = self.active.take() {
            self.closed.push_back((active.path, active.last));
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
