//! What a model costs.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;

use rust_decimal::Decimal;

use super::Unit;

/// What a model costs.
#[derive(Clone, Debug, PartialEq)]
pub enum Price {
    /// Nothing, on purpose.
    Free,
    /// By unit.
    Rates(Box<Rates>),
}

/// Prices by unit; an absent one cannot be charged, but for the kinds of token that fall back to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// Prices of tokens.
    pub tokens: TokenRates,
    /// Prices of tokens of requests with more input, by ascending [`Tier::above`].
    pub tiers: Vec<Tier>,
    /// USD a request.
    pub request: Option<Decimal>,
    /// USD a character.
    pub character: Option<Decimal>,
    /// USD a second of audio.
    pub second: Option<Decimal>,
    /// USD an image, by `quality:size`.
    pub image: BTreeMap<String, Decimal>,
}

/// USD a million tokens.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the kinds of token, as the field calls them")]
pub struct TokenRates {
    pub input: Option<Decimal>,
    pub cached_input: Option<Decimal>,
    pub output: Option<Decimal>,
    pub cache_write: Option<Decimal>,
    pub cache_write_1h: Option<Decimal>,
    pub audio_input: Option<Decimal>,
    pub audio_output: Option<Decimal>,
}

/// Prices of a request whose input is larger; those it does not name stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Input tokens over which it holds.
    pub above: NonZeroU64,
    /// Its prices.
    pub tokens: TokenRates,
}

// === impl Price ===

/// `free`, or the table as it is written in TOML.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
            Self::Rates(rates) => rates.fmt(f),
        }
    }
}

// === impl Rates ===

impl Rates {
    /// The price of one kind of token in a request with this many input tokens: the highest tier it is above that names
    /// it, else the base. A kind that is named nowhere costs what the plainer one costs: a cache write for an hour what
    /// any does, the rest of the prompt what input does, audio that is spoken what output does.
    pub(super) fn token(&self, unit: Unit, input: u64) -> Option<Decimal> {
        let tiers = self.tiers.iter().rev().filter(|tier| input > tier.above.get());
        let named = tiers
            .map(|tier| &tier.tokens)
            .chain([&self.tokens])
            .find_map(|tokens| tokens.of(unit));
        named.or_else(|| self.token(unit.falls_back_to()?, input))
    }
}

/// The table as it is written in TOML.
impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.tokens.parts();
        let units = [
            ("request", self.request),
            ("character", self.character),
            ("second", self.second),
        ];
        parts.extend(priced(&units));
        if !self.image.is_empty() {
            let image = |(size, price): (&String, &Decimal)| format!("{size:?} = {price}");
            let images: Vec<_> = self.image.iter().map(image).collect();
            parts.push(format!("image = {{ {} }}", images.join(", ")));
        }
        if !self.tiers.is_empty() {
            let tier = |t: &Tier| {
                let all = [vec![format!("above = {}", t.above)], t.tokens.parts()].concat();
                format!("{{ {} }}", all.join(", "))
            };
            let tiers: Vec<_> = self.tiers.iter().map(tier).collect();
            parts.push(format!("tiers = [ {} ]", tiers.join(", ")));
        }
        write!(f, "{{ {} }}", parts.join(", "))
    }
}

// === impl TokenRates ===

impl TokenRates {
    fn of(&self, unit: Unit) -> Option<Decimal> {
        match unit {
            Unit::Input => self.input,
            Unit::CachedInput => self.cached_input,
            Unit::Output => self.output,
            Unit::CacheWrite => self.cache_write,
            Unit::CacheWrite1h => self.cache_write_1h,
            Unit::AudioInput => self.audio_input,
            Unit::AudioOutput => self.audio_output,
            Unit::Request | Unit::Character | Unit::Second | Unit::Image => None,
        }
    }

    fn parts(&self) -> Vec<String> {
        let rates = Unit::TOKENS.map(|unit| (unit.as_str(), self.of(unit)));
        priced(&rates).collect()
    }
}

fn priced(rates: &[(&str, Option<Decimal>)]) -> impl Iterator<Item = String> {
    rates
        .iter()
        .filter_map(|(key, price)| Some(format!("{key} = {}", (*price)?)))
}
