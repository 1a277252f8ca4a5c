//! What dead processes have left: their charges into the store, then what they were allotted back to it.

use std::sync::Arc;

use super::file::File;
use super::lines;
use super::lock::Lock;
use crate::ledger::inner::Inner;
use crate::ledger::settle::settle;
use crate::store::{self, Id};

/// Why a journal was not replayed.
#[derive(Debug)]
enum Failure {
    File(sqlx::Error),
    Store(store::Error),
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
        let mut file = File::open(&lock.journal(), self.syncs()).await?;
        file.retry_aside().await?;
        let (mut seq, mut count) = (0, 0);
        while let Some(group) = file.group(seq, i64::MAX).await? {
            seq = group.seq;
            count += group.rows.len();
            for (line, error) in &group.bad {
                tracing::error!(row = line, error, "a line of a journal is no row");
                file.set_aside(group.process, line, error).await?;
            }
            for refused in settle(self, group.process, &group.rows).await? {
                let error = refused.error.to_string();
                let line = String::from_utf8_lossy(&lines::write([refused.row])).into_owned();
                tracing::error!(error, row = line, "the store refuses a row of a dead process");
                file.set_aside(group.process, &line, &error).await?;
            }
            file.forget(seq).await?;
        }
        let mut dead: Vec<Id> = file.processes().await?;
        dead.push(lock.process);
        for process in dead {
            self.bounded(self.store.release(process)).await?;
        }
        tracing::info!(process = %lock.process, rows = count, "what a process has left was settled");
        let aside = file.aside().await?;
        file.close().await;
        if aside == 0 {
            lock.remove();
        } else {
            tracing::error!(path = %lock.journal().display(), rows = aside, "rows that the store refuses stay in the journal");
        }
        Ok(())
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::File(error)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}
