//! What dead processes have left: their charges into the store, then what they were allotted back to it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::aside::Aside;
use super::lock::Lock;
use super::reader::Reader;
use crate::ledger::inner::Inner;
use crate::ledger::settle::settle;
use crate::store::{self, Id, Lines};

/// Why a journal was not replayed.
#[derive(Debug)]
enum Failure {
    File(io::Error),
    Store(store::Error),
}

/// What the store refuses of one journal.
#[derive(Debug, Default)]
struct Refuse {
    all: Vec<Aside>,
    /// A replay that was cut short may have set the same aside.
    rows: BTreeSet<String>,
}

impl Inner {
    /// Replays every journal of the folder that no living process has. A journal that cannot be read stays, and is told;
    /// without the store all stay.
    ///
    /// # Errors
    ///
    /// The store is not there.
    pub(in crate::ledger) async fn replay(self: &Arc<Self>) -> store::Result<()> {
        let folder = &self.settings.folder;
        let journals = Lock::journals(folder).unwrap_or_else(|error| {
            tracing::warn!(folder = %folder.display(), %error, "journals cannot be listed");
            Vec::new()
        });
        for process in journals {
            let lock = match Lock::take(folder, process) {
                Ok(Some(lock)) if lock.journal().exists() => lock,
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(%process, %error, "a journal cannot be locked");
                    continue;
                }
            };
            match self.replay_one(lock).await {
                Ok(()) => {}
                Err(Failure::File(error)) => tracing::error!(%process, %error, "a journal cannot be read, and stays"),
                Err(Failure::Store(error)) => return Err(error),
            }
        }
        Ok(())
    }

    async fn replay_one(&self, lock: Lock) -> Result<(), Failure> {
        let journal = lock.journal();
        let mut refuse = Refuse::default();
        // A store, or a version, that takes them may have come.
        for aside in Aside::read(&journal)? {
            match Lines::read(aside.row.as_bytes()) {
                (rows, bad) if bad.is_empty() => self.replay_rows(aside.process, rows, &mut refuse).await?,
                _ => refuse.add(aside.process, aside.row, aside.error),
            }
        }
        let mut reader = Reader::new(&journal);
        let (mut seq, mut count) = (0, 0);
        loop {
            let (read, group) = reader.group_aside(seq, i64::MAX).await?;
            reader = read;
            let Some(group) = group else { break };
            seq = group.seq;
            count += group.lines.len();
            for (line, error) in group.bad {
                refuse.add(group.process, line, error);
            }
            self.replay_rows(group.process, group.lines, &mut refuse).await?;
        }
        let mut dead = reader.processes().to_vec();
        dead.push(lock.process);
        for process in dead {
            self.bounded(self.store.release(process)).await?;
        }
        tracing::info!(process = %lock.process, rows = count, "what a process has left was settled");
        if reader.is_damaged() {
            tracing::error!(path = %journal.display(), "a journal is damaged: what can be read of it was settled, and it stays");
        } else if refuse.all.is_empty() {
            lock.remove();
        } else {
            let rows = refuse.all.len();
            tracing::error!(path = %journal.display(), rows, "rows that the store refuses stay beside the journal");
            Aside::replace(&journal, &refuse.all)?;
            reader.remove()?;
        }
        Ok(())
    }

    async fn replay_rows(&self, process: Id, rows: Lines, refuse: &mut Refuse) -> Result<(), Failure> {
        for refused in settle(self, process, &[rows]).await? {
            refuse.add(
                process,
                String::from_utf8_lossy(refused.line.text()).into_owned(),
                refused.error.to_string(),
            );
        }
        Ok(())
    }
}

// === impl Refuse ===

impl Refuse {
    fn add(&mut self, process: Id, row: String, error: String) {
        tracing::error!(error, row, "the store refuses a row of a dead process");
        if self.rows.insert(row.clone()) {
            self.all.push(Aside { process, row, error });
        }
    }
}

// === impl Failure ===

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}
