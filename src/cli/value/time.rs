//! Times as people type them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Unix seconds of 2001-09-09 and of the year 5138: what is outside counts something else, most likely milliseconds.
const SECONDS: std::ops::Range<u64> = 1_000_000_000..100_000_000_000;

/// When something ends: a date, RFC 3339, Unix seconds, or -1 or `never`.
pub(in crate::cli) fn expires(text: &str) -> Result<Value, String> {
    if matches!(text, "-1" | "never") {
        return Ok(Value::Null);
    }
    moment(text).ok_or_else(|| {
        "a date such as 2027-01-31 (its end, UTC), RFC 3339 such as 2027-01-31T18:00:00Z, Unix seconds, or -1 or never"
            .to_owned()
    })
}

/// A side of a span of time: as [`expires`], but never `never`; or so long ago, as `24h`.
pub(in crate::cli) fn since(text: &str) -> Result<String, String> {
    match moment(text) {
        Some(Value::String(text)) => Ok(text),
        Some(seconds) => Ok(seconds.to_string()),
        None => span(text).map_err(|_| {
            "how long ago, such as 24h or 7d, a date, RFC 3339 such as 2027-01-31T18:00:00Z, or Unix seconds".to_owned()
        }),
    }
}

/// How long: a whole number with one unit, as `24h`.
pub(in crate::cli) fn span(text: &str) -> Result<String, String> {
    let number = text.strip_suffix(['s', 'm', 'h', 'd', 'w']);
    match number.and_then(|number| number.parse::<u32>().ok()) {
        Some(number) if number > 0 => Ok(text.to_owned()),
        _ => Err("how long: a whole number with s, m, h, d or w, such as 24h".to_owned()),
    }
}

/// A date as it is (what it means is the server's to say), a time as RFC 3339 of UTC, or Unix seconds.
fn moment(text: &str) -> Option<Value> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().ok()?;
        return SECONDS.contains(&seconds).then(|| seconds.into());
    }
    if text.len() == "2027-01-31".len() {
        humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok()?;
        return Some(text.into());
    }
    let time = rfc3339(text)?;
    Some(humantime::format_rfc3339_millis(time).to_string().into())
}

/// RFC 3339 with any offset; humantime reads only `Z`.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let upper = text.to_ascii_uppercase();
    if upper.ends_with('Z') {
        return humantime::parse_rfc3339(&upper).ok();
    }
    let (local, offset) = upper.split_at_checked(upper.len().checked_sub("+hh:mm".len())?)?;
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let two = |text: &str, below: u64| {
        text.parse::<u64>()
            .ok()
            .filter(|number| text.len() == 2 && *number < below)
    };
    let offset_by = Duration::from_secs(two(hours, 24)? * 3600 + two(minutes, 60)? * 60);
    let time = match offset.as_bytes().first()? {
        b'+' => local.checked_sub(offset_by)?,
        b'-' => local.checked_add(offset_by)?,
        _ => return None,
    };
    (time >= UNIX_EPOCH).then_some(time)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn times() {
        for (typed, sent) in [
            ("2027-01-31", json!("2027-01-31")),
            ("2027-01-31T18:00:00Z", json!("2027-01-31T18:00:00.000Z")),
            ("2027-01-31t18:00:00.5z", json!("2027-01-31T18:00:00.500Z")),
            ("2027-01-31T18:00:00+08:00", json!("2027-01-31T10:00:00.000Z")),
            ("2027-01-31T18:00:00-03:30", json!("2027-01-31T21:30:00.000Z")),
            ("1801440000", json!(1_801_440_000)),
            ("-1", Value::Null),
            ("never", Value::Null),
        ] {
            assert_eq!(expires(typed), Ok(sent), "{typed}");
        }
        for bad in [
            "",
            "tomorrow",
            "2027-13-01",
            "2027-02-30",
            "2027-1-1",
            "0",
            "-2",
            "1801440000000",
            "24h",
            "2027-01-31T18:00:00",
            "2027-01-31T18:00:00+8:00",
            "2027-01-31T18:00:00+24:00",
            "2027-01-31T18:00:00é00:00",
        ] {
            assert!(expires(bad).is_err(), "{bad}");
        }
        assert_eq!(since("7d").unwrap(), "7d");
        assert_eq!(since("1801440000").unwrap(), "1801440000");
        for bad in ["never", "0s", "24", "h", "1y", "1h30m", "-1h"] {
            assert!(since(bad).is_err() && span(bad).is_err(), "{bad}");
        }
    }
}
