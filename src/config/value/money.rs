//! Amounts, prices and factors.

use rust_decimal::Decimal;
use serde_json::json;

use super::{Amount, Factor, Percent, Usd};
use crate::config::read::{Bad, Leaf};
use crate::config::tree::Value;
use crate::money::{AmountError, MULTIPLIER_DECIMALS, Nanos, RATE_DECIMALS};

impl Leaf for Amount {
    const WHAT: &'static str = "a number";
    const REMEDY: &'static str = "write a number from 0 up, such as 0.27";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        within(value, 1_000_000_000, RATE_DECIMALS).map(Self)
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "number", "minimum": 0 })
    }
}

impl Leaf for Factor {
    const WHAT: &'static str = "a number";
    const REMEDY: &'static str = "write a number from 0 up, such as 0.8";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        within(value, 1_000_000, MULTIPLIER_DECIMALS).map(Self)
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "number", "minimum": 0 })
    }
}

impl Leaf for Percent {
    const WHAT: &'static str = "a percentage";
    const REMEDY: &'static str = "write a number from 0 to 1000, such as 10";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        within(value, 1_000, 6).map(Self)
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "number", "minimum": 0, "maximum": 1000 })
    }
}

impl Leaf for Usd {
    const WHAT: &'static str = "an amount";
    const REMEDY: &'static str = "write US dollars, such as 20 or 4.99";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        let number = within(value, 4_000_000_000, 9)?;
        let amount: Result<Nanos, AmountError> = number.to_string().parse();
        amount.map(Self).map_err(|error| Bad::What(error.to_string()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "number", "minimum": 0, "maximum": 4_000_000_000_u64 })
    }
}

/// A number from 0 to `most`, with at most so many digits after the point: as it was typed, or not at all.
fn within(value: &Value, most: u64, decimals: u32) -> Result<Decimal, Bad> {
    let number = match value {
        Value::Integer(i) => Decimal::try_from_i128_with_scale(*i, 0).ok(),
        Value::Float(text) => Decimal::from_str_exact(text)
            .or_else(|_| Decimal::from_scientific(text))
            .ok(),
        _ => return Err(Bad::Kind),
    };
    match number.map(|number| number.normalize()) {
        None => Err(Bad::What("out of range".to_owned())),
        Some(number) if number.is_sign_negative() && !number.is_zero() => Err(Bad::What("negative".to_owned())),
        Some(number) if number > Decimal::from(most) => Err(Bad::What(format!("more than {most}"))),
        Some(number) if number.scale() > decimals => {
            Err(Bad::What(format!("more than {decimals} digits after the point")))
        }
        Some(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(text: &str) -> Value {
        Value::Float(text.to_owned())
    }

    #[test]
    fn amounts_are_what_was_typed() {
        let amount = |v: Value| Amount::from_value(&v).ok().map(|a| a.0.to_string());
        assert_eq!(amount(float("0.1")).as_deref(), Some("0.1"));
        assert_eq!(amount(float("1.10")).as_deref(), Some("1.1"));
        assert_eq!(amount(float("5e-3")).as_deref(), Some("0.005"));
        assert_eq!(amount(float("0.000000000001")).as_deref(), Some("0.000000000001"));
        assert_eq!(amount(Value::Integer(3)).as_deref(), Some("3"));
        assert_eq!(amount(Value::Integer(1_000_000_001)), None, "too much");
        assert_eq!(amount(Value::Integer(i128::MAX)), None, "out of range");
        for bad in [
            "-0.1",
            "nan",
            "inf",
            "1e400",
            "0.0000000000001",
            "0.0000000000000000000000000000001",
        ] {
            assert_eq!(amount(float(bad)), None, "{bad}");
        }
    }

    #[test]
    fn dollars_factors_and_percentages() {
        let usd = |text: &str| Usd::from_value(&float(text)).ok().map(|usd| usd.0.get());
        assert_eq!(usd("4.99"), Some(4_990_000_000));
        assert_eq!(usd("0.000000001"), Some(1));
        assert_eq!(
            (usd("0.0000000001"), usd("4e9")),
            (None, Some(4_000_000_000_000_000_000))
        );
        let factor = |text: &str| Factor::from_value(&float(text)).is_ok();
        assert!(factor("0.000001") && !factor("0.0000001") && !factor("1000000.1"));
        let percent = |text: &str| Percent::from_value(&float(text)).is_ok();
        assert!(percent("12.5") && percent("1000.0") && !percent("1000.1") && !percent("-1.0"));
    }
}
