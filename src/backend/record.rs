//! The last requests as they came in, for tests that ask what a gateway forwarded.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

/// How many requests are kept.
const MAX_REQUESTS: usize = 4096;

/// How many bytes of bodies are kept; the last request is kept whole whatever its size.
const MAX_BYTES: usize = 16 << 20;

/// One request as the backend received it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its path, with the query when there was one.
    pub path: String,
    /// Its header fields, in the order of the wire for each name.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
}

#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    requests: VecDeque<Seen>,
    bytes: usize,
}

// === impl Seen ===

impl Seen {
    /// The request as `GET /_last` shows it; a repeated header's values are joined with `, `.
    pub(super) fn to_json(&self) -> Value {
        let headers: serde_json::Map<String, Value> = self
            .headers
            .keys()
            .map(|name| {
                let values = self
                    .headers
                    .get_all(name)
                    .iter()
                    .map(|value| String::from_utf8_lossy(value.as_bytes()));
                (name.to_string(), values.collect::<Vec<_>>().join(", ").into())
            })
            .collect();
        json!({
            "method": self.method.as_str(),
            "path": self.path,
            "headers": headers,
            "body": String::from_utf8_lossy(&self.body),
        })
    }
}

// === impl Record ===

impl Record {
    pub(super) fn push(&self, seen: Seen) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += seen.body.len();
        kept.requests.push_back(seen);
        while kept.requests.len() > 1 && (kept.requests.len() > MAX_REQUESTS || kept.bytes > MAX_BYTES) {
            let gone = kept.requests.pop_front().map_or(0, |seen| seen.body.len());
            kept.bytes -= gone;
        }
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .requests
            .iter()
            .cloned()
            .collect()
    }

    pub(super) fn last(&self) -> Option<Seen> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .requests
            .back()
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, size: usize) -> Seen {
        let body = Bytes::from(vec![b'x'; size]);
        Seen {
            method: Method::POST,
            path: path.into(),
            headers: HeaderMap::new(),
            body,
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_last_is_always_there() {
        let record = Record::default();
        for n in 0..MAX_REQUESTS + 2 {
            record.push(seen(&n.to_string(), 1));
        }
        let all = record.all();
        assert_eq!((all.len(), all[0].path.as_str()), (MAX_REQUESTS, "2"));
        record.push(seen("large", MAX_BYTES + 1));
        assert_eq!(record.all().len(), 1);
        assert_eq!(record.last().map(|seen| seen.path), Some("large".into()));
    }
}
