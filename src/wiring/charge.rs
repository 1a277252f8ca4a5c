//! What a backend reported, as what is charged for.

use tollgate_layers::meter::Usage;

use crate::money::Used;

/// The kinds of token taken apart: a report's prompt includes cached, written and audio tokens, its completion includes
/// audio. Where parts come to more than their whole, the parts count and nothing is left of the plain kind.
///
/// Requests, characters and images are not in a report: who knows the endpoint sets them.
impl From<Usage> for Used {
    fn from(usage: Usage) -> Self {
        let cache_write_1h = usage.cache_write_1h.min(usage.cache_write);
        let special = [usage.cached, usage.cache_write, usage.audio_input];
        Self {
            input: special.into_iter().fold(usage.prompt, u64::saturating_sub),
            cached_input: usage.cached,
            cache_write: usage.cache_write - cache_write_1h,
            cache_write_1h,
            output: usage.completion.saturating_sub(usage.audio_output),
            audio_input: usage.audio_input,
            audio_output: usage.audio_output,
            milliseconds: usage.milliseconds,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use rust_decimal::Decimal;

    use super::*;
    use crate::money::{Nanos, Price, Rates, Tariff, TokenRates};

    /// Charges a report at these USD a million: input, cached, output, cache write, cache write for an hour, audio in
    /// and out.
    fn charged(report: &str, rates: [&str; 7]) -> Nanos {
        let [
            input,
            cached_input,
            output,
            cache_write,
            cache_write_1h,
            audio_input,
            audio_output,
        ] = rates.map(|rate| Some(rate.parse::<Decimal>().unwrap()));
        let tokens = TokenRates {
            input,
            cached_input,
            output,
            cache_write,
            cache_write_1h,
            audio_input,
            audio_output,
        };
        let rates = Rates {
            tokens,
            ..Rates::default()
        };
        let usage = Usage::from_json(report.as_bytes()).unwrap();
        let price = Price::Rates(Box::new(rates));
        Tariff::new(&price)
            .charge(&Used::from(usage), Decimal::ONE.into())
            .unwrap()
    }

    #[test]
    fn a_prompt_that_includes_what_was_cached() {
        let report = r#"{"prompt_tokens":2604,"completion_tokens":383,"prompt_tokens_details":{"cached_tokens":2432}}"#;
        let rates = ["2", "0.2", "2", "2", "2", "2", "2"];
        assert_eq!(charged(report, rates), Nanos::new(1_596_400));
    }

    #[test]
    fn a_prompt_that_excludes_what_was_cached_and_written() {
        let report = r#"{"input_tokens":1000,"cache_read_input_tokens":100,"cache_creation_input_tokens":50,
            "cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":20},"output_tokens":200}"#;
        let rates = ["2", "0.2", "4", "2.5", "4", "2", "2"];
        assert_eq!(charged(report, rates), Nanos::new(2_975_000));
    }

    #[test]
    fn more_cached_than_prompt() {
        let report =
            r#"{"prompt_tokens":56322,"completion_tokens":87,"prompt_tokens_details":{"cached_tokens":72960}}"#;
        let rates = ["1", "0.1", "5", "1", "1", "1", "1"];
        assert_eq!(charged(report, rates), Nanos::new(7_731_000));
    }

    #[test]
    fn audio_beside_text() {
        let report = r#"{"prompt_tokens":300,"completion_tokens":350,"prompt_tokens_details":{"audio_tokens":200},
            "completion_tokens_details":{"audio_tokens":300}}"#;
        let rates = ["5", "5", "20", "5", "5", "40", "80"];
        assert_eq!(charged(report, rates), Nanos::new(33_500_000));
    }
}
