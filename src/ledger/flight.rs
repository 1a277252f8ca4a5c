//! One shortage: asks the store, and through it the other processes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::funds::Funds;
use super::inner::Inner;
use crate::failpoint;
use crate::money::Nanos;
use crate::store::{Error, Millis, Owner, Taken};

/// How long other processes have to give back what is asked of them.
const OTHERS: Duration = Duration::from_secs(2);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(75);
/// How many times the need is asked of other processes.
const AHEAD: i64 = 16;
/// All they can spare.
const ALL: i64 = Nanos::MAX_TYPED.get() - 1;

/// One shortage, dealt with by a task of its own: whoever waits for it may leave.
pub(super) struct Flight {
    funds: Arc<Funds>,
    owner: Owner,
    news: watch::Sender<()>,
}

/// What a shortage is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// What must be here, with what is here already.
    pub(super) amount: i64,
    /// How many times what is missing is asked of other processes.
    ahead: i64,
}

// === impl Need ===

impl Need {
    /// Of a request; more is asked of others, so that the next requests need not ask again.
    pub(super) fn of(amount: Nanos) -> Self {
        let amount = amount.get();
        Self { amount, ahead: AHEAD }
    }

    /// Of whatever there is beyond what is here.
    pub(super) fn any(room: i64) -> Self {
        let amount = room.saturating_add(1);
        Self { amount, ahead: ALL }
    }
}

// === impl Flight ===

impl Flight {
    pub(super) fn new(funds: Arc<Funds>, owner: Owner, news: watch::Sender<()>) -> Self {
        Self { funds, owner, news }
    }

    pub(super) async fn run(self, inner: &Arc<Inner>, need: Need) {
        let until = Instant::now() + OTHERS;
        let mut asked = 0;
        loop {
            let Some(taken) = self.take(inner, need).await else {
                return self.dry();
            };
            let missing = self.missing(need);
            if missing <= 0 {
                return;
            }
            if taken.amount > Nanos::ZERO {
                self.news.send_replace(());
            }
            if !taken.others_hold || Instant::now() >= until {
                return self.dry();
            }
            // What came ended what was asked for.
            if asked == 0 || taken.amount > Nanos::ZERO {
                asked = missing.saturating_mul(need.ahead);
                let ask = async {
                    failpoint::at!(inner.failpoints, StoreAsk)?;
                    inner.store.ask(inner.process(), self.owner, Nanos::new(asked)).await
                };
                if inner.bounded(ask).await.is_err() {
                    return self.dry();
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Takes once. `None`: the store could not give.
    async fn take(&self, inner: &Arc<Inner>, need: Need) -> Option<Taken> {
        inner.index(self.owner, self.funds.account());
        let (moves, most) = self.before(inner, need);
        let process = inner.process();
        let take = async {
            failpoint::at!(inner.failpoints, StoreTake)?;
            inner.store.take(process, self.owner, most, Millis::now()).await
        };
        match inner.bounded(take).await {
            Ok(taken) => {
                if process == inner.process() {
                    self.book(&taken, moves);
                }
                Some(taken)
            }
            Err(error) => {
                if let Error::NotFound(_) = error {
                    inner.look.notify_one();
                }
                tracing::debug!(owner = %self.owner, %error, "nothing was taken");
                None
            }
        }
    }

    /// How far the store's side has moved, and how much to take.
    fn before(&self, inner: &Inner, need: Need) -> (u32, Nanos) {
        let mut purses = self.funds.purses.lock();
        let Some((purse, supply)) = purses.of(self.owner) else {
            return (0, Nanos::ZERO);
        };
        let (moves, frugal) = supply.before();
        let missing = need.amount.saturating_sub(purse.room()).max(1);
        let most = if frugal || inner.draining() {
            Nanos::new(missing)
        } else {
            Nanos::MAX_TYPED
        };
        (moves, most)
    }

    /// Books what was taken, and what the store shows as ours beyond what we know of: a give-back that it has not got,
    /// an answer that we have not.
    fn book(&self, taken: &Taken, moves: u32) {
        let mut purses = self.funds.purses.lock();
        if let Owner::Key(id) = self.owner
            && let Some(key) = purses.key_mut(id)
        {
            key.began(taken.period_start);
        }
        let Some((purse, supply)) = purses.of(self.owner) else {
            return;
        };
        purse.add(taken.amount.get());
        let Some(giving) = supply.unmoved(moves) else {
            return;
        };
        let known = purse.expected().saturating_add(giving);
        let unknown = taken.held.get().saturating_sub(known);
        if unknown > 0 {
            tracing::info!(owner = %self.owner, amount = %Nanos::new(unknown), "the store holds more for us than we knew");
            purse.add(unknown);
        }
    }

    fn missing(&self, need: Need) -> i64 {
        let mut purses = self.funds.purses.lock();
        let room = purses.of(self.owner).map_or(i64::MAX, |(purse, _)| purse.room());
        need.amount.saturating_sub(room)
    }

    fn dry(&self) {
        if let Some((_, supply)) = self.funds.purses.lock().of(self.owner) {
            supply.dry();
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some((_, supply)) = self.funds.purses.lock().of(self.owner) {
            supply.land();
        }
    }
}
