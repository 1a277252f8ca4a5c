//! From the start to the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::fill::Filler;
use super::inner::Inner;
use super::journal::{Lock, Log, Target, Writer};
use super::settings::{Durability, Settings, StartError};
use crate::store::{self, SharedStore};

/// How long the end waits for the store, once all is written, and how often it looks.
const STOP: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// What runs, to be ended in this order.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    pub(super) tasks: JoinSet<()>,
    pub(super) lock: Option<Lock>,
}

// === impl Inner ===

impl Inner {
    /// Registers, replays what dead processes have left, and starts the tasks.
    pub(super) async fn start(store: SharedStore, settings: Settings) -> Result<(Arc<Self>, Tasks), StartError> {
        let folder = &settings.folder;
        std::fs::create_dir_all(folder).map_err(|error| StartError::Folder(folder.clone(), error))?;
        let process = store.register(settings.lease_end()).await?;
        let inner = Arc::new(Self::new(store, settings, &process));
        match inner.begin().await {
            Ok(tasks) => Ok((inner, tasks)),
            Err(error) => {
                let _expires = inner.bounded(inner.store.release(process.id)).await;
                Err(error)
            }
        }
    }

    async fn begin(self: &Arc<Self>) -> Result<Tasks, StartError> {
        let mut tasks = Tasks::default();
        // Whoever replays for long must not lose its own lease over it.
        self.tend(&mut tasks, "keep_lease", Self::keep_lease);
        self.replay().await?;
        self.release_dead().await?;
        let target = self.target(&mut tasks)?;
        let writer = Writer::new(Arc::clone(self), target).run();
        tasks.tasks.spawn(Arc::clone(self).while_it_lasts(writer));
        self.tend(&mut tasks, "keep_house", Self::keep_house);
        self.tend(&mut tasks, "keep_days", Self::keep_days);
        Ok(tasks)
    }

    /// Starts a task that may begin anew at any moment.
    fn tend<F>(self: &Arc<Self>, tasks: &mut Tasks, name: &'static str, make: impl Fn(Arc<Self>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let inner = Arc::clone(self);
        let make = move || make(Arc::clone(&inner));
        tasks.tasks.spawn(Self::again_and_again(name, make));
    }

    /// Opens the journal, where there is one, and starts to fill the store from it.
    fn target(self: &Arc<Self>, tasks: &mut Tasks) -> Result<Target, StartError> {
        if self.settings.durability == Durability::Store {
            return Ok(Target::Store);
        }
        let folder = &self.settings.folder;
        let lock = Lock::take(folder, self.process()).map_err(|error| StartError::Folder(folder.clone(), error))?;
        let lock = lock.ok_or_else(|| StartError::Journal(folder.clone(), "it is in use".to_owned()))?;
        let path = lock.journal();
        let log = Log::create(&path, self.syncs(), self.process());
        let log = log.map_err(|error| StartError::Journal(path.clone(), error.to_string()))?;
        tasks.lock = Some(lock);
        self.tend(tasks, "filler", move |inner| Filler::new(inner, path.clone()).run());
        Ok(Target::Journal(Arc::new(Mutex::new(log))))
    }

    /// Takes requests from here on, with the part of every limit that the place among those that serve gives.
    pub(super) async fn open(self: &Arc<Self>) -> store::Result<()> {
        self.opened.store(true, Ordering::Relaxed);
        self.tell_whether_it_serves().await?;
        let pulse = self.bounded(self.store.pulse(self.process())).await?;
        self.heed(pulse).await;
        Ok(())
    }

    /// Takes no more requests, and gives back what is free: its part of every limit, and money.
    pub(super) async fn drain(&self) {
        let served = self.serves();
        self.draining.store(true, Ordering::Relaxed);
        let leave = async {
            if served && let Err(error) = self.tell_whether_it_serves().await {
                tracing::warn!(%error, "the others do not know yet that no more requests are taken here");
            }
        };
        tokio::join!(leave, self.give_all_back());
    }

    /// Writes and fills what is left, then releases the registration. Whether nothing is left in the journal.
    pub(super) async fn stop(&self) -> bool {
        self.drain().await;
        self.counters.stopped.store(true, Ordering::Relaxed);
        self.queue.close();
        let until = Instant::now() + self.settings.max_wait + STOP;
        while self.counters.rows.load(Ordering::Relaxed) > 0 {
            let _look = timeout(LOOK, self.progress.notified()).await;
            if Instant::now() >= until || self.counters.dead.load(Ordering::Relaxed) {
                // What is allotted stays so: the charges in the journal come out of it.
                let rows = self.counters.rows.load(Ordering::Relaxed);
                tracing::error!(
                    rows,
                    "the store did not take all charges: the next process will replay the journal"
                );
                return false;
            }
        }
        match self.bounded(self.store.release(self.process())).await {
            Ok(()) => self.nothing_aside(),
            Err(error) => {
                tracing::warn!(%error, "the registration could not be released: the next process will do it");
                false
            }
        }
    }
}
