//! The task that brings rows from the journal into the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::counters::add;
use super::inner::Inner;
use super::journal::{Aside, ENOUGH, Next, Reader};
use super::settle::settle;
use crate::failpoint;
use crate::store::{Id, Lines};

/// How often the store gets rows, unless there are enough for a transaction at once: together they cost it less.
const EVERY: Duration = Duration::from_millis(100);
/// How long the store is left alone after a failure: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Brings rows from the journal into the store, in their order, for ever.
#[derive(Debug)]
pub(super) struct Filler {
    inner: Arc<Inner>,
    path: std::path::PathBuf,
    /// While batches are read from the journal.
    reader: Option<Reader>,
    pause: Duration,
}

// === impl Filler ===

impl Filler {
    pub(super) fn new(inner: Arc<Inner>, path: std::path::PathBuf) -> Self {
        Self {
            inner,
            path,
            reader: None,
            pause: PAUSE.0,
        }
    }

    pub(super) async fn run(mut self) {
        let inner = Arc::clone(&self.inner);
        loop {
            let next = Instant::now() + EVERY;
            match inner.window.next() {
                Next::Nothing => {
                    inner.window.wake.notified().await;
                    // What comes within the next moment comes along.
                    sleep(EVERY).await;
                }
                Next::Batch(batch) => {
                    self.reader = None;
                    self.settle(batch.process, &batch.lines).await;
                    inner.filled(&batch.lines, batch.rows(), batch.bytes);
                    inner.window.done(batch.seq);
                    // More than half a transaction: there may be more that did not fit.
                    if batch.rows() < ENOUGH / 2 {
                        sleep_until(next).await;
                    }
                }
                Next::InFile { after, upto } => self.fill_stored(after, upto).await,
            }
            inner.progress.notify_waiters();
        }
    }

    /// Fills what comes next and is in the file only.
    async fn fill_stored(&mut self, after: i64, upto: i64) {
        let reader = self.reader.take().unwrap_or_else(|| Reader::new(&self.path));
        match reader.group_aside(after, upto).await {
            Ok((reader, Some(group))) => {
                self.reader = Some(reader);
                for (line, error) in &group.bad {
                    self.set_aside(group.process, line, error).await;
                }
                let count = group.count();
                let lines = [group.lines];
                self.settle(group.process, &lines).await;
                self.inner.filled(&lines, count, group.bytes);
                self.inner.window.done(group.seq);
            }
            Ok((_, None)) => {
                tracing::error!(after, upto, "batches are missing from the journal");
                self.inner.window.done(upto);
            }
            Err(error) => {
                tracing::warn!(%error, "the journal cannot be read");
                self.wait().await;
            }
        }
    }

    /// Settles rows, however long it takes.
    async fn settle(&mut self, process: Id, rows: &[Lines]) {
        let inner = Arc::clone(&self.inner);
        let refused = loop {
            match settle(&inner, process, rows).await {
                Ok(refused) => break refused,
                Err(error) => {
                    let rows: usize = rows.iter().map(Lines::len).sum();
                    tracing::warn!(%error, rows, "charges wait in the journal");
                    self.wait().await;
                }
            }
        };
        self.pause = PAUSE.0;
        for refused in refused {
            let line = String::from_utf8_lossy(refused.line.text());
            self.set_aside(process, &line, &refused.error.to_string()).await;
        }
    }

    /// Sets a row aside that must not hold up the rest.
    async fn set_aside(&mut self, process: Id, row: &str, error: &str) {
        add(&self.inner.counters.aside, 1);
        tracing::error!(error, row, "the store refuses a row: it is set aside in the journal");
        let (row, error) = (row.to_owned(), error.to_owned());
        let aside = Aside { process, row, error };
        loop {
            let Err(error) = aside.add(&self.path) else {
                return;
            };
            tracing::error!(%error, "a row could not be set aside");
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        failpoint::pass!(self.inner.failpoints, FillRetry);
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}
