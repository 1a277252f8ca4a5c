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
use std::time::Duration;

use http::{Request, Response};
use parking_lot::Mutex;
use pingora_core::server::Fds;
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service as Listening;
use tokio::task::JoinHandle;
use tower::Service;

use super::body::Body;
use super::door::Door;
use super::edge::{Edge, RenderFault};
use super::lifecycle::{Lifecycle, rises};
use super::tls::{CertStore, TlsError};

/// How long a connection that was accepted last may take to be counted.
const SETTLE: Duration = Duration::from_millis(20);

/// How long what was cut may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// Sockets that are bound and wait for their service.
#[derive(Debug)]
pub struct Listeners(Vec<Bound>);

#[derive(Debug)]
struct Bound {
    listener: TcpListener,
    /// What was asked for; its port may be 0.
    asked: SocketAddr,
    address: SocketAddr,
}

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

// === impl Listeners ===

impl Listeners {
    /// Binds every address, so that a port already taken is an error before anything has started.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        Self::bind_or_take(addresses, |_| None)
    }

    /// The same, but for addresses that `bound` has a listening socket for.
    pub fn bind_or_take(
        addresses: &[SocketAddr],
        mut bound: impl FnMut(SocketAddr) -> Option<TcpListener>,
    ) -> Result<Self, BindError> {
        let listeners = addresses.iter().map(|&asked| {
            let taken = bound(asked);
            let listen = || {
                let listener = taken.map_or_else(|| TcpListener::bind(asked), Ok)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                Ok(Bound {
                    listener,
                    asked,
                    address,
                })
            };
            listen().map_err(|source| BindError { address: asked, source })
        });
        listeners.collect::<Result<_, _>>().map(Self)
    }

    /// The same sockets again, by what was asked for.
    pub fn duplicate(&self) -> io::Result<Vec<(SocketAddr, TcpListener)>> {
        let duplicate = |bound: &Bound| Ok((bound.asked, bound.listener.try_clone()?));
        self.0.iter().map(duplicate).collect()
    }

    /// The addresses, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|bound| bound.address).collect()
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

    /// The life that its sites share.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Starts a site on the runtime that this is called on.
    pub fn add<S, R>(&mut self, site: Site<S, R>) -> Result<Hosted, TlsError>
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
        let door = Door::new(edge, protocol)?;
        let mut service = Listening::new(name.to_owned(), door);
        let mut fds = Fds::new();
        for Bound { listener, address, .. } in listeners.0 {
            let address = address.to_string();
            service.add_tcp(&address);
            // Pingora owns the socket from here on.
            fds.add(address, listener.into_raw_fd());
        }
        let shutdown = self.lifecycle.going_down();
        self.running.push(tokio::spawn(async move {
            service
                .start_service(Some(Arc::new(Mutex::new(fds))), shutdown, 1)
                .await;
        }));
        Ok(Hosted { addresses })
    }

    /// Waits for a shutdown to be over: every listener closed, no connection at rest that may yet bring a request, and
    /// nothing in flight, or `drain` passed.
    ///
    /// Returns whether all requests ended by themselves. [`Lifecycle::stop`] ends the wait at once.
    pub async fn finish(self, drain: Duration) -> bool {
        for running in self.running {
            // A listener that panicked has closed, too.
            let _ = running.await;
        }
        let lifecycle = self.lifecycle;
        let quiet = async {
            // Pingora hands a connection to a task of its own, which counts it when it first runs.
            tokio::time::sleep(SETTLE).await;
            // A client of HTTP/2 may keep its connection for ever, and then only its requests are waited for.
            let _ = tokio::time::timeout(self.linger, lifecycle.disconnected()).await;
            lifecycle.drained().await;
        };
        let mut stop = lifecycle.stopped();
        tokio::select! {
            biased;
            _ = tokio::time::timeout(drain, quiet) => {}
            // Whoever waited for it does so no longer.
            () = rises(&mut stop) => {}
        }
        if !lifecycle.is_drained() {
            lifecycle.stop();
            // This waits for the last words, and for the guards of what is cut.
            let _ = tokio::time::timeout(ENDING, lifecycle.drained()).await;
        }
        !lifecycle.has_cut()
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
