//! The single values of the configuration: how each is written, read, and described in the schema.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use http::HeaderName;
use rust_decimal::Decimal;
use serde_json::json;

use super::read::{Bad, Leaf};
use super::tree::Value;
use super::{Dialect, Durability, ErrorCode, Http2, OnDisconnect, Period, Role, StoreUrl, StreamUsage};
use crate::money::Nanos;

mod address;
mod money;
mod store;
mod time;

pub use self::address::network;
pub use self::time::expiry;

/// The name of a thing of the configuration: 1 to 128 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

/// A span of time that may be zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span(pub(crate) Duration);

/// A span of time after which something is given up; never zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeout(pub(crate) Duration);

/// A [`Timeout`], or `"off"`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeoutOrOff(pub(crate) Option<Duration>);

/// Bytes, at least one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

/// A price: a decimal that is not negative.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount(pub(crate) Decimal);

/// A factor on prices: a decimal that is not negative.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factor(pub(crate) Decimal);

/// Per cent, from 0 to 1000.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percent(pub(crate) Decimal);

/// An amount in US dollars that is no debt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usd(pub(crate) Nanos);

/// How long something is leased: from a second to an hour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease(pub(crate) Duration);

/// How long something is kept, a day at least; `None` is forever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention(pub(crate) Option<Duration>);

/// Where a store is: its URL, or the place where that is kept.
#[derive(Clone, Debug)]
pub(crate) enum StoreAddress {
    Url(StoreUrl),
    Secret(SecretRef),
}

/// A route's weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight(pub(crate) NonZeroU32);

/// A SHA-256, 64 hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sha256(pub(crate) [u8; 32]);

/// When something ends; `None` is never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry(pub(crate) Option<SystemTime>);

/// A request header that may be passed on to a backend.
#[derive(Clone, Debug)]
pub(crate) struct PassHeader(pub(crate) HeaderName);

/// Where a secret is kept; the secret itself is not read yet.
#[derive(Clone, Debug)]
pub(crate) enum SecretRef {
    Env(String),
    File(PathBuf),
}

/// The word `free`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Free;

// === text ===

impl Leaf for Name {
    const WHAT: &'static str = "a name";
    const REMEDY: &'static str = "write 1 to 128 characters, without control characters or blanks at its ends";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        let text = string(value)?;
        let fits = (1..=128).contains(&text.chars().count());
        if !fits || text.trim() != text || text.chars().any(char::is_control) {
            return Err(Bad::What("not a name".to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "minLength": 1, "maxLength": 128 })
    }
}

impl Leaf for String {
    const WHAT: &'static str = "a string";
    const REMEDY: &'static str = "write it in quotes";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        string(value).map(str::to_owned)
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string" })
    }
}

impl Leaf for PathBuf {
    const WHAT: &'static str = "a path";
    const REMEDY: &'static str = "write a path in quotes; a relative one begins at the folder of this file";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        match string(value)? {
            "" => Err(Bad::What("an empty path".to_owned())),
            text => Ok(text.into()),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

impl Leaf for bool {
    const WHAT: &'static str = "a boolean";
    const REMEDY: &'static str = "write true or false";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        match value {
            Value::Boolean(b) => Ok(*b),
            _ => Err(Bad::Kind),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "boolean" })
    }
}

impl Leaf for Free {
    const WHAT: &'static str = "a price";
    const REMEDY: &'static str = "write a table of prices, such as { input = 0.27, output = 1.10 }, or \"free\"";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        match string(value)? {
            "free" => Ok(Self),
            _ => Err(Bad::What("not a price".to_owned())),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "const": "free" })
    }
}

/// Words of which one is chosen.
macro_rules! choices {
    ($($type:ident { $($variant:ident = $word:literal),+ } $remedy:literal;)+) => {$(
        impl $type {
            /// The word for it in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl Leaf for $type {
            const WHAT: &'static str = "a string";
            const REMEDY: &'static str = $remedy;

            fn from_value(value: &Value) -> Result<Self, Bad> {
                match string(value)? {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Bad::What("not one of the choices".to_owned())),
                }
            }

            fn schema() -> serde_json::Value {
                json!({ "enum": [$($word),+] })
            }
        }
    )+};
}

choices! {
    Role { Admin = "admin", Read = "read" } r#"write "admin" or "read""#;
    ErrorCode { Status = "status", Reason = "reason" } r#"write "status" or "reason""#;
    Dialect { OpenAi = "openai" } r#"write "openai"; "anthropic" and "gemini" are not yet there"#;
    Durability { Disk = "disk", Process = "process", Store = "store" } r#"write "disk", "process" or "store""#;
    Http2 { Auto = "auto", Never = "never", PriorKnowledge = "prior_knowledge" }
        r#"write "auto", "never" or "prior_knowledge""#;
    StreamUsage { Ask = "ask", Native = "native", None = "none" } r#"write "ask", "native" or "none""#;
    OnDisconnect { Cancel = "cancel", Drain = "drain" } r#"write "cancel" or "drain""#;
    Period { Day = "day", Week = "week", Month = "month" } r#"write "day", "week" or "month""#;
}

// === numbers ===

macro_rules! integers {
    ($($type:ty, $least:literal, $remedy:literal;)+) => {$(
        impl Leaf for $type {
            const WHAT: &'static str = "a whole number";
            const REMEDY: &'static str = $remedy;

            fn from_value(value: &Value) -> Result<Self, Bad> {
                integer(value)
            }

            fn schema() -> serde_json::Value {
                json!({ "type": "integer", "minimum": $least })
            }
        }
    )+};
}

integers! {
    u32, 0, "write a whole number from 0 up";
    u64, 0, "write a whole number from 0 up";
    usize, 0, "write a whole number from 0 up";
    NonZeroU32, 1, "write a whole number from 1 up, or leave the key out for none";
    NonZeroU64, 1, "write a whole number from 1 up, or leave the key out for none";
    NonZeroUsize, 1, "write a whole number from 1 up, or leave the key out for none";
}

impl Leaf for Weight {
    const WHAT: &'static str = "a whole number";
    const REMEDY: &'static str = "write a whole number from 1 up, or take the route out";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        integer(value).map(Self)
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "integer", "minimum": 1 })
    }
}

impl Leaf for Size {
    const WHAT: &'static str = "a size";
    const REMEDY: &'static str = r#"write bytes, or a number and a unit: 65536, "64KiB", "32MiB", "1GiB", "10MB""#;

    fn from_value(value: &Value) -> Result<Self, Bad> {
        let bytes = match value {
            Value::Integer(i) => u64::try_from(*i).ok(),
            _ => size(string(value)?),
        };
        match bytes {
            None => Err(Bad::What("not a size".to_owned())),
            Some(0) => Err(Bad::What("too small".to_owned())),
            Some(bytes) => Ok(Self(bytes)),
        }
    }

    fn schema() -> serde_json::Value {
        let unit = r"^[0-9]+ ?([kKmMgGtT]([iI]?[bB])|[bB])$";
        json!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": unit }] })
    }
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

// === secrets ===

impl Leaf for Sha256 {
    const WHAT: &'static str = "a SHA-256";
    const REMEDY: &'static str = "write 64 hexadecimal digits; `tollgate key hash` makes them from a key";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        // Whatever else stands here may be the key itself, so it is not shown.
        let bad = || Bad::Hidden("not a SHA-256".to_owned(), Self::REMEDY.to_owned());
        let text = string(value).map_err(|_| bad())?;
        let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
        let digits = digits.filter(|d| d.len() == 64).ok_or_else(bad)?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .filter_map(|d| u8::try_from(d[0] << 4 | d[1]).ok())
            .collect();
        bytes.try_into().map(Self).map_err(|_| bad())
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
    }
}

impl Leaf for SecretRef {
    const WHAT: &'static str = "a secret";
    const REMEDY: &'static str = r#"write { env = "NAME" } or { file = "path" }"#;

    /// Whatever is wrong, the value is not shown.
    fn from_value(value: &Value) -> Result<Self, Bad> {
        let bad = |what: &str| Bad::Hidden(what.to_owned(), Self::REMEDY.to_owned());
        let Value::Table(table) = value else {
            return Err(bad(match value {
                Value::String(_) => "a secret written out",
                _ => "not a secret",
            }));
        };
        let mut entries = table.iter();
        let (Some((key, entry)), None) = (entries.next(), entries.next()) else {
            return Err(bad("must have one of `env` and `file`, and nothing else"));
        };
        match (key.as_str(), string(&entry.node.value)) {
            ("env", Ok(name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            ("file", Ok(path)) if !path.is_empty() => Ok(Self::File(path.into())),
            ("env" | "file", _) => Err(bad("`env` and `file` take a name and a path")),
            _ => Err(bad("must have one of `env` and `file`, and nothing else")),
        }
    }

    fn schema() -> serde_json::Value {
        let one = |key: &str, about: &str| {
            json!({
                "type": "object",
                "properties": { key: { "type": "string", "minLength": 1, "description": about } },
                "required": [key],
                "additionalProperties": false,
            })
        };
        json!({ "oneOf": [
            one("env", "Name of an environment variable."),
            one("file", "Path of a file; a line break at its end does not count."),
        ] })
    }
}

fn string(value: &Value) -> Result<&str, Bad> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Bad::Kind),
    }
}

fn integer<T: FromStr>(value: &Value) -> Result<T, Bad> {
    let Value::Integer(number) = value else {
        return Err(Bad::Kind);
    };
    number
        .to_string()
        .parse()
        .map_err(|_| Bad::What(if *number > 0 { "too large" } else { "too small" }.to_owned()))
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: Leaf>(text: &str) -> Option<T> {
        T::from_value(&Value::String(text.to_owned())).ok()
    }

    #[test]
    fn sizes() {
        let bytes = |t: &str| text::<Size>(t).map(|s| s.0);
        assert_eq!(bytes("64KiB"), Some(65_536));
        assert_eq!(bytes("32MiB"), Some(33_554_432));
        assert_eq!(bytes("1GiB"), Some(1_073_741_824));
        assert_eq!(bytes("10MB"), Some(10_000_000));
        for bad in ["", "0B", "10", "MB", "10M", "1.5GiB", "99999999TiB", "-1B"] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
        assert_eq!(Size::from_value(&Value::Integer(7)).ok().map(|s| s.0), Some(7));
    }

    #[test]
    fn hashes() {
        let hash = "00ff".repeat(16);
        assert_eq!(text::<Sha256>(&hash).map(|h| h.0[..2].to_vec()), Some(vec![0, 255]));
        assert!(text::<Sha256>(&hash[1..]).is_none());
        assert!(text::<Sha256>(&hash.replace('f', "g")).is_none());
    }
}
