use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::State;

/// The three headers that tell how a limit stands.
pub(super) struct Names {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

pub(super) static REQUESTS: Names = Names {
    limit: HeaderName::from_static("x-ratelimit-limit-requests"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-requests"),
    reset: HeaderName::from_static("x-ratelimit-reset-requests"),
};

pub(super) static TOKENS: Names = Names {
    limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-tokens"),
    reset: HeaderName::from_static("x-ratelimit-reset-tokens"),
};

impl Names {
    /// Writes `state` into `headers`, unless another limit that is tighter has been there before.
    pub(super) fn stamp(&self, headers: &mut HeaderMap, state: &State) {
        let left = headers
            .get(&self.remaining)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if left.is_some_and(|left| left <= state.remaining) {
            return;
        }
        headers.insert(self.limit.clone(), Text::number(state.limit).value());
        headers.insert(self.remaining.clone(), Text::number(state.remaining).value());
        headers.insert(self.reset.clone(), Text::duration(state.reset).value());
    }
}

/// The text of a value, on the stack: these headers go with every answer, and nine of them are made for some.
struct Text {
    bytes: [u8; 32],
    length: usize,
}

impl Text {
    fn new() -> Self {
        Self {
            bytes: [0; 32],
            length: 0,
        }
    }

    fn number(number: u64) -> Self {
        let mut text = Self::new();
        text.push_number(number);
        text
    }

    /// A duration as Go writes it and OpenAI sends it: `0s`, `350ms`, `1.2s`, `6m0s`. Rounded up to milliseconds.
    fn duration(duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let mut text = Self::new();
        if (1..1000).contains(&millis) {
            text.push_number(millis);
            text.push(b"ms");
            return text;
        }
        let (minutes, seconds, fraction) = (millis / 60_000, millis / 1000 % 60, millis % 1000);
        if minutes >= 60 {
            text.push_number(minutes / 60);
            text.push(b"h");
        }
        if minutes > 0 {
            text.push_number(minutes % 60);
            text.push(b"m");
        }
        text.push_number(seconds);
        if fraction > 0 {
            let digits = [fraction / 100, fraction / 10 % 10, fraction % 10].map(digit);
            let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
            text.push(b".");
            text.push(&digits[..3 - zeros]);
        }
        text.push(b"s");
        text
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn push_number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = digit(number % 10);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }

    fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.bytes[..self.length]).expect("digits and letters make a header value")
    }
}

fn digit(below_ten: u64) -> u8 {
    b'0' + u8::try_from(below_ten).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go_duration(duration: Duration) -> HeaderValue {
        Text::duration(duration).value()
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (350, "350ms"),
            (999, "999ms"),
            (1000, "1s"),
            (1200, "1.2s"),
            (8640, "8.64s"),
            (10_000, "10s"),
            (10_005, "10.005s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (90_061_500, "25h1m1.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(go_duration(Duration::from_micros(1)), "1ms");
        assert_eq!(go_duration(Duration::from_micros(999_001)), "1s");
        assert_eq!(go_duration(Duration::MAX), "5124095576030h25m51.615s");
        for number in [0, 9, 10, u64::MAX] {
            assert_eq!(Text::number(number).value(), number.to_string());
        }
    }

    #[test]
    fn the_tighter_limit_is_shown() {
        let state = |limit, remaining| State {
            limit,
            remaining,
            reset: Duration::from_secs(1),
        };
        let mut headers = HeaderMap::new();
        for (limit, remaining, shown) in [(100, 50, "100"), (60, 50, "100"), (10, 9, "10"), (1000, 999, "10")] {
            REQUESTS.stamp(&mut headers, &state(limit, remaining));
            assert_eq!(headers["x-ratelimit-limit-requests"], shown);
        }
        TOKENS.stamp(&mut headers, &state(7, 7));
        assert_eq!(headers["x-ratelimit-limit-tokens"], "7");
        assert_eq!(headers["x-ratelimit-remaining-requests"], "9");
        assert_eq!(headers["x-ratelimit-reset-tokens"], "1s");
    }
}
