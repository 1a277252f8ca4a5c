//! What may still be charged to one owner, while a batch of rows is settled.

use super::Id;

/// Part of an allotment: how much a process holds, and of which period (0: there is none).
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) process: Id,
    pub(super) amount: i64,
    pub(super) period_start: i64,
}

/// What a process holds of an owner, what is free beside it, and what was charged so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purse {
    held: i64,
    /// What no process holds; `None`: there is no ceiling.
    free: Option<i64>,
    charged: i64,
}

impl Purse {
    /// The purse of `process`. `ceiling`: all that may be spent in this period.
    pub(super) fn new(process: Id, ceiling: Option<i64>, period_start: i64, shares: &[Share]) -> Self {
        let now = shares.iter().filter(|share| share.period_start == period_start);
        let (mut held, mut all) = (0_i64, 0_i64);
        for share in now {
            all = all.saturating_add(share.amount);
            held += if share.process == process { share.amount } else { 0 };
        }
        Self {
            held,
            free: ceiling.map(|ceiling| ceiling.saturating_sub(all).max(0)),
            charged: 0,
        }
    }

    /// The most that can be charged now.
    pub(super) fn room(&self) -> i64 {
        match self.free {
            Some(free) => self.held.saturating_add(free) - self.charged,
            None => i64::MAX,
        }
    }

    /// Charges what there is room for.
    pub(super) fn charge(&mut self, amount: i64) {
        self.charged = self.charged.saturating_add(amount);
    }

    /// All that was charged.
    pub(super) const fn charged(&self) -> i64 {
        self.charged
    }

    /// What the process holds after it, when that is another amount than before.
    pub(super) fn left(&self) -> Option<i64> {
        let left = self.held - self.held.min(self.charged);
        (left != self.held).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_charged_before_what_is_free() {
        let share = |process, amount, period_start| Share {
            process: Id::new(process),
            amount,
            period_start,
        };
        let shares = [share(1, 30, 7), share(2, 50, 7), share(3, 1000, 6)];
        let mut purse = Purse::new(Id::new(1), Some(100), 7, &shares);
        assert_eq!(purse.room(), 50);
        purse.charge(10);
        assert_eq!((purse.room(), purse.left()), (40, Some(20)));
        purse.charge(40);
        assert_eq!((purse.room(), purse.left(), purse.charged()), (0, Some(0), 50));
        assert_eq!(Purse::new(Id::new(9), Some(100), 7, &shares).left(), None);
        assert_eq!(Purse::new(Id::new(9), Some(60), 7, &shares).room(), 0);
        assert_eq!(Purse::new(Id::new(9), None, 0, &[]).room(), i64::MAX);
    }
}
