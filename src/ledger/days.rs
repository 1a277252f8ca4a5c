//! Closing days and forgetting old rows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::inner::Inner;
use crate::store::{Day, Error, Millis};

/// How long after midnight a day is closed: requests of the last moment have settled then, and clocks differ.
const AFTER: i64 = 60_000;
/// How often it is looked. Not slept until midnight: a computer may sleep longer.
const LOOK: Duration = Duration::from_secs(30);
/// How long after a failure, in looks.
const AGAIN: u32 = 20;
/// How long the store has to close days: it reads all that was charged on them.
const CLOSE: Duration = Duration::from_mins(10);
/// Rows that one transaction deletes, and how long the store is left alone then.
const PRUNE: u32 = 1000;
const BETWEEN: Duration = Duration::from_millis(50);
/// How often old rows are deleted, in looks.
const PRUNE_EVERY: u32 = 120;

impl Inner {
    /// Closes days and deletes old rows, for ever.
    pub(super) async fn keep_days(self: Arc<Self>) {
        let mut closed: Option<Day> = None;
        let (mut wait, mut prune) = (0_u32, 0_u32);
        loop {
            let today = Millis(Millis::now().0 - AFTER).day();
            if wait == 0 && closed != Some(today) {
                match self.within(CLOSE, self.store.close_days(today)).await {
                    Ok(days) => {
                        closed = Some(today);
                        tracing::info!(days, "days closed");
                    }
                    Err(error @ Error::Corrupt(_)) => {
                        tracing::error!(%error, "no day is closed");
                        wait = AGAIN;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no day is closed");
                        wait = 1;
                    }
                }
            }
            if prune == 0 {
                self.prune().await;
                prune = PRUNE_EVERY;
            }
            sleep(LOOK).await;
            wait = wait.saturating_sub(1);
            prune -= 1;
        }
    }

    /// Deletes rows that are older than they are kept.
    async fn prune(&self) {
        let Some(retention) = self.settings.retention else {
            return;
        };
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let before = Millis(Millis::now().0.saturating_sub(retention));
        let mut count = 0;
        loop {
            match self.bounded(self.store.prune(before, PRUNE)).await {
                Ok(0) => break,
                Ok(some) => count += some,
                Err(error) => {
                    tracing::warn!(%error, "old rows stay");
                    break;
                }
            }
            sleep(BETWEEN).await;
        }
        if count > 0 {
            tracing::info!(rows = count, "old rows deleted");
        }
    }
}
