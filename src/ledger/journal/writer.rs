//! The task that makes rows durable: whatever waits goes with one commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::file::File;
use super::lines;
use super::window::Batch;
use crate::ledger::counters::add;
use crate::ledger::inner::Inner;
use crate::ledger::queue::{Item, expire};
use crate::ledger::settle::{Refused, settle};
use crate::store::{Id, Row};

/// About the bytes of one commit, at most.
const BATCH: u64 = 1 << 20;
/// How long a row waits that nobody waits for.
const NOTES: Duration = Duration::from_millis(100);
/// How often what the store has is deleted from the journal.
const TIDY: Duration = Duration::from_millis(500);
/// How long a failed commit waits for its next try: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// Failed commits after which a journal that holds nothing any more is made anew: a full disk may not even let SQLite
/// reuse its own space.
const RENEW: u32 = 3;

/// Makes rows durable.
#[derive(Debug)]
pub(in crate::ledger) struct Writer {
    inner: Arc<Inner>,
    target: Target,
    seq: i64,
    forgotten: i64,
    tidied: Instant,
    /// The registration that the journal knows of.
    noted: Id,
}

/// Where rows are durable.
#[derive(Debug)]
pub(in crate::ledger) enum Target {
    /// In the journal; it is closed while it is made anew.
    Journal {
        /// Where it is.
        path: PathBuf,
        /// The open file.
        file: Option<File>,
    },
    /// In the store: there is no journal.
    Store,
}

// === impl Writer ===

impl Writer {
    pub(in crate::ledger) fn new(inner: Arc<Inner>, target: Target) -> Self {
        let noted = inner.process();
        Self {
            inner,
            target,
            seq: 0,
            forgotten: 0,
            tidied: Instant::now(),
            noted,
        }
    }

    /// Until the queue is closed and empty.
    pub(in crate::ledger) async fn run(mut self) {
        loop {
            let items = self.inner.queue.take(BATCH);
            if !items.is_empty() {
                self.commit(items).await;
            } else if self.inner.queue.closed() {
                break;
            } else {
                let _note = timeout(NOTES, self.inner.queue.wake.notified()).await;
            }
            self.tidy().await;
        }
        if let Target::Journal { file: Some(file), .. } = self.target {
            file.close().await;
        }
    }

    async fn commit(&mut self, mut items: Vec<Item>) {
        match self.target {
            Target::Journal { .. } => self.append(items).await,
            Target::Store => {
                let inner = Arc::clone(&self.inner);
                let rows: Vec<Row> = items.iter().map(|item| item.row.clone()).collect();
                let mut pause = PAUSE.0;
                let refused = loop {
                    let settled = settle(&inner, inner.process(), &rows);
                    match patiently(&inner, &mut items, settled).await {
                        Ok(refused) => break refused,
                        Err(error) => self.failed(&mut items, &mut pause, &error).await,
                    }
                };
                lost(&inner, &refused);
                let bytes = items.iter().map(|item| item.bytes).sum();
                inner.writes(true);
                let rows = inner.queue.done(items, bytes);
                inner.filled(&rows, rows.len(), bytes);
            }
        }
    }

    async fn append(&mut self, mut items: Vec<Item>) {
        let process = self.inner.process();
        let lines = lines::write(items.iter().map(|item| &item.row));
        self.seq += 1;
        let (inner, seq) = (Arc::clone(&self.inner), self.seq);
        let (mut pause, mut failures) = (PAUSE.0, 0);
        while let Err(error) = patiently(&inner, &mut items, self.try_append(seq, process, &lines)).await {
            self.failed(&mut items, &mut pause, &error).await;
            failures += 1;
            if failures % RENEW == 0 && inner.window.is_empty() && inner.nothing_aside() {
                self.renew().await;
            }
        }
        inner.writes(true);
        let bytes = lines.len() as u64;
        let rows = inner.queue.done(items, bytes);
        inner.window.push(Batch {
            seq,
            process,
            rows,
            bytes,
        });
    }

    async fn try_append(&mut self, seq: i64, process: Id, lines: &[u8]) -> Result<(), sqlx::Error> {
        let Target::Journal { path, file } = &mut self.target else {
            return Ok(());
        };
        let file = match file {
            Some(file) => file,
            None => file.insert(File::open(path, self.inner.syncs()).await?),
        };
        if self.noted != process {
            file.add_process(process).await?;
            self.noted = process;
        }
        file.append(seq, process, lines).await
    }

    /// A commit has failed: new requests are refused until one succeeds.
    async fn failed(&mut self, items: &mut [Item], pause: &mut Duration, error: &impl std::fmt::Display) {
        if self.inner.writes(false) {
            tracing::error!(%error, "charges cannot be written: requests are refused until they can");
        }
        let inner = Arc::clone(&self.inner);
        patiently(&inner, items, sleep(*pause)).await;
        *pause = (*pause * 2).min(PAUSE.1);
    }

    /// Removes a journal that holds nothing any more; the next try makes it anew.
    async fn renew(&mut self) {
        let Target::Journal { path, file } = &mut self.target else {
            return;
        };
        // Closed first: what is still open keeps its space on the disk.
        if let Some(file) = file.take() {
            file.close().await;
        }
        for end in ["", "-wal", "-shm"] {
            let mut name = path.clone().into_os_string();
            name.push(end);
            let _absent = std::fs::remove_file(name);
        }
        // Charges may be made under another registration than its name tells: that is noted again.
        self.noted = Id::new(0);
        tracing::warn!(path = %path.display(), "the journal was empty and is made anew");
    }

    /// Deletes what the store has.
    async fn tidy(&mut self) {
        let filled = self.inner.window.filled();
        let Target::Journal { file: Some(file), .. } = &mut self.target else {
            return;
        };
        if filled == self.forgotten || self.tidied.elapsed() < TIDY {
            return;
        }
        self.tidied = Instant::now();
        match file.forget(filled).await {
            Ok(()) => self.forgotten = filled,
            Err(error) => tracing::warn!(%error, "what the store has could not be deleted from the journal"),
        }
    }
}

/// Does something that may take long, while whoever waits too long is told so.
async fn patiently<T>(inner: &Inner, items: &mut [Item], work: impl Future<Output = T>) -> T {
    let max_wait = inner.settings.max_wait;
    let look = (max_wait / 8).clamp(Duration::from_millis(5), Duration::from_millis(250));
    tokio::pin!(work);
    loop {
        if let Ok(done) = timeout(look, &mut work).await {
            return done;
        }
        if expire(items.iter_mut(), max_wait, &inner.counters) | inner.queue.expire(max_wait) && inner.writes(false) {
            tracing::error!(
                ?max_wait,
                "writing charges takes too long: requests are refused until it does not"
            );
        }
    }
}

/// Rows that the store refuses where there is no journal to set them aside in: the log is what is left.
fn lost(inner: &Inner, refused: &[Refused<'_>]) {
    for Refused { row, error } in refused {
        let line = lines::write([*row]);
        tracing::error!(%error, row = %String::from_utf8_lossy(&line), "the store refuses a row");
        add(&inner.counters.aside, 1);
    }
}
