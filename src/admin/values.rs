//! The values of bodies: money, names, hashes.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::money::Nanos;
use crate::store::Id;

/// The longest text that someone may write to something, in characters.
const MOST_TEXT: usize = 1_000;
/// The longest name, in characters: as in the configuration.
const MOST_NAME: usize = 128;

/// US dollars as a string with up to nine digits after the point. A number in JSON would be read as a float somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, example = "5.00")]
pub(super) struct Usd(pub(super) Nanos);

/// An id: 13 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(value_type = String, example = "1t0x3k9q2m4g0")]
pub(super) struct Ident(pub(super) Id);

/// A SHA-256: 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String)]
pub(super) struct Sha(pub(super) [u8; 32]);

// === impl Usd ===

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map(Self)
            .map_err(D::Error::custom)
    }
}

impl Usd {
    /// An amount above nothing.
    pub(super) fn positive(self) -> Result<Nanos, &'static str> {
        if self.0 > Nanos::ZERO {
            Ok(self.0)
        } else {
            Err("must be above 0")
        }
    }
}

// === impl Sha ===

impl<'de> Deserialize<'de> for Sha {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unhex(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom("not a SHA-256: write 64 hexadecimal digits"))
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut hash = [0; 32];
    if pairs.len() != hash.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}

// === texts ===

/// A name that somebody typed.
pub(super) fn name(text: String) -> Result<String, &'static str> {
    let fits = (1..=MOST_NAME).contains(&text.chars().count());
    if !fits || text.trim() != text || text.chars().any(char::is_control) {
        return Err("write 1 to 128 characters, without control characters or blanks at its ends");
    }
    // What names something by its name must not name another by its id.
    if text.parse::<Id>().is_ok() {
        return Err("reads as an id: write another one");
    }
    Ok(text)
}

/// A text that somebody typed, not empty.
pub(super) fn text(text: String) -> Result<String, &'static str> {
    let blank = text.trim().is_empty();
    let most = text.chars().count() > MOST_TEXT;
    if blank || most || text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err("write 1 to 1000 characters, without control characters");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_a_string() {
        let usd = |json: &str| serde_json::from_str::<Usd>(json).ok().map(|usd| usd.0.get());
        assert_eq!(usd("\"5.00\""), Some(5_000_000_000));
        assert_eq!(usd("\"-0.000000001\""), Some(-1));
        for bad in [
            "5",
            "5.0",
            "\"\"",
            "\"1e3\"",
            "\"0.0000000001\"",
            "null",
            "\"99999999999\"",
        ] {
            assert_eq!(usd(bad), None, "{bad}");
        }
    }

    #[test]
    fn names() {
        assert!(name("acme & söhne".to_owned()).is_ok());
        for bad in ["", " a", "a ", "a\nb", "a\u{0}", "0123456789abc"] {
            assert!(name(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(name("x".repeat(128)).is_ok());
        assert!(name("x".repeat(129)).is_err());
    }

    #[test]
    fn hashes() {
        assert_eq!(unhex(&"00fF".repeat(16)).map(|hash| hash[1]), Some(255));
        for bad in [
            "",
            "00",
            &"0".repeat(63),
            &"0".repeat(65),
            &"0g".repeat(32),
            &"é".repeat(32),
        ] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
