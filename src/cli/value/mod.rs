//! What people type for a value, and the JSON that the admin API takes for it.
//!
//! A word clears what a number or a list would set (`unlimited`, `all`, `any`, `never`), for an empty text may well be a
//! shell's variable that is not set, and would open what it should close. The rules that need the server's knowledge
//! (which groups there are, what an address is) are the server's: here is only what makes the use of a verb wrong.

mod time;

use serde_json::{Value, json};

pub(super) use self::time::{expires, since, span};

/// At most how many of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// All there are.
    All,
    /// So many, the newest.
    Most(u64),
}

/// A name or an id.
pub(super) fn name(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a name or an id has at least one character".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// A number of requests or tokens, or `unlimited`.
pub(super) fn limit(text: &str) -> Result<Value, String> {
    if text == "unlimited" {
        return Ok(Value::Null);
    }
    let number: u64 = text
        .replace('_', "")
        .parse()
        .map_err(|_| "a whole number, or unlimited".to_owned())?;
    Ok(number.into())
}

/// A quota in credits, or `unlimited`.
pub(super) fn quota(text: &str) -> Result<Value, String> {
    limit(text).map_err(|_| "a whole number of credits, or unlimited".to_owned())
}

/// How many of a list.
pub(super) fn most(text: &str) -> Result<Limit, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(Limit::Most(number)),
        _ if text == "all" => Ok(Limit::All),
        _ => Err("a number above zero, or all".to_owned()),
    }
}

/// Names or globs of models, or `all`.
pub(super) fn models(text: &str) -> Result<Value, String> {
    list(text, ",", "all", Value::Null)
}

/// Names of groups, or `all`.
pub(super) fn groups(text: &str) -> Result<Value, String> {
    list(text, ",", "all", Value::Null)
}

/// Addresses and networks, or `any`.
pub(super) fn ips(text: &str) -> Result<Value, String> {
    list(text, ", \t\r\n", "any", json!([]))
}

fn list(text: &str, separators: &str, everything: &str, cleared: Value) -> Result<Value, String> {
    if text.trim() == everything {
        return Ok(cleared);
    }
    let items: Vec<&str> = text
        .split(|c| separators.contains(c) || c == '\n')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect();
    if items.is_empty() {
        return Err(format!("an empty list; {everything} says that there is no such rule"));
    }
    Ok(json!(items))
}

/// US dollars, at most nine decimals; also below zero.
pub(super) fn usd(text: &str) -> Result<String, String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, decimals) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    if digits(whole) && digits(decimals) && decimals.len() <= 9 {
        Ok(text.to_owned())
    } else {
        Err("US dollars such as 20 or 5.00, with at most nine decimals".to_owned())
    }
}

/// US dollars above zero.
pub(super) fn usd_above_zero(text: &str) -> Result<String, String> {
    let some = text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    match usd(text) {
        Ok(text) if some && !text.starts_with('-') => Ok(text),
        Ok(_) => Err("more than zero US dollars".to_owned()),
        Err(error) => Err(error),
    }
}

/// A credit limit in US dollars, or `unlimited`.
pub(super) fn credit_limit(text: &str) -> Result<Value, String> {
    match text {
        "unlimited" => Ok(Value::Null),
        _ if text.starts_with('-') => Err("zero or more US dollars, or unlimited".to_owned()),
        _ => usd(text)
            .map(Value::from)
            .map_err(|error| format!("{error}, or unlimited")),
    }
}

/// How often a quota starts anew, or `none`.
pub(super) fn period(text: &str) -> Result<Value, String> {
    match text {
        "none" => Ok(Value::Null),
        "day" | "week" | "month" => Ok(text.into()),
        _ => Err("day, week or month (each begins at midnight UTC), or none".to_owned()),
    }
}

/// The hash of a key: lower-case hex SHA-256.
pub(super) fn sha256(text: &str) -> Result<String, String> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == 64 && text.bytes().all(hex) {
        Ok(text.to_owned())
    } else {
        Err("64 lower-case hexadecimal digits, as `tollgate key hash` prints them".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_the_words_that_clear_them() {
        assert_eq!(models("gpt-4o,qwen-*"), Ok(json!(["gpt-4o", "qwen-*"])));
        assert_eq!(models(" gpt-4o , "), Ok(json!(["gpt-4o"])));
        assert_eq!(models("all"), Ok(Value::Null));
        assert_eq!(ips("10.0.0.0/8,::1"), Ok(json!(["10.0.0.0/8", "::1"])));
        assert_eq!(
            ips("10.0.0.1 ::1\n192.0.2.0/24,"),
            Ok(json!(["10.0.0.1", "::1", "192.0.2.0/24"]))
        );
        assert_eq!(ips("any"), Ok(json!([])));
        // `--models "$MODELS"` with the variable not set does not mean all models.
        assert!(models("").is_err() && models(" , ").is_err() && ips("").is_err() && groups("").is_err());
        assert!(name("").is_err() && name(" ").is_err());
    }

    #[test]
    fn numbers_and_money() {
        assert_eq!(quota("500000"), Ok(json!(500_000)));
        assert_eq!(quota("500_000"), Ok(json!(500_000)));
        assert_eq!(quota("unlimited"), Ok(Value::Null));
        assert!(quota("-1").is_err() && quota("1.5").is_err() && limit("").is_err());
        for good in ["5.00", "20", "-1.50", "0.000000001"] {
            assert_eq!(usd(good), Ok(good.to_owned()));
        }
        for bad in ["", "-", "5.", ".5", "1e3", "+1", "1,000", "$5", "0.0000000001", "--1"] {
            assert!(usd(bad).is_err(), "{bad}");
        }
        assert!(usd_above_zero("0.00").is_err() && usd_above_zero("-5").is_err() && usd_above_zero("0.01").is_ok());
        assert_eq!(credit_limit("100.00"), Ok(json!("100.00")));
        assert_eq!(credit_limit("unlimited"), Ok(Value::Null));
        assert!(credit_limit("-1").is_err());
        assert_eq!((most("all"), most("7")), (Ok(Limit::All), Ok(Limit::Most(7))));
        assert!(most("0").is_err());
    }
}
