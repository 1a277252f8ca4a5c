//! The head of a request, ready to be sent once or twice.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Uri};
use pingora_http::RequestHeader;

use super::super::headers::is_hop_by_hop;
use super::origin::Origin;

/// A request's head.
pub(super) struct Head {
    pub(super) method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    pub(super) fn new<B: http_body::Body>(
        method: Method,
        uri: &Uri,
        mut headers: HeaderMap,
        body: &B,
        origin: &Origin,
    ) -> Self {
        if headers.keys().any(is_hop_by_hop) {
            let hops: Vec<_> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
            for name in hops {
                headers.remove(name);
            }
        }
        headers.insert(HOST, origin.authority().clone());
        headers.remove(CONTENT_LENGTH);
        // Pingora takes a request without either for one without a body.
        match body.size_hint().exact() {
            Some(0) if method == Method::GET || method == Method::HEAD => {}
            Some(length) => {
                headers.insert(CONTENT_LENGTH, length.into());
            }
            None => {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
        let path = uri.path_and_query().cloned();
        let path = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        Self {
            method,
            uri: Uri::from(path),
            headers,
        }
    }

    /// As Pingora sends it.
    pub(super) fn to_pingora(&self, http2: bool) -> Box<RequestHeader> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if http2 {
            // RFC 9113, section 8.2.2: HTTP/2 has its own framing and refuses HTTP/1's.
            request.headers_mut().remove(TRANSFER_ENCODING);
        }
        Box::new(request.into_parts().0.into())
    }

    /// As HTTP/1.1 has it on the wire (RFC 9112, section 3), with the body behind it.
    pub(super) fn to_wire(&self, body: &Bytes) -> Bytes {
        let path = self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let size: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        let mut wire = BytesMut::with_capacity(size + path.len() + body.len() + 32);
        for part in [self.method.as_str(), " ", path, " HTTP/1.1\r\n"] {
            wire.put_slice(part.as_bytes());
        }
        for (name, value) in &self.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                wire.put_slice(part);
            }
        }
        wire.put_slice(b"\r\n");
        wire.put_slice(body);
        wire.freeze()
    }
}
