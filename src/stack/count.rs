//! Counting the answers of backends that report no usage.
//!
//! A tokenizer costs more than all else that is done for a stream, so it runs only where it is known beforehand that no
//! usage will come: the configuration says so, the backend has refused the question, or the answer before had none. It
//! runs on a thread of its own, which is not started before that.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tollgate_layers::meter::{Count, CountPool, Counted, Tokenizer};

use super::State;
use crate::proxy::Lifecycle;

/// One thread counts the streams of thousands of clients, who read at the pace of a model.
const THREADS: usize = 1;

/// How many parts of answers may wait for it; each is up to 8 KiB. Who finds no place is estimated by bytes.
const PLACES: usize = 1024;

/// The thread that counts, once there is something to count; nothing where the system gives none.
#[derive(Debug, Default)]
pub struct Counters(OnceLock<Option<CountPool>>);

/// What is done with a count, by whoever comes first: the count, or the end that waits for it no longer.
struct Once<F: FnOnce(Option<u64>)>(Arc<Mutex<Option<F>>>);

/// Counts answers of one model.
#[derive(Clone)]
pub(super) struct Counter {
    tokenizer: Arc<dyn Tokenizer>,
    state: State,
}

impl Counters {
    fn pool(&self) -> Option<&CountPool> {
        let start = || {
            CountPool::new(THREADS, PLACES)
                .inspect_err(|error| tracing::error!(%error, "no thread to count tokens: they are estimated"))
                .ok()
        };
        self.0.get_or_init(start).as_ref()
    }
}

impl Counter {
    /// For the model that a backend calls so; `None` where no tokenizer was built in.
    pub(super) fn of(upstream_model: &str, state: &State) -> Option<Self> {
        Some(Self {
            tokenizer: tokenizer(upstream_model)?,
            state: state.clone(),
        })
    }

    /// The count of one answer.
    pub(super) fn start(&self) -> Option<Count> {
        Some(self.state.counters().pool()?.start(&self.tokenizer))
    }
}

/// Hands `then` the count once it is there. A shutdown waits for that; at the end of its patience `then` is told that there
/// is none, so that the answer is accounted for before the ledger ends.
pub(super) fn when_counted(counted: Counted, lifecycle: &Lifecycle, then: impl FnOnce(Option<u64>) + Send + 'static) {
    let (done, told) = tokio::sync::oneshot::channel::<()>();
    let then = Arc::new(Mutex::new(Some(then)));
    let uncounted = Once(Arc::clone(&then));
    lifecycle.run_behind(async move {
        let _uncounted = uncounted;
        // An error is all that ever comes: the other end is dropped.
        let _ = told.await;
    });
    counted.then(move |tokens| {
        Once(then).tell(tokens);
        drop(done);
    });
}

// === impl Once ===

impl<F: FnOnce(Option<u64>)> Once<F> {
    fn tell(&self, tokens: Option<u64>) {
        // Under the lock: who comes second must not go on before it is done.
        if let Some(then) = self.0.lock().take() {
            then(tokens);
        }
    }
}

impl<F: FnOnce(Option<u64>)> Drop for Once<F> {
    fn drop(&mut self) {
        self.tell(None);
    }
}

/// The vocabulary of a model of OpenAI's. Others have vocabularies of their own; the latest of OpenAI's is nearer to
/// them than any number of bytes.
#[cfg(feature = "tokenizer")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature there is none")]
fn tokenizer(upstream_model: &str) -> Option<Arc<dyn Tokenizer>> {
    use tollgate_layers::meter::Vocabulary;

    // Names may have an owner before and a version behind.
    let name = upstream_model.rsplit('/').next().unwrap_or(upstream_model);
    let is = |family: &str| {
        let rest = name.strip_prefix(family);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let old = ["gpt-4", "gpt-3.5", "gpt-35"].into_iter().any(is);
    Some(Arc::new(if old {
        Vocabulary::Cl100kBase
    } else {
        Vocabulary::O200kBase
    }))
}

#[cfg(not(feature = "tokenizer"))]
fn tokenizer(_: &str) -> Option<Arc<dyn Tokenizer>> {
    None
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counter").finish_non_exhaustive()
    }
}
