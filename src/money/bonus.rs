//! What a top-up adds.

use rust_decimal::Decimal;

use super::Nanos;
use super::fixed::{divided, fixed};

/// Digits after the point of a percentage.
const PERCENT_DECIMALS: u32 = 6;

/// One step of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bonus {
    /// Amount topped up from which it holds.
    pub from: Nanos,
    /// Per cent of that amount that are added.
    pub percent: Decimal,
}

/// Bonuses by the amount topped up; empty, none is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bonuses(Vec<Bonus>);

// === impl Bonus ===

impl Bonus {
    /// What is added to this amount, rounded half away from zero. `None` when it does not fit, or when the percentage is
    /// negative or has more than six decimals; a configuration has no such one.
    pub fn of(&self, amount: Nanos) -> Option<Nanos> {
        let percent = fixed(self.percent, PERCENT_DECIMALS)?;
        let product = i128::from(amount.get()).checked_mul(percent)?;
        let added = divided(product, 100 * 10_i128.pow(PERCENT_DECIMALS));
        i64::try_from(added).ok().map(Nanos::new)
    }
}

// === impl Bonuses ===

impl Bonuses {
    /// The table of these steps, in whatever order they come.
    pub fn new(mut steps: Vec<Bonus>) -> Self {
        steps.sort_by_key(|step| step.from);
        Self(steps)
    }

    /// The steps, by ascending [`Bonus::from`].
    pub fn steps(&self) -> &[Bonus] {
        &self.0
    }

    /// The step that holds for a top-up of this amount: the highest that it reaches.
    pub fn bonus_for(&self, amount: Nanos) -> Option<&Bonus> {
        let reached = self.0.partition_point(|step| step.from <= amount);
        self.0[..reached].last()
    }
}
