//! The segments of a journal, as their one writer sees them.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::frame::Frame;
use crate::store::Id;

/// Bytes from which on a segment gets no more frames: what the store has is let go of by whole segments.
const SEGMENT: u64 = 2 << 20;
/// How many of those that were let go of are kept to be written again: to write over a file takes the kernel a fraction of
/// what it takes to make one longer, and finds room where the disk is full by now.
const SPARE: usize = 3;

/// What the writer has open.
#[derive(Debug)]
pub(in crate::ledger) struct Log {
    folder: PathBuf,
    /// Whether a commit survives a loss of power.
    sync: bool,
    /// Every registration that charges were made under.
    processes: Vec<Id>,
    /// Older segments, the oldest first.
    closed: VecDeque<Segment>,
    active: Option<Segment>,
    /// Segments that hold nothing that matters, under names that no reader looks for.
    spare: Vec<Segment>,
    next: u32,
    /// Kept from one commit to the next.
    buffer: Vec<u8>,
}

/// A file, and what is known of it.
#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    /// Bytes of what heads it: the registrations, and from which batch on it counts.
    head: u64,
    /// Bytes up to which it is sound.
    length: u64,
    /// Its last batch.
    last: i64,
    /// A sync of it has failed.
    doubtful: bool,
}

/// Why a commit failed.
#[derive(Debug)]
pub(in crate::ledger) enum Failed {
    /// Nothing of it will ever be read.
    Unwritten(io::Error),
    /// The disk may have it or not.
    Unknown(io::Error),
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
            spare: Vec::new(),
            next: 1,
            buffer: Vec::new(),
        };
        // Whether it can be written shows at the start.
        log.roll(0)?;
        if let (true, Some(parent)) = (sync, folder.parent()) {
            sync_folder(parent)?;
        }
        Ok(log)
    }

    /// One commit. After a failure the same batch may come again; another one of its number only where it is unwritten.
    pub(in crate::ledger) fn append(&mut self, seq: i64, process: Id, rows: &[u8]) -> Result<(), Failed> {
        self.write(seq, process, rows).map_err(Failed::Unwritten)?;
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        if self.sync
            && let Err(error) = active.file.sync_data()
        {
            // What the disk has of it is unknown, and a later sync that succeeds would not tell: not here again.
            active.doubtful = true;
            self.close();
            return Err(Failed::Unknown(error));
        }
        active.length += self.buffer.len() as u64;
        active.last = seq;
        // A batch of unusual size should not be kept for good.
        self.buffer.shrink_to(1 << 20);
        Ok(())
    }

    /// Writes a frame behind what is sound.
    fn write(&mut self, seq: i64, process: Id, rows: &[u8]) -> io::Result<()> {
        if !self.processes.contains(&process) {
            self.processes.push(process);
            self.close();
        }
        if self.active.as_ref().is_some_and(|active| active.length >= SEGMENT) {
            self.close();
        }
        if self.active.is_none() {
            self.roll(seq - 1)?;
        }
        let Some(active) = &mut self.active else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.buffer.clear();
        let frame = Frame { seq, process, rows };
        frame.write(&mut self.buffer).ok_or(io::ErrorKind::FileTooLarge)?;
        // At the place that is known to be sound: what an attempt before this one has left there is written over.
        let written = active.file.write_all_at(&self.buffer, active.length);
        if written.is_err() && active.length > active.head {
            // Where there is no room, it can be deleted as soon as the store has what is in it.
            self.close();
        }
        written
    }

    /// Lets go of what lies up to this batch, as far as it fills segments.
    pub(in crate::ledger) fn forget(&mut self, seq: i64) -> io::Result<()> {
        while let Some(segment) = self.closed.front_mut() {
            if segment.last > seq {
                return Ok(());
            }
            if self.spare.len() < SPARE && !segment.doubtful {
                let path = segment.path.with_extension("old");
                fs::rename(&segment.path, &path)?;
                segment.path = path;
                self.spare.extend(self.closed.pop_front());
            } else {
                remove(&segment.path)?;
                self.closed.pop_front();
            }
        }
        if let Some(active) = &mut self.active
            && active.last <= seq
            && active.length > active.head
        {
            begin(&mut self.buffer, &self.processes, active.last)?;
            active.file.write_all_at(&self.buffer, 0)?;
            // Before anything that follows it: else, torn, that would look like damage to what lay there.
            if self.sync
                && let Err(error) = active.file.sync_data()
            {
                active.doubtful = true;
                self.close();
                return Err(error);
            }
            active.head = self.buffer.len() as u64;
            active.length = active.head;
        }
        Ok(())
    }

    /// Begins a segment of what follows this batch.
    fn roll(&mut self, after: i64) -> io::Result<()> {
        begin(&mut self.buffer, &self.processes, after)?;
        let path = self.folder.join(format!("{:08}.log", self.next));
        let file = if let Some(spare) = self.spare.last() {
            // First what tells its batches apart from those that lie there still, then the name that is looked for.
            spare.file.write_all_at(&self.buffer, 0)?;
            fs::rename(&spare.path, &path)?;
            self.spare.pop().map(|spare| spare.file)
        } else {
            let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
            file.write_all_at(&self.buffer, 0)?;
            Some(file)
        };
        let Some(file) = file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.next += 1;
        let head = self.buffer.len() as u64;
        let active = self.active.insert(Segment {
            file,
            path,
            head,
            length: head,
            last: after,
            doubtful: false,
        });
        let synced = if self.sync {
            active.file.sync_data().and_then(|()| sync_folder(&self.folder))
        } else {
            Ok(())
        };
        if synced.is_err() {
            // Nothing may be written where its name may be lost.
            active.doubtful = true;
            self.close();
        }
        synced
    }

    /// Ends the segment that is written.
    fn close(&mut self) {
        self.closed.extend(self.active.take());
    }
}

/// What heads a segment: the registrations, and the batch that its own follow. What lies behind it of others is older.
fn begin(buffer: &mut Vec<u8>, processes: &[Id], after: i64) -> io::Result<()> {
    buffer.clear();
    let after = after.to_le_bytes();
    for process in processes {
        let note = Frame::note(*process, &after);
        note.write(buffer).ok_or(io::ErrorKind::FileTooLarge)?;
    }
    Ok(())
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
