//! An amount of money.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::fixed::{Digits, shown};

/// Nano-dollars of one US dollar.
const PER_USD: i64 = 1_000_000_000;
/// Digits after the point that a nano-dollar is.
const DECIMALS: u32 = 9;

/// An amount of money in nano-dollars; negative is a debt.
///
/// Serialized as an integer. Written and read by people in US dollars: `"5.00"`, `"-0.25"`, `"0.0000001"`.
///
/// ```
/// use tollgate::money::Nanos;
///
/// let paid: Nanos = "0.25".parse().unwrap();
/// assert_eq!(paid, Nanos::new(250_000_000));
/// assert_eq!(paid.to_string(), "0.25");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(i64);

/// Why an amount that somebody typed is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountError {
    /// Not a sign, digits, a point and digits.
    Malformed,
    /// Beyond 4,000,000,000 USD either way.
    TooLarge,
    /// Not a whole number of nano-dollars.
    TooPrecise,
}

// === impl Nanos ===

impl Nanos {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The least amount that can be held.
    pub const MIN: Self = Self(i64::MIN);
    /// The largest amount that can be held: some nine thousand million US dollars.
    pub const MAX: Self = Self(i64::MAX);
    /// The largest amount that is taken from a person, 4,000,000,000 USD: two of them still add up.
    pub const MAX_TYPED: Self = Self(4_000_000_000 * PER_USD);

    /// This many nano-dollars.
    pub const fn new(nanos: i64) -> Self {
        Self(nanos)
    }

    /// How many nano-dollars it is.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// `None` beyond what can be held.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// `None` beyond what can be held.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// `None` for [`Nanos::MIN`] alone.
    pub const fn checked_neg(self) -> Option<Self> {
        match self.0.checked_neg() {
            Some(negated) => Some(Self(negated)),
            None => None,
        }
    }

    /// The sum, or the nearest that can be held.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or the nearest that can be held.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Whether it is exactly nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether it is a debt.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// An amount as it may be typed: at most [`Nanos::MAX_TYPED`] either way.
    pub(super) fn typed(nanos: i128) -> Result<Self, AmountError> {
        let amount = i64::try_from(nanos).map_err(|_| AmountError::TooLarge)?;
        if amount.unsigned_abs() > Self::MAX_TYPED.0.unsigned_abs() {
            return Err(AmountError::TooLarge);
        }
        Ok(Self(amount))
    }
}

impl FromStr for Nanos {
    type Err = AmountError;

    /// US dollars, up to nine digits after the point (zeros after them do not count).
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let digits = Digits::read(text).ok_or(AmountError::Malformed)?;
        if digits.decimals() > DECIMALS as usize {
            return Err(AmountError::TooPrecise);
        }
        Self::typed(digits.scaled(DECIMALS).ok_or(AmountError::TooLarge)?)
    }
}

/// US dollars without a sign of currency: at least two digits after the point, more only where they say something.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&shown(self.0, DECIMALS, 2))
    }
}

/// Saturates: a sum of amounts that cannot be held is the nearest that can.
impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

// === impl AmountError ===

impl fmt::Display for AmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not an amount: write digits, such as 5.00",
            Self::TooLarge => "too large: at most 4000000000 USD",
            Self::TooPrecise => "too precise: an amount is a whole number of nano-dollars",
        })
    }
}

impl std::error::Error for AmountError {}
