//! Staying registered, and what others ask for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::give::Give;
use super::inner::Inner;
use crate::money::Nanos;
use crate::store::{self, Ask, Error, Millis, Owner, Position, Pulse};

/// How often the store is asked what has changed and what others want.
const PULSE: Duration = Duration::from_millis(200);

impl Inner {
    /// Stays registered, gives others what they ask for, and tells what has changed, for ever.
    pub(super) async fn keep_lease(self: Arc<Self>) {
        let mut due = Instant::now() + self.settings.lease / 3;
        loop {
            let _now = timeout(PULSE, self.look.notified()).await;
            if Instant::now() >= due {
                due = Instant::now() + self.settings.lease / 3;
                self.beat().await;
            }
            match self.read(self.store.pulse(self.process())).await {
                Ok(pulse) => self.heed(pulse).await,
                Err(Error::NotFound(_)) => self.register_anew().await,
                Err(error) => tracing::debug!(%error, "no pulse"),
            }
            if self.draining() {
                self.give_all_back().await;
            }
        }
    }

    async fn beat(self: &Arc<Self>) {
        match self
            .bounded(self.store.beat(self.process(), self.settings.lease_end()))
            .await
        {
            Ok(()) => {}
            Err(Error::NotFound(_)) => self.register_anew().await,
            // It goes on from what it was allotted.
            Err(error) => tracing::warn!(%error, "the lease could not be prolonged"),
        }
    }

    /// Looks after processes that have died, for ever.
    pub(super) async fn keep_house(self: Arc<Self>) {
        loop {
            sleep(self.settings.lease / 3).await;
            if let Err(error) = self.replay().await {
                tracing::warn!(%error, "journals of dead processes stay");
                continue;
            }
            if let Err(error) = self.release_dead().await {
                tracing::warn!(%error, "dead processes were not looked for");
            }
        }
    }

    /// Gives up processes whose lease has ended. After their journals were replayed, where they are here: released
    /// before, their charges would have to come out of what is free then.
    pub(super) async fn release_dead(&self) -> store::Result<()> {
        // First our own: a computer that slept must not give itself up.
        self.bounded(self.store.beat(self.process(), self.settings.lease_end()))
            .await?;
        let dead = self.bounded(self.store.release_expired(Millis::now())).await?;
        if !dead.is_empty() {
            tracing::warn!(?dead, "processes were given up");
        }
        Ok(())
    }

    pub(super) async fn heed(self: &Arc<Self>, pulse: Pulse) {
        if !pulse.registered {
            return self.register_anew().await;
        }
        self.stand(pulse.position).await;
        self.revision.send_if_modified(|known| {
            let newer = *known != pulse.revision;
            *known = pulse.revision;
            newer
        });
        for ask in pulse.asks {
            self.answer(ask).await;
        }
    }

    /// Takes the place among those that serve, where the store knows as it is whether this process does.
    async fn stand(&self, position: Option<Position>) {
        match position {
            Some(position) if self.serves() => {
                let news = |known: &mut Position| std::mem::replace(known, position) != position;
                if self.position.send_if_modified(news) {
                    tracing::info!(?position, "limits are shared anew among the processes that serve");
                }
            }
            None if !self.serves() => {}
            // Registered anew, or what was said did not reach the store.
            _ => {
                if let Err(error) = self.tell_whether_it_serves().await {
                    tracing::debug!(%error, "the others do not know yet whether requests are taken here");
                }
            }
        }
    }

    /// Those that serve share the limits. Where the store is not there, everybody's part stays as it was.
    pub(super) async fn tell_whether_it_serves(&self) -> store::Result<()> {
        self.bounded(self.store.serve(self.process(), self.serves())).await
    }

    /// Gives another process of what is free here.
    async fn answer(&self, ask: Ask) {
        let funds = match ask.owner {
            Owner::Account(account) => self.known(account),
            Owner::Key(key) => self.with_key(key),
        };
        let Some(funds) = funds else {
            return;
        };
        let all = ask.amount >= Nanos::MAX_TYPED || self.draining();
        if all && let Some((_, supply)) = funds.purses.lock().of(ask.owner) {
            supply.be_frugal();
        }
        let give = if all { Give::All } else { Give::Asked(ask.amount) };
        let given = self.give_back(&funds, ask.owner, give).await;
        tracing::debug!(owner = %ask.owner, %given, "given to another process");
    }

    /// The lease was lost, and with it all that was allotted.
    async fn register_anew(self: &Arc<Self>) {
        let process = match self.bounded(self.store.register(self.settings.lease_end())).await {
            Ok(process) => process,
            Err(error) => return tracing::warn!(%error, "could not register anew"),
        };
        tracing::error!(was = %self.process(), is = %process.id, "the lease was lost: what was allotted is gone, and is taken anew");
        self.detach(&process);
    }
}
