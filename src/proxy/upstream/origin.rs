//! A backend that can be called: where it is, and its pool of connections.

use std::fmt;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use pingora_core::connectors::http::Connector;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use tokio::time::timeout;

use super::super::resolve::Resolver;
use super::error::UpstreamError;
use crate::failpoint::{self, Failpoints};

/// A name that was found in less was known.
const AT_ONCE: Duration = Duration::from_millis(1);

/// How a backend is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginSettings {
    /// A name or an address; an IPv6 address with or without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether to speak TLS, and with which certificates.
    pub tls: Option<TlsFiles>,
    /// Which version of HTTP to speak.
    pub http: HttpVersion,
    /// How long all of it may take together until a connection can be used: the name's look-up, TCP and TLS, over as many
    /// of the name's addresses as are tried.
    pub connect_timeout: Duration,
    /// How many idle connections are kept.
    pub max_idle: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
}

/// The certificates of a TLS connection to a backend. Files must have been checked: Pingora panics on a bad one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// A private authority to trust in place of the system's roots.
    pub ca: Option<PathBuf>,
    /// The certificate and the key that prove to the backend who we are.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Which version of HTTP a backend is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// By ALPN over TLS; HTTP/1.1 in clear.
    #[default]
    Auto,
    /// HTTP/1.1 always.
    Http1,
    /// HTTP/2 always, in clear with prior knowledge.
    Http2,
}

/// A backend that can be called: its addresses and its pool of connections.
pub struct Origin {
    pool: Pool,
    resolver: Arc<Resolver>,
    authority: HeaderValue,
    settings: OriginSettings,
    failpoints: Failpoints,
}

/// The connections of an origin.
enum Pool {
    /// HTTP/1.1 alone: a connection carries one exchange at a time, and its bytes are ours to write.
    Http1(Box<TransportConnector>),
    /// Whatever is negotiated.
    Negotiated(Box<Connector>),
}

/// A peer whose pooled connections are known to be its own: a pool is one backend's, and holds its connections open.
/// Pingora would ask the system for the other end's address each time, in case the hash of two backends is the same.
#[derive(Clone)]
struct Pooled<'a>(&'a HttpPeer);

/// A connection that is ready for an exchange.
#[expect(
    clippy::large_enum_variant,
    reason = "moved once into its exchange; a box would be an allocation for every request"
)]
pub(super) enum Ready {
    /// HTTP/1.1, on which nothing has been written yet.
    Http1(Stream),
    /// One exchange, whatever it is spoken in.
    Session(HttpSession),
}

/// Where an exchange takes place, and where its connection goes afterwards.
pub(super) struct Place {
    origin: Arc<Origin>,
    pub(super) peer: Arc<HttpPeer>,
}

// === impl OriginSettings ===

impl OriginSettings {
    /// The `host` header (RFC 9110, section 7.2): an IPv6 address in brackets, the scheme's own port left out.
    fn authority(&self) -> String {
        let bare = self.host.contains(':') && !self.host.starts_with('[');
        let host = if bare {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.port, self.tls.is_some()) {
            (443, true) | (80, false) => host,
            (port, _) => format!("{host}:{port}"),
        }
    }

    fn speaks_http1(&self) -> bool {
        match self.http {
            HttpVersion::Http1 => true,
            HttpVersion::Http2 => false,
            HttpVersion::Auto => self.tls.is_none(),
        }
    }
}

// === impl Origin ===

impl Origin {
    /// A backend with an empty pool. Reads the certificates; resolves and connects nothing yet.
    pub fn new(settings: OriginSettings) -> Result<Self, http::Error> {
        let mut options = ConnectorOptions::new(settings.max_idle.max(1));
        if let Some(tls) = &settings.tls {
            options.ca_file = tls.ca.as_ref().map(|path| path.to_string_lossy().into_owned());
            options.cert_key_file = tls
                .client
                .as_ref()
                .map(|(cert, key)| (cert.to_string_lossy().into_owned(), key.to_string_lossy().into_owned()));
        }
        let authority = HeaderValue::try_from(settings.authority())?;
        let peer_settings = settings.clone();
        let make = Box::new(move |address| peer(&peer_settings, address));
        let resolver = Arc::new(Resolver::new(&settings.host, settings.port, make));
        let pool = if settings.speaks_http1() {
            Pool::Http1(Box::new(TransportConnector::new(Some(options))))
        } else {
            Pool::Negotiated(Box::new(Connector::new(Some(options))))
        };
        Ok(Self {
            pool,
            resolver,
            authority,
            settings,
            failpoints: Failpoints::default(),
        })
    }

    /// The same, where a test can break exchanges.
    pub fn with_failpoints(mut self, failpoints: Failpoints) -> Self {
        self.failpoints = failpoints;
        self
    }

    /// What it was made from.
    pub fn settings(&self) -> &OriginSettings {
        &self.settings
    }

    pub(super) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// A connection from the pool or a `fresh` one, to the first of the name's addresses that takes one: `localhost` is
    /// two, and a server often listens on one. Says whether it was used before.
    pub(super) async fn connect(self: &Arc<Self>, fresh: bool) -> Result<(Ready, Place, bool), UpstreamError> {
        let limit = self.settings.connect_timeout;
        let began = Instant::now();
        let mut tried: Vec<Arc<HttpPeer>> = Vec::new();
        let mut failed = None;
        loop {
            failpoint::at!(self.failpoints, Resolve).map_err(UpstreamError::failpoint)?;
            let candidate = self.resolver.peer(limit).await?;
            let spent = began.elapsed();
            let left = limit.saturating_sub(spent);
            let over = left.is_zero() || tried.iter().any(|peer| Arc::ptr_eq(peer, &candidate.peer));
            if let Some(error) = failed.take_if(|_| over) {
                return Err(error);
            }
            // The first attempt has Pingora's own limit, which costs nothing where the pool has a connection, unless the
            // name has taken a part of the time already.
            let outcome = if tried.is_empty() && spent < AT_ONCE {
                self.connect_to(&candidate.peer, fresh).await
            } else {
                let connecting = Box::pin(timeout(left, self.connect_to(&candidate.peer, fresh))).await;
                connecting.unwrap_or_else(|_| Err(UpstreamError::connect_timeout("connecting to the backend")))
            };
            candidate.set_failed(outcome.is_err());
            match outcome {
                Ok(connected) => return Ok(connected),
                Err(error) => failed = Some(error),
            }
            tried.push(candidate.peer);
        }
    }

    async fn connect_to(
        self: &Arc<Self>,
        peer: &Arc<HttpPeer>,
        fresh: bool,
    ) -> Result<(Ready, Place, bool), UpstreamError> {
        failpoint::at!(self.failpoints, Connect).map_err(UpstreamError::failpoint)?;
        let connected = if fresh {
            self.pool.connect(&unpooled(peer)).await
        } else {
            self.pool.connect(peer).await
        };
        let (ready, reused) = connected.map_err(|error| UpstreamError::connect(&error))?;
        let place = Place {
            origin: Arc::clone(self),
            peer: Arc::clone(peer),
        };
        Ok((ready, place, reused))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn peer(settings: &OriginSettings, address: std::net::SocketAddr) -> HttpPeer {
    let sni = if settings.tls.is_some() {
        settings.host.clone()
    } else {
        String::new()
    };
    let mut peer = HttpPeer::new(address, settings.tls.is_some(), sni);
    peer.options.alpn = match (settings.http, settings.tls.is_some()) {
        (HttpVersion::Http2, _) => ALPN::H2,
        (HttpVersion::Auto, true) => ALPN::H2H1,
        _ => ALPN::H1,
    };
    peer.options.total_connection_timeout = Some(settings.connect_timeout);
    // Pingora's default is one stream a connection, which would make HTTP/2 a dearer HTTP/1.
    peer.options.max_h2_streams = 100;
    peer
}

/// The same peer under a key of its own, so that the pool has no connection for it.
fn unpooled(peer: &HttpPeer) -> HttpPeer {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut peer = peer.clone();
    peer.group_key = NEXT.fetch_add(1, Ordering::Relaxed);
    peer
}

// === impl Pool ===

impl Pool {
    async fn connect(&self, peer: &HttpPeer) -> pingora_error::Result<(Ready, bool)> {
        match self {
            Self::Http1(pool) => match pool.reused_stream(&Pooled(peer)).await {
                Some(stream) => Ok((Ready::Http1(stream), true)),
                // Boxed, as are the ways below: the future that makes a connection is kilobytes large, and would be
                // moved with every request, which hardly ever needs it.
                None => Box::pin(pool.new_stream(peer))
                    .await
                    .map(|stream| (Ready::Http1(stream), false)),
            },
            Self::Negotiated(pool) => Box::pin(pool.get_http_session(peer))
                .await
                .map(|(session, reused)| (Ready::Session(session), reused)),
        }
    }
}

// === impl Pooled ===

impl fmt::Display for Pooled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Peer for Pooled<'_> {
    fn address(&self) -> &SocketAddr {
        self.0.address()
    }

    fn tls(&self) -> bool {
        self.0.tls()
    }

    fn sni(&self) -> &str {
        self.0.sni()
    }

    fn reuse_hash(&self) -> u64 {
        self.0.reuse_hash()
    }

    fn matches_fd<V: AsRawFd>(&self, _: V) -> bool {
        true
    }
}

// === impl Place ===

impl Place {
    pub(super) fn failpoints(&self) -> &Failpoints {
        &self.origin.failpoints
    }

    /// Gives a connection back whose exchange is over; one that cannot carry another is closed.
    pub(super) async fn release(self, session: HttpSession) {
        let Self { origin, peer } = self;
        failpoint::pass!(origin.failpoints, ConnectionRelease);
        let idle = Some(origin.settings.idle_timeout);
        match (&origin.pool, session) {
            (Pool::Http1(pool), HttpSession::H1(session)) => {
                if let Some(stream) = reusable(session).await {
                    pool.release_stream(stream, peer.reuse_hash(), idle);
                }
            }
            (Pool::Negotiated(pool), session) => pool.release_http_session(session, &*peer, idle).await,
            (Pool::Http1(_), _) => {}
        }
    }
}

async fn reusable(mut session: Http1Session) -> Option<Stream> {
    session.respect_keepalive();
    session.reuse().await
}
