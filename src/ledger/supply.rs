//! Getting more: from the store, and through it from the other processes.
//!
//! A shortage asks the store once however many requests run into it, and an owner with nothing left does not make it ask
//! again for a quarter of a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::flight::{Flight, Need};
use super::funds::{Funds, KeyFunds, Short};
use super::hold::Hold;
use crate::failpoint;
use crate::money::Nanos;
use crate::store::Owner;

/// How long a request waits for money in all.
const WAIT: Duration = Duration::from_secs(3);
/// How long it is waited for what a request does not need at once.
const DRAW: Duration = Duration::from_millis(600);
/// How long "nothing there" is believed.
const DRY: Duration = Duration::from_millis(250);
/// How long after a recall only what is needed is taken, so that whoever recalled finds it.
const FRUGAL: Duration = Duration::from_secs(2);

/// How an owner's purse is supplied.
#[derive(Debug, Default)]
pub(super) struct Supply(Option<Box<State>>);

#[derive(Debug, Default)]
struct State {
    /// The shortage that is being dealt with; it tells when something came, and closes at its end.
    flight: Option<watch::Receiver<()>>,
    dry_until: Option<Instant>,
    frugal_until: Option<Instant>,
    /// What is on its way back to the store.
    giving: i64,
    /// Grows with each give-back and each charge that has reached the store: an allotment read before tells nothing.
    moves: u32,
    /// Whether the store was asked since the owner last changed.
    asked: bool,
}

/// What to do about a shortage.
enum Step {
    /// There is enough by now.
    Enough,
    /// There is nothing, as we have just seen.
    Dry,
    /// Someone is at it.
    Wait(watch::Receiver<()>),
    /// We must ask the store.
    Ask(watch::Sender<()>, watch::Receiver<()>),
}

// === impl Supply ===

impl Supply {
    fn state(&mut self) -> &mut State {
        self.0.get_or_insert_default()
    }

    /// The owner has changed: what is known of the store's side is old.
    pub(super) fn refresh(&mut self) {
        if let Some(state) = &mut self.0 {
            state.dry_until = None;
            state.asked = false;
        }
    }

    /// The store's side has moved.
    pub(super) fn moved(&mut self) {
        if let Some(state) = &mut self.0 {
            state.moves = state.moves.wrapping_add(1);
        }
    }

    /// Takes no more than is needed for a while.
    pub(super) fn be_frugal(&mut self) {
        self.state().frugal_until = Some(Instant::now() + FRUGAL);
    }

    pub(super) fn giving(&mut self, amount: i64) {
        self.state().giving += amount;
    }

    pub(super) fn gave(&mut self, amount: i64) {
        let state = self.state();
        state.giving -= amount;
        state.moves = state.moves.wrapping_add(1);
    }

    /// The store is about to be asked: how far its side has moved, and whether to take no more than is needed.
    pub(super) fn before(&mut self) -> (u32, bool) {
        let state = self.state();
        state.asked = true;
        let frugal = state.frugal_until.is_some_and(|until| until > Instant::now());
        (state.moves, frugal)
    }

    /// What is on its way back, unless the store's side has moved since.
    pub(super) fn unmoved(&mut self, moves: u32) -> Option<i64> {
        let state = self.state();
        (state.moves == moves).then_some(state.giving)
    }

    /// The store has nothing.
    pub(super) fn dry(&mut self) {
        self.state().dry_until = Some(Instant::now() + DRY);
    }

    /// A shortage has been dealt with.
    pub(super) fn land(&mut self) {
        self.state().flight = None;
    }

    fn asked(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.asked)
    }

    fn join(&mut self) -> Step {
        let state = self.state();
        if let Some(flight) = &state.flight {
            let mut flight = flight.clone();
            flight.mark_unchanged();
            return Step::Wait(flight);
        }
        if state.dry_until.is_some_and(|until| until > Instant::now()) {
            return Step::Dry;
        }
        let (news, flight) = watch::channel(());
        state.flight = Some(flight.clone());
        Step::Ask(news, flight)
    }
}

// === impl Funds ===

impl Funds {
    /// As [`try_reserve`](Self::try_reserve), but asks the store, and through it other processes, for what is not here.
    /// Waits for the others at most two seconds.
    ///
    /// # Errors
    ///
    /// Whose money does not suffice; then nothing was reserved.
    pub async fn reserve(self: &Arc<Self>, key: &KeyFunds, amount: Nanos) -> Result<Hold, Short> {
        self.reserve_up_to(key, amount, amount).await
    }

    /// Reserves as much as is free up to `most`, if it is `least` or more; asks as [`reserve`](Self::reserve) does
    /// where there is less than `least`.
    ///
    /// # Errors
    ///
    /// Whose money does not suffice; then nothing was reserved.
    pub async fn reserve_up_to(self: &Arc<Self>, key: &KeyFunds, least: Nanos, most: Nanos) -> Result<Hold, Short> {
        let mut short = match self.try_reserve_up_to(key, least, most) {
            Ok(hold) => return Ok(hold),
            Err(short) => short,
        };
        let until = Instant::now() + WAIT;
        loop {
            let need = Need::of(least);
            if Instant::now() >= until || !self.supplied(self.owner(short, *key), need, until).await {
                return Err(short);
            }
            match self.try_reserve_up_to(key, least, most) {
                Ok(hold) => return Ok(hold),
                Err(why) => short = why,
            }
        }
    }

    /// As [`free`](Self::free), but the store was asked at least once since account and key last changed: so it is what
    /// they have, less what other processes hold.
    pub async fn draw(self: &Arc<Self>, key: &KeyFunds) -> Option<Nanos> {
        for owner in [Owner::Account(self.account()), Owner::Key(key.id())] {
            let room = {
                let mut purses = self.purses.lock();
                let unasked = purses
                    .of(owner)
                    .filter(|(purse, supply)| purse.ceiling() && !supply.asked());
                unasked.map(|(purse, _)| purse.room())
            };
            if let Some(room) = room {
                self.supplied(owner, Need::any(room), Instant::now() + DRAW).await;
            }
        }
        self.free(key)
    }

    /// Whether [`draw`](Self::draw) would ask nobody: what is free here is what account and key have, less what other
    /// processes hold.
    pub fn is_drawn(&self, key: &KeyFunds) -> bool {
        let mut purses = self.purses.lock();
        [Owner::Account(self.account()), Owner::Key(key.id())]
            .into_iter()
            .all(|owner| match purses.of(owner) {
                Some((purse, supply)) => !purse.ceiling() || supply.asked(),
                None => true,
            })
    }

    /// Gets more of an owner's money, alone or with others that need it. Whether it is worth another try.
    async fn supplied(self: &Arc<Self>, owner: Owner, need: Need, until: Instant) -> bool {
        let step = {
            let mut purses = self.purses.lock();
            match purses.of(owner) {
                Some((purse, supply)) if purse.room() < need.amount => supply.join(),
                _ => Step::Enough,
            }
        };
        let failpoints = self
            .ledger
            .upgrade()
            .map(|inner| inner.failpoints.clone())
            .unwrap_or_default();
        let mut news = match step {
            Step::Enough => return true,
            Step::Dry => return false,
            Step::Wait(news) => news,
            Step::Ask(sender, news) => {
                // Dropped, it lands: also where there is no ledger any more.
                let flight = Flight::new(Arc::clone(self), owner, sender);
                let Some(inner) = self.ledger.upgrade() else {
                    return false;
                };
                let runtime = inner.runtime.clone();
                runtime.spawn(async move { flight.run(&inner, need).await });
                news
            }
        };
        // Closed is as good as changed: the shortage has been dealt with.
        let waiting = async {
            failpoint::pass!(failpoints, SupplyWait);
            let _closed = news.changed().await;
        };
        timeout_at(until, waiting).await.is_ok()
    }
}
