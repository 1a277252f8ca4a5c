//! Works out whose address a request comes from, also behind proxies.
//!
//! `X-Forwarded-For` is whatever the sender wrote, followed by what each proxy on the way appended. So it is read from
//! the right and believed only as far as trusted proxies wrote it: starting from the peer, each address that is
//! trusted vouches for the entry before it; the first one that is not is the client. An entry that is no address ends
//! the walk, and the last trusted hop's own address counts. IPv4-mapped IPv6 addresses become IPv4, so that one client
//! has one address.
//!
//! Proxies that write `Forwarded` (RFC 7239) are believed in the same way after [`trail`](ClientAddrLayer::trail) said
//! so. Only ever one of the headers is read: the other may pass through the proxies as the client wrote it. Where a
//! listener speaks the PROXY protocol ([`ProxyHeader`]), the walk begins at the [`ProxyAddr`] that it has put into the
//! extensions, provided that the peer is trusted.
//!
//! It never refuses. It stands outside of whatever asks for a [`ClientAddr`]; where the peer is unknown, there is none.
//!
//! ```
//! use std::net::IpAddr;
//!
//! use http::{Extensions, Request, Response};
//! use tollgate_layers::client_addr::{ClientAddr, ClientAddrLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The server put the peer's address into the extensions as an `IpAddr`.
//! let peer = |extensions: &Extensions| extensions.get::<IpAddr>().copied();
//! let service = ServiceBuilder::new().layer(ClientAddrLayer::new(["10.0.0.0/8".parse()?], peer)).service(service_fn(
//!     |request: Request<()>| async move {
//!         let ClientAddr(addr) = request.extensions().get().copied().expect("a peer");
//!         Ok::<_, std::convert::Infallible>(Response::new(addr.to_string()))
//!     },
//! ));
//! let from = |peer: [u8; 4]| {
//!     let forwarded = Request::builder().header("x-forwarded-for", "6.6.6.6, 192.0.2.1, 10.0.0.2");
//!     forwarded.extension(IpAddr::from(peer)).body(())
//! };
//! assert_eq!(service.clone().oneshot(from([10, 0, 0, 1])?).await?.into_body(), "192.0.2.1");
//! assert_eq!(service.oneshot(from([192, 0, 2, 9])?).await?.into_body(), "192.0.2.9");
//! # Ok(()) }
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::FORWARDED;
use http::{Extensions, HeaderMap, HeaderName, Request};
use ipnet::{IpNet, Ipv4Net};
use tower_layer::Layer;
use tower_service::Service;

mod proxy;

pub use self::proxy::{InvalidProxyHeader, ProxyAddr, ProxyHeader};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the client, in a request's extensions. Never an IPv4-mapped IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(pub IpAddr);

/// The header in which the proxies on the way say whom they speak for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trail {
    /// `X-Forwarded-For`: addresses parted by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): the `for` of its elements.
    Forwarded,
}

/// Puts [`SetClientAddr`] around a service; see the [module](self).
#[derive(Clone, Debug)]
pub struct ClientAddrLayer<F> {
    trusted: Arc<[IpNet]>,
    peer: F,
    trail: Trail,
}

/// The service of [`ClientAddrLayer`].
#[derive(Clone, Debug)]
pub struct SetClientAddr<S, F> {
    inner: S,
    trusted: Arc<[IpNet]>,
    peer: F,
    trail: Trail,
}

// === impl ClientAddrLayer ===

impl<F> ClientAddrLayer<F>
where
    F: Fn(&Extensions) -> Option<IpAddr> + Clone,
{
    /// A layer that believes proxies in `trusted` and learns the address of the connection's other end from `peer`.
    pub fn new(trusted: impl Into<Arc<[IpNet]>>, peer: F) -> Self {
        let trusted = trusted.into().iter().copied().map(canonical_net).collect();
        Self {
            trusted,
            peer,
            trail: Trail::default(),
        }
    }

    /// Believes what trusted proxies wrote into this header.
    pub fn trail(mut self, trail: Trail) -> Self {
        self.trail = trail;
        self
    }
}

impl<S, F: Clone> Layer<S> for ClientAddrLayer<F> {
    type Service = SetClientAddr<S, F>;

    fn layer(&self, inner: S) -> SetClientAddr<S, F> {
        SetClientAddr {
            inner,
            trusted: self.trusted.clone(),
            peer: self.peer.clone(),
            trail: self.trail,
        }
    }
}

// === impl SetClientAddr ===

impl<S, F, B> Service<Request<B>> for SetClientAddr<S, F>
where
    S: Service<Request<B>>,
    F: Fn(&Extensions) -> Option<IpAddr>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(peer) = (self.peer)(request.extensions()) {
            let via = request.extensions().get().copied();
            let client = client_addr(peer, via, &self.trusted, self.trail, request.headers());
            request.extensions_mut().insert(ClientAddr(client));
        }
        self.inner.call(request)
    }
}

fn client_addr(peer: IpAddr, via: Option<ProxyAddr>, trusted: &[IpNet], trail: Trail, headers: &HeaderMap) -> IpAddr {
    let is_trusted = |addr: &IpAddr| trusted.iter().any(|net| net.contains(addr));
    let mut addr = peer.to_canonical();
    if let Some(ProxyAddr(via)) = via.filter(|_| is_trusted(&addr)) {
        addr = via.to_canonical();
    }
    if !is_trusted(&addr) {
        return addr;
    }
    // By bytes, not as text: what a client wrote to the left may be no text, what a proxy appended to it is.
    let name = match trail {
        Trail::XForwardedFor => X_FORWARDED_FOR,
        Trail::Forwarded => FORWARDED,
    };
    let lines = headers.get_all(name).iter().rev();
    for entry in lines.flat_map(|line| line.as_bytes().rsplit(|b| *b == b',')) {
        let entry = match trail {
            Trail::XForwardedFor => Some(entry),
            Trail::Forwarded => forwarded_for(entry),
        };
        let Some(before) = entry.and_then(parse) else { break };
        addr = before;
        if !is_trusted(&addr) {
            break;
        }
    }
    addr
}

/// The `for` of one element of `Forwarded`. A comma or semicolon within quotes ends nothing for a reader that knows
/// quotes, and here leaves a quote open: then there is none. A node is an address, or a name, which is none either.
fn forwarded_for(element: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    for pair in element.split(|b| *b == b';') {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|b| *b == b'=')?;
        let (name, value) = (&pair[..at], &pair[at + 1..]);
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        if bare.unwrap_or(value).contains(&b'"') {
            return None;
        }
        if name.eq_ignore_ascii_case(b"for") && found.replace(bare.unwrap_or(value)).is_some() {
            return None;
        }
    }
    found
}

/// One entry: an address, which some proxies write with brackets or with a port.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let addr: IpAddr = match text.parse() {
        Ok(addr) => addr,
        Err(_) => text.parse().map(|addr: SocketAddr| addr.ip()).ok().or_else(bare)?,
    };
    Some(addr.to_canonical())
}

/// A network of IPv4-mapped addresses as the IPv4 network that it means, since addresses are compared as IPv4.
pub(crate) fn canonical_net(net: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    match (net.addr().to_canonical(), net.prefix_len()) {
        (IpAddr::V4(addr), len) if net.addr().is_ipv6() && len >= MAPPED => {
            Ipv4Net::new(addr, len - MAPPED).map_or(net, IpNet::V4)
        }
        _ => net,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn client(peer: &str, trusted: &[&str], forwarded: &[&[u8]]) -> String {
        let trusted: Vec<_> = trusted.iter().map(|net| canonical_net(net.parse().unwrap())).collect();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(X_FORWARDED_FOR, http::HeaderValue::from_bytes(line).unwrap());
        }
        client_addr(peer.parse().unwrap(), None, &trusted, Trail::XForwardedFor, &headers).to_string()
    }

    fn by_forwarded(lines: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, http::HeaderValue::from_static("6.6.6.6"));
        for line in lines {
            headers.append(FORWARDED, http::HeaderValue::from_static(line));
        }
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        client_addr([10, 0, 0, 1].into(), None, &trusted, Trail::Forwarded, &headers).to_string()
    }

    #[test]
    fn forwarded_is_read_from_the_right_too() {
        for (lines, client) in [
            (&[][..], "10.0.0.1"),
            (&["for=192.0.2.1"], "192.0.2.1"),
            (
                &["for=6.6.6.6, For=\"192.0.2.1:4711\";proto=https;by=10.0.0.1"],
                "192.0.2.1",
            ),
            (&["for=192.0.2.1, proto=http;for=10.0.0.9", "for=10.0.0.2"], "192.0.2.1"),
            (&["for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (&["for=unknown"], "10.0.0.1"),
            (&["for=1.1.1.1, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
            (&["proto=https"], "10.0.0.1"),
            (&["for=1.1.1.1;for=2.2.2.2"], "10.0.0.1"),
            (&["host=\"a, for=1.1.1.1"], "1.1.1.1"),
            (&["host=\"a, for=1.1.1.1\";x=y"], "10.0.0.1"),
            (&["for=1.1.1.1\""], "10.0.0.1"),
        ] {
            assert_eq!(by_forwarded(lines), client, "{lines:?}");
        }
    }

    #[test]
    fn the_proxy_protocol_is_believed_from_trusted_peers() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, http::HeaderValue::from_static("192.0.2.7"));
        let client = |peer: [u8; 4], via: [u8; 4]| {
            let via = Some(ProxyAddr(via.into()));
            client_addr(peer.into(), via, &trusted, Trail::XForwardedFor, &headers).to_string()
        };
        assert_eq!(client([10, 0, 0, 1], [192, 0, 2, 1]), "192.0.2.1");
        assert_eq!(
            client([10, 0, 0, 1], [10, 0, 0, 2]),
            "192.0.2.7",
            "from one proxy to the next"
        );
        assert_eq!(client([203, 0, 113, 9], [192, 0, 2, 1]), "203.0.113.9");
    }

    #[test]
    fn nobody_is_believed_unasked() {
        assert_eq!(client("192.0.2.1", &[], &[b"1.1.1.1"]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &["10.0.0.0/8"], &[b"1.1.1.1"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.0/8"], &[]), "10.0.0.1");
    }

    #[test]
    fn the_first_untrusted_hop_from_the_right_is_the_client() {
        let trusted = &["10.0.0.0/8", "2001:db8::/32"];
        assert_eq!(client("10.0.0.1", trusted, &[b"6.6.6.6, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(
            client("10.0.0.1", trusted, &[b"6.6.6.6, 192.0.2.1, 10.0.0.9,2001:db8::1"]),
            "192.0.2.1"
        );
        assert_eq!(
            client("10.0.0.1", trusted, &[b"6.6.6.6", b"192.0.2.1", b"10.0.0.2"]),
            "192.0.2.1"
        );
        assert_eq!(
            client("10.0.0.1", trusted, &[b"10.0.0.3, 10.0.0.2"]),
            "10.0.0.3",
            "all of them are trusted"
        );
        assert_eq!(
            client("10.0.0.1", trusted, &[b"\xff\xfe, 192.0.2.1"]),
            "192.0.2.1",
            "junk to the left"
        );
    }

    #[test]
    fn junk_ends_the_walk() {
        let trusted = &["10.0.0.0/8"];
        for junk in [
            &b"unknown"[..],
            b"",
            b"1.1.1.1 2.2.2.2",
            b"1.1.1",
            b"\xff",
            b"_hidden",
            b"[1.1.1.1",
        ] {
            assert_eq!(client("10.0.0.1", trusted, &[junk]), "10.0.0.1", "{junk:?}");
        }
        assert_eq!(
            client("10.0.0.1", trusted, &[b"1.1.1.1, unknown, 10.0.0.2"]),
            "10.0.0.2"
        );
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_read() {
        let trusted = &["10.0.0.0/8"];
        assert_eq!(client("10.0.0.1", trusted, &[b"192.0.2.1:4711"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", trusted, &[b"[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", trusted, &[b"[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(client("::ffff:10.0.0.1", trusted, &[b"::ffff:192.0.2.1"]), "192.0.2.1");
        assert_eq!(
            client("10.0.0.1", &["::ffff:10.0.0.0/104"], &[b"192.0.2.1"]),
            "192.0.2.1"
        );
        assert_eq!(client("10.0.0.1", &["::ffff:0.0.0.0/96"], &[b"192.0.2.1"]), "192.0.2.1");
    }
}
