//! Access lines: formatted by the request's own thread, written by another.

use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of lines that may wait. Access lines are for people: over this they are dropped and counted. What must not be
/// lost does not go this way.
const MOST_WAITING: usize = 8 << 20;

/// Lines gather for this long before they are written, so that a busy gateway makes one write of many.
const GATHER: Duration = Duration::from_millis(5);

/// How much of a long line's memory a thread keeps for the next one.
const LONGEST_KEPT: usize = 16 << 10;

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A sink of access lines. Clones share it; its thread ends with the last of them.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    closed: bool,
}

impl AccessLog {
    /// Writes lines to `sink` from a thread of its own.
    pub fn new(sink: impl Write + Send + 'static) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let worker = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || worker.run(sink))?;
        Ok(Self(Arc::new(Shared { queue })))
    }

    /// How many lines were dropped.
    pub fn dropped(&self) -> u64 {
        self.0.queue.dropped.load(Ordering::Relaxed)
    }

    /// Waits until every line so far is written, but no longer than `patience`: a reader that has stopped reading must
    /// not keep the process from its end. Says whether they were.
    pub fn flush(&self, patience: Duration) -> bool {
        let queue = &self.0.queue;
        queue.filled.notify_one();
        let busy = |state: &mut State| !state.waiting.is_empty() || state.writing;
        let (_state, waited) = queue
            .emptied
            .wait_timeout_while(queue.lock(), patience, busy)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }

    /// Appends a line; `format` writes it without its line break, into memory of its thread's own: nobody waits for it.
    pub(super) fn write(&self, format: impl FnOnce(&mut Vec<u8>)) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            format(line);
            line.push(b'\n');
            self.0.queue.push(line);
            line.shrink_to(LONGEST_KEPT);
        });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.filled.notify_one();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() > MOST_WAITING {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn run(&self, mut sink: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() && !state.closed {
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.waiting.is_empty() {
                return;
            }
            if !state.closed {
                // A second wait, for more lines to gather; whoever flushes cuts it short.
                state = self
                    .filled
                    .wait_timeout(state, GATHER)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            std::mem::swap(&mut batch, &mut state.waiting);
            state.writing = true;
            drop(state);
            if let Err(error) = sink.write_all(&batch).and_then(|()| sink.flush()) {
                tracing::warn!(%error, "access lines could not be written");
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            batch.clear();
            self.lock().writing = false;
            self.emptied.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flush_waits_for_every_line() {
        let sink = Sink::default();
        let log = AccessLog::new(sink.clone()).expect("a thread");
        for n in 0..1000 {
            log.write(|line| line.extend_from_slice(format!("line {n}").as_bytes()));
        }
        assert!(log.flush(Duration::MAX));
        let text = String::from_utf8(sink.0.lock().expect("unpoisoned").clone()).expect("text");
        assert_eq!(text.lines().count(), 1000);
        assert!(text.ends_with("line 999\n"));
    }

    #[test]
    fn lines_over_the_bound_are_dropped_and_counted() {
        struct Stuck(Arc<Mutex<()>>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                drop(self.0.lock());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let gate = Arc::new(Mutex::new(()));
        let held = gate.lock().expect("unpoisoned");
        let log = AccessLog::new(Stuck(Arc::clone(&gate))).expect("a thread");
        for _ in 0..64 {
            log.write(|line| line.resize(line.len() + (1 << 20), b'x'));
        }
        assert!(log.dropped() > 0);
        assert!(!log.flush(Duration::from_millis(1)), "it is stuck");
        drop(held);
        assert!(log.flush(Duration::MAX));
    }
}
