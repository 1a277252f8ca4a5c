//! Prices as ratios, as resale platforms state them: model ratio 1 is 2 USD a million input tokens, what comes out costs
//! a factor of that. They are for display: nothing is charged by them.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::money::{Nanos, Price, TokenRates};

/// Digits after the point of a ratio that is a quotient.
const DIGITS: u32 = 9;
/// What stands where a model has no price a request.
const NO_PRICE: i64 = -1;

/// A model's price as ratios.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Ratios {
    #[serde(serialize_with = "number")]
    pub(super) model_ratio: Decimal,
    #[serde(serialize_with = "number")]
    pub(super) completion_ratio: Decimal,
    #[serde(serialize_with = "number")]
    pub(super) cache_ratio: Decimal,
    /// USD a request; -1, it is not priced so.
    #[serde(serialize_with = "number")]
    pub(super) model_price: Decimal,
}

impl Ratios {
    /// Those of a price.
    pub(super) fn of(price: Option<&Price>) -> Self {
        match price {
            None | Some(Price::Free) => Self::new(&TokenRates::default(), None),
            Some(Price::Rates(rates)) => Self::new(&rates.tokens, rates.request),
        }
    }

    /// Those of the price that a row was charged by, where its JSON has rates in one of the usual forms.
    pub(super) fn charged(price: &Value) -> Option<Self> {
        let rate = |name: &str| price.get(name).and_then(decimal);
        let tokens = TokenRates {
            input: rate("input"),
            cached_input: rate("cached_input"),
            output: rate("output"),
            ..TokenRates::default()
        };
        let request = rate("request");
        (tokens.input.is_some() || request.is_some()).then(|| Self::new(&tokens, request))
    }

    fn new(tokens: &TokenRates, request: Option<Decimal>) -> Self {
        let input = tokens.input.unwrap_or_default();
        let by_input = |rate: Option<Decimal>| {
            let rate = rate.unwrap_or(input);
            rate.checked_div(input)
                .map_or(Decimal::ONE, |ratio| ratio.round_dp(DIGITS).normalize())
        };
        Self {
            model_ratio: (input / Decimal::TWO).normalize(),
            completion_ratio: by_input(tokens.output),
            cache_ratio: by_input(tokens.cached_input),
            model_price: request.unwrap_or(Decimal::from(NO_PRICE)),
        }
    }
}

/// A price in full: USD as strings, by unit; tokens by the million.
pub(super) fn shown(price: Option<&Price>) -> Value {
    let rates = match price {
        None => return Value::Null,
        Some(Price::Free) => return json!("free"),
        Some(Price::Rates(rates)) => rates,
    };
    let mut units = tokens(&rates.tokens);
    for (name, rate) in [
        ("request", rates.request),
        ("character", rates.character),
        ("second", rates.second),
    ] {
        units.extend(rate.map(|rate| (name.to_owned(), json!(rate.to_string()))));
    }
    if !rates.image.is_empty() {
        let images = rates
            .image
            .iter()
            .map(|(size, rate)| (size.clone(), json!(rate.to_string())));
        units.insert("image".to_owned(), Value::Object(images.collect()));
    }
    if !rates.tiers.is_empty() {
        let tier = |above: u64, rates: &TokenRates| {
            let mut tier = tokens(rates);
            tier.insert("above".to_owned(), json!(above));
            Value::Object(tier)
        };
        let tiers = rates.tiers.iter().map(|t| tier(t.above.get(), &t.tokens)).collect();
        units.insert("tiers".to_owned(), Value::Array(tiers));
    }
    Value::Object(units)
}

fn tokens(rates: &TokenRates) -> Map<String, Value> {
    let named = [
        ("input", rates.input),
        ("cached_input", rates.cached_input),
        ("output", rates.output),
        ("cache_write", rates.cache_write),
        ("cache_write_1h", rates.cache_write_1h),
        ("audio_input", rates.audio_input),
        ("audio_output", rates.audio_output),
    ];
    let set = named
        .into_iter()
        .filter_map(|(name, rate)| Some((name.to_owned(), json!(rate?.to_string()))));
    set.collect()
}

// === numbers ===

/// A decimal as the number that these shapes have in JSON.
pub(super) fn number<S: serde::Serializer>(decimal: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    if decimal.is_integer()
        && let Some(integer) = decimal.to_i64()
    {
        return serializer.serialize_i64(integer);
    }
    serializer.serialize_f64(decimal.to_f64().unwrap_or_default())
}

/// An amount in US dollars.
pub(super) fn usd(amount: Nanos) -> Decimal {
    Decimal::new(amount.get(), 9).normalize()
}

/// A rate that JSON has as a string or a number.
pub(super) fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ratios() {
        let ratios = |text: &str| {
            let price = serde_json::from_str(text).unwrap();
            Ratios::charged(&price).map(|ratios| serde_json::to_value(ratios).unwrap())
        };
        // WIRE's vector 2: 0.075, completion 4, cached 0.5.
        assert_eq!(
            ratios(r#"{"input":"0.15","cached_input":0.075,"output":"0.6"}"#).unwrap(),
            json!({"model_ratio": 0.075, "completion_ratio": 4, "cache_ratio": 0.5, "model_price": -1}),
        );
        assert_eq!(
            ratios(r#"{"request":"0.04"}"#).unwrap(),
            json!({"model_ratio": 0, "completion_ratio": 1, "cache_ratio": 1, "model_price": 0.04}),
        );
        assert_eq!(ratios("{}"), None);
        assert_eq!(ratios("\"free\""), None);
    }
}
