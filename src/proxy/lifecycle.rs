//! What is in flight, and how far the process is on its way down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};

use crate::failpoint::{self, Failpoints};

/// What is in flight, and how far the process is on its way down. Clones are the same life.
#[derive(Clone, Debug)]
pub struct Lifecycle(Arc<Life>);

#[derive(Debug)]
struct Life {
    in_flight: AtomicUsize,
    connections: AtomicUsize,
    /// Work that no client waits for.
    behind: AtomicUsize,
    /// Told whenever one of the three comes to nought.
    idle: Notify,
    down: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    /// The same, to be looked at often.
    stopped: AtomicBool,
    /// Whether there was anything to cut.
    cut: AtomicBool,
    failpoints: Failpoints,
}

/// A request in flight, while it lives.
pub(super) struct InFlight(Lifecycle);

/// A connection, while it lives.
pub(super) struct Connected(Lifecycle);

/// Work that no client waits for, while it lives.
struct Behind(Lifecycle);

// === impl Lifecycle ===

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A life at its beginning.
    pub fn new() -> Self {
        Self::with_failpoints(Failpoints::default())
    }

    /// The same, in which a test can break requests.
    pub fn with_failpoints(failpoints: Failpoints) -> Self {
        Self(Arc::new(Life {
            in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            behind: AtomicUsize::new(0),
            idle: Notify::new(),
            down: watch::Sender::new(false),
            stop: watch::Sender::new(false),
            stopped: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            failpoints,
        }))
    }

    /// Where a test can break its requests.
    pub fn failpoints(&self) -> &Failpoints {
        &self.0.failpoints
    }

    /// How many requests have begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Acquire)
    }

    /// How many connections of clients are open.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Acquire)
    }

    /// Whether the process is on its way down.
    pub fn is_going_down(&self) -> bool {
        *self.0.down.borrow()
    }

    /// Stops listening; idle connections linger, requests in flight go on.
    pub fn go_down(&self) {
        self.0.down.send_replace(true);
    }

    /// Ends what is still in flight: a service that asks [`Self::is_stopped`] may still say so to its client, and then
    /// it is cut.
    pub fn stop(&self) {
        if !self.is_stopped() && !self.is_drained() {
            self.0.cut.store(true, Ordering::Release);
        }
        self.0.stopped.store(true, Ordering::Release);
        self.0.stop.send_replace(true);
    }

    /// Whether what is in flight must end now. A request is polled again when this turns.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    /// Runs work that no client waits for: a shutdown waits for it as for a request, and drops it with the requests
    /// that it cuts.
    pub fn run_behind(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        self.0.behind.fetch_add(1, Ordering::AcqRel);
        let behind = Behind(self.clone());
        let mut stop = self.stopped();
        runtime.spawn(async move {
            let work = async {
                failpoint::pass!(behind.0.failpoints(), Behind);
                work.await;
            };
            tokio::select! {
                biased;
                () = rises(&mut stop) => {}
                () = work => {}
            }
            drop(behind);
        });
    }

    /// Waits until nothing is in flight and no work is left behind.
    pub async fn drained(&self) {
        loop {
            self.comes_to_nought(&self.0.in_flight).await;
            self.comes_to_nought(&self.0.behind).await;
            // Work is left behind by requests.
            if self.in_flight() == 0 {
                return;
            }
        }
    }

    /// Whether the stop found anything still in flight.
    pub(super) fn has_cut(&self) -> bool {
        self.0.cut.load(Ordering::Acquire)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.in_flight() == 0 && self.0.behind.load(Ordering::Acquire) == 0
    }

    /// Turns when the way down begins.
    pub(super) fn going_down(&self) -> watch::Receiver<bool> {
        self.0.down.subscribe()
    }

    /// Waits until no connection is open.
    pub(super) async fn disconnected(&self) {
        self.comes_to_nought(&self.0.connections).await;
    }

    async fn comes_to_nought(&self, count: &AtomicUsize) {
        loop {
            let idle = self.0.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if count.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }

    pub(super) fn enter(&self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(self.clone())
    }

    pub(super) fn connect(&self) -> Connected {
        self.0.connections.fetch_add(1, Ordering::AcqRel);
        Connected(self.clone())
    }

    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.0.stop.subscribe()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let life = &self.0.0;
        if life.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            life.idle.notify_waiters();
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        let life = &self.0.0;
        if life.behind.fetch_sub(1, Ordering::AcqRel) == 1 {
            life.idle.notify_waiters();
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let life = &self.0.0;
        if life.connections.fetch_sub(1, Ordering::AcqRel) == 1 {
            life.idle.notify_waiters();
        }
    }
}

/// Ready once the flag is up; for ever pending when nobody is left to raise it.
pub(super) async fn rises(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|up| *up).await.is_err() {
        std::future::pending::<()>().await;
    }
}
