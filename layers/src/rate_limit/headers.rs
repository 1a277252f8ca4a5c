use std::fmt::Write;
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
        headers.insert(self.limit.clone(), state.limit.into());
        headers.insert(self.remaining.clone(), state.remaining.into());
        if let Ok(reset) = HeaderValue::try_from(go_duration(state.reset)) {
            headers.insert(self.reset.clone(), reset);
        }
    }
}

/// A duration as Go writes it and OpenAI sends it: `0s`, `350ms`, `1.2s`, `6m0s`. Rounded up to milliseconds.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    let mut text = String::with_capacity(12);
    if (1..1000).contains(&millis) {
        // Writing to a string does not fail.
        let _ = write!(text, "{millis}ms");
        return text;
    }
    let (minutes, seconds, fraction) = (millis / 60_000, millis / 1000 % 60, millis % 1000);
    if minutes >= 60 {
        let _ = write!(text, "{}h", minutes / 60);
    }
    if minutes > 0 {
        let _ = write!(text, "{}m", minutes % 60);
    }
    let _ = write!(text, "{seconds}");
    if fraction > 0 {
        let _ = write!(text, ".{fraction:03}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
