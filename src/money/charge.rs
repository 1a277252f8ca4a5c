//! What is charged for, and why there may be no charge.

use std::collections::BTreeMap;
use std::fmt;

/// Digits after the point that a price may have.
pub const RATE_DECIMALS: u32 = 12;
/// Digits after the point that a group's multiplier may have.
pub const MULTIPLIER_DECIMALS: u32 = 6;

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

    /// Tokens by kind, in the order of [`Unit::TOKENS`].
    pub(super) fn tokens(&self) -> [u64; 7] {
        [
            self.input,
            self.cached_input,
            self.output,
            self.cache_write,
            self.cache_write_1h,
            self.audio_input,
            self.audio_output,
        ]
    }
}

// === impl Unit ===

impl Unit {
    /// The kinds of token, in the order in which a price shows them: the first of all units, so that each is at its own
    /// number.
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
