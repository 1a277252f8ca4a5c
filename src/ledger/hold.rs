//! A reservation: made before anything goes out, settled once.

use std::sync::Arc;

use parking_lot::Mutex;

use super::funds::{Funds, KeyFunds};
use super::purses::Seat;
use crate::money::Nanos;
use crate::store::Millis;

/// Money that a request has reserved. Clones share it; it is settled once, and released when the last of them drops
/// unsettled.
#[derive(Clone, Debug)]
pub struct Hold(Arc<Reservation>);

/// What became of what a request cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// So much was taken. It must be written with a row of this account and key.
    pub charge: Nanos,
    /// So much was not there.
    pub written_off: Nanos,
    /// The period of the key's quota that the charge counts in; it belongs into the row.
    pub period_start: Option<Millis>,
}

#[derive(Debug)]
struct Reservation {
    funds: Arc<Funds>,
    key: KeyFunds,
    /// Absent once it has ended. Locked before the purses, never after.
    seat: Mutex<Option<Seat>>,
}

// === impl Hold ===

impl Hold {
    pub(super) fn new(funds: Arc<Funds>, key: KeyFunds, seat: Seat) -> Self {
        Self(Arc::new(Reservation {
            funds,
            key,
            seat: Mutex::new(Some(seat)),
        }))
    }

    /// How much is reserved: nothing once it has ended.
    pub fn amount(&self) -> Nanos {
        self.0
            .seat
            .lock()
            .as_ref()
            .map_or(Nanos::ZERO, |seat| Nanos::new(seat.amount))
    }

    /// Reserves more of what is here, from account and key in one step. `false`: there is not so much, or the
    /// reservation has ended; then it stays as it was.
    pub fn grow(&self, more: Nanos) -> bool {
        let mut seat = self.0.seat.lock();
        let Some(seat) = seat.as_mut() else {
            return false;
        };
        let more = more.get().max(0);
        self.0.funds.purses.lock().grow(self.0.key.id(), seat, more)
    }

    /// Ends the reservation with what the request cost: taken from what is reserved, then from what is free here; what
    /// is not there is written off. `None`: it had ended before.
    pub fn settle(&self, cost: Nanos) -> Option<Settled> {
        let seat = self.0.seat.lock().take()?;
        Some(self.0.funds.purses.lock().settle(self.0.key.id(), seat, cost))
    }

    /// Ends the reservation: nothing was spent. Nothing happens when it had ended before.
    pub fn release(&self) {
        self.0.release();
    }
}

// === impl Reservation ===

impl Reservation {
    fn release(&self) {
        let seat = self.seat.lock().take();
        if let Some(seat) = seat {
            self.funds.purses.lock().release(self.key.id(), seat);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}
