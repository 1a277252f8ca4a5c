//! What a request asks: is there money, and may I have some of it.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::hold::Hold;
use super::inner::Inner;
use super::purses::Purses;
use crate::money::Nanos;
use crate::store::{self, Id, Owner};

/// What this process may spend of one account and of its keys.
#[derive(Debug)]
pub struct Funds {
    account: Id,
    /// Whom to ask for more.
    pub(super) ledger: Weak<Inner>,
    pub(super) purses: Mutex<Purses>,
}

/// A key's part of its account's [`Funds`]: as good as its id, and made only where its quota becomes known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFunds {
    id: Id,
}

/// Whose money does not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// The account's balance: `insufficient_credit`.
    Account,
    /// The key's quota: `key_exhausted`.
    Key,
}

// === impl Funds ===

impl Funds {
    pub(super) fn new(account: &store::Account, ledger: Weak<Inner>) -> Arc<Self> {
        Arc::new(Self {
            account: account.id,
            ledger,
            purses: Mutex::new(Purses::new(account)),
        })
    }

    /// Whose they are.
    pub const fn account(&self) -> Id {
        self.account
    }

    /// The part of one of the account's keys.
    pub fn key(&self, key: &store::Key) -> KeyFunds {
        debug_assert_eq!(key.account, self.account, "a key of another account");
        self.purses.lock().know_key(key);
        KeyFunds { id: key.id }
    }

    /// What is free here and now, to account and key; `None`: nothing bounds it. More may be in the store:
    /// [`draw`](Self::draw) asks it.
    pub fn free(&self, key: &KeyFunds) -> Option<Nanos> {
        self.purses.lock().free(key.id)
    }

    /// Reserves exactly this, from account and key in one step, of what is here. Below zero counts as nothing.
    ///
    /// # Errors
    ///
    /// Whose money does not suffice; then nothing was reserved.
    pub fn try_reserve(self: &Arc<Self>, key: &KeyFunds, amount: Nanos) -> Result<Hold, Short> {
        self.try_reserve_up_to(key, amount, amount)
    }

    /// Reserves what is here up to `most`, if it is `least` or more.
    ///
    /// # Errors
    ///
    /// Whose money does not suffice; then nothing was reserved.
    pub fn try_reserve_up_to(self: &Arc<Self>, key: &KeyFunds, least: Nanos, most: Nanos) -> Result<Hold, Short> {
        let (least, most) = (least.get().max(0), most.max(least).get().max(0));
        let seat = self.purses.lock().reserve(key.id, least, most)?;
        Ok(Hold::new(Arc::clone(self), *key, seat))
    }

    /// Whoever holds some of what this process was allotted here.
    pub(super) fn owners(&self) -> Vec<Owner> {
        let purses = self.purses.lock();
        let account = (!purses.account.held().is_zero()).then_some(Owner::Account(self.account));
        let keys = purses.keys().filter(|(_, key)| !key.purse.held().is_zero());
        account.into_iter().chain(keys.map(|(id, _)| Owner::Key(id))).collect()
    }

    pub(super) fn owner(&self, short: Short, key: KeyFunds) -> Owner {
        match short {
            Short::Account => Owner::Account(self.account),
            Short::Key => Owner::Key(key.id),
        }
    }
}

// === impl KeyFunds ===

impl KeyFunds {
    /// The key's id.
    pub const fn id(&self) -> Id {
        self.id
    }
}
