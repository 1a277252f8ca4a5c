//! A price as requests are charged by it.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::fixed::{fixed, nanos};
use super::{MULTIPLIER_DECIMALS, Nanos, Price, PriceError, RATE_DECIMALS, Rates, Unit, Used};

/// A price of a million tokens, as an integer of [`RATE_DECIMALS`], times tokens is in this measure; the price of one
/// thing is brought to it. [`nanos`] makes an amount of it, times a multiplier.
const EACH: i128 = 1_000_000;
/// The price of a second for a millisecond in the same measure.
const EACH_THOUSANDTH: i128 = EACH / 1_000;

const INPUT: usize = Unit::Input as usize;
const OUTPUT: usize = Unit::Output as usize;

/// A [`Price`] as charges are computed with it: integers, and what falls back to what is found once, when it is made.
#[derive(Clone, Debug)]
pub struct Tariff(Option<Box<Table>>);

/// A group's multiplier as charges are computed with it: an integer of [`MULTIPLIER_DECIMALS`].
#[derive(Clone, Copy, Debug)]
pub struct Multiplier(Option<i128>);

/// What a request costs by the length of its answer: the tier is that of the prompt, so each token of it costs the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// What it costs beside the tokens that are to come.
    base: i128,
    /// What each of these costs.
    each: i128,
    multiplier: i128,
}

#[derive(Clone, Debug)]
struct Table {
    base: Level,
    /// By ascending [`Level::above`].
    tiers: Vec<Level>,
    request: Rate,
    character: Rate,
    millisecond: Rate,
    image: BTreeMap<String, Rate>,
}

/// The prices of tokens in a request with as much input.
#[derive(Clone, Debug)]
struct Level {
    above: u64,
    /// In the order of [`Unit::TOKENS`].
    tokens: [Rate; 7],
    /// Where the dearest of them is that a token of the prompt may come to.
    dearest: usize,
}

/// What one of a unit costs, or why it cannot be charged.
type Rate = Result<i128, PriceError>;

/// A charge as it is added up.
#[derive(Default)]
struct Sum {
    total: i128,
    /// Whether anything was used.
    counted: bool,
    /// Says the first unit that was used and has no price.
    unpriced: Option<PriceError>,
}

// === impl Tariff ===

impl Tariff {
    /// The tariff of this price. What is wrong with a price is an error of the charges that need it.
    pub fn new(price: &Price) -> Self {
        match price {
            Price::Free => Self(None),
            Price::Rates(rates) => Self(Some(Box::new(Table::new(rates)))),
        }
    }

    /// Whether this unit has a price of its own or one to fall back to. Of images: whether any image has one.
    ///
    /// Where an answer can be counted in several units (an image in images or in tokens), this says in which it can be
    /// charged.
    pub fn has(&self, unit: Unit) -> bool {
        let Some(table) = &self.0 else {
            return true;
        };
        match unit {
            Unit::Request => is_priced(table.request),
            Unit::Character => is_priced(table.character),
            Unit::Second => is_priced(table.millisecond),
            Unit::Image => !table.image.is_empty(),
            token => table.base.tokens.get(token as usize).copied().is_some_and(is_priced),
        }
    }

    /// What this use costs, times a group's multiplier: exact, and rounded once, half away from zero.
    ///
    /// The same for a charge and for a reservation, which is the charge of what is expected. Every unit used must have a
    /// price, and
    ///
    /// - a kind of token without one costs what the plainer kind costs (a cache write what input does);
    /// - a price for the request covers what has none beside it: a model that costs 0.04 a request answers any;
    /// - requests without one cost nothing where something else was counted, and are not priced where nothing was.
    ///
    /// # Errors
    ///
    /// [`PriceError`].
    pub fn charge(&self, used: &Used, multiplier: Multiplier) -> Result<Nanos, PriceError> {
        let Some(table) = &self.0 else {
            return Ok(Nanos::ZERO);
        };
        table.charge(table.level(used), &used.tokens(), used, multiplier)
    }

    /// What was used beside tokens costs, as if there were none of those.
    ///
    /// # Errors
    ///
    /// [`PriceError`].
    pub fn charge_beside(&self, used: &Used, multiplier: Multiplier) -> Result<Nanos, PriceError> {
        let Some(table) = &self.0 else {
            return Ok(Nanos::ZERO);
        };
        table.charge(&table.base, &[0; 7], used, multiplier)
    }

    /// The most that what is expected can come to: as [`charge`](Self::charge), each prompt token at the dearest of what
    /// the backend may make of it, plain input, a cache hit or a cache write.
    ///
    /// # Errors
    ///
    /// [`PriceError`].
    pub fn worst(&self, expected: &Used, multiplier: Multiplier) -> Result<Nanos, PriceError> {
        let Some(table) = &self.0 else {
            return Ok(Nanos::ZERO);
        };
        let (level, tokens) = table.worst(expected)?;
        table.charge(level, &tokens, expected, multiplier)
    }

    /// [`worst`](Self::worst) by how many tokens of the completion come beside what is expected. `None` where there is an
    /// error in it, or would be with one token: then it must be asked of each number.
    pub fn line(&self, expected: &Used, multiplier: Multiplier) -> Option<Line> {
        let Some(table) = &self.0 else {
            return Some(Line::default());
        };
        let (level, tokens) = table.worst(expected).ok()?;
        let each = match level.tokens[OUTPUT] {
            Err(PriceError::NotPriced { .. }) if is_priced(table.request) => 0,
            rate => rate.ok()?,
        };
        Some(Line {
            base: table.sum(level, &tokens, expected).ok()?,
            each,
            multiplier: multiplier.0?,
        })
    }
}

// === impl Multiplier ===

/// What is wrong with it is an error of every charge.
impl From<Decimal> for Multiplier {
    fn from(factor: Decimal) -> Self {
        Self(fixed(factor, MULTIPLIER_DECIMALS))
    }
}

// === impl Line ===

impl Line {
    /// What it costs with so many tokens of the completion.
    ///
    /// # Errors
    ///
    /// [`PriceError::Overflow`].
    pub fn at(&self, completion: u64) -> Result<Nanos, PriceError> {
        let tokens = times(self.each, completion.into());
        let sum = tokens.and_then(|tokens| self.base.checked_add(tokens));
        amount(sum.ok_or(PriceError::Overflow)?, self.multiplier)
    }
}

// === impl Table, Level ===

impl Table {
    fn new(rates: &Rates) -> Self {
        let each = |unit, price| rate(unit, price, EACH);
        let image = |(size, price): (&String, &Decimal)| (size.clone(), each(Unit::Image, Some(*price)));
        let mut tiers: Vec<_> = rates.tiers.iter().map(|t| Level::new(rates, t.above.get())).collect();
        tiers.sort_by_key(|level| level.above);
        Self {
            base: Level::new(rates, 0),
            tiers,
            request: each(Unit::Request, rates.request),
            character: each(Unit::Character, rates.character),
            millisecond: rate(Unit::Second, rates.second, EACH_THOUSANDTH),
            image: rates.image.iter().map(image).collect(),
        }
    }

    fn level(&self, used: &Used) -> &Level {
        let input = used.prompt();
        let reached = self.tiers.iter().rev().find(|level| input > level.above);
        reached.unwrap_or(&self.base)
    }

    /// What is expected as it is dearest: the prices of its tokens, and how many there are of each kind.
    fn worst(&self, expected: &Used) -> Result<(&Level, [u64; 7]), PriceError> {
        // Whatever kind they are of, there are as many of them, so the same tier holds.
        let level = self.level(expected);
        // Every kind that a plain token may turn out to be falls back to it.
        let unpriced = !is_priced(level.tokens[INPUT]) && !is_priced(self.request);
        if expected.input > 0 && unpriced {
            return Err(PriceError::NotPriced { unit: Unit::Input });
        }
        let mut tokens = expected.tokens();
        let plain = std::mem::take(&mut tokens[INPUT]);
        tokens[level.dearest] = tokens[level.dearest].saturating_add(plain);
        Ok((level, tokens))
    }

    fn charge(
        &self,
        level: &Level,
        tokens: &[u64; 7],
        beside: &Used,
        multiplier: Multiplier,
    ) -> Result<Nanos, PriceError> {
        let multiplier = multiplier.0.ok_or(PriceError::BadRate)?;
        amount(self.sum(level, tokens, beside)?, multiplier)
    }

    /// What tokens of these kinds cost, and what was used beside them.
    fn sum(&self, level: &Level, tokens: &[u64; 7], beside: &Used) -> Rate {
        let mut sum = Sum::default();
        for (count, rate) in tokens.iter().zip(&level.tokens) {
            sum.add(*count, *rate)?;
        }
        sum.add(beside.characters, self.character)?;
        sum.add(beside.milliseconds, self.millisecond)?;
        for (size, count) in &beside.images {
            let unpriced = Err(PriceError::NotPriced { unit: Unit::Image });
            sum.add(*count, self.image.get(size).copied().unwrap_or(unpriced))?;
        }
        if is_priced(self.request) {
            sum.unpriced = None;
            sum.add(beside.requests, self.request)?;
        } else if !sum.counted {
            sum.add(beside.requests, self.request)?;
        }
        sum.unpriced.map_or(Ok(sum.total), Err)
    }
}

impl Level {
    fn new(rates: &Rates, above: u64) -> Self {
        // No tier is above nothing, and none above the largest number ever holds.
        let price = |unit: Unit| rates.token(unit, above.saturating_add(1));
        let kinds = [Unit::Input, Unit::CachedInput, Unit::CacheWrite, Unit::CacheWrite1h];
        // `max_by` takes the last of equals.
        let dearest = kinds.into_iter().rev().max_by_key(|unit| price(*unit));
        Self {
            above,
            tokens: Unit::TOKENS.map(|unit| rate(unit, price(unit), 1)),
            dearest: dearest.unwrap_or(Unit::Input) as usize,
        }
    }
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, count: u64, rate: Rate) -> Result<(), PriceError> {
        if count == 0 {
            return Ok(());
        }
        self.counted = true;
        let part = match rate {
            Ok(rate) => times(rate, count.into()),
            Err(error @ PriceError::NotPriced { .. }) => {
                self.unpriced = self.unpriced.or(Some(error));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.total = part
            .and_then(|part| self.total.checked_add(part))
            .ok_or(PriceError::Overflow)?;
        Ok(())
    }
}

fn rate(unit: Unit, price: Option<Decimal>, measure: i128) -> Rate {
    let price = price.ok_or(PriceError::NotPriced { unit })?;
    let price = fixed(price, RATE_DECIMALS).ok_or(PriceError::BadRate)?;
    price.checked_mul(measure).ok_or(PriceError::Overflow)
}

fn is_priced(rate: Rate) -> bool {
    !matches!(rate, Err(PriceError::NotPriced { .. }))
}

fn amount(sum: i128, multiplier: i128) -> Result<Nanos, PriceError> {
    let parts = times(sum, multiplier).and_then(|parts| u128::try_from(parts).ok());
    let nanos = nanos(parts.ok_or(PriceError::Overflow)?);
    i64::try_from(nanos).map(Nanos::new).map_err(|_| PriceError::Overflow)
}

/// The product of two that are not negative. Nearly all are of half the width, where it takes one instruction.
fn times(a: i128, b: i128) -> Option<i128> {
    match (u64::try_from(a), u64::try_from(b)) {
        (Ok(a), Ok(b)) => (u128::from(a) * u128::from(b)).try_into().ok(),
        _ => a.checked_mul(b),
    }
}
