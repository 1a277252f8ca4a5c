//! Amounts as people write and read them.

use std::num::NonZeroU64;

use proptest::prelude::*;

use crate::money::{AmountError, Credits, Nanos};

fn parse(text: &str) -> Result<i64, AmountError> {
    text.parse().map(Nanos::get)
}

fn credits(per_usd: u64) -> Credits {
    Credits {
        per_usd: NonZeroU64::new(per_usd).unwrap(),
    }
}

#[test]
fn amounts_that_people_type() {
    let good = [
        ("5.00", 5_000_000_000),
        ("-0.25", -250_000_000),
        ("+1", 1_000_000_000),
        (".5", 500_000_000),
        ("7.", 7_000_000_000),
        ("0.000000001", 1),
        ("0.0000000010000000000000000000000000000000000000000000", 1),
        ("-0", 0),
        ("00000000000000000000000000000000000000000000000000001", 1_000_000_000),
        ("4000000000", 4_000_000_000_000_000_000),
        ("-4000000000.000000000", -4_000_000_000_000_000_000),
    ];
    for (text, nanos) in good {
        assert_eq!(parse(text), Ok(nanos), "{text:?}");
    }
    for text in [
        "", "-", "+", ".", "-.", "--1", "1e3", "1,5", "1.2.3", " 1", "1 ", "$5", "٣", "0x1", "nan", "inf", "1_000",
    ] {
        assert_eq!(parse(text), Err(AmountError::Malformed), "{text:?}");
    }
    let too_large = [
        "4000000000.000000001",
        "-4000000001",
        "9999999999999999999999999999999999999999999999",
    ];
    for text in too_large {
        assert_eq!(parse(text), Err(AmountError::TooLarge), "{text:?}");
    }
    assert_eq!(parse("0.0000000001"), Err(AmountError::TooPrecise));
}

#[test]
fn amounts_that_people_read() {
    let cases = [
        (0, "0.00"),
        (1, "0.000000001"),
        (-250_000_000, "-0.25"),
        (5_000_000_000, "5.00"),
        (5_100_000_000, "5.10"),
        (5_123_000_000, "5.123"),
        (-1, "-0.000000001"),
        (i64::MIN, "-9223372036.854775808"),
    ];
    for (nanos, text) in cases {
        assert_eq!(Nanos::new(nanos).to_string(), text);
    }
    assert_eq!(format!("{:>8}", Nanos::new(5_000_000_000)), "    5.00");
    assert_eq!(serde_json::to_string(&Nanos::new(-7)).unwrap(), "-7");
    assert_eq!(serde_json::from_str::<Nanos>("100").unwrap(), Nanos::new(100));
}

#[test]
fn sums_that_do_not_fit() {
    let one = Nanos::new(1);
    assert_eq!(Nanos::MAX.checked_add(one), None);
    assert_eq!(Nanos::MIN.checked_sub(one), None);
    assert_eq!(Nanos::MIN.checked_neg(), None);
    assert_eq!(Nanos::MAX.saturating_add(one), Nanos::MAX);
    assert_eq!(Nanos::MIN.saturating_sub(one), Nanos::MIN);
    assert_eq!([Nanos::MAX, one].into_iter().sum::<Nanos>(), Nanos::MAX);
    assert!(Nanos::MAX_TYPED.checked_add(Nanos::MAX_TYPED).is_some());
}

#[test]
fn credits_are_a_view() {
    let usual = Credits::default();
    assert_eq!(usual, credits(500_000));
    for (nanos, whole) in [
        (2_000, 1),
        (999, 0),
        (1_000, 1),
        (-999, 0),
        (-1_000, -1),
        (7_500_000, 3_750),
    ] {
        assert_eq!(usual.whole(Nanos::new(nanos)), whole, "{nanos}");
    }
    assert_eq!(usual.nanos(3_750), Ok(Nanos::new(7_500_000)));
    assert_eq!(usual.parse("150.45"), Ok(Nanos::new(300_900)));
    assert_eq!(usual.parse("-0.0005"), Ok(Nanos::new(-1)));
    assert_eq!(usual.parse("0.0001"), Err(AmountError::TooPrecise));
    assert_eq!(usual.parse("0.0000000001"), Err(AmountError::TooPrecise));
    assert_eq!(usual.parse("1e3"), Err(AmountError::Malformed));
    assert_eq!(usual.nanos(2_000_000_000_000_000), Ok(Nanos::MAX_TYPED));
    assert_eq!(usual.nanos(2_000_000_000_000_001), Err(AmountError::TooLarge));
    assert_eq!(usual.nanos(u64::MAX), Err(AmountError::TooLarge));
    assert_eq!(
        usual.parse("1999999999999999.5"),
        Ok(Nanos::new(3_999_999_999_999_999_000))
    );
    assert_eq!(credits(3).nanos(1), Err(AmountError::TooPrecise));
    assert_eq!(credits(3).nanos(3), Ok(Nanos::new(1_000_000_000)));
    assert_eq!(credits(u64::MAX).whole(Nanos::MAX), i64::MAX);
    assert_eq!(credits(u64::MAX).whole(Nanos::MIN), i64::MIN);
}

proptest! {
    #[test]
    fn what_is_shown_is_read_back(nanos in -4_000_000_000_000_000_000_i64..=4_000_000_000_000_000_000) {
        let amount = Nanos::new(nanos);
        prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        let whole = Credits::default().whole(amount);
        prop_assert!((whole * 2_000 - nanos).abs() <= 1_000, "{} credits", whole);
        if let Ok(whole) = u64::try_from(whole) {
            prop_assert_eq!(Credits::default().nanos(whole), Ok(Nanos::new(i64::try_from(whole).unwrap() * 2_000)));
        }
    }

    #[test]
    fn any_text_is_an_amount_or_an_error(text in "[-+]?[0-9]{0,40}[.]?[0-9]{0,40}|\\PC{0,12}") {
        let _ = text.parse::<Nanos>();
        let _ = Credits::default().parse(&text);
    }
}
