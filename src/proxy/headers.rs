//! Which headers cross the gateway: an allow-list in each direction.
//!
//! A client's headers are its own business with us (its key, its cookies, its address), and a backend's headers are
//! ours with it (our organization, our rate, its cookies). So both lists name what may pass, and everything new
//! stays on its side until somebody decides otherwise.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Request headers that mean the same to a backend as to us.
static TO_BACKEND: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::ACCEPT,
    header::USER_AGENT,
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// Response headers that mean the same to a client as to us. `content-length` is not among them: the edge frames the
/// body that it really sends.
static TO_CLIENT: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::CONTENT_DISPOSITION,
    header::CACHE_CONTROL,
    header::RETRY_AFTER,
    HeaderName::from_static("openai-processing-ms"),
    HeaderName::from_static("openai-version"),
    HeaderName::from_static("openai-model"),
    HeaderName::from_static("x-should-retry"),
    HeaderName::from_static("x-accel-buffering"),
];

/// Under which names backends tell their id of a request.
static BACKEND_IDS: [HeaderName; 2] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
];

/// RFC 9110, section 7.6.1: these speak of one connection and never cross a proxy.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether the header speaks of one connection only.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// What a backend is sent of a client's headers: the allow-list, what `pass` names, and a refusal of compression.
///
/// An operator's `pass` list can let a header through that the list above does not know, never one that speaks of a
/// connection or carries the client's own credential.
pub fn to_backend(client: &HeaderMap, pass: &[HeaderName]) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(12);
    let hops = client.contains_key(header::CONNECTION);
    // A client sends few headers: to go through them is cheaper than to ask for each that may pass.
    for (name, value) in client {
        let passes = TO_BACKEND.contains(name) || pass.contains(name) && may_pass(name);
        if passes && !(hops && named_by_connection(client, name)) {
            out.append(name, value.clone());
        }
    }
    // A compressed answer cannot be metered as it passes.
    out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    out
}

/// What a client is sent of a backend's headers.
pub fn to_client(backend: &HeaderMap) -> HeaderMap {
    // With room for the six of the limits, the id, and what frames the answer.
    let mut out = HeaderMap::with_capacity(24);
    for (name, value) in backend {
        if TO_CLIENT.contains(name) {
            out.append(name, value.clone());
        }
    }
    out
}

/// The backend's own id of a request, under the names that backends use.
pub fn backend_request_id(backend: &HeaderMap) -> Option<&HeaderValue> {
    BACKEND_IDS.iter().find_map(|name| backend.get(name))
}

/// Whether an operator may ask for this header to be passed to a backend.
pub fn may_pass(name: &HeaderName) -> bool {
    !is_hop_by_hop(name)
        && ![
            header::AUTHORIZATION,
            header::COOKIE,
            header::HOST,
            header::CONTENT_LENGTH,
            header::EXPECT,
            header::ACCEPT_ENCODING,
            header::CONTENT_ENCODING,
            HeaderName::from_static("x-api-key"),
        ]
        .contains(name)
}

fn named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case(name.as_str()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_client_keeps_its_credentials_cookies_and_address() {
        let out = to_backend(
            &map(&[
                ("authorization", "Bearer sk-x"),
                ("x-api-key", "sk-x"),
                ("cookie", "a=b"),
                ("x-forwarded-for", "10.0.0.1"),
                ("host", "gateway"),
                ("accept-encoding", "gzip, br"),
                ("content-type", "application/json"),
                ("x-stainless-lang", "python"),
            ]),
            &[],
        );
        assert_eq!(
            out,
            map(&[("content-type", "application/json"), ("accept-encoding", "identity")])
        );
    }

    #[test]
    fn pass_adds_headers_but_never_a_credential_or_a_hop() {
        let pass: Vec<_> = ["x-tag", "authorization", "transfer-encoding", "x-hop"]
            .into_iter()
            .map(HeaderName::from_static)
            .collect();
        let client = map(&[
            ("x-tag", "1"),
            ("authorization", "Bearer sk-x"),
            ("transfer-encoding", "chunked"),
            ("x-hop", "1"),
            ("connection", "close, X-Hop"),
        ]);
        assert_eq!(
            to_backend(&client, &pass),
            map(&[("x-tag", "1"), ("accept-encoding", "identity")])
        );
    }

    #[test]
    fn a_backend_keeps_its_cookies_limits_and_ids() {
        let out = to_client(&map(&[
            ("content-type", "text/event-stream"),
            ("set-cookie", "a=b"),
            ("server", "uvicorn"),
            ("openai-organization", "org"),
            ("x-ratelimit-limit-requests", "1"),
            ("x-request-id", "req_1"),
            ("content-length", "3"),
            ("retry-after", "2"),
        ]));
        assert_eq!(out, map(&[("content-type", "text/event-stream"), ("retry-after", "2")]));
    }
}
