//! Listeners, and the life of the process that holds them.
//!
//! Pingora's own `Server` sleeps out its whole grace period at a SIGTERM, idle or not, and then drops what still runs.
//! So its listening services are hosted here on a runtime of the caller's, and a [`Lifecycle`] knows what is in
//! flight: the process ends when the last answer is out, or when its patience is.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response};
use parking_lot::Mutex;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Fds;
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service as Listening;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tower::Service;

use super::body::Body;
use super::edge::{Door, Edge, PREFACE, RenderFault};

/// What is in flight, and how far the process is on its way down. Clones are the same life.
#[derive(Clone, Debug)]
pub struct Lifecycle(Arc<Life>);

#[derive(Debug)]
struct Life {
    in_flight: AtomicUsize,
    connections: AtomicUsize,
    /// Told whenever one of the two comes to nought.
    idle: Notify,
    down: watch::Sender<bool>,
    stop: watch::Sender<bool>,
}

/// A request in flight, while it lives.
pub(super) struct InFlight(Lifecycle);

/// A connection, while it lives.
pub(super) struct Connected(Lifecycle);

/// Sockets that are bound and wait for their service.
#[derive(Debug)]
pub struct Listeners(Vec<(TcpListener, SocketAddr)>);

/// What is spoken on a listener.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1 in clear.
    Http1,
    /// HTTP/2 in clear, with prior knowledge.
    H2c,
    /// HTTP/1.1 and HTTP/2 by ALPN over TLS.
    Tls(Arc<CertStore>),
}

/// A service on its listeners.
pub struct Site<S, R> {
    /// For the log.
    pub name: &'static str,
    /// What answers.
    pub edge: Edge<S, R>,
    /// Where.
    pub listeners: Listeners,
    /// How.
    pub protocol: Protocol,
}

/// Starts [`Site`]s that share one life.
#[derive(Debug)]
pub struct Host {
    lifecycle: Lifecycle,
    running: Vec<JoinHandle<()>>,
    /// The longest of the sites.
    linger: Duration,
}

/// What [`Host::add`] has started: where it really listens.
#[derive(Clone, Debug)]
pub struct Hosted {
    /// The addresses, with the ports that the system chose where 0 was asked for.
    pub addresses: Vec<SocketAddr>,
}

/// An address that could not be listened on.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A certificate that is served until it is replaced.
pub struct CertStore(ArcSwap<CertifiedKey>);

/// A chain and its key, checked to belong together.
pub struct Certificate(CertifiedKey);

/// A certificate and a key that cannot be used together. It says nothing of the key.
#[derive(Debug)]
pub struct TlsError(rustls::Error);

// === impl Lifecycle ===

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A life at its beginning.
    pub fn new() -> Self {
        Self(Arc::new(Life {
            in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            idle: Notify::new(),
            down: watch::Sender::new(false),
            stop: watch::Sender::new(false),
        }))
    }

    /// How many requests have begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Acquire)
    }

    /// Whether the process is on its way down.
    pub fn is_going_down(&self) -> bool {
        *self.0.down.borrow()
    }

    /// Stops listening; idle connections linger, requests in flight go on.
    pub fn go_down(&self) {
        self.0.down.send_replace(true);
    }

    /// Cuts what is still in flight.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// Waits until nothing is in flight.
    pub async fn drained(&self) {
        self.comes_to_nought(&self.0.in_flight).await;
    }

    /// Waits until no connection is open.
    async fn disconnected(&self) {
        self.comes_to_nought(&self.0.connections).await;
    }

    async fn comes_to_nought(&self, count: &AtomicUsize) {
        loop {
            let idle = self.0.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if count.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }

    pub(super) fn enter(&self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(self.clone())
    }

    pub(super) fn connect(&self) -> Connected {
        self.0.connections.fetch_add(1, Ordering::AcqRel);
        Connected(self.clone())
    }

    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.0.stop.subscribe()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let life = &self.0.0;
        if life.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            life.idle.notify_waiters();
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let life = &self.0.0;
        if life.connections.fetch_sub(1, Ordering::AcqRel) == 1 {
            life.idle.notify_waiters();
        }
    }
}

/// Ready once the flag is up; for ever pending when nobody is left to raise it.
pub(super) async fn rises(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|up| *up).await.is_err() {
        std::future::pending::<()>().await;
    }
}

// === impl Listeners ===

impl Listeners {
    /// Binds every address, so that a port already taken is an error before anything has started.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        addresses
            .iter()
            .map(|&address| {
                let bound = TcpListener::bind(address).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    let address = listener.local_addr()?;
                    Ok((listener, address))
                });
                bound.map_err(|source| BindError { address, source })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The addresses, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|(_, address)| *address).collect()
    }
}

// === impl Host ===

impl Host {
    /// A host without a site.
    pub fn new(lifecycle: Lifecycle) -> Self {
        Self {
            lifecycle,
            running: Vec::new(),
            linger: Duration::ZERO,
        }
    }

    /// Starts a site on the runtime that this is called on.
    pub fn add<S, R>(&mut self, site: Site<S, R>) -> Hosted
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = std::convert::Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
        R: RenderFault,
    {
        let Site {
            name,
            edge,
            listeners,
            protocol,
        } = site;
        let addresses = listeners.addresses();
        self.linger = self.linger.max(edge.settings.linger);
        let (door, tls) = match protocol {
            Protocol::Http1 => (Door::new(edge, 1), None),
            Protocol::H2c => (Door::new(edge.with_h2c(), PREFACE), None),
            Protocol::Tls(certs) => (Door::new(edge, 0), Some(certs)),
        };
        self.start(Listening::new(name.to_owned(), door), listeners, tls.as_ref());
        Hosted { addresses }
    }

    fn start<A>(&mut self, mut service: Listening<A>, listeners: Listeners, tls: Option<&Arc<CertStore>>)
    where
        A: pingora_core::apps::ServerApp + Send + Sync + 'static,
    {
        let mut fds = Fds::new();
        for (listener, address) in listeners.0 {
            let address = address.to_string();
            match tls {
                None => service.add_tcp(&address),
                Some(certs) => match certs.settings() {
                    Ok(settings) => service.add_tls_with_settings(&address, None, settings),
                    Err(error) => tracing::error!(%error, "a TLS listener could not be set up"),
                },
            }
            // Pingora owns the socket from here on.
            fds.add(address, listener.into_raw_fd());
        }
        let shutdown = self.lifecycle.0.down.subscribe();
        self.running.push(tokio::spawn(async move {
            service
                .start_service(Some(Arc::new(Mutex::new(fds))), shutdown, 1)
                .await;
        }));
    }

    /// Waits for a shutdown to be over: every listener closed, no connection at rest that may yet bring a request, and
    /// nothing in flight, or `drain` passed.
    ///
    /// Returns whether all requests ended by themselves.
    pub async fn finish(self, drain: Duration) -> bool {
        for running in self.running {
            // A listener that panicked has closed, too.
            let _ = running.await;
        }
        let lifecycle = self.lifecycle;
        let quiet = async {
            // A client of HTTP/2 may keep its connection for ever, and then only its requests are waited for.
            let _ = tokio::time::timeout(self.linger, lifecycle.disconnected()).await;
            lifecycle.drained().await;
        };
        let in_time = tokio::time::timeout(drain, quiet).await.is_ok() || lifecycle.in_flight() == 0;
        if !in_time {
            lifecycle.stop();
            // What is cut ends at once; this waits for its guards to have run.
            let _ = tokio::time::timeout(Duration::from_secs(5), lifecycle.drained()).await;
        }
        in_time
    }
}

// === impl CertStore ===

impl CertStore {
    /// Serves `chain`, end entity first.
    pub fn new(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        let Certificate(certified) = Self::certificate(chain, key)?;
        Ok(Self(ArcSwap::from_pointee(certified)))
    }

    /// Checks a certificate, for [`Self::replace`].
    pub fn certificate(
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
    ) -> Result<Certificate, TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider)
            .map(Certificate)
            .map_err(TlsError)
    }

    /// Serves another certificate from here on.
    pub fn replace(&self, Certificate(certified): Certificate) {
        self.0.store(Arc::new(certified));
    }

    fn settings(self: &Arc<Self>) -> pingora_error::Result<TlsSettings> {
        let mut settings = TlsSettings::intermediate("", "")?;
        settings.set_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        settings.enable_h2();
        Ok(settings)
    }
}

impl ResolvesServerCert for CertStore {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for CertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertStore").finish_non_exhaustive()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

// === impl errors ===

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.source)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate and its key cannot be used: {}", self.0)
    }
}

impl std::error::Error for TlsError {}
