//! The task that makes rows durable: whatever waits goes with one commit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{Instant, timeout};

use super::log::{Failed, Log};
use super::window::Batch;
use crate::failpoint;
use crate::ledger::counters::add;
use crate::ledger::inner::Inner;
use crate::ledger::queue::{Part, Waiter, expire};
use crate::ledger::settle::{Refused, settle};
use crate::store::{Id, Lines};

/// How often at most others are let go first before a commit.
const GATHER: usize = 4;
/// How long a row waits that nobody waits for.
const NOTES: Duration = Duration::from_millis(100);
/// How often what the store has is deleted from the journal.
const TIDY: Duration = Duration::from_millis(500);
/// How long a failed commit waits for its next try: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// Makes rows durable.
#[derive(Debug)]
pub(in crate::ledger) struct Writer {
    inner: Arc<Inner>,
    target: Target,
    seq: i64,
    forgotten: i64,
    tidied: Instant,
}

/// Where rows are durable.
#[derive(Debug)]
pub(in crate::ledger) enum Target {
    /// In the journal. Nobody else locks it: a commit that syncs has it on a thread of its own, and whoever is stopped
    /// amid one leaves it whole.
    Journal(Arc<Mutex<Log>>),
    /// In the store: there is no journal.
    Store,
}

// === impl Writer ===

impl Writer {
    pub(in crate::ledger) fn new(inner: Arc<Inner>, target: Target) -> Self {
        Self {
            inner,
            target,
            seq: 0,
            forgotten: 0,
            tidied: Instant::now(),
        }
    }

    /// Until the queue is closed and empty.
    pub(in crate::ledger) async fn run(mut self) {
        loop {
            self.gather().await;
            if let Some(part) = self.inner.queue.take() {
                self.commit(part).await;
            } else if self.inner.queue.closed() {
                break;
            } else {
                let _note = timeout(NOTES, self.inner.queue.wake.notified()).await;
            }
            self.tidy().await;
        }
    }

    /// Whoever else is about to write comes along: each that has its answer by now does so first. While more come, there may
    /// be more: where many requests share a core, a commit takes many of them then; a lone one waits for nobody.
    async fn gather(&self) {
        let mut seen = self.inner.queue.waiting();
        for _ in 0..GATHER {
            yield_now().await;
            let waiting = self.inner.queue.waiting();
            if waiting == seen {
                break;
            }
            seen = waiting;
        }
    }

    async fn commit(&mut self, mut part: Part) {
        match self.target {
            Target::Journal(ref log) => {
                let log = Arc::clone(log);
                self.append(log, part).await;
            }
            Target::Store => {
                let inner = Arc::clone(&self.inner);
                let rows = [std::mem::take(&mut part.lines)];
                let mut pause = PAUSE.0;
                let refused = loop {
                    let settled = settle(&inner, inner.process(), &rows);
                    match patiently(&inner, &mut part.waiters, settled).await {
                        Ok(refused) => break refused,
                        Err(error) => self.failed(&mut part.waiters, &mut pause, &error).await,
                    }
                };
                lost(&inner, &refused);
                let [lines] = rows;
                part.lines = lines;
                let bytes = part.bytes;
                inner.writes(true);
                let rows = inner.queue.done(part, bytes);
                let count = rows.len();
                inner.filled(&[rows], count, bytes);
            }
        }
    }

    async fn append(&mut self, log: Arc<Mutex<Log>>, mut part: Part) {
        let process = self.inner.process();
        let lines = Arc::new(std::mem::take(&mut part.lines));
        self.seq += 1;
        let (inner, seq) = (Arc::clone(&self.inner), self.seq);
        let mut pause = PAUSE.0;
        // Where the disk may have a batch of this number, no other may be given it: it would be passed over.
        let mut free = true;
        while let Err(failed) = self.try_append(&log, seq, process, &lines, &mut part.waiters).await {
            // A full disk may have room where the store has by now what lies there.
            self.forget(&log).await;
            free &= matches!(failed, Failed::Unwritten(_));
            let error = match failed {
                Failed::Unwritten(error) if free && self.settle_now(process, &lines, &mut part.waiters).await => {
                    tracing::debug!(%error, "charges go to the store at once, past the journal");
                    // The journal has no batch of this number.
                    self.seq -= 1;
                    part.lines = Arc::unwrap_or_clone(lines);
                    let bytes = part.bytes;
                    inner.writes(true);
                    let rows = inner.queue.done(part, bytes);
                    let count = rows.len();
                    return inner.filled(&[rows], count, bytes);
                }
                Failed::Unwritten(error) | Failed::Unknown(error) => error,
            };
            self.failed(&mut part.waiters, &mut pause, &error).await;
        }
        inner.writes(true);
        let bytes = lines.text().len() as u64;
        part.lines = Arc::unwrap_or_clone(lines);
        let lines = vec![inner.queue.done(part, bytes)];
        inner.window.push(Batch {
            seq,
            process,
            lines,
            bytes,
        });
    }

    async fn try_append(
        &self,
        log: &Arc<Mutex<Log>>,
        seq: i64,
        process: Id,
        lines: &Arc<Lines>,
        waiters: &mut [Waiter],
    ) -> Result<(), Failed> {
        // Whole behind the feature: to be patient takes a timer.
        #[cfg(feature = "failpoints")]
        patiently(&self.inner, waiters, async {
            failpoint::at!(self.inner.failpoints, JournalAppend).map_err(|failed| Failed::Unknown(failed.into()))?;
            failpoint::at!(self.inner.failpoints, JournalFull).map_err(|failed| Failed::Unwritten(failed.into()))
        })
        .await?;
        if !self.inner.syncs() {
            // One write into the kernel's memory: less than it takes to hand it to another thread.
            return log.lock().append(seq, process, lines.text());
        }
        let (log, lines) = (Arc::clone(log), Arc::clone(lines));
        let append = spawn_blocking(move || log.lock().append(seq, process, lines.text()));
        let done = patiently(&self.inner, waiters, append).await;
        done.map_err(|error| Failed::Unknown(io::Error::other(error)))?
    }

    /// Settles what the journal has no room for, where the store is there. Whether it has all of it.
    async fn settle_now(&self, process: Id, lines: &Arc<Lines>, waiters: &mut [Waiter]) -> bool {
        if !self.inner.store_up() {
            return false;
        }
        let (inner, lines) = (Arc::clone(&self.inner), Arc::clone(lines));
        let settling = async move {
            let lines = std::slice::from_ref(&*lines);
            // One that is refused waits for the journal, where it can be set aside.
            settle(&inner, process, lines)
                .await
                .is_ok_and(|refused| refused.is_empty())
        };
        patiently(&self.inner, waiters, settling).await
    }

    /// A commit has failed: new requests are refused until one succeeds.
    async fn failed(&mut self, waiters: &mut [Waiter], pause: &mut Duration, error: &impl std::fmt::Display) {
        if self.inner.writes(false) {
            tracing::error!(%error, "charges cannot be written: requests are refused until they can");
        }
        let inner = Arc::clone(&self.inner);
        let pausing = async {
            failpoint::pass!(inner.failpoints, JournalRetry);
            // What the store has taken meanwhile leaves room where the disk was full.
            let _either = timeout(*pause, inner.progress.notified()).await;
        };
        patiently(&inner, waiters, pausing).await;
        *pause = (*pause * 2).min(PAUSE.1);
    }

    /// Lets go of what the store has, now and then.
    async fn tidy(&mut self) {
        let Target::Journal(log) = &self.target else {
            return;
        };
        if self.inner.window.filled() == self.forgotten || self.tidied.elapsed() < TIDY {
            return;
        }
        self.tidied = Instant::now();
        let log = Arc::clone(log);
        self.forget(&log).await;
    }

    async fn forget(&mut self, log: &Arc<Mutex<Log>>) {
        let filled = self.inner.window.filled();
        let forgotten = if self.inner.syncs() {
            let log = Arc::clone(log);
            let forget = spawn_blocking(move || log.lock().forget(filled));
            forget.await.unwrap_or_else(|error| Err(io::Error::other(error)))
        } else {
            log.lock().forget(filled)
        };
        match forgotten {
            Ok(()) => self.forgotten = filled,
            Err(error) => tracing::warn!(%error, "what the store has could not be let go of in the journal"),
        }
    }
}

/// Does something that may take long, while whoever waits too long is told so.
async fn patiently<T>(inner: &Inner, waiters: &mut [Waiter], work: impl Future<Output = T>) -> T {
    let max_wait = inner.settings.max_wait;
    let look = (max_wait / 8).clamp(Duration::from_millis(5), Duration::from_millis(250));
    tokio::pin!(work);
    loop {
        if let Ok(done) = timeout(look, &mut work).await {
            return done;
        }
        if expire(waiters.iter_mut(), max_wait, &inner.counters) | inner.queue.expire(max_wait) && inner.writes(false) {
            tracing::error!(
                ?max_wait,
                "writing charges takes too long: requests are refused until it does not"
            );
        }
    }
}

/// Rows that the store refuses where there is no journal to set them aside in: the log is what is left.
fn lost(inner: &Inner, refused: &[Refused<'_>]) {
    for Refused { line, error } in refused {
        tracing::error!(%error, row = %String::from_utf8_lossy(line.text()), "the store refuses a row");
        add(&inner.counters.aside, 1);
    }
}
