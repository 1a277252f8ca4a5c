//! Money: amounts, prices, what a request is charged. Numbers only: nothing here knows an account.
//!
//! An amount is an integer of **nano-dollars** ([`Nanos`]); a price, a factor and a percentage are decimals. A charge is
//! computed exactly and rounded once, half away from zero, at its end: by the price's [`Tariff`], whose numbers are
//! integers. Credits are a view of an amount ([`Credits`]): shown, typed, and never stored.

mod bonus;
mod charge;
mod credits;
mod fixed;
mod nanos;
mod price;
mod tariff;
#[cfg(test)]
mod tests;

pub use bonus::{Bonus, Bonuses};
pub use charge::{MULTIPLIER_DECIMALS, PriceError, RATE_DECIMALS, Unit, Used};
pub use credits::Credits;
pub use nanos::{AmountError, Nanos};
pub use price::{Price, Rates, Tier, TokenRates};
pub use tariff::{Line, Multiplier, Tariff};
