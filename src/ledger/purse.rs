//! What a process may spend of one owner's money, and what of it is spoken for. Arithmetic only.

use crate::money::Nanos;

/// What this process may spend of one owner's money.
///
/// `held` mirrors the store's allotment: what the store will show once every charge made here has reached it. Reservations
/// of the running epoch are covered by it, `reserved ≤ held`. An epoch ends when what was held is gone at once (the
/// store has taken it back, or a ceiling came or went); what was reserved before is `loose` then: no allotment stands
/// behind it, and the store decides what of its charge can be taken.
#[derive(Debug)]
pub(super) struct Purse {
    ceiling: bool,
    /// Whether something was reserved since another process last asked.
    touched: bool,
    epoch: u32,
    held: i64,
    reserved: i64,
    loose: i64,
    /// Charges that the store may not have yet.
    unfilled: i64,
}

impl Purse {
    pub(super) const fn new(ceiling: bool) -> Self {
        Self {
            ceiling,
            touched: false,
            epoch: 0,
            held: 0,
            reserved: 0,
            loose: 0,
            unfilled: 0,
        }
    }

    pub(super) const fn ceiling(&self) -> bool {
        self.ceiling
    }

    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) const fn held(&self) -> Nanos {
        Nanos::new(self.held)
    }

    pub(super) const fn reserved(&self) -> Nanos {
        Nanos::new(self.reserved.saturating_add(self.loose))
    }

    /// What could be reserved now; without a ceiling all that a reservation can be.
    pub(super) fn room(&self) -> i64 {
        if self.ceiling {
            (self.held - self.reserved).max(0)
        } else {
            Nanos::MAX_TYPED.get().saturating_sub(self.loose).max(0)
        }
    }

    pub(super) fn free(&self) -> Option<Nanos> {
        self.ceiling.then(|| Nanos::new(self.room()))
    }

    /// Reserves; there must be [room](Self::room). The epoch goes into the seat.
    pub(super) fn reserve(&mut self, amount: i64) -> u32 {
        debug_assert!((0..=self.room()).contains(&amount), "{amount} in {self:?}");
        self.touched = true;
        if self.ceiling {
            self.reserved += amount;
        } else {
            self.loose += amount;
        }
        self.epoch
    }

    /// What a reservation could grow to.
    pub(super) fn room_for(&self, own: i64, epoch: u32) -> i64 {
        let counted = self.ceiling && epoch == self.epoch;
        // A loose one counts anew when it grows: all of it must find room.
        if counted || !self.ceiling {
            own.saturating_add(self.room())
        } else {
            self.room()
        }
    }

    /// Ends a reservation, spending nothing.
    pub(super) fn release(&mut self, own: i64, epoch: u32) {
        if self.ceiling && epoch == self.epoch {
            self.reserved -= own;
        } else {
            self.loose -= own;
        }
    }

    /// What of a cost this purse can bear, by who has reserved `own`.
    pub(super) fn bearable(&self, own: i64, epoch: u32) -> i64 {
        if self.ceiling && epoch == self.epoch {
            own.saturating_add(self.held - self.reserved).max(0)
        } else {
            i64::MAX
        }
    }

    /// A charge, as the store will book it: from the allotment while there is some.
    pub(super) fn charge(&mut self, charge: i64) {
        if self.ceiling {
            self.held -= charge.min(self.held);
        }
        self.unfilled = self.unfilled.saturating_add(charge);
    }

    /// A charge has reached the store.
    pub(super) fn filled(&mut self, charge: i64) {
        self.unfilled = (self.unfilled - charge).max(0);
    }

    /// The store has allotted more.
    pub(super) fn add(&mut self, amount: i64) {
        if self.ceiling {
            self.held = self.held.saturating_add(amount);
        }
    }

    /// The allotment that the store should show, charges on their way included.
    pub(super) const fn expected(&self) -> i64 {
        self.held.saturating_add(self.unfilled)
    }

    /// Lets go of what is free, at most so much, to be given back to the store; of what is asked for by another while
    /// it is in use here as well, half.
    pub(super) fn let_go(&mut self, most: i64, share: bool) -> i64 {
        if !self.ceiling {
            return 0;
        }
        let free = (self.held - self.reserved).max(0);
        let in_use = std::mem::take(&mut self.touched) || self.reserved > 0;
        let amount = most.clamp(0, if share && in_use { free - free / 2 } else { free });
        self.held -= amount;
        amount
    }

    /// The allotment is gone, or there is a ceiling now where there was none, or none any more.
    pub(super) fn begin_epoch(&mut self, ceiling: bool) {
        self.ceiling = ceiling;
        self.epoch = self.epoch.wrapping_add(1);
        self.held = 0;
        self.loose = self.loose.saturating_add(std::mem::take(&mut self.reserved));
    }
}
