//! Moments as they are shown and typed.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use crate::config;
use crate::store::{Day, Millis};

/// 9999-12-31T23:59:59.999Z: RFC 3339 has no later year.
const LAST: i64 = 253_402_300_799_999;

/// A moment: RFC 3339, UTC, with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-21T17:25:33.123Z")]
pub(super) struct Time(pub(super) Millis);

/// When something ends: a date (its end, UTC), RFC 3339, unix seconds, or -1 for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, example = "2027-01-31")]
pub(super) struct Expires(pub(super) Option<Millis>);

/// From or until when: RFC 3339, a date, unix seconds, or a span back from now, as `24h` and `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    moment: Millis,
    /// It was a date: so long it is.
    day: bool,
}

// === impl Time ===

/// The moment as text.
pub(super) fn shown(time: Millis) -> String {
    let within = Millis(time.0.clamp(0, LAST));
    humantime::format_rfc3339_millis(within.into()).to_string()
}

/// The day as text.
pub(super) fn shown_day(day: Day) -> String {
    shown(day.start()).chars().take(10).collect()
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&shown(self.0))
    }
}

// === impl Expires ===

impl Expires {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(end) = config::expiry(text)? else {
            return Ok(Self(None));
        };
        let end = Millis::from(end);
        if end.0 > LAST {
            return Err("later than the year 9999; -1 or null is never".to_owned());
        }
        Ok(Self(Some(end)))
    }
}

impl<'de> Deserialize<'de> for Expires {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Self(None)),
            Value::String(text) => Self::parse(&text).map_err(D::Error::custom),
            Value::Number(seconds) if seconds.is_i64() => Self::parse(&seconds.to_string()).map_err(D::Error::custom),
            _ => Err(D::Error::custom(
                "write a string, unix seconds, or -1 or null for never",
            )),
        }
    }
}

// === impl Bound ===

impl Bound {
    /// The first moment that counts: of a day, its beginning.
    pub(super) fn since(self) -> Millis {
        self.moment
    }

    /// The first moment that counts no more: of a day, its end.
    pub(super) fn until(self) -> Millis {
        if self.day {
            Millis(self.moment.0 + Day::MILLIS)
        } else {
            self.moment
        }
    }

    fn parse(text: &str, now: Millis) -> Result<Self, String> {
        if let Some(back) = span(text) {
            let back = i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
            let moment = Millis(now.0.saturating_sub(back).max(0));
            return Ok(Self { moment, day: false });
        }
        let hint = "write RFC 3339, a date, unix seconds, or a span back from now such as 24h or 7d";
        let Ok(Self { moment, day }) = Self::parse_moment(text) else {
            return Err(hint.to_owned());
        };
        Ok(Self { moment, day })
    }

    fn parse_moment(text: &str) -> Result<Self, String> {
        let moment = Expires::parse(text)?.0.ok_or("never is no moment")?;
        // A date alone has neither a time nor a zone behind it, and its expiry is its end.
        let day = text.contains('-') && !text.contains([':', 'T', 't']);
        let moment = if day {
            Millis((moment.0 - Day::MILLIS).max(0))
        } else {
            moment
        };
        Ok(Self { moment, day })
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text, Millis::now()).map_err(D::Error::custom)
    }
}

/// A span of time with one unit: `90s`, `30m`, `24h`, `7d`, `2w`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.then(|| number.parse().ok())??;
    Some(Duration::from_secs(number.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ends() {
        let end = |json: &str| serde_json::from_str::<Expires>(json).ok().map(|end| end.0);
        let at = |millis| Some(Some(Millis(millis)));
        assert_eq!(end("-1"), Some(None));
        assert_eq!(end("\"-1\""), Some(None));
        assert_eq!(end("null"), Some(None));
        assert_eq!(end("1801396800"), at(1_801_396_800_000));
        assert_eq!(end("\"2027-01-31\""), at(1_801_440_000_000));
        assert_eq!(end("\"2027-01-31T12:00:00+02:00\""), at(1_801_389_600_000));
        for bad in [
            "-2",
            "1.5",
            "true",
            "\"soon\"",
            "\"\"",
            "9223372036854775807",
            "18446744073709551615",
            "[]",
        ] {
            assert_eq!(end(bad), None, "{bad}");
        }
    }

    #[test]
    fn bounds() {
        let now = Millis(1_801_396_800_000);
        let bound = |text: &str| Bound::parse(text, now).ok().map(|b| (b.since().0, b.until().0));
        assert_eq!(bound("24h"), Some((now.0 - 86_400_000, now.0 - 86_400_000)));
        assert_eq!(bound("7d").unwrap().0, now.0 - 7 * 86_400_000);
        assert_eq!(bound("2027-01-31"), Some((1_801_353_600_000, 1_801_440_000_000)));
        assert_eq!(bound("1801396800").unwrap().0, now.0);
        assert_eq!(bound("99999999999999w").map(|b| b.0), Some(0));
        for bad in ["-1", "", "h", "1y", "yesterday", "+5h", "é"] {
            assert_eq!(bound(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_moment_can_be_shown() {
        assert_eq!(shown(Millis(1_801_396_800_123)), "2027-01-31T12:00:00.123Z");
        assert_eq!(shown(Millis(i64::MAX)), "9999-12-31T23:59:59.999Z");
        assert_eq!(shown(Millis(i64::MIN)), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown_day(Day(0)), "1970-01-01");
    }
}
