//! One call of the admin API, as data: what a verb's arguments mean can be tested without a server.

use std::fmt::Write as _;
use std::time::Duration;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

/// How long an answer may take. A person waits, and a script has to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// What stands in a path or a query as it is: RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query below `/admin/v1`, encoded.
    pub(crate) path: String,
    pub(crate) body: Option<Map<String, Value>>,
    /// The key under which the server does it once, however often it is sent.
    pub(crate) idempotency_key: Option<String>,
    /// Whether the caller's token goes into the body, too, as a proof that it is still there. It is added when the
    /// call is sent, so that no `Call` holds a secret.
    pub(crate) proves: bool,
    pub(crate) patience: Duration,
}

// === impl Call ===

impl Call {
    fn new<const N: usize>(method: Method, path: [&str; N]) -> Self {
        let mut text = String::new();
        for segment in path {
            // Whoever normalizes a path takes a segment of dots for a direction, so these do not go as they are.
            let dots = segment.bytes().all(|byte| byte == b'.');
            let _ = if dots {
                write!(text, "/{}", segment.replace('.', "%2E"))
            } else {
                write!(text, "/{}", utf8_percent_encode(segment, ENCODED))
            };
        }
        Self {
            method,
            path: text,
            body: None,
            idempotency_key: None,
            proves: false,
            patience: PATIENCE,
        }
    }

    pub(crate) fn get<const N: usize>(path: [&str; N]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post<const N: usize>(path: [&str; N], body: Map<String, Value>) -> Self {
        Self {
            body: Some(body),
            ..Self::new(Method::POST, path)
        }
    }

    /// A post that says all in its path.
    pub(crate) fn act<const N: usize>(path: [&str; N]) -> Self {
        Self::new(Method::POST, path)
    }

    pub(crate) fn patch<const N: usize>(path: [&str; N], body: Map<String, Value>) -> Self {
        Self {
            body: Some(body),
            ..Self::new(Method::PATCH, path)
        }
    }

    pub(crate) fn delete<const N: usize>(path: [&str; N]) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Adds to the query what is there.
    pub(crate) fn query(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            let mark = if self.path.contains('?') { '&' } else { '?' };
            let _ = write!(self.path, "{mark}{name}={}", utf8_percent_encode(value, ENCODED));
        }
        self
    }

    pub(crate) fn once(mut self, key: String) -> Self {
        self.idempotency_key = Some(key);
        self
    }

    pub(crate) fn proves(mut self) -> Self {
        self.proves = true;
        self
    }

    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whether it may leave something changed.
    pub(crate) fn changes(&self) -> bool {
        self.method != Method::GET
    }
}

/// The fields of a body that are there.
pub(crate) fn fields<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_break_out_of_their_segment() {
        let call = Call::get(["keys", "a/../b?c=d&é"])
            .query("account", Some("x&y=z"))
            .query("since", None)
            .query("limit", Some("5"));
        assert_eq!(call.path, "/keys/a%2F..%2Fb%3Fc%3Dd%26%C3%A9?account=x%26y%3Dz&limit=5");
        assert_eq!(Call::get(["keys", ".."]).path, "/keys/%2E%2E");
        assert_eq!(Call::get(["keys", "v1.5"]).path, "/keys/v1.5");
    }
}
