//! What a request comes to: before it goes out, and when it is over.

use rust_decimal::Decimal;
use tollgate_layers::meter::Usage;

use crate::money::{Nanos, Price, PriceError, Used};

/// What is known of a request's cost before it goes out. Price and multiplier are fixed from here on.
#[derive(Clone, Debug)]
pub struct Quote {
    /// The factor of the caller's group.
    pub multiplier: Decimal,
    /// Tokens of the prompt, estimated.
    pub prompt: u64,
    /// How many answers are made; each may be as long as the cap.
    pub answers: u64,
    /// What is charged beside tokens.
    pub beside: Used,
}

/// What a million tokens of each answer cost: to divide by.
const MILLION: u64 = 1_000_000;

impl Quote {
    /// The most that the request can cost with so many tokens in each answer.
    pub fn cost(&self, price: &Price, completion: u64) -> Result<Nanos, PriceError> {
        let expected = Used {
            input: self.prompt,
            output: completion.saturating_mul(self.answers),
            ..self.beside.clone()
        };
        match price.worst(&expected, self.multiplier) {
            // Of what is priced each, the prompt costs nothing.
            Err(PriceError::NotPriced { .. }) => price.charge(&self.beside, self.multiplier),
            cost => cost,
        }
    }

    /// How many tokens each answer may have for this much money, the prompt being paid; [`u64::MAX`] where they cost
    /// nothing. Rounded down.
    pub fn tokens(&self, price: &Price, money: Nanos) -> Result<u64, PriceError> {
        let (none, million) = (self.cost(price, 0)?, self.cost(price, MILLION)?);
        let rate = million.get().saturating_sub(none.get());
        if rate <= 0 {
            return Ok(u64::MAX);
        }
        let left = i128::from(money.get().saturating_sub(none.get()).max(0));
        let tokens = left * i128::from(MILLION) / i128::from(rate);
        Ok(u64::try_from(tokens).unwrap_or(u64::MAX))
    }

    /// What was used costs.
    ///
    /// Where the backend counts in a unit that the model has no price for (tokens of an image that is priced each), what
    /// has a price is charged.
    pub fn charge(&self, price: &Price, usage: Usage) -> Result<Nanos, PriceError> {
        let mut used = Used::from(usage);
        let beside = &self.beside;
        used.requests = beside.requests;
        used.characters = beside.characters;
        used.images.clone_from(&beside.images);
        if used.milliseconds == 0 {
            used.milliseconds = beside.milliseconds;
        }
        match price.charge(&used, self.multiplier) {
            Err(PriceError::NotPriced { .. }) => price.charge(beside, self.multiplier),
            charged => charged,
        }
    }
}
