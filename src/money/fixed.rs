//! Exact arithmetic of numbers with a point: integers of a fixed number of decimals, never a float.

use rust_decimal::Decimal;

/// The powers of ten up to the most digits that are asked for.
const POWERS: [i128; 13] = {
    let mut powers = [1; 13];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// A decimal as an integer of `decimals` digits after the point, of which there are at most twelve. `None` when it is
/// negative or has more digits, or does not fit.
pub(super) fn fixed(value: Decimal, decimals: u32) -> Option<i128> {
    if value.is_sign_negative() && !value.is_zero() {
        return None;
    }
    let missing = |value: &Decimal| Some(*POWERS.get(decimals.checked_sub(value.scale())? as usize)?);
    if let Some(power) = missing(&value) {
        return value.mantissa().checked_mul(power);
    }
    // Too many digits, unless those are zeros. It takes long to see, and happens to no price as it is typed.
    let value = value.normalize();
    value.mantissa().checked_mul(missing(&value)?)
}

/// `number / by`, rounded half away from zero; `by` is positive.
pub(super) fn divided(number: i128, by: i128) -> i128 {
    // Half the width is a fraction of the time, and holds most amounts.
    let (quotient, rest) = match (i64::try_from(number), i64::try_from(by)) {
        (Ok(number), Ok(by)) => (i128::from(number / by), i128::from(number % by)),
        _ => (number / by, number % by),
    };
    // Of what remains and not of its double, which may not fit.
    if rest.abs() >= by - rest.abs() {
        quotient + number.signum()
    } else {
        quotient
    }
}

/// Nano-dollars of so many parts of 10⁻¹⁵, rounded half up.
pub(super) fn nanos(parts: u128) -> u128 {
    const PER_NANO: u128 = 10_u128.pow(15);
    // `PER_NANO` is this many times 2¹⁵.
    const FIVES: u64 = 5_u64.pow(15);
    let raised = parts.saturating_add(PER_NANO / 2);
    // To divide the whole width takes many times as long, and what is left without those bits holds half a dollar.
    match u64::try_from(raised >> 15) {
        Ok(high) => u128::from(high / FIVES),
        Err(_) => raised / PER_NANO,
    }
}

/// What somebody typed: a sign, digits, a point, digits.
pub(super) struct Digits<'t> {
    negative: bool,
    whole: &'t str,
    /// Without the zeros at its end.
    fraction: &'t str,
}

impl<'t> Digits<'t> {
    /// `None` when it is no such number, or has no digit.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        Some(Self {
            negative,
            whole,
            fraction: fraction.trim_end_matches('0'),
        })
    }

    /// Digits after the point that say something.
    pub(super) fn decimals(&self) -> usize {
        self.fraction.len()
    }

    /// As an integer of this many digits after the point, of which there are no more. `None` when it does not fit.
    pub(super) fn scaled(&self, decimals: u32) -> Option<i128> {
        let missing = decimals.checked_sub(u32::try_from(self.fraction.len()).ok()?)?;
        let mut number = 0_i128;
        for byte in self.whole.bytes().chain(self.fraction.bytes()) {
            number = number.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
        }
        let number = number.checked_mul(10_i128.checked_pow(missing)?)?;
        Some(if self.negative { -number } else { number })
    }
}

/// An integer of `decimals` digits after the point as text, with at least `least` of them.
pub(super) fn shown(number: i64, decimals: u32, least: usize) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let unit = 10_u64.pow(decimals);
    let (whole, rest) = (number.unsigned_abs() / unit, number.unsigned_abs() % unit);
    let fraction = format!("{rest:0width$}", width = decimals as usize);
    let said = fraction.trim_end_matches('0').len().max(least);
    format!("{sign}{whole}.{}", &fraction[..said])
}
