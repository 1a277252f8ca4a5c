//! What the client is told when no attempt was accepted.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::Seen;
use crate::{Reason, Rejection};

/// The attempts that were not accepted, as far as the client is told of them.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: u32,
    rate_limited: u32,
    retry_after: Option<Duration>,
    /// The last one, when there was no answer in it.
    last: Option<Rejection>,
    /// How many of the latest in a row failed with the last one's reason.
    alike: u32,
}

// === impl Failures ===

impl Failures {
    pub(super) fn note(&mut self, seen: &Seen<'_>) {
        self.count += 1;
        let (limited, after) = match seen {
            Seen::Head { status, headers } => {
                self.last = None;
                (*status == StatusCode::TOO_MANY_REQUESTS, retry_after(headers))
            }
            Seen::Refused(rejection) => {
                let same = self
                    .last
                    .as_ref()
                    .is_some_and(|last| last.reason() == rejection.reason());
                self.alike = if same { self.alike + 1 } else { 1 };
                self.last = Some((*rejection).clone());
                (
                    rejection.reason() == Reason::UpstreamRateLimited,
                    rejection.retry_after(),
                )
            }
        };
        if limited {
            self.rate_limited += 1;
            self.retry_after = self.retry_after.max(after);
        }
    }

    pub(super) fn verdict(self) -> Rejection {
        let second = Duration::from_secs(1);
        if self.count == 0 {
            return Rejection::new(Reason::NoRoute).with_retry_after(second);
        }
        if self.rate_limited == self.count {
            let after = self.retry_after.unwrap_or(second);
            return Rejection::new(Reason::UpstreamRateLimited).with_retry_after(after);
        }
        match self.last {
            Some(last) if last.status() == StatusCode::GATEWAY_TIMEOUT || self.alike == self.count => last,
            _ => Reason::UpstreamFailed.into(),
        }
    }
}

/// Retry-After in seconds; the form with a date is read as absent.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}
