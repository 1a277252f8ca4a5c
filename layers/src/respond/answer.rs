//! What the answers of every renderer have in common.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};

use crate::{Reason, Rejection};

const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A JSON answer with the rejection's status and headers.
pub(super) fn answer(rejection: &Rejection, json: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(json));
    *response.status_mut() = rejection.status();
    let headers = response.headers_mut();
    headers.extend(rejection.headers().clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = rejection
        .retry_after()
        .or_else(|| default_retry_after(rejection.reason()))
    {
        headers.insert(header::RETRY_AFTER, whole_seconds(after).into());
    }
    if let Some(retry) = rejection.should_retry() {
        headers.insert(
            X_SHOULD_RETRY,
            HeaderValue::from_static(if retry { "true" } else { "false" }),
        );
    }
    response
}

/// A client that is told to come back, but not when, comes back at once.
fn default_retry_after(reason: Reason) -> Option<Duration> {
    matches!(
        reason,
        Reason::Rpm
            | Reason::Tpm
            | Reason::Concurrency
            | Reason::Overloaded
            | Reason::Draining
            | Reason::NoRoute
            | Reason::LedgerFull
    )
    .then_some(Duration::from_secs(1))
}

/// RFC 9110, section 10.2.3 knows whole seconds only; rounded down, they would send the client back too early.
fn whole_seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}

/// Appends `text` as a JSON string (RFC 8259, section 7).
pub(super) fn push_string(json: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\0'..='\x1f' => {
                let code = c as usize;
                json.push_str("\\u00");
                json.push(char::from(HEX[code >> 4]));
                json.push(char::from(HEX[code & 15]));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}
