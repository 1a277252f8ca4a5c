//! Keeping up with the store.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Directory;
use crate::store::Error;

/// After an error, how long until the store is asked again.
const AGAIN: Duration = Duration::from_millis(500);

impl Directory {
    /// Reads what has changed since it last looked. Whoever changed something calls it before it answers, so that the
    /// change holds for the next request.
    pub async fn refresh(&self) -> Result<(), Error> {
        let Some(backing) = &self.0.backing else { return Ok(()) };
        let _one = backing.refreshing.lock().await;
        let known = backing.revision.load(Ordering::Relaxed);
        let changes = backing.store.changes(known).await?;
        self.apply(&changes);
        backing.revision.fetch_max(changes.revision, Ordering::Relaxed);
        Ok(())
    }

    /// Follows what other processes change, for as long as the ledger tells of it.
    pub async fn follow(self) {
        let Some(backing) = &self.0.backing else { return };
        let mut newest = backing.ledger.subscribe();
        loop {
            let there = *newest.borrow_and_update();
            if there > backing.revision.load(Ordering::Relaxed)
                && let Err(error) = self.refresh().await
            {
                tracing::warn!(%error, "changes of keys and accounts cannot be read; the known ones hold");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            if newest.changed().await.is_err() {
                return;
            }
        }
    }
}
