//! What becomes of the ledger when one of its tasks panics, which is a bug of ours: nobody else would look.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::inner::Inner;

/// How long a task that has panicked is left alone.
const PAUSE: Duration = Duration::from_secs(1);

impl Inner {
    /// A task that may begin anew at any moment: it does, whenever it panics.
    pub(super) async fn again_and_again<F>(name: &'static str, make: impl Fn() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while panics(make()).await {
            tracing::error!(task = name, "a task of the ledger panicked: it begins anew");
            sleep(PAUSE).await;
        }
    }

    /// The task that writes the journal. It must not begin anew: what it had in hand may be written or not. Whoever waits for it is
    /// told that nothing comes, and no more requests are admitted. The journal is replayed by the next process.
    pub(super) async fn while_it_lasts(self: Arc<Self>, writer: impl Future<Output = ()> + Send + 'static) {
        if panics(writer).await {
            tracing::error!("the writer of charges panicked: requests are refused until this process is started anew");
            self.counters.dead.store(true, Ordering::Relaxed);
            self.queue.close();
            self.queue.expire(Duration::ZERO);
        }
    }
}

/// Runs it as a task of its own, which ends with whoever waits for it. Whether it panicked.
async fn panics(task: impl Future<Output = ()> + Send + 'static) -> bool {
    let mut tasks = JoinSet::new();
    tasks.spawn(task);
    matches!(tasks.join_next().await, Some(Err(error)) if error.is_panic())
}
