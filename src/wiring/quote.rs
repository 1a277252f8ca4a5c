//! What a request comes to: before it goes out, and when it is over.

use tollgate_layers::meter::Usage;

use crate::money::{Line, Multiplier, Nanos, PriceError, Tariff, Used};

/// What is known of a request's cost before it goes out. Price and multiplier are fixed from here on.
#[derive(Clone, Debug)]
pub struct Quote {
    /// The factor of the caller's group.
    pub multiplier: Multiplier,
    /// How many answers are made; each may be as long as the cap.
    pub answers: u64,
    /// Tokens of the prompt, estimated, as plain input, and what is charged beside tokens.
    pub expected: Used,
}

/// A quote at the price of one model.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    quote: &'a Quote,
    tariff: &'a Tariff,
    line: Option<Line>,
}

/// What a million tokens of each answer cost: to divide by.
const MILLION: u64 = 1_000_000;

// === impl Quote ===

impl Quote {
    /// What it comes to at this price.
    pub fn at<'a>(&'a self, tariff: &'a Tariff) -> Terms<'a> {
        Terms {
            quote: self,
            tariff,
            line: tariff.line(&self.expected, self.multiplier),
        }
    }

    /// What was used costs.
    ///
    /// Where the backend counts in a unit that the model has no price for (tokens of an image that is priced each), what
    /// has a price is charged.
    pub fn charge(&self, tariff: &Tariff, usage: Usage) -> Result<Nanos, PriceError> {
        let mut used = Used::from(usage);
        let beside = &self.expected;
        used.requests = beside.requests;
        used.characters = beside.characters;
        used.images.clone_from(&beside.images);
        if used.milliseconds == 0 {
            used.milliseconds = beside.milliseconds;
        }
        match tariff.charge(&used, self.multiplier) {
            Err(PriceError::NotPriced { .. }) => tariff.charge_beside(beside, self.multiplier),
            charged => charged,
        }
    }
}

// === impl Terms ===

impl Terms<'_> {
    /// The most that the request can cost with so many tokens in each answer.
    pub fn cost(&self, completion: u64) -> Result<Nanos, PriceError> {
        let Quote {
            multiplier,
            answers,
            ref expected,
        } = *self.quote;
        let output = completion.saturating_mul(answers);
        if let Some(line) = &self.line {
            return line.at(output);
        }
        let asked = Used {
            output,
            ..expected.clone()
        };
        match self.tariff.worst(&asked, multiplier) {
            // Of what is priced each, the prompt costs nothing.
            Err(PriceError::NotPriced { .. }) => self.tariff.charge_beside(expected, multiplier),
            cost => cost,
        }
    }

    /// How many tokens each answer may have for this much money, the prompt being paid; [`u64::MAX`] where they cost
    /// nothing. Rounded down.
    pub fn tokens(&self, money: Nanos) -> Result<u64, PriceError> {
        let (none, million) = (self.cost(0)?, self.cost(MILLION)?);
        let rate = million.get().saturating_sub(none.get());
        if rate <= 0 {
            return Ok(u64::MAX);
        }
        let left = i128::from(money.get().saturating_sub(none.get()).max(0));
        let tokens = left * i128::from(MILLION) / i128::from(rate);
        Ok(u64::try_from(tokens).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use rust_decimal::Decimal;

    use super::*;
    use crate::money::{Price, Rates};

    /// Whatever has a price: input, output, the request, an image.
    fn prices() -> impl Iterator<Item = Price> {
        (0..16_u32).map(|set| {
            let price = |bit: u32, price| (set & (1 << bit) != 0).then(|| Decimal::new(price, 3));
            let mut rates = Rates {
                request: price(2, 40),
                image: price(3, 120).into_iter().map(|each| ("hd".to_owned(), each)).collect(),
                ..Rates::default()
            };
            rates.tokens.input = price(0, 2_500);
            rates.tokens.output = price(1, 10_003);
            Price::Rates(Box::new(rates))
        })
    }

    fn quote(prompt: u64, images: u64) -> Quote {
        Quote {
            multiplier: Decimal::new(8, 1).into(),
            answers: 3,
            expected: Used {
                input: prompt,
                requests: 3,
                images: BTreeMap::from([("hd".to_owned(), images)]),
                ..Used::default()
            },
        }
    }

    #[test]
    fn the_line_says_what_each_length_costs() {
        for price in prices().chain([Price::Free]) {
            let tariff = Tariff::new(&price);
            for (prompt, images) in [(0, 0), (0, 2), (1_000, 0), (1_000, 2)] {
                let quote = quote(prompt, images);
                let terms = quote.at(&tariff);
                let asked_each = Terms { line: None, ..terms };
                for completion in [0, 1, 333, 1_000_000, u64::MAX / 3, u64::MAX] {
                    let cost = terms.cost(completion);
                    assert_eq!(
                        cost,
                        asked_each.cost(completion),
                        "{price}: {completion} after {prompt}"
                    );
                }
                for money in [0, 1, 5_000_000, i64::MAX].map(Nanos::new) {
                    assert_eq!(
                        terms.tokens(money),
                        asked_each.tokens(money),
                        "{price}: {money:?} after {prompt}"
                    );
                }
            }
        }
    }

    #[test]
    fn of_what_is_priced_each_the_tokens_cost_nothing() {
        let only_images = prices().nth(8).unwrap();
        let (tariff, quote) = (Tariff::new(&only_images), quote(1_000, 2));
        let two = Ok(Nanos::new(2 * 96_000_000));
        assert_eq!(quote.at(&tariff).cost(0), two);
        assert_eq!(quote.at(&tariff).cost(500), two);
        assert_eq!(quote.at(&tariff).tokens(Nanos::ZERO), Ok(u64::MAX));
        let mut usage = Usage::default();
        usage.prompt = 1_000;
        usage.completion = 4_000;
        assert_eq!(quote.charge(&tariff, usage), two);
    }

    #[test]
    fn what_is_paid_for_is_as_long_as_the_money() {
        let tokens = prices().nth(3).unwrap();
        let (tariff, quote) = (Tariff::new(&tokens), quote(1_000, 0));
        let terms = quote.at(&tariff);
        // 0.8 × (1,000 × 2,500 + 3 × 100 × 10,003).
        assert_eq!(terms.cost(100), Ok(Nanos::new(4_400_720)));
        assert_eq!(terms.tokens(Nanos::new(4_400_720)), Ok(100));
        assert_eq!(terms.tokens(Nanos::new(4_400_719)), Ok(99));
    }
}
