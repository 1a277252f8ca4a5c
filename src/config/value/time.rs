//! Durations and points in time.

use std::time::{Duration, SystemTime};

use serde_json::json;
use toml::value::{Datetime, Offset};

use super::{Expiry, Lease, Retention, Span, Timeout, TimeoutOrOff, number_and_unit, string};
use crate::config::read::{Bad, Leaf};
use crate::config::tree::Value;

const SPAN: &str = "a duration";
const SPAN_REMEDY: &str = r#"write a number and a unit: "250ms", "5s", "2m" or "1h""#;
const SPAN_PATTERN: &str = "^[0-9]+ ?(ms|s|m|h)$";

impl Leaf for Span {
    const WHAT: &'static str = SPAN;
    const REMEDY: &'static str = SPAN_REMEDY;

    fn from_value(value: &Value) -> Result<Self, Bad> {
        duration(string(value)?).map(Self)
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": SPAN_PATTERN })
    }
}

impl Leaf for Timeout {
    const WHAT: &'static str = SPAN;
    const REMEDY: &'static str = SPAN_REMEDY;

    fn from_value(value: &Value) -> Result<Self, Bad> {
        match duration(string(value)?)? {
            Duration::ZERO => Err(Bad::What("must be longer than nothing".to_owned())),
            duration => Ok(Self(duration)),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": SPAN_PATTERN })
    }
}

impl Leaf for TimeoutOrOff {
    const WHAT: &'static str = SPAN;
    const REMEDY: &'static str = r#"write a number and a unit: "250ms", "5s", "2m" or "1h"; or "off""#;

    fn from_value(value: &Value) -> Result<Self, Bad> {
        match value {
            Value::String(word) if word == "off" => Ok(Self(None)),
            _ => Timeout::from_value(value).map(|t| Self(Some(t.0))),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "anyOf": [{ "const": "off" }, <Timeout as Leaf>::schema()] })
    }
}

impl Leaf for Lease {
    const WHAT: &'static str = SPAN;
    const REMEDY: &'static str = r#"write a number and a unit, from "1s" to "1h""#;

    fn from_value(value: &Value) -> Result<Self, Bad> {
        match duration(string(value)?)? {
            lease if lease < Duration::from_secs(1) => Err(Bad::What("shorter than a second".to_owned())),
            lease if lease > Duration::from_hours(1) => Err(Bad::What("longer than an hour".to_owned())),
            lease => Ok(Self(lease)),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": SPAN_PATTERN })
    }
}

impl Leaf for Retention {
    const WHAT: &'static str = "a number of days";
    const REMEDY: &'static str = r#"write days, such as "400d", or "forever""#;

    fn from_value(value: &Value) -> Result<Self, Bad> {
        let text = string(value)?;
        if text == "forever" {
            return Ok(Self(None));
        }
        match number_and_unit(text) {
            Some((0, "d")) => Err(Bad::What("shorter than a day".to_owned())),
            // Two centuries: within what a clock can hold.
            Some((days @ 1..=73_000, "d")) => Ok(Self(Some(Duration::from_hours(days * 24)))),
            Some((_, "d")) => Err(Bad::What("longer than two centuries".to_owned())),
            _ => Err(Bad::What("not a number of days".to_owned())),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "anyOf": [{ "const": "forever" }, { "type": "string", "pattern": "^[0-9]+ ?d$" }] })
    }
}

fn duration(text: &str) -> Result<Duration, Bad> {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    let bad = || Bad::What("not a duration".to_owned());
    let (number, unit) = number_and_unit(text).ok_or_else(bad)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    // A year keeps deadlines within what a clock can hold.
    match number.checked_mul(milliseconds).map(Duration::from_millis) {
        Some(duration) if duration <= YEAR => Ok(duration),
        _ => Err(Bad::What("longer than a year".to_owned())),
    }
}

impl Leaf for Expiry {
    const WHAT: &'static str = "a point in time";
    const REMEDY: &'static str = "write a date (2027-01-31, to its end in UTC), RFC 3339 (2027-01-31T12:00:00Z), unix \
                                  seconds, or -1 for never";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        let bad = || Bad::What("not a point in time".to_owned());
        let seconds = match value {
            Value::Integer(i) => i64::try_from(*i).map_err(|_| bad())?,
            Value::Datetime(datetime) => unix_seconds(datetime)?,
            Value::String(text) => match text.parse::<i64>() {
                Ok(seconds) => seconds,
                Err(_) => unix_seconds(&text.parse().map_err(|_| bad())?)?,
            },
            _ => return Err(Bad::Kind),
        };
        match u64::try_from(seconds) {
            Ok(seconds) => {
                let end = SystemTime::UNIX_EPOCH
                    .checked_add(Duration::from_secs(seconds))
                    .ok_or_else(bad)?;
                Ok(Self(Some(end)))
            }
            Err(_) if seconds == -1 => Ok(Self(None)),
            Err(_) => Err(bad()),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": ["string", "integer"], "minimum": -1 })
    }
}

/// When something ends, as it may be typed wherever that is: a date (its end, UTC), RFC 3339, unix seconds, or -1 for
/// never, which is `None`.
///
/// # Errors
///
/// What is wrong with it, and what to write.
pub fn expiry(text: &str) -> Result<Option<SystemTime>, String> {
    match Expiry::from_value(&Value::String(text.to_owned())) {
        Ok(Expiry(end)) => Ok(end),
        Err(_) => Err(format!("not a point in time: {}", Expiry::REMEDY)),
    }
}

/// Unix seconds of a moment, or of a date's end in UTC. Fractions of a second are dropped.
fn unix_seconds(moment: &Datetime) -> Result<i64, Bad> {
    let zone = || Bad::What("without a time zone".to_owned());
    let Some(date) = moment.date else {
        return Err(Bad::What("without a date".to_owned()));
    };
    let midnight = days_from_epoch(date.year.into(), date.month.into(), date.day.into()) * 86_400;
    let Some(time) = moment.time else {
        return Ok(midnight + 86_400);
    };
    let offset = match moment.offset.ok_or_else(zone)? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes) * 60,
    };
    let seconds = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or(0));
    Ok(midnight + seconds - offset)
}

/// Days from 1970-01-01 in the Gregorian calendar, years beginning in March so that the leap day is the last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: Leaf>(text: &str) -> Option<T> {
        T::from_value(&Value::String(text.to_owned())).ok()
    }

    #[test]
    fn durations() {
        let ms = |t: &str| text::<Span>(t).map(|s| s.0.as_millis());
        assert_eq!(ms("250ms"), Some(250));
        assert_eq!(ms("5s"), Some(5_000));
        assert_eq!(ms("2 m"), Some(120_000));
        assert_eq!(ms("1h"), Some(3_600_000));
        assert_eq!(ms("0s"), Some(0));
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 parsecs",
            "5S",
            "9000h",
            "99999999999999999999s",
            " 5s",
            "off",
        ] {
            assert_eq!(ms(bad), None, "{bad:?}");
        }
        assert!(text::<Timeout>("0s").is_none());
        assert_eq!(text::<TimeoutOrOff>("off").map(|t| t.0), Some(None));
    }

    #[test]
    fn leases_and_retentions() {
        let lease = |t: &str| text::<Lease>(t).map(|lease| lease.0.as_secs());
        assert_eq!((lease("1s"), lease("1h")), (Some(1), Some(3_600)));
        assert_eq!((lease("999ms"), lease("3601s"), lease("30")), (None, None, None));
        let days = |t: &str| text::<Retention>(t).map(|keep| keep.0.map(|d| d.as_secs() / 86_400));
        assert_eq!((days("400d"), days("1 d")), (Some(Some(400)), Some(Some(1))));
        assert_eq!(days("forever"), Some(None));
        for bad in ["0d", "73001d", "99999999999999999999d", "24h", "d", "400", "off", "-1d"] {
            assert_eq!(days(bad), None, "{bad}");
        }
    }

    #[test]
    fn expiries() {
        let seconds = |t: &str| {
            let end = text::<Expiry>(t)?.0?;
            end.duration_since(SystemTime::UNIX_EPOCH).ok().map(|d| d.as_secs())
        };
        // From `date -u -d … +%s`.
        assert_eq!(seconds("2027-01-31"), Some(1_801_440_000), "the end of the day");
        assert_eq!(seconds("2024-02-29"), Some(1_709_251_200));
        assert_eq!(seconds("2027-01-31T12:00:00Z"), Some(1_801_396_800));
        assert_eq!(seconds("2027-01-31T12:00:00+02:00"), Some(1_801_389_600));
        assert_eq!(seconds("1801396800"), Some(1_801_396_800));
        assert!(text::<Expiry>("-1").is_some_and(|e| e.0.is_none()), "never");
        for bad in ["", "tomorrow", "-2", "2027-02-30", "2027-01-31T12:00:00", "12:00:00"] {
            assert!(text::<Expiry>(bad).is_none(), "{bad:?}");
        }
    }
}
