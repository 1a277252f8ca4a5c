//! Whose journal it is: the lock that a process holds on its own as long as it lives.

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::store::Id;

const PREFIX: &str = "journal-";

/// The lock on one process's journal. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(in crate::ledger) struct Lock {
    _file: fs::File,
    /// The process whose journal it is.
    pub(in crate::ledger) process: Id,
    folder: PathBuf,
}

// === impl Lock ===

impl Lock {
    /// Locks the journal of a process. `None`: another process has it.
    pub(in crate::ledger) fn take(folder: &Path, process: Id) -> io::Result<Option<Self>> {
        let lock = lock(folder, process);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self {
                _file: file,
                process,
                folder: folder.to_path_buf(),
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Where the journal is.
    pub(in crate::ledger) fn journal(&self) -> PathBuf {
        self.folder.join(format!("{PREFIX}{}", self.process))
    }

    /// Removes the journal, and last the lock.
    pub(in crate::ledger) fn remove(self) {
        let (journal, lock) = (self.journal(), lock(&self.folder, self.process));
        for (path, removed) in [
            (&journal, fs::remove_dir_all(&journal)),
            (&lock, fs::remove_file(&lock)),
        ] {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "could not be removed");
                }
                _ => {}
            }
        }
    }

    /// The processes whose journals lie in the folder, oldest first.
    pub(in crate::ledger) fn journals(folder: &Path) -> io::Result<Vec<Id>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            // Of a lock's name the rest is no number.
            let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            found.extend(id.and_then(|id| id.parse::<Id>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    }
}

fn lock(folder: &Path, process: Id) -> PathBuf {
    folder.join(format!("{PREFIX}{process}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_locked_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let id = Id::new(77 << 21);
        let lock = Lock::take(folder.path(), id).expect("a lock").expect("free");
        assert!(Lock::take(folder.path(), id).expect("a lock").is_none());
        fs::create_dir(lock.journal()).expect("a folder");
        fs::write(lock.journal().join("00000001.log"), "").expect("a file");
        assert_eq!(Lock::journals(folder.path()).expect("a list"), [id]);
        lock.remove();
        assert_eq!(fs::read_dir(folder.path()).expect("a list").count(), 0);
    }
}
