//! JSON of the admin API as text for people.
//!
//! Every function takes what it gets: a field that is not there is a dash, a time that is none is shown as it came. A
//! newer gateway may say more than this program knows, and a change that was made must not look like a failure.

use std::time::{Duration, SystemTime};

use serde_json::Value;

/// What stands for a value that is not there.
pub(super) const NONE: &str = "–";

/// Text that does nothing to a terminal. Names, notes and the tags of requests were written by others: an escape
/// sequence in them could rewrite what an operator reads, and so could a change of direction.
pub(super) fn clean(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' | '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.replace("\r\n", "\n").chars().map(harmless).collect()
}

/// A field's text: a string as it is, a number in digits, an object with a name by that.
pub(super) fn text(object: &Value, name: &str) -> Option<String> {
    scalar(object.get(name)?)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(clean(text)),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Object(named) => scalar(named.get("name").or_else(|| named.get("id"))?),
        Value::Array(items) => Some(items.iter().filter_map(scalar).collect::<Vec<_>>().join(", ")),
    }
}

/// A field's text, or a dash.
pub(super) fn or_none(object: &Value, name: &str) -> String {
    text(object, name)
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| NONE.to_owned())
}

/// A list's text, or what its absence means.
pub(super) fn list(object: &Value, name: &str, absent: &str) -> String {
    text(object, name)
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| absent.to_owned())
}

// === numbers ===

/// A whole number, its thousands apart: `1,234,567`.
pub(super) fn count(object: &Value, name: &str) -> Option<String> {
    text(object, name).map(|digits| thousands(&digits))
}

/// US dollars with two decimals or more: `1,234.50`.
pub(super) fn usd(object: &Value, name: &str) -> Option<String> {
    text(object, name).map(|amount| dollars(&amount))
}

/// Both views of money: `4.99 USD (2,495,000 credits)`.
pub(super) fn money(object: &Value, name: &str) -> String {
    let credits = count(object, &format!("{name}_credits"));
    match (usd(object, name), credits) {
        (Some(usd), Some(credits)) => format!("{usd} USD ({credits} credits)"),
        (Some(usd), None) => format!("{usd} USD"),
        _ => NONE.to_owned(),
    }
}

/// A decimal as US dollars.
pub(super) fn dollars(amount: &str) -> String {
    let (whole, decimals) = amount.split_once('.').unwrap_or((amount, ""));
    format!("{}.{decimals:0<2}", thousands(whole))
}

fn thousands(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let mut grouped = String::from(sign);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

// === times ===

/// A time as it is, and how far from now: `2027-01-31T23:59:59.999Z (in 70 days)`.
pub(super) fn time(object: &Value, name: &str, now: SystemTime, absent: &str) -> String {
    let Some(text) = text(object, name) else {
        return absent.to_owned();
    };
    match humantime::parse_rfc3339(&text) {
        Ok(time) => format!("{text} ({})", relative(time, now)),
        Err(_) => text,
    }
}

/// How far from now a time is: `3 h ago`.
pub(super) fn when(object: &Value, name: &str, now: SystemTime, absent: &str) -> String {
    let Some(text) = text(object, name) else {
        return absent.to_owned();
    };
    humantime::parse_rfc3339(&text).map_or(text, |time| relative(time, now))
}

/// A time to the second, as logs have it.
pub(super) fn stamp(object: &Value, name: &str) -> String {
    let text = or_none(object, name);
    match humantime::parse_rfc3339(&text) {
        Ok(time) => humantime::format_rfc3339_seconds(time).to_string(),
        Err(_) => text,
    }
}

fn relative(time: SystemTime, now: SystemTime) -> String {
    match time.duration_since(now) {
        Ok(ahead) => format!("in {}", roughly(ahead)),
        Err(behind) => match behind.duration() {
            just if just < Duration::from_secs(5) => "just now".to_owned(),
            ago => format!("{} ago", roughly(ago)),
        },
    }
}

/// The largest unit of which there are two or so.
fn roughly(span: Duration) -> String {
    const DAY: u64 = 86_400;
    let seconds = span.as_secs();
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5_400 => format!("{} min", seconds / 60),
        5_400..172_800 => format!("{} h", seconds / 3_600),
        _ if seconds < 90 * DAY => format!("{} days", seconds / DAY),
        _ if seconds < 730 * DAY => format!("{} months", seconds / (30 * DAY + DAY / 2)),
        _ => format!("{} years", seconds / (365 * DAY + DAY / 4)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(
            clean("a\u{1b}[2Jb\u{7}c\u{202e}d\r\ne\u{9b}"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d e\u{fffd}"
        );
        assert_eq!(clean("日本 ключ"), "日本 ключ");
    }

    #[test]
    fn money_and_numbers() {
        let account = json!({"balance": "-1234567.5", "balance_credits": -617_283_750_000_i64, "used": "0.000000001"});
        assert_eq!(
            money(&account, "balance"),
            "-1,234,567.50 USD (-617,283,750,000 credits)"
        );
        assert_eq!(money(&account, "used"), "0.000000001 USD");
        assert_eq!(money(&account, "gone"), NONE);
        assert_eq!(
            (dollars("5"), dollars("999.1")),
            ("5.00".to_owned(), "999.10".to_owned())
        );
        assert_eq!(thousands("100"), "100");
    }

    #[test]
    fn times_are_told_from_now() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        for (seconds, told) in [
            (-2_i64, "just now"),
            (-89, "89 s ago"),
            (-300, "5 min ago"),
            (-86_400, "24 h ago"),
            (86_400 * 70, "in 70 days"),
            (86_400 * 365, "in 11 months"),
            (-86_400 * 1000, "2 years ago"),
        ] {
            let time = if seconds < 0 {
                now - Duration::from_secs(seconds.unsigned_abs())
            } else {
                now + Duration::from_secs(seconds.unsigned_abs())
            };
            assert_eq!(relative(time, now), told);
        }
        let key = json!({"expires": "2027-01-15T08:00:30.000Z", "odd": "soon"});
        assert_eq!(
            time(&key, "expires", now, "never"),
            "2027-01-15T08:00:30.000Z (in 30 s)"
        );
        assert_eq!(when(&key, "none", now, "never"), "never");
        assert_eq!(when(&key, "odd", now, "never"), "soon");
        assert_eq!(stamp(&key, "expires"), "2027-01-15T08:00:30Z");
    }

    #[test]
    fn whatever_comes_is_shown() {
        let row = json!({"key": {"id": "k1", "name": "ci"}, "models": ["a", "b*"], "ips": [], "x": null, "n": 3});
        assert_eq!(or_none(&row, "key"), "ci");
        assert_eq!(list(&row, "models", "all"), "a, b*");
        assert_eq!(list(&row, "ips", "any"), "any");
        assert_eq!(
            (or_none(&row, "x"), or_none(&row, "n")),
            (NONE.to_owned(), "3".to_owned())
        );
    }
}
