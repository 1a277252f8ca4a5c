//! Vectors of charges, and what holds for all of them.

#![expect(clippy::unwrap_used, reason = "tests")]

mod properties;
mod reference;
mod text;

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use rust_decimal::Decimal;

use super::*;

pub(super) fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// A price by kind of token, in the order of [`TokenRates`]; an empty text is none.
fn tokens(rates: [&str; 7]) -> TokenRates {
    let [
        input,
        cached_input,
        output,
        cache_write,
        cache_write_1h,
        audio_input,
        audio_output,
    ] = rates.map(|rate| (!rate.is_empty()).then(|| decimal(rate)));
    TokenRates {
        input,
        cached_input,
        output,
        cache_write,
        cache_write_1h,
        audio_input,
        audio_output,
    }
}

/// Rates as resale platforms write them: 1 is 2 USD a million, the rest are factors on it. Cached 0.1, cache writes
/// 1.25 and 2, audio 8 and again the completion's on the way out, unless said otherwise.
fn by_ratio(model: &str, completion: &str, [cached, audio, audio_completion]: [&str; 3]) -> Price {
    let input = decimal(model) * decimal("2");
    let output = input * decimal(completion);
    let audio = input * decimal(audio);
    Price::Rates(Box::new(Rates {
        tokens: TokenRates {
            input: Some(input),
            cached_input: Some(input * decimal(cached)),
            output: Some(output),
            cache_write: Some(input * decimal("1.25")),
            cache_write_1h: Some(input * decimal("2")),
            audio_input: Some(audio),
            audio_output: Some(audio * decimal(audio_completion)),
        },
        ..Rates::default()
    }))
}

fn plain(model: &str, completion: &str) -> Price {
    by_ratio(model, completion, ["0.1", "8", "2"])
}

fn rates(set: impl FnOnce(&mut Rates)) -> Price {
    let mut rates = Rates::default();
    set(&mut rates);
    Price::Rates(Box::new(rates))
}

fn used(input: u64, cached_input: u64, output: u64) -> Used {
    Used {
        input,
        cached_input,
        output,
        ..Used::default()
    }
}

fn charge(price: &Price, used: &Used, multiplier: Decimal) -> Result<Nanos, PriceError> {
    Tariff::new(price).charge(used, multiplier.into())
}

fn worst(price: &Price, expected: &Used, multiplier: Decimal) -> Result<Nanos, PriceError> {
    Tariff::new(price).worst(expected, multiplier.into())
}

fn nanos(price: &Price, used: &Used, multiplier: &str) -> Result<i64, PriceError> {
    charge(price, used, decimal(multiplier)).map(Nanos::get)
}

/// What the resale platforms' own calculators come to; 1 credit = 2,000 nano-dollars.
#[test]
fn vectors() {
    let cached = |share: &str, model, completion| by_ratio(model, completion, [share, "8", "2"]);
    let writes = Used {
        cache_write: 30,
        cache_write_1h: 20,
        ..used(1000, 100, 200)
    };
    let short_write = Used {
        cache_write: 100,
        ..used(2504, 0, 383)
    };
    let spoken = Used {
        audio_input: 200,
        audio_output: 300,
        ..used(100, 0, 50)
    };
    let images = Used {
        requests: 2,
        ..Used::default()
    };
    let image = rates(|r| r.request = Some(decimal("0.04") * decimal("2") * decimal("1.5")));
    let cases = [
        (1, plain("1.25", "4"), used(1000, 0, 500), "1", 7_500_000),
        (2, cached("0.5", "0.075", "4"), used(210, 1024, 321), "1", 300_900),
        (3, cached("0.25", "0.135", "4"), used(500, 1500, 700), "0.8", 793_800),
        (4, plain("1", "2"), writes.clone(), "1", 2_975_000),
        (5, plain("1.5", "5"), writes, "1.2", 7_515_000),
        (6, plain("0.01", "1"), used(5, 0, 0), "1", 100),
        (7, plain("1", "1"), used(172, 2432, 383), "1", 1_596_400),
        (8, plain("1", "1"), short_write, "1", 6_024_000),
        (9, plain("15", "2"), used(20, 0, 100), "1", 6_600_000),
        (10, plain("15", "2"), used(1000, 0, 10), "0", 0),
        (11, image, images, "1", 240_000_000),
        (12, plain("2.5", "4"), spoken, "1", 33_500_000),
        (13, plain("0.5", "1"), used(3, 0, 0), "1", 3_000),
        (14, plain("0.5", "5"), used(0, 72960, 87), "1", 7_731_000),
    ];
    for (number, price, used, multiplier, expected) in cases {
        assert_eq!(nanos(&price, &used, multiplier), Ok(expected), "V{number}");
    }
    // V9 is reserved before it is charged.
    let reserved = worst(&plain("15", "2"), &used(20, 0, 1000), Decimal::ONE).unwrap();
    assert!(reserved >= Nanos::new(60_600_000), "{reserved:?}");
    assert_eq!(nanos(&plain("15", "2"), &used(20, 0, 1000), "1"), Ok(60_600_000));
}

#[test]
fn one_rounding_at_the_end() {
    let price = rates(|r| {
        r.tokens.input = Some(decimal("0.0001"));
        r.tokens.output = Some(decimal("0.0004"));
    });
    // 0.1 + 0.4 nano-dollars: neither rounds up by itself.
    assert_eq!(nanos(&price, &used(1, 0, 1), "1"), Ok(1));
    assert_eq!(nanos(&price, &used(1, 0, 1), "0.999999"), Ok(0));
    assert_eq!(nanos(&price, &used(4, 0, 0), "1"), Ok(0));
    assert_eq!(nanos(&price, &used(5, 0, 0), "1"), Ok(1));
    // Decimals of 28 digits would have lost the last of these.
    let exact = rates(|r| r.tokens.input = Some(decimal("0.000000000001")));
    assert_eq!(
        nanos(&exact, &used(1_499_999_999_999_999_999, 0, 0), "1"),
        Ok(1_500_000_000)
    );
    assert_eq!(
        nanos(&exact, &used(1_499_999_999_499_999_999, 0, 0), "1"),
        Ok(1_499_999_999)
    );
}

#[test]
fn kinds_of_token_without_a_price() {
    let price = rates(|r| r.tokens = tokens(["1", "", "2", "", "", "", ""]));
    let all = Used {
        cache_write: 10,
        cache_write_1h: 10,
        audio_input: 10,
        audio_output: 10,
        ..used(10, 10, 10)
    };
    assert_eq!(nanos(&price, &all, "1"), Ok(50 * 1_000 + 20 * 2_000));
    let with_writes = rates(|r| r.tokens = tokens(["1", "", "2", "3", "", "", ""]));
    assert_eq!(nanos(&with_writes, &all, "1"), Ok(30 * 1_000 + 20 * 2_000 + 20 * 3_000));
    let only_input = rates(|r| r.tokens = tokens(["1", "", "", "", "", "", ""]));
    assert_eq!(nanos(&only_input, &used(10, 0, 0), "1"), Ok(10_000));
    let unpriced = |unit| Err(PriceError::NotPriced { unit });
    assert_eq!(nanos(&only_input, &used(10, 0, 1), "1"), unpriced(Unit::Output));
    // Even where a group pays nothing.
    assert_eq!(nanos(&only_input, &used(10, 0, 1), "0"), unpriced(Unit::Output));
}

#[test]
fn other_units() {
    let price = rates(|r| {
        r.character = Some(decimal("0.000015"));
        r.second = Some(decimal("0.0001"));
        r.image = BTreeMap::from([("hd:1024x1792".to_owned(), decimal("0.12"))]);
    });
    let none = Used::default;
    let spoken = Used {
        characters: 1_000,
        requests: 1,
        ..none()
    };
    assert_eq!(nanos(&price, &spoken, "1"), Ok(15_000_000));
    let heard = Used {
        milliseconds: 3_250,
        ..none()
    };
    assert_eq!(nanos(&price, &heard, "2"), Ok(650_000));
    let images = |size: &str| Used {
        images: BTreeMap::from([(size.to_owned(), 3)]),
        requests: 3,
        ..none()
    };
    assert_eq!(nanos(&price, &images("hd:1024x1792"), "1"), Ok(360_000_000));
    let unpriced = |unit| Err(PriceError::NotPriced { unit });
    assert_eq!(nanos(&price, &images("hd:512x512"), "1"), unpriced(Unit::Image));
    assert_eq!(nanos(&price, &used(1, 0, 0), "1"), unpriced(Unit::Input));
    let requests = Used { requests: 1, ..none() };
    assert_eq!(nanos(&price, &requests, "1"), unpriced(Unit::Request));
    assert_eq!(nanos(&price, &none(), "1"), Ok(0));
    assert_eq!(nanos(&plain("1", "1"), &spoken, "1"), unpriced(Unit::Character));
    assert_eq!(nanos(&plain("1", "1"), &heard, "1"), unpriced(Unit::Second));
    assert_eq!(nanos(&Price::Free, &images("any"), "3"), Ok(0));
}

#[test]
fn a_price_for_the_request() {
    let only = rates(|r| r.request = Some(decimal("0.04")));
    let chat = Used {
        requests: 1,
        ..used(100, 0, 100)
    };
    assert_eq!(nanos(&only, &chat, "1"), Ok(40_000_000));
    let beside = rates(|r| {
        r.request = Some(decimal("0.04"));
        r.tokens.output = Some(decimal("10"));
    });
    assert_eq!(nanos(&beside, &chat, "1"), Ok(41_000_000));
    let (only, plain) = (Tariff::new(&only), Tariff::new(&plain("1", "1")));
    assert!(only.has(Unit::Request) && !only.has(Unit::AudioInput));
    assert!(plain.has(Unit::AudioInput) && !plain.has(Unit::Image));
}

#[test]
fn tiers_begin_above_their_edge() {
    let tier = |above, rates| Tier {
        above: NonZeroU64::new(above).unwrap(),
        tokens: tokens(rates),
    };
    let price = rates(|r| {
        r.tokens = tokens(["1", "0.5", "10", "", "", "", ""]);
        r.tiers = vec![
            tier(1_000, ["2", "", "20", "", "", "", ""]),
            tier(2_000, ["4", "", "", "", "", "", ""]),
        ];
    });
    assert_eq!(nanos(&price, &used(1_000, 0, 1), "1"), Ok(1_000 * 1_000 + 10_000));
    assert_eq!(nanos(&price, &used(1_001, 0, 1), "1"), Ok(1_001 * 2_000 + 20_000));
    // Every kind of prompt token counts; what a tier leaves out stays.
    assert_eq!(nanos(&price, &used(1, 1_000, 1), "1"), Ok(2_000 + 1_000 * 500 + 20_000));
    assert_eq!(nanos(&price, &used(2_001, 0, 1), "1"), Ok(2_001 * 4_000 + 20_000));
}

#[test]
fn what_cannot_be_charged_is_an_error() {
    let at = |rate: &str| rates(|r| r.tokens.input = Some(decimal(rate)));
    let one = used(1, 0, 0);
    assert_eq!(nanos(&at("-1"), &one, "1"), Err(PriceError::BadRate));
    assert_eq!(nanos(&at("0.0000000000001"), &one, "1"), Err(PriceError::BadRate));
    assert_eq!(nanos(&at("1"), &one, "0.0000001"), Err(PriceError::BadRate));
    assert_eq!(nanos(&at("1"), &one, "-1"), Err(PriceError::BadRate));
    assert_eq!(
        nanos(&at("1000000"), &used(u64::MAX, 0, 0), "1"),
        Err(PriceError::Overflow)
    );
    let dearest = at("79228162514264337593543950335");
    assert!(matches!(
        nanos(&dearest, &one, "1"),
        Err(PriceError::BadRate | PriceError::Overflow)
    ));
}

#[test]
fn the_worst_of_a_prompt() {
    let price = rates(|r| r.tokens = tokens(["1", "0.1", "10", "1.25", "2", "", ""]));
    let expected = used(100, 0, 50);
    assert_eq!(
        worst(&price, &expected, Decimal::TWO),
        Ok(Nanos::new(2 * (100 * 2_000 + 50 * 10_000)))
    );
    let plain = rates(|r| r.tokens = tokens(["1", "", "10", "", "", "", ""]));
    assert_eq!(
        worst(&plain, &expected, Decimal::ONE),
        charge(&plain, &expected, Decimal::ONE)
    );
}

/// Whatever has a price: the dearest of the charges that each kind alone would come to.
#[test]
fn the_worst_is_the_dearest_of_each_kind_in_turn() {
    let some = ["", "1", "0.3", "2.5"];
    for number in 0..some.len().pow(4) {
        let pick = |place: u32| some[number / some.len().pow(place) % some.len()];
        for request in [None, Some(decimal("0.04"))] {
            let price = rates(|r| {
                r.tokens = tokens([pick(0), pick(1), "10", pick(2), pick(3), "", ""]);
                r.request = request;
                r.tiers = vec![Tier {
                    above: NonZeroU64::new(50).unwrap(),
                    tokens: tokens(["", "7", "", "", "", "", ""]),
                }];
            });
            for input in [0, 50, 51] {
                let expected = Used {
                    requests: 1,
                    ..used(input, 0, 5)
                };
                let kinds: [fn(&mut Used) -> &mut u64; 4] = [
                    |used| &mut used.input,
                    |used| &mut used.cached_input,
                    |used| &mut used.cache_write,
                    |used| &mut used.cache_write_1h,
                ];
                let each = kinds.map(|kind| {
                    let mut used = expected.clone();
                    used.input = 0;
                    *kind(&mut used) = input;
                    charge(&price, &used, Decimal::ONE)
                });
                let dearest = each.into_iter().collect::<Result<Vec<_>, _>>();
                let dearest = dearest.map(|all| all.into_iter().max().unwrap());
                assert_eq!(worst(&price, &expected, Decimal::ONE), dearest, "{price} of {input}");
            }
        }
    }
}

#[test]
fn bonuses() {
    let usd = |text: &str| text.parse::<Nanos>().unwrap();
    let step = |from, percent| Bonus {
        from: usd(from),
        percent: decimal(percent),
    };
    let table = Bonuses::new(vec![step("50", "15"), step("20", "10"), step("100", "20")]);
    let bonus = |amount| table.bonus_for(usd(amount)).map(|b| b.of(usd(amount)).unwrap());
    assert_eq!(bonus("19.999999999"), None);
    assert_eq!(bonus("20"), Some(usd("2")));
    assert_eq!(bonus("49.99"), Some(usd("4.999")));
    assert_eq!(bonus("50"), Some(usd("7.5")));
    assert_eq!(bonus("500"), Some(usd("100")));
    assert_eq!(Bonuses::default().bonus_for(Nanos::MAX), None);
    assert_eq!(
        step("0", "12.5").of(Nanos::new(4)),
        Some(Nanos::new(1)),
        "0.5 rounds up"
    );
    assert_eq!(step("0", "1000").of(Nanos::MAX), None);
}
