//! Charges as they follow from a price as it is written, slowly and with nothing prepared: what a [`Tariff`] must come to.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use proptest::prelude::*;
use rust_decimal::Decimal;

use crate::money::fixed::{divided, fixed, nanos};
use crate::money::{Nanos, Price, PriceError, Rates, Tariff, Tier, TokenRates, Unit, Used};

fn charge(price: &Price, used: &Used, multiplier: Decimal) -> Result<Nanos, PriceError> {
    let Price::Rates(rates) = price else {
        return Ok(Nanos::ZERO);
    };
    let multiplier = fixed(multiplier, 6).ok_or(PriceError::BadRate)?;
    let sum = sum(rates, used)?.checked_mul(multiplier).ok_or(PriceError::Overflow)?;
    let nanos = divided(sum, 10_i128.pow(15));
    i64::try_from(nanos).map(Nanos::new).map_err(|_| PriceError::Overflow)
}

fn worst(price: &Price, expected: &Used, multiplier: Decimal) -> Result<Nanos, PriceError> {
    let Price::Rates(rates) = price else {
        return Ok(Nanos::ZERO);
    };
    let kinds = [Unit::Input, Unit::CachedInput, Unit::CacheWrite, Unit::CacheWrite1h];
    let rate = |unit: &Unit| token(rates, *unit, expected.prompt());
    if expected.input > 0
        && rates.request.is_none()
        && let Some(unit) = kinds.into_iter().find(|unit| rate(unit).is_none())
    {
        return Err(PriceError::NotPriced { unit });
    }
    let dearest = kinds.into_iter().rev().max_by_key(rate).unwrap();
    let mut used = expected.clone();
    let tokens = std::mem::take(&mut used.input);
    let kind = match dearest {
        Unit::Input => &mut used.input,
        Unit::CachedInput => &mut used.cached_input,
        Unit::CacheWrite => &mut used.cache_write,
        _ => &mut used.cache_write_1h,
    };
    *kind = kind.saturating_add(tokens);
    charge(price, &used, multiplier)
}

fn sum(rates: &Rates, used: &Used) -> Result<i128, PriceError> {
    let tokens = [
        (Unit::Input, used.input),
        (Unit::CachedInput, used.cached_input),
        (Unit::Output, used.output),
        (Unit::CacheWrite, used.cache_write),
        (Unit::CacheWrite1h, used.cache_write_1h),
        (Unit::AudioInput, used.audio_input),
        (Unit::AudioOutput, used.audio_output),
    ];
    let tokens = tokens.map(|(unit, count)| (unit, count, token(rates, unit, used.prompt()), 1));
    let beside = [
        (Unit::Character, used.characters, rates.character, 1_000_000),
        (Unit::Second, used.milliseconds, rates.second, 1_000),
    ];
    let image = |(size, count): (&String, &u64)| (Unit::Image, *count, rates.image.get(size).copied(), 1_000_000);
    let images = used.images.iter().map(image);
    let (mut total, mut counted, mut unpriced) = (0_i128, false, None);
    let mut add = |count: u64, rate: Decimal, measure: i128| {
        let rate = fixed(rate, 12).ok_or(PriceError::BadRate)?;
        let part = rate
            .checked_mul(measure)
            .and_then(|rate| rate.checked_mul(count.into()));
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or(PriceError::Overflow)?;
        Ok(())
    };
    for (unit, count, rate, measure) in tokens.into_iter().chain(beside).chain(images) {
        if count > 0 {
            counted = true;
            match rate {
                Some(rate) => add(count, rate, measure)?,
                None => unpriced = unpriced.or(Some(unit)),
            }
        }
    }
    if used.requests > 0 {
        match rates.request {
            Some(rate) => add(used.requests, rate, 1_000_000)?,
            None if counted => {}
            None => unpriced = Some(Unit::Request),
        }
    }
    match unpriced.filter(|_| rates.request.is_none()) {
        Some(unit) => Err(PriceError::NotPriced { unit }),
        None => Ok(total),
    }
}

/// The price of a kind of token: what the highest tier that holds says, else the one below it, else the base, of the kind
/// and then of each plainer one.
fn token(rates: &Rates, unit: Unit, input: u64) -> Option<Decimal> {
    let plainer: &[Unit] = match unit {
        Unit::CachedInput => &[Unit::CachedInput, Unit::Input],
        Unit::CacheWrite => &[Unit::CacheWrite, Unit::Input],
        Unit::CacheWrite1h => &[Unit::CacheWrite1h, Unit::CacheWrite, Unit::Input],
        Unit::AudioInput => &[Unit::AudioInput, Unit::Input],
        Unit::AudioOutput => &[Unit::AudioOutput, Unit::Output],
        _ => &[unit],
    };
    let tiers = rates.tiers.iter().filter(|tier| input > tier.above.get());
    let holding: Vec<_> = std::iter::once(&rates.tokens)
        .chain(tiers.map(|tier| &tier.tokens))
        .collect();
    let said = |unit: &Unit| {
        holding.iter().rev().find_map(|tokens| match unit {
            Unit::Input => tokens.input,
            Unit::CachedInput => tokens.cached_input,
            Unit::Output => tokens.output,
            Unit::CacheWrite => tokens.cache_write,
            Unit::CacheWrite1h => tokens.cache_write_1h,
            Unit::AudioInput => tokens.audio_input,
            _ => tokens.audio_output,
        })
    };
    plainer.iter().find_map(said)
}

/// Such as are typed, the least and the most that a configuration may have, and now and then what it may not.
fn rate() -> BoxedStrategy<Decimal> {
    prop_oneof![
        10 => (0_i64..=100_000, 0_u32..=6).prop_map(|(number, scale)| Decimal::new(number, scale)),
        10 => (0_i64..=10_000_000_000_000, 0_u32..=12).prop_map(|(number, scale)| Decimal::new(number, scale)),
        2 => Just(Decimal::ZERO),
        2 => Just(Decimal::new(1_000_000_000, 0)),
        1 => prop_oneof![Just(Decimal::MAX), Just(Decimal::NEGATIVE_ONE), Just(Decimal::new(1, 13))],
    ]
    .boxed()
}

fn multiplier() -> BoxedStrategy<Decimal> {
    prop_oneof![
        5 => Just(Decimal::ONE),
        5 => (0_i64..=10_000_000, 0_u32..=6).prop_map(|(number, scale)| Decimal::new(number, scale)),
        1 => Just(Decimal::ZERO),
        1 => Just(Decimal::new(1_000_000, 0)),
        1 => rate(),
    ]
    .boxed()
}

/// Few, as many as there are, and as many as cannot be.
fn count() -> BoxedStrategy<u64> {
    prop_oneof![4 => Just(0), 4 => 0_u64..100, 4 => 0_u64..2_000_000, 1 => any::<u64>(), 1 => Just(u64::MAX)].boxed()
}

fn token_rates() -> BoxedStrategy<TokenRates> {
    let rates = proptest::array::uniform5(proptest::option::of(rate()));
    let plain = proptest::array::uniform2(proptest::option::weighted(0.9, rate()));
    (plain, rates)
        .prop_map(|(plain, rates)| {
            let [input, output] = plain;
            let [cached_input, cache_write, cache_write_1h, audio_input, audio_output] = rates;
            TokenRates {
                input,
                cached_input,
                output,
                cache_write,
                cache_write_1h,
                audio_input,
                audio_output,
            }
        })
        .boxed()
}

fn price() -> BoxedStrategy<Price> {
    let edge = prop_oneof![1_u64..200, 1_u64..4_000_000, Just(u64::MAX)];
    let tiers = proptest::collection::btree_map(edge, token_rates(), 0..4);
    let beside = proptest::array::uniform3(proptest::option::weighted(0.3, rate()));
    let image = proptest::collection::btree_map("[ab]", rate(), 0..2);
    let rates = (token_rates(), tiers, beside, image).prop_map(|(tokens, tiers, beside, image)| {
        let [request, character, second] = beside;
        let tier = |(above, tokens)| Tier {
            above: NonZeroU64::new(above).unwrap(),
            tokens,
        };
        Price::Rates(Box::new(Rates {
            tokens,
            tiers: tiers.into_iter().map(tier).collect(),
            request,
            character,
            second,
            image,
        }))
    });
    prop_oneof![1 => Just(Price::Free), 30 => rates].boxed()
}

/// Tokens of every kind, and beside them what few requests have.
fn used() -> BoxedStrategy<Used> {
    let seldom = || prop_oneof![5 => Just(0), 1 => count()].boxed();
    let tokens = [count(), count()];
    let special = proptest::array::uniform5(seldom());
    let beside = proptest::array::uniform3(seldom());
    let images = prop_oneof![5 => Just(BTreeMap::new()), 1 => proptest::collection::btree_map("[ab]", count(), 0..3)];
    (tokens, special, beside, images)
        .prop_map(|(tokens, special, beside, images)| {
            let ([input, output], [requests, characters, milliseconds]) = (tokens, beside);
            let [cached_input, cache_write, cache_write_1h, audio_input, audio_output] = special;
            Used {
                input,
                cached_input,
                cache_write,
                cache_write_1h,
                output,
                audio_input,
                audio_output,
                requests,
                characters,
                milliseconds,
                images,
            }
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn a_tariff_charges_what_its_price_says(price in price(), used in used(), by in multiplier()) {
        let tariff = Tariff::new(&price);
        prop_assert_eq!(tariff.charge(&used, by.into()), charge(&price, &used, by));
        prop_assert_eq!(tariff.worst(&used, by.into()), worst(&price, &used, by));
        let beside = Used {
            requests: used.requests,
            characters: used.characters,
            milliseconds: used.milliseconds,
            images: used.images.clone(),
            ..Used::default()
        };
        prop_assert_eq!(tariff.charge_beside(&used, by.into()), charge(&price, &beside, by));
    }

    /// By the tokens of the completion, wherever it can be charged at all.
    #[test]
    fn a_line_is_the_worst_of_every_length(price in price(), used in used(), by in multiplier(), output in count()) {
        let of = |output| worst(&price, &Used { output, ..used.clone() }, by);
        let tariff = Tariff::new(&price);
        match tariff.line(&Used { output: 0, ..used.clone() }, by.into()) {
            Some(line) => for output in [0, 1, output] {
                prop_assert_eq!(line.at(output), of(output));
            },
            None => prop_assert!(of(0).is_err() || of(1).is_err()),
        }
    }

    #[test]
    fn rounding_is_the_same_at_every_width(number in any::<u64>(), rest in 0_u64..3, shift in 0_u32..62) {
        // Of every width, and at half a nano-dollar or beside it.
        let half = i128::from(number >> shift) * 10_i128.pow(15) + 5 * 10_i128.pow(14) + i128::from(rest) - 1;
        for parts in [i128::from(number) << shift, half] {
            prop_assert_eq!(nanos(parts.unsigned_abs()), divided(parts, 10_i128.pow(15)).unsigned_abs());
        }
    }

    #[test]
    fn a_unit_has_a_price_where_one_is_charged(price in price()) {
        let tariff = Tariff::new(&price);
        let Price::Rates(rates) = &price else { return Ok(()) };
        for unit in Unit::TOKENS {
            prop_assert_eq!(tariff.has(unit), token(rates, unit, 0).is_some());
        }
        prop_assert_eq!(tariff.has(Unit::Request), rates.request.is_some());
        prop_assert_eq!(tariff.has(Unit::Character), rates.character.is_some());
        prop_assert_eq!(tariff.has(Unit::Second), rates.second.is_some());
        prop_assert_eq!(tariff.has(Unit::Image), !rates.image.is_empty());
    }
}
