//! What holds for every charge.

use std::num::NonZeroU64;

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::{charge, worst};
use crate::money::{Nanos, Price, Rates, Tier, TokenRates, Used};

/// Up to 10,000 USD, to the last decimal that is allowed.
fn rate() -> impl Strategy<Value = Decimal> {
    (0_i64..=10_000_000_000_000_000, 0_u32..=12)
        .prop_map(|(mantissa, scale)| Decimal::new(mantissa % 10_i64.pow(4 + scale.min(11)), scale))
}

fn token_rates() -> impl Strategy<Value = TokenRates> {
    let beside = proptest::array::uniform5(proptest::option::of(rate()));
    (rate(), rate(), beside).prop_map(|(input, output, beside)| {
        let [cached_input, cache_write, cache_write_1h, audio_input, audio_output] = beside;
        TokenRates {
            input: Some(input),
            cached_input,
            output: Some(output),
            cache_write,
            cache_write_1h,
            audio_input,
            audio_output,
        }
    })
}

fn price() -> impl Strategy<Value = Price> {
    let each = proptest::option::of(rate());
    (token_rates(), each).prop_map(|(tokens, request)| {
        Price::Rates(Box::new(Rates {
            tokens,
            request,
            ..Rates::default()
        }))
    })
}

fn used() -> impl Strategy<Value = Used> {
    (proptest::array::uniform7(0_u64..2_000_000), 0_u64..8).prop_map(|(tokens, requests)| {
        let [
            input,
            cached_input,
            cache_write,
            cache_write_1h,
            output,
            audio_input,
            audio_output,
        ] = tokens;
        Used {
            input,
            cached_input,
            cache_write,
            cache_write_1h,
            output,
            audio_input,
            audio_output,
            requests,
            ..Used::default()
        }
    })
}

fn multiplier() -> impl Strategy<Value = Decimal> {
    (0_i64..=10_000_000, 0_u32..=6).prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale.max(4)))
}

/// One more of one kind.
fn one_more(used: &Used, kind: usize) -> Used {
    let mut more = used.clone();
    let counts = [
        &mut more.input,
        &mut more.cached_input,
        &mut more.cache_write,
        &mut more.cache_write_1h,
        &mut more.output,
        &mut more.audio_input,
        &mut more.audio_output,
        &mut more.requests,
    ];
    for (_, count) in counts.into_iter().enumerate().filter(|(at, _)| *at == kind) {
        *count += 1;
    }
    more
}

proptest! {
    #[test]
    fn never_negative_and_more_never_costs_less(price in price(), used in used(), by in multiplier(), kind in 0_usize..8) {
        let charged = charge(&price, &used, by).unwrap();
        prop_assert!(charged >= Nanos::ZERO);
        prop_assert!(charge(&price, &one_more(&used, kind), by).unwrap() >= charged);
        prop_assert!(worst(&price, &used, by).unwrap() >= charged);
        prop_assert_eq!(charge(&price, &used, Decimal::ZERO), Ok(Nanos::ZERO));
    }

    /// Rounded once, half away from zero: never further than half a nano-dollar from what the prices say.
    #[test]
    fn as_near_as_can_be(rate in rate(), tokens in 0_u64..10_000_000, by in multiplier()) {
        let tokens_price = TokenRates { input: Some(rate), ..TokenRates::default() };
        let price = Price::Rates(Box::new(Rates { tokens: tokens_price, ..Rates::default() }));
        let charge = charge(&price, &Used { input: tokens, ..Used::default() }, by).unwrap();
        // Doubled and in parts of 10^-15 nano-dollar, where all of it is whole.
        let whole = |value: Decimal, scale: u32| { let v = value.normalize(); v.mantissa() * 10_i128.pow(scale - v.scale()) };
        let exact = whole(rate, 12) * whole(by, 6) * i128::from(tokens);
        let off = (2 * i128::from(charge.get())) * 10_i128.pow(15) - 2 * exact;
        prop_assert!(-10_i128.pow(15) < off && off <= 10_i128.pow(15), "off by {}", off);
    }

    #[test]
    fn a_tier_holds_from_the_token_after_its_edge(edge in 1_u64..1_000_000, over in 1_u64..1_000, low in rate(), high in rate()) {
        let of = |rate| TokenRates { input: Some(rate), ..TokenRates::default() };
        let flat = |rate| Price::Rates(Box::new(Rates { tokens: of(rate), ..Rates::default() }));
        let tiers = vec![Tier { above: NonZeroU64::new(edge).unwrap(), tokens: of(high) }];
        let tiered = Price::Rates(Box::new(Rates { tokens: of(low), tiers, ..Rates::default() }));
        let charge = |price: &Price, input| charge(price, &Used { input, ..Used::default() }, Decimal::ONE);
        prop_assert_eq!(charge(&tiered, edge), charge(&flat(low), edge));
        prop_assert_eq!(charge(&tiered, edge + over), charge(&flat(high), edge + over));
    }
}
