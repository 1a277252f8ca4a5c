//! Giving back what is free: to others that ask, before a balance is changed, at the end.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::funds::Funds;
use super::inner::Inner;
use crate::money::Nanos;
use crate::store::{Id, Millis, Owner};

/// How long other processes have to give back what is recalled, and how often it is looked.
const RECALL: Duration = Duration::from_millis(1500);
const LOOK: Duration = Duration::from_millis(50);

/// How much to give back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Give {
    /// What another process asks for; half of what is free where it is in use here.
    Asked(Nanos),
    /// All that is free.
    All,
}

impl Inner {
    /// Gives back what is free of an owner's money. How much.
    pub(super) async fn give_back(&self, funds: &Funds, owner: Owner, give: Give) -> Nanos {
        let amount = {
            let mut purses = funds.purses.lock();
            let Some((purse, supply)) = purses.of(owner) else {
                return Nanos::ZERO;
            };
            let amount = match give {
                Give::Asked(most) => purse.let_go(most.get(), true),
                Give::All => purse.let_go(i64::MAX, false),
            };
            if amount == 0 {
                return Nanos::ZERO;
            }
            supply.giving(amount);
            Nanos::new(amount)
        };
        let done = self.bounded(self.store.give_back(self.process(), owner, amount)).await;
        if let Some((_, supply)) = funds.purses.lock().of(owner) {
            supply.gave(amount.get());
        }
        match done {
            Ok(()) => amount,
            Err(error) => {
                // It is not counted as ours again: the store may have got it. The next shortage will tell.
                tracing::warn!(%owner, %amount, %error, "could not give back");
                Nanos::ZERO
            }
        }
    }

    /// Gives back all that is free of everything.
    pub(super) async fn give_all_back(&self) {
        for funds in self.all() {
            for owner in funds.owners() {
                self.give_back(&funds, owner, Give::All).await;
            }
        }
    }

    /// Gives back what is free of an owner's money and asks others to. Whether no process holds any then.
    pub(super) async fn recall(&self, account: Id, owner: Owner) -> bool {
        if let Some(funds) = self.known(account) {
            if let Some((_, supply)) = funds.purses.lock().of(owner) {
                supply.be_frugal();
            }
            self.give_back(&funds, owner, Give::All).await;
        }
        let until = Instant::now() + RECALL;
        let mut asked = false;
        loop {
            let look = self.store.take(self.process(), owner, Nanos::ZERO, Millis::now());
            let others = match self.bounded(look).await {
                Ok(taken) => taken.others_hold,
                Err(_) => false,
            };
            let late = Instant::now() >= until;
            if asked && (!others || late) {
                let withdraw = self.store.ask(self.process(), owner, Nanos::ZERO);
                let _gone = self.bounded(withdraw).await;
            }
            if !others || late {
                return !others;
            }
            if !asked {
                let ask = self.store.ask(self.process(), owner, Nanos::MAX_TYPED);
                asked = self.bounded(ask).await.is_ok();
            }
            sleep(LOOK).await;
        }
    }
}
