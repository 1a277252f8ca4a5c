//! Counting the tokens of answers that bring no usage, away from the threads that serve them.
//!
//! An answer's text is gathered as it stands in the JSON and handed, some kilobytes at a time, to a thread of a
//! [`CountPool`], which resolves its escapes and feeds a [`Tokenizer`]. Between the two stands a queue that is bounded:
//! an answer that finds it full goes on uncounted, and who settles it estimates. Nobody ever waits.

mod text;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use self::text::Text;

/// So many bytes of text are gathered before they are handed over.
const BATCH: usize = 4 * 1024;

/// Knows the tokens of a kind of model. Of `tollgate-layers` the feature `tokenizer` has one, `Vocabulary`.
pub trait Tokenizer: Send + Sync {
    /// A counter at its beginning. Called on the thread that counts: what must be loaded first, may be loaded here.
    fn counter(&self) -> Box<dyn CountTokens>;
}

/// Counts the tokens of one text after another, each of which comes in parts.
pub trait CountTokens: Send {
    /// Takes the next part of a text, cut between any two characters. A counter keeps no more of a text than the end
    /// that cannot be counted yet.
    fn feed(&mut self, part: &str);

    /// Ends the text; yields its tokens. What is fed next is another text.
    fn finish(&mut self) -> u64;
}

/// Threads that count tokens, each with a bounded queue. Clones share them; they end with the last clone, once all is
/// counted that they were given.
///
/// A place in a queue holds up to 8 KiB of text.
#[derive(Clone)]
pub struct CountPool(Arc<Queues>);

/// The count of one answer, to be given to its [`Plan`](super::Plan).
#[derive(Debug)]
pub struct Count {
    queue: SyncSender<Job>,
    work: Arc<Mutex<Work>>,
    pending: Vec<u8>,
    /// The queue was full: what came in between is missing, so the count would be wrong.
    lost: bool,
}

/// An answer's text on its way to be counted: the [`Outcome`](super::Outcome) has it where no usage came.
#[derive(Debug)]
pub struct Counted(Count);

struct Queues {
    senders: Box<[SyncSender<Job>]>,
    turn: AtomicUsize,
}

/// What is told how many tokens there are, if they could be counted.
type Then = Box<dyn FnOnce(Option<u64>) + Send>;

/// Some text of one answer, and at its end who wants the count.
struct Job {
    work: Arc<Mutex<Work>>,
    text: Vec<u8>,
    then: Option<Then>,
}

/// What is kept of one answer while it is counted. Its jobs are all in one queue, so the lock is free.
struct Work {
    tokenizer: Arc<dyn Tokenizer>,
    counter: Option<Box<dyn CountTokens>>,
    text: Text,
    tokens: u64,
    /// The tokenizer panicked.
    broken: bool,
}

// === impl CountPool ===

impl CountPool {
    /// Starts `threads` (at least one), each with a queue of so many `places`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(threads: usize, places: usize) -> io::Result<Self> {
        let senders = (0..threads.max(1)).map(|_| {
            let (sender, jobs) = sync_channel(places);
            std::thread::Builder::new()
                .name("count-tokens".to_owned())
                .spawn(move || run(&jobs))?;
            Ok(sender)
        });
        Ok(Self(Arc::new(Queues {
            senders: senders.collect::<io::Result<_>>()?,
            turn: AtomicUsize::new(0),
        })))
    }

    /// A count by `tokenizer`, at nothing. It asks nothing of the threads until there is text.
    pub fn start(&self, tokenizer: &Arc<dyn Tokenizer>) -> Count {
        let Queues { senders, turn } = &*self.0;
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        Count {
            queue: senders[turn % senders.len()].clone(),
            work: Arc::new(Mutex::new(Work {
                tokenizer: Arc::clone(tokenizer),
                counter: None,
                text: Text::default(),
                tokens: 0,
                broken: false,
            })),
            pending: Vec::new(),
            lost: false,
        }
    }
}

impl fmt::Debug for CountPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.0.senders.len();
        f.debug_struct("CountPool").field("threads", &threads).finish()
    }
}

fn run(jobs: &Receiver<Job>) {
    for Job { work, text, then } in jobs {
        let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
        let last = then.is_some();
        let counted = catch_unwind(AssertUnwindSafe(|| work.count(&text, last)));
        work.broken |= counted.is_err();
        let tokens = (!work.broken).then_some(work.tokens);
        drop(work);
        if let Some(then) = then {
            // What is done with a count must not end the counting of others.
            let _ = catch_unwind(AssertUnwindSafe(|| then(tokens)));
        }
    }
}

// === impl Count ===

impl Count {
    /// Takes text as it stands in a JSON string.
    pub(super) fn text(&mut self, raw: &[u8]) {
        if self.lost {
            return;
        }
        for part in raw.chunks(BATCH) {
            self.pending.extend_from_slice(part);
            if self.pending.len() >= BATCH {
                let text = std::mem::take(&mut self.pending);
                self.lost |= self.send(text, None).is_err();
            }
        }
    }

    /// What comes next is another text.
    pub(super) fn boundary(&mut self) {
        self.text(&[text::BOUNDARY]);
    }

    /// The answer is over.
    pub(super) fn end(self) -> Counted {
        Counted(self)
    }

    fn send(&self, text: Vec<u8>, then: Option<Then>) -> Result<(), Option<Then>> {
        let job = Job {
            work: Arc::clone(&self.work),
            text,
            then,
        };
        self.queue.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job.then,
        })
    }
}

// === impl Counted ===

impl Counted {
    /// Calls `then` with the number of tokens, on the thread that counted them, once all are counted: that may be
    /// nought. With `None`, at once and here, where they were not counted: the queue was full. Also with `None` where the
    /// tokenizer panicked.
    pub fn then(self, then: impl FnOnce(Option<u64>) + Send + 'static) {
        let mut count = self.0;
        let text = std::mem::take(&mut count.pending);
        if count.lost {
            return then(None);
        }
        if let Err(Some(then)) = count.send(text, Some(Box::new(then))) {
            then(None);
        }
    }
}

// === impl Work ===

impl Work {
    fn count(&mut self, raw: &[u8], last: bool) {
        if self.broken {
            return;
        }
        let counter = self.counter.get_or_insert_with(|| self.tokenizer.counter());
        self.tokens += self.text.feed(raw, &mut **counter);
        if last {
            self.tokens += self.text.finish(&mut **counter);
        }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
