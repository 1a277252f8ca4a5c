//! `Cache-Control` (RFC 9111, section 5.2), as far as it concerns a cache that never serves what is stale.

use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, EXPIRES, RANGE, SET_COOKIE, TRAILER, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Scope;

/// What a message's `Cache-Control` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    /// The shorter of `max-age` and `s-maxage`.
    pub(super) max_age: Option<Duration>,
}

impl Control {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            // What cannot be read might have forbidden it.
            let Ok(line) = line.to_str() else {
                control.no_store = true;
                continue;
            };
            line.split(',').for_each(|directive| control.add(directive.trim()));
        }
        control
    }

    fn add(&mut self, directive: &str) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "max-age" | "s-maxage" => {
                // One that is no number counts as over (section 4.2.1).
                let seconds = value.trim().trim_matches('"').parse().unwrap_or(0);
                let age = Duration::from_secs(seconds);
                self.max_age = Some(self.max_age.map_or(age, |known| known.min(age)));
            }
            _ => {}
        }
    }
}

/// Whether the request may have to do with a cache at all.
pub(super) fn may_ask(headers: &HeaderMap, control: Control) -> bool {
    !control.no_store && !headers.contains_key(RANGE)
}

/// How long an answer may be served again, and how old it is already; `None` when it may not be kept.
pub(super) fn keeps(
    status: StatusCode,
    headers: &HeaderMap,
    scope: Scope,
    vary: &[HeaderName],
    ttl: Duration,
) -> Option<(Duration, Duration)> {
    let control = Control::read(headers);
    let whole = status.is_success() && status != StatusCode::PARTIAL_CONTENT;
    let forbidden = control.no_store || control.no_cache || control.private && scope == Scope::Shared;
    // A client's own cookies, an encoding another client may not read, a part, or what comes after the body.
    let unfit = [SET_COOKIE, CONTENT_RANGE, TRAILER]
        .iter()
        .any(|name| headers.contains_key(name))
        || headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|encoding| encoding != "identity");
    if !whole || forbidden || unfit || !headers.get_all(VARY).iter().all(|line| covered(line, vary)) {
        return None;
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.parse().ok());
    let age = Duration::from_secs(age.unwrap_or(0));
    let fresh = match control.max_age {
        Some(max_age) => max_age.checked_sub(age)?.min(ttl),
        // A date would have to be read: who cares for freshness says max-age.
        None if headers.contains_key(EXPIRES) => return None,
        None => ttl,
    };
    (!fresh.is_zero()).then_some((fresh, age))
}

/// All that the answer says it varies by is part of the key. Encoded answers are not kept, so theirs is, too.
fn covered(line: &HeaderValue, vary: &[HeaderName]) -> bool {
    line.to_str().is_ok_and(|line| {
        let known = |name: &str| {
            name.eq_ignore_ascii_case("accept-encoding") || vary.iter().any(|v| name.eq_ignore_ascii_case(v.as_str()))
        };
        line.split(',')
            .map(str::trim)
            .all(|name| name.is_empty() || known(name))
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn directives_are_read_in_any_case_over_any_lines() {
        let control = Control::read(&headers(&[(
            "cache-control",
            "Private, MAX-AGE = 60,no-cache=\"a, b\"",
        )]));
        assert!(control.private && control.no_cache && !control.no_store);
        assert_eq!(control.max_age, Some(Duration::from_mins(1)));
        let mut two = headers(&[("cache-control", "max-age=9, s-maxage=5")]);
        two.append(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let control = Control::read(&two);
        assert!(control.no_store);
        assert_eq!(control.max_age, Some(Duration::from_secs(5)));
        let broken = Control::read(&headers(&[("cache-control", "max-age=soon")]));
        assert_eq!(broken.max_age, Some(Duration::ZERO));
    }

    #[test]
    fn what_an_answer_says_about_itself_is_obeyed() {
        let ttl = Duration::from_mins(1);
        let keeps = |status: u16, lines: &[(&'static str, &'static str)], scope| {
            let status = StatusCode::from_u16(status).unwrap();
            super::keeps(status, &headers(lines), scope, &[http::header::ACCEPT], ttl).map(|(fresh, _)| fresh.as_secs())
        };
        for (lines, kept) in [
            (&[][..], Some(60)),
            (&[("cache-control", "max-age=10")], Some(10)),
            (&[("cache-control", "max-age=100")], Some(60)),
            (&[("cache-control", "max-age=10"), ("age", "4")], Some(6)),
            (&[("cache-control", "max-age=10"), ("age", "11")], None),
            (&[("cache-control", "max-age=0")], None),
            (&[("cache-control", "no-store")], None),
            (&[("cache-control", "no-cache")], None),
            (&[("cache-control", "private")], Some(60)),
            (&[("expires", "0")], None),
            (&[("set-cookie", "a=b")], None),
            (&[("content-encoding", "gzip")], None),
            (&[("content-encoding", "identity")], Some(60)),
            (&[("vary", "Accept, accept-encoding")], Some(60)),
            (&[("vary", "accept, origin")], None),
            (&[("vary", "*")], None),
        ] {
            assert_eq!(keeps(200, lines, Scope::Owner(1)), kept, "{lines:?}");
        }
        assert_eq!(keeps(200, &[("cache-control", "private")], Scope::Shared), None);
        for status in [206, 301, 304, 400, 429, 500] {
            assert_eq!(keeps(status, &[], Scope::Shared), None, "{status}");
        }
        assert_eq!(keeps(204, &[], Scope::Shared), Some(60));
    }
}
