//! What a request is charged for what it used.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;

use super::fixed::{divided, fixed};
use super::{Nanos, Price, Rates};

/// Digits after the point that a price may have.
pub const RATE_DECIMALS: u32 = 12;
/// Digits after the point that a group's multiplier may have.
pub const MULTIPLIER_DECIMALS: u32 = 6;

/// A price of a million tokens, as an integer of [`RATE_DECIMALS`], times tokens is this many to a nano-dollar; other
/// units are brought to it.
const PER_NANO: i128 = 1_000_000_000;
/// The price of one thing in the measure of [`PER_NANO`].
const EACH: i128 = 1_000_000;
/// The price of a second for a millisecond in the measure of [`PER_NANO`].
const EACH_THOUSANDTH: i128 = EACH / 1_000;

/// What a request used, by what is charged for it. No count includes another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Prompt tokens that are of no other kind: read from no cache, written to none, no audio.
    pub input: u64,
    /// Prompt tokens read from a cache.
    pub cached_input: u64,
    /// Prompt tokens written to a cache, but not for an hour.
    pub cache_write: u64,
    /// Prompt tokens written to a cache for an hour.
    pub cache_write_1h: u64,
    /// Completion tokens that are no audio, reasoning included.
    pub output: u64,
    /// Audio tokens of the prompt.
    pub audio_input: u64,
    /// Audio tokens of the completion.
    pub audio_output: u64,
    /// Requests: one, or as many answers as were asked for.
    pub requests: u64,
    /// Characters that are spoken.
    pub characters: u64,
    /// Length of audio in milliseconds.
    pub milliseconds: u64,
    /// Images by `quality:size`, as the price names them.
    pub images: BTreeMap<String, u64>,
}

/// What is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "as the prices are called")]
pub enum Unit {
    Input,
    CachedInput,
    Output,
    CacheWrite,
    CacheWrite1h,
    AudioInput,
    AudioOutput,
    Request,
    Character,
    Second,
    Image,
}

/// Why there is no charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceError {
    /// What was used has no price.
    NotPriced {
        /// The unit without one.
        unit: Unit,
    },
    /// More than an amount can hold.
    Overflow,
    /// A price or multiplier is negative, or has more than [`RATE_DECIMALS`] or [`MULTIPLIER_DECIMALS`]. A configuration
    /// has no such one.
    BadRate,
}

// === impl Price ===

impl Price {
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
    pub fn charge(&self, used: &Used, multiplier: Decimal) -> Result<Nanos, PriceError> {
        let Self::Rates(rates) = self else {
            return Ok(Nanos::ZERO);
        };
        let multiplier = fixed(multiplier, MULTIPLIER_DECIMALS).ok_or(PriceError::BadRate)?;
        let sum = rates.sum(used)?.checked_mul(multiplier).ok_or(PriceError::Overflow)?;
        let nanos = divided(sum, PER_NANO * 10_i128.pow(MULTIPLIER_DECIMALS));
        i64::try_from(nanos).map(Nanos::new).map_err(|_| PriceError::Overflow)
    }

    /// The most that what is expected can come to: as [`charge`](Self::charge), each prompt token at the dearest of what
    /// the backend may make of it, plain input, a cache hit or a cache write.
    ///
    /// # Errors
    ///
    /// [`PriceError`].
    pub fn worst(&self, expected: &Used, multiplier: Decimal) -> Result<Nanos, PriceError> {
        let Self::Rates(rates) = self else {
            return Ok(Nanos::ZERO);
        };
        // Whatever kind they are of, there are as many of them, so the same tier holds.
        let input = expected.prompt();
        let rate = |unit: &Unit| rates.token(*unit, input);
        let kinds = [Unit::Input, Unit::CachedInput, Unit::CacheWrite, Unit::CacheWrite1h];
        if expected.input > 0
            && rates.request.is_none()
            && let Some(unit) = kinds.into_iter().find(|unit| rate(unit).is_none())
        {
            return Err(PriceError::NotPriced { unit });
        }
        // `max_by` takes the last of equals.
        let dearest = kinds.into_iter().rev().max_by_key(rate).unwrap_or(Unit::Input);
        if dearest == Unit::Input {
            return self.charge(expected, multiplier);
        }
        let mut used = expected.clone();
        let tokens = std::mem::take(&mut used.input);
        let kind = match dearest {
            Unit::CachedInput => &mut used.cached_input,
            Unit::CacheWrite => &mut used.cache_write,
            _ => &mut used.cache_write_1h,
        };
        *kind = kind.saturating_add(tokens);
        self.charge(&used, multiplier)
    }
}

// === impl Rates ===

impl Rates {
    /// What it all costs, in parts of [`PER_NANO`].
    fn sum(&self, used: &Used) -> Result<i128, PriceError> {
        let mut sum = Sum::default();
        let input = used.prompt();
        for (unit, count) in used.tokens() {
            sum.add(unit, count, self.token(unit, input), 1)?;
        }
        sum.add(Unit::Character, used.characters, self.character, EACH)?;
        sum.add(Unit::Second, used.milliseconds, self.second, EACH_THOUSANDTH)?;
        for (size, count) in &used.images {
            sum.add(Unit::Image, *count, self.image.get(size).copied(), EACH)?;
        }
        if self.request.is_some() {
            sum.unpriced = None;
            sum.add(Unit::Request, used.requests, self.request, EACH)?;
        } else if !sum.counted {
            sum.add(Unit::Request, used.requests, None, EACH)?;
        }
        match sum.unpriced {
            Some(unit) => Err(PriceError::NotPriced { unit }),
            None => Ok(sum.total),
        }
    }
}

/// A charge as it is added up.
#[derive(Default)]
struct Sum {
    /// In parts of [`PER_NANO`].
    total: i128,
    /// Whether anything was used.
    counted: bool,
    /// The first unit that was used and has no price.
    unpriced: Option<Unit>,
}

impl Sum {
    fn add(&mut self, unit: Unit, count: u64, rate: Option<Decimal>, measure: i128) -> Result<(), PriceError> {
        if count == 0 {
            return Ok(());
        }
        self.counted = true;
        let Some(rate) = rate else {
            self.unpriced = self.unpriced.or(Some(unit));
            return Ok(());
        };
        let rate = fixed(rate, RATE_DECIMALS).ok_or(PriceError::BadRate)?;
        let part = rate
            .checked_mul(measure)
            .and_then(|rate| rate.checked_mul(i128::from(count)));
        self.total = part
            .and_then(|part| self.total.checked_add(part))
            .ok_or(PriceError::Overflow)?;
        Ok(())
    }
}

// === impl Used ===

impl Used {
    /// Tokens of the prompt, of every kind: what [`Tier::above`](super::Tier::above) is compared with.
    pub fn prompt(&self) -> u64 {
        [
            self.cached_input,
            self.cache_write,
            self.cache_write_1h,
            self.audio_input,
        ]
        .into_iter()
        .fold(self.input, u64::saturating_add)
    }

    fn tokens(&self) -> [(Unit, u64); 7] {
        [
            (Unit::Input, self.input),
            (Unit::CachedInput, self.cached_input),
            (Unit::Output, self.output),
            (Unit::CacheWrite, self.cache_write),
            (Unit::CacheWrite1h, self.cache_write_1h),
            (Unit::AudioInput, self.audio_input),
            (Unit::AudioOutput, self.audio_output),
        ]
    }
}

// === impl Unit ===

impl Unit {
    /// The kinds of token, in the order in which a price shows them.
    pub(super) const TOKENS: [Self; 7] = [
        Self::Input,
        Self::CachedInput,
        Self::Output,
        Self::CacheWrite,
        Self::CacheWrite1h,
        Self::AudioInput,
        Self::AudioOutput,
    ];

    /// Its name, which is that of its price in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CachedInput => "cached_input",
            Self::Output => "output",
            Self::CacheWrite => "cache_write",
            Self::CacheWrite1h => "cache_write_1h",
            Self::AudioInput => "audio_input",
            Self::AudioOutput => "audio_output",
            Self::Request => "request",
            Self::Character => "character",
            Self::Second => "second",
            Self::Image => "image",
        }
    }

    /// Whose price holds when this kind of token has none.
    pub(super) fn falls_back_to(self) -> Option<Self> {
        match self {
            Self::CacheWrite1h => Some(Self::CacheWrite),
            Self::CachedInput | Self::CacheWrite | Self::AudioInput => Some(Self::Input),
            Self::AudioOutput => Some(Self::Output),
            _ => None,
        }
    }
}

// === impl PriceError ===

impl fmt::Display for PriceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPriced { unit } => write!(f, "no price for {}", unit.as_str()),
            Self::Overflow => f.write_str("more than an amount can hold"),
            Self::BadRate => f.write_str("a price or multiplier is negative or too precise"),
        }
    }
}

impl std::error::Error for PriceError {}
