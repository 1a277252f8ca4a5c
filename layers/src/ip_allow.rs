//! Refuses clients by their address.
//!
//! The decision is made by a [`Decide`]: a closure over the request's extensions and the client's address, or one
//! [`IpSet`] for all. Refused is `ip_not_allowed` (403), also when the address is unknown. It stands inside of
//! [`client_addr`](crate::client_addr); twice, where both the service and each key have lists: before and after the
//! key is known.
//!
//! ```
//! use std::net::{IpAddr, Ipv4Addr};
//! use std::sync::Arc;
//!
//! use http::{Extensions, Request, Response};
//! use tollgate_layers::client_addr::ClientAddr;
//! use tollgate_layers::ip_allow::{IpAllowLayer, IpSet};
//! use tollgate_layers::{Reason, Rejection};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! /// What auth found out about the key; without a list, it may be used from everywhere.
//! #[derive(Clone)]
//! struct Key(Option<Arc<IpSet>>);
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let by_key = |extensions: &Extensions, addr: IpAddr| match extensions.get() {
//!     Some(Key(ips)) => ips.as_ref().is_none_or(|ips| ips.contains(addr)),
//!     None => false,
//! };
//! let service = ServiceBuilder::new()
//!     .layer(IpAllowLayer::new(by_key))
//!     .service(service_fn(|_: Request<()>| async { Ok::<_, Rejection>(Response::new(())) }));
//! let key = Key(Some(Arc::new("10.0.0.0/8, ::1".parse()?)));
//! let from = |addr: Ipv4Addr| Request::builder().extension(ClientAddr(addr.into())).extension(key.clone()).body(());
//! assert!(service.clone().oneshot(from(Ipv4Addr::new(10, 0, 0, 1))?).await.is_ok());
//! let refused = service.oneshot(from(Ipv4Addr::new(192, 0, 2, 1))?).await.unwrap_err();
//! assert_eq!(refused.reason(), Reason::IpNotAllowed);
//! # Ok(()) }
//! ```

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use ipnet::IpNet;
use tower_layer::Layer;
use tower_service::Service;

use crate::client_addr::{ClientAddr, canonical_net};
pub use crate::require::ResponseFuture;
use crate::{Reason, Rejection};

/// Whether a request may come from an address.
pub trait Decide {
    /// `addr` is the client's address, never an IPv4-mapped one.
    fn allows(&self, extensions: &Extensions, addr: IpAddr) -> bool;
}

/// Addresses and networks, read from text: `10.0.0.0/8, 192.0.2.1 ::1`, parted by commas, spaces or line ends.
///
/// An empty set holds no address. Where no list means no limit, that is the caller's `Option`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpSet(Box<[IpNet]>);

/// An entry of an [`IpSet`] that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidEntry(String);

/// Puts [`IpAllow`] around a service; see the [module](self).
#[derive(Clone, Debug)]
pub struct IpAllowLayer<D> {
    decide: D,
}

/// The service of [`IpAllowLayer`].
#[derive(Clone, Debug)]
pub struct IpAllow<S, D> {
    inner: S,
    decide: D,
}

// === impl Decide ===

impl<F> Decide for F
where
    F: Fn(&Extensions, IpAddr) -> bool,
{
    fn allows(&self, extensions: &Extensions, addr: IpAddr) -> bool {
        self(extensions, addr)
    }
}

impl Decide for Arc<IpSet> {
    fn allows(&self, _: &Extensions, addr: IpAddr) -> bool {
        self.contains(addr)
    }
}

// === impl IpSet ===

impl IpSet {
    /// Whether `addr` is in the set, an IPv4-mapped address as the IPv4 address that it is.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.0.iter().any(|net| net.contains(&addr))
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for IpSet {
    type Err = InvalidEntry;

    fn from_str(text: &str) -> Result<Self, InvalidEntry> {
        text.split(|c: char| c == ',' || c.is_whitespace())
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                let net = entry.parse().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
                net.map(canonical_net).map_err(|_| InvalidEntry(entry.to_owned()))
            })
            .collect()
    }
}

impl FromIterator<IpNet> for IpSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        Self(nets.into_iter().map(canonical_net).collect())
    }
}

impl fmt::Display for InvalidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is neither an address nor a network such as 10.0.0.0/8", self.0)
    }
}

impl std::error::Error for InvalidEntry {}

// === impl IpAllowLayer ===

impl<D: Decide> IpAllowLayer<D> {
    /// A layer that asks `decide` about every request.
    pub fn new(decide: D) -> Self {
        Self { decide }
    }
}

impl<S, D: Clone> Layer<S> for IpAllowLayer<D> {
    type Service = IpAllow<S, D>;

    fn layer(&self, inner: S) -> IpAllow<S, D> {
        IpAllow {
            inner,
            decide: self.decide.clone(),
        }
    }
}

// === impl IpAllow ===

impl<S, D, ReqB, ResB> Service<Request<ReqB>> for IpAllow<S, D>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<Rejection>,
    D: Decide,
{
    type Response = Response<ResB>;
    type Error = Rejection;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let extensions = request.extensions();
        match extensions.get::<ClientAddr>() {
            Some(client) if self.decide.allows(extensions, client.0) => {
                ResponseFuture::passed(self.inner.call(request))
            }
            _ => ResponseFuture::refused(Reason::IpNotAllowed.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tower::{ServiceExt, service_fn};

    use super::*;

    #[test]
    fn a_set_is_read_from_text() {
        let set: IpSet = "10.0.0.0/8,192.0.2.1\n2001:db8::/32\t ::1,, ::ffff:198.51.100.0/120"
            .parse()
            .unwrap();
        for inside in [
            "10.1.2.3",
            "192.0.2.1",
            "2001:db8::5",
            "::1",
            "::ffff:10.9.9.9",
            "198.51.100.7",
        ] {
            assert!(set.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "11.0.0.1",
            "192.0.2.2",
            "2001:db9::5",
            "::2",
            "::ffff:11.0.0.1",
            "198.51.101.7",
        ] {
            assert!(!set.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!("".parse::<IpSet>().unwrap().is_empty());
        assert!(!IpSet::default().contains("::1".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (text, entry) in [
            ("10.0.0.0/33", "10.0.0.0/33"),
            ("::1, localhost", "localhost"),
            ("10.0.0/8", "10.0.0/8"),
        ] {
            assert!(
                text.parse::<IpSet>()
                    .unwrap_err()
                    .to_string()
                    .contains(&format!("`{entry}`")),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn an_unknown_address_is_refused() {
        let set: IpSet = "0.0.0.0/0".parse().unwrap();
        let inner = service_fn(|_: Request<()>| async { Ok::<_, Rejection>(Response::new(())) });
        let service = IpAllowLayer::new(Arc::new(set)).layer(inner);
        let known = Request::builder()
            .extension(ClientAddr("1.1.1.1".parse().unwrap()))
            .body(())
            .unwrap();
        assert!(service.clone().oneshot(known).await.is_ok());
        let refused = service.oneshot(Request::new(())).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::IpNotAllowed);
    }
}
