//! The purses of one account: its own, and those of its keys that have or had a quota. What one mutex guards.

use std::collections::HashMap;

use super::purse::Purse;
use super::supply::Supply;
use super::{Settled, Short};
use crate::money::Nanos;
use crate::store::{self, Billing, Id, Millis, Owner, Period};

/// What one account and its keys may spend here.
#[derive(Debug)]
pub(super) struct Purses {
    revision: i64,
    pub(super) account: Purse,
    pub(super) supply: Supply,
    /// Keys that have or had a quota. Most accounts have none, and a million keys without one need nothing here.
    #[expect(clippy::box_collection, reason = "most have none: a word instead of six")]
    keys: Option<Box<HashMap<Id, KeyPurse>>>,
}

/// What one key may spend of its quota.
#[derive(Debug)]
pub(super) struct KeyPurse {
    revision: Option<i64>,
    pub(super) purse: Purse,
    pub(super) supply: Supply,
    period: Option<Period>,
    /// When the period began that the purse belongs to; absent until something was taken.
    start: Option<Millis>,
    /// When it ends.
    end: Millis,
    /// The period before, while something of it is reserved: what was reserved in a period is charged in it.
    past: Option<Box<(Option<Millis>, Purse)>>,
}

/// Where a reservation sits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) amount: i64,
    epoch: u32,
    key: Option<KeySeat>,
}

#[derive(Clone, Copy, Debug)]
struct KeySeat {
    epoch: u32,
    start: Option<Millis>,
}

// === impl Purses ===

impl Purses {
    pub(super) fn new(account: &store::Account) -> Self {
        Self {
            revision: account.revision,
            account: Purse::new(has_ceiling(account.billing)),
            supply: Supply::default(),
            keys: None,
        }
    }

    /// Fresh facts of the account; older ones than are known change nothing.
    pub(super) fn know_account(&mut self, account: &store::Account) {
        if account.revision <= self.revision {
            return;
        }
        self.revision = account.revision;
        let ceiling = has_ceiling(account.billing);
        if ceiling != self.account.ceiling() {
            self.account.begin_epoch(ceiling);
        }
        self.supply.refresh();
    }

    /// Fresh facts of a key; older ones than are known change nothing.
    pub(super) fn know_key(&mut self, key: &store::Key) {
        let quota = key.terms.quota.is_some();
        if !quota && self.key(key.id).is_none() {
            return;
        }
        let keys = self.keys.get_or_insert_default();
        let known = keys.entry(key.id).or_insert_with(|| KeyPurse::new(quota));
        if known.revision.is_some_and(|revision| key.revision <= revision) {
            return;
        }
        known.revision = Some(key.revision);
        if quota != known.purse.ceiling() {
            known.purse.begin_epoch(quota);
        }
        if key.terms.period != known.period {
            known.period = key.terms.period;
            known.end = known.end_of(known.start);
        }
        known.supply.refresh();
    }

    pub(super) fn key(&self, key: Id) -> Option<&KeyPurse> {
        self.keys.as_ref()?.get(&key)
    }

    pub(super) fn key_mut(&mut self, key: Id) -> Option<&mut KeyPurse> {
        self.keys.as_mut()?.get_mut(&key)
    }

    /// The purse of an owner, and how it is supplied.
    pub(super) fn of(&mut self, owner: Owner) -> Option<(&mut Purse, &mut Supply)> {
        match owner {
            Owner::Account(_) => Some((&mut self.account, &mut self.supply)),
            Owner::Key(id) => self.key_mut(id).map(|key| (&mut key.purse, &mut key.supply)),
        }
    }

    /// The keys that have a purse.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Id, &KeyPurse)> {
        self.keys
            .iter()
            .flat_map(|keys| keys.iter().map(|(id, key)| (*id, key)))
    }

    /// What is free to a key; `None` where nothing bounds it.
    pub(super) fn free(&mut self, key: Id) -> Option<Nanos> {
        let account = self.account.free();
        let key = self.key_mut(key).and_then(|key| key.current().free());
        match (account, key) {
            (Some(account), Some(key)) => Some(account.min(key)),
            (one, other) => one.or(other),
        }
    }

    /// Reserves what is free up to `most`, `least` or more, from account and key or from neither.
    pub(super) fn reserve(&mut self, key: Id, least: i64, most: i64) -> Result<Seat, Short> {
        let room = self.account.room();
        if room < least {
            return Err(Short::Account);
        }
        let mut amount = most.min(room);
        let seat = match self.key_mut(key) {
            None => None,
            Some(key) => {
                let room = key.current().room();
                if room < least {
                    return Err(Short::Key);
                }
                amount = amount.min(room);
                let epoch = key.purse.reserve(amount);
                Some(KeySeat {
                    epoch,
                    start: key.start.filter(|_| key.purse.ceiling()),
                })
            }
        };
        let epoch = self.account.reserve(amount);
        Ok(Seat {
            amount,
            epoch,
            key: seat,
        })
    }

    /// Makes a reservation larger, in account and key or in neither.
    pub(super) fn grow(&mut self, key: Id, seat: &mut Seat, more: i64) -> bool {
        let Some(amount) = seat.amount.checked_add(more) else {
            return false;
        };
        if self.account.room_for(seat.amount, seat.epoch) < amount {
            return false;
        }
        let (own, was) = (seat.amount, seat.key);
        if let Some(key) = self.key_mut(key) {
            // Without a seat the quota is newer than the reservation, which counts in it from now on.
            let key_own = if was.is_some() { own } else { 0 };
            let start = was.map_or(key.start, |seat| seat.start);
            let Some(purse) = key.at(start) else {
                return false;
            };
            let epoch = was.map_or(purse.epoch(), |seat| seat.epoch);
            if purse.room_for(key_own, epoch) < amount {
                return false;
            }
            purse.release(key_own, epoch);
            let epoch = purse.reserve(amount);
            seat.key = Some(KeySeat { epoch, start });
        }
        self.account.release(own, seat.epoch);
        seat.epoch = self.account.reserve(amount);
        seat.amount = amount;
        true
    }

    /// Ends a reservation with what the request cost.
    pub(super) fn settle(&mut self, key: Id, seat: Seat, cost: Nanos) -> Settled {
        let mut charge = cost.get().max(0).min(self.account.bearable(seat.amount, seat.epoch));
        let mut period_start = None;
        if let Some(key) = self.key_mut(key) {
            let start = seat.key.map_or(key.start, |seat| seat.start);
            period_start = start;
            match (key.at(start), seat.key) {
                (Some(purse), Some(at)) => {
                    charge = charge.min(purse.bearable(seat.amount, at.epoch));
                    purse.release(seat.amount, at.epoch);
                    purse.charge(charge);
                }
                (Some(purse), None) => purse.charge(charge),
                // Two periods ago: what was reserved then is all that is known to have been there.
                (None, _) => charge = charge.min(seat.amount),
            }
            key.forget_past();
        }
        self.account.release(seat.amount, seat.epoch);
        self.account.charge(charge);
        Settled {
            charge: Nanos::new(charge),
            written_off: Nanos::new(cost.get().max(0) - charge),
            period_start,
        }
    }

    /// Ends a reservation: nothing was spent.
    pub(super) fn release(&mut self, key: Id, seat: Seat) {
        if let (Some(key), Some(at)) = (self.key_mut(key), seat.key) {
            if let Some(purse) = key.at(at.start) {
                purse.release(seat.amount, at.epoch);
            }
            key.forget_past();
        }
        self.account.release(seat.amount, seat.epoch);
    }

    /// A charge has reached the store.
    pub(super) fn filled(&mut self, key: Id, charge: Nanos, start: Option<Millis>) {
        self.account.filled(charge.get());
        self.supply.moved();
        if let Some(key) = self.key_mut(key) {
            if let Some(purse) = key.at(start) {
                purse.filled(charge.get());
            }
            key.supply.moved();
        }
    }

    /// All that was allotted is gone.
    pub(super) fn detach(&mut self) {
        let ceiling = self.account.ceiling();
        self.account.begin_epoch(ceiling);
        for key in self.keys.iter_mut().flat_map(|keys| keys.values_mut()) {
            let ceiling = key.purse.ceiling();
            key.purse.begin_epoch(ceiling);
        }
    }
}

fn has_ceiling(billing: Billing) -> bool {
    !matches!(billing, Billing::Postpaid { credit_limit: None })
}

// === impl KeyPurse ===

impl KeyPurse {
    fn new(ceiling: bool) -> Self {
        Self {
            revision: None,
            purse: Purse::new(ceiling),
            supply: Supply::default(),
            period: None,
            start: None,
            end: Millis(i64::MAX),
            past: None,
        }
    }

    /// What requests in flight have reserved.
    pub(super) fn reserved(&self) -> Nanos {
        let past = self.past.as_ref().map_or(Nanos::ZERO, |past| past.1.reserved());
        self.purse.reserved().saturating_add(past)
    }

    /// The purse of the running period.
    pub(super) fn current(&mut self) -> &mut Purse {
        if self.period.is_some() && self.purse.ceiling() && self.end <= Millis::now() {
            self.begin(None);
        }
        &mut self.purse
    }

    /// The store says when the period began that it gives from.
    pub(super) fn began(&mut self, start: Option<Millis>) {
        if self.start.is_none() {
            self.start = start;
            self.end = self.end_of(start);
        } else if self.start != start {
            self.begin(start);
        }
    }

    /// A new period: nothing is held of it yet.
    fn begin(&mut self, start: Option<Millis>) {
        let past = std::mem::replace(&mut self.purse, Purse::new(true));
        self.past = Some(Box::new((self.start, past)));
        self.start = start;
        self.end = self.end_of(start);
        self.supply.refresh();
        self.forget_past();
    }

    /// For tests, which cannot wait for midnight: the purse is of this period.
    #[cfg(test)]
    pub(super) fn date(&mut self, start: Millis, end: Millis) {
        (self.start, self.end) = (Some(start), end);
    }

    fn end_of(&self, start: Option<Millis>) -> Millis {
        match (self.period, start) {
            (Some(period), Some(start)) => end(period, start),
            _ => Millis(i64::MAX),
        }
    }

    /// The purse of the period that began then.
    fn at(&mut self, start: Option<Millis>) -> Option<&mut Purse> {
        match &mut self.past {
            Some(past) if past.0 == start => Some(&mut past.1),
            _ if start.is_none() || start == self.start => Some(&mut self.purse),
            _ => None,
        }
    }

    fn forget_past(&mut self) {
        self.past.take_if(|past| past.1.reserved().is_zero());
    }
}

/// When the period ends that began at `start`: the start of the next one.
fn end(period: Period, start: Millis) -> Millis {
    let days = match period {
        Period::Day => 1,
        Period::Week => 7,
        Period::Month => 32,
    };
    period.start(Millis(start.0.saturating_add(days * store::Day::MILLIS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_ends_where_the_next_one_begins() {
        let at = |text: &str| Millis::from(humantime::parse_rfc3339(text).expect("a time"));
        for (period, start, next) in [
            (Period::Day, "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
            (Period::Week, "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            (Period::Month, "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            (Period::Month, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            (Period::Month, "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(end(period, at(start)), at(next), "{period:?} from {start}");
        }
    }
}
