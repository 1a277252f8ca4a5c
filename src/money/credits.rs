//! Credits: what people see and type instead of dollars.

use std::num::NonZeroU64;

use super::fixed::{Digits, divided};
use super::{AmountError, Nanos};

const NANOS_PER_USD: i128 = 1_000_000_000;

/// How money is shown to people: at 500,000 credits a US dollar, one credit is 2,000 nano-dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credits {
    /// Credits of one US dollar.
    pub per_usd: NonZeroU64,
}

// === impl Credits ===

impl Credits {
    /// The amount in whole credits, rounded half away from zero: to be shown, not to be counted with. What does not fit
    /// is the nearest that does.
    pub fn whole(self, amount: Nanos) -> i64 {
        let credits = divided(i128::from(amount.get()) * i128::from(self.per_usd.get()), NANOS_PER_USD);
        i64::try_from(credits).unwrap_or(if credits < 0 { i64::MIN } else { i64::MAX })
    }

    /// The amount of a whole number of credits.
    ///
    /// # Errors
    ///
    /// [`AmountError::TooPrecise`] when it is no whole number of nano-dollars (never at 500,000 a dollar), and
    /// [`AmountError::TooLarge`].
    pub fn nanos(self, credits: u64) -> Result<Nanos, AmountError> {
        self.exact(i128::from(credits), 1)
    }

    /// Reads credits as somebody typed them: whole, or with a point.
    ///
    /// # Errors
    ///
    /// [`AmountError`]; nothing is rounded.
    pub fn parse(self, text: &str) -> Result<Nanos, AmountError> {
        let digits = Digits::read(text).ok_or(AmountError::Malformed)?;
        // No whole number of nano-dollars is a number of credits with more decimals than this.
        let decimals = digits.decimals();
        if decimals > 9 {
            return Err(AmountError::TooPrecise);
        }
        let decimals = u32::try_from(decimals).map_err(|_| AmountError::TooPrecise)?;
        let credits = digits.scaled(decimals).ok_or(AmountError::TooLarge)?;
        self.exact(credits, 10_i128.pow(decimals))
    }

    /// The amount of `credits / parts` credits.
    fn exact(self, credits: i128, parts: i128) -> Result<Nanos, AmountError> {
        let number = credits.checked_mul(NANOS_PER_USD).ok_or(AmountError::TooLarge)?;
        let by = i128::from(self.per_usd.get()) * parts;
        // The size first: a number that is both is too large, whatever its digits.
        let amount = Nanos::typed(number / by)?;
        if number % by != 0 {
            return Err(AmountError::TooPrecise);
        }
        Ok(amount)
    }
}

/// 500,000 credits a US dollar.
impl Default for Credits {
    fn default() -> Self {
        Self {
            per_usd: NonZeroU64::MIN.saturating_add(499_999),
        }
    }
}
