//! The running gateway: its listeners, its reloads and its end.

mod books;
mod clients;
mod process;
mod signals;
mod upgrade;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use tower::util::Oneshot;
use tower::{Service, ServiceExt};

pub use self::books::{Books, BooksError};
pub use self::process::run;
pub use self::upgrade::Sockets;
use crate::admin::{self, Api};
use crate::config::Config;
use crate::proxy::{
    BindError, Body, CertStore, Edge, EdgeSettings, Fault, Host, Lifecycle, Listeners, Protocol, RenderFault, Site,
    TlsError,
};
use crate::stack::{self, DataPlane, Faults, State};
use crate::store;
use crate::telemetry::{LedgerNow, Now, Telemetry};

/// How long a request of the admin listener may take to finish, once all else is over.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// A gateway that runs.
pub struct Gateway {
    host: Host,
    /// The admin listener has a life of its own: it is the last to go, and its requests are nobody's load.
    admin: Host,
    state: State,
    books: Option<Books>,
    api: Option<Api>,
    current: Current,
    certs: Option<Arc<CertStore>>,
    config: Arc<Config>,
    drain: Duration,
    addresses: Addresses,
    /// The listening sockets once more, for a process that takes over.
    sockets: Sockets,
}

/// Where a gateway listens, with the ports that the system chose where 0 was asked for.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// HTTP/1.1, or TLS.
    pub http: Vec<SocketAddr>,
    /// HTTP/2 in clear.
    pub h2c: Vec<SocketAddr>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
}

/// Why a gateway could not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address could not be listened on.
    Bind(BindError),
    /// The certificate or its key cannot be used.
    Tls(TlsError),
    /// A backend's address or credential cannot be put into a header.
    Backend(http::Error),
    /// A listening socket could not be kept for a process that takes over.
    Duplicate(std::io::Error),
    /// The configuration's fixed keys could not be written into the store.
    Keys(store::Error),
}

/// The stack in use. A reload swaps it; requests under way stay on the one they began on.
#[derive(Clone)]
struct Current(Arc<ArcSwap<Plane>>);

/// What is made anew by a reload.
struct Plane {
    data: DataPlane,
    faults: Faults,
}

/// What the admin listener reads.
struct Status(State);

// === impl Gateway ===

impl Gateway {
    /// Binds every listener, then starts to answer. Must be called on a tokio runtime.
    pub fn start(config: Config, telemetry: Telemetry) -> Result<Self, StartError> {
        Self::start_on(config, telemetry, None, Sockets::default())
    }

    /// The same with the keys and the money of `books`, and on sockets of another process where it has one for the
    /// address.
    pub fn start_on(
        config: Config,
        telemetry: Telemetry,
        books: Option<Books>,
        mut taken: Sockets,
    ) -> Result<Self, StartError> {
        let failpoints = books.as_ref().map(|books| books.ledger.failpoints().clone());
        let lifecycle = Lifecycle::with_failpoints(failpoints.unwrap_or_default());
        let server = &config.server;
        let mut sockets = Sockets::default();
        let mut bind = |role: &str, addresses: &[SocketAddr]| {
            let bound = Listeners::bind_or_take(addresses, |asked| taken.take(role, asked))?;
            sockets.add(role, bound.duplicate().map_err(StartError::Duplicate)?);
            Ok::<_, StartError>(bound)
        };
        let http = bind("http", &server.listen)?;
        let h2c = bind("h2c", &server.h2c_listen)?;
        let admin = config
            .admin
            .as_ref()
            .map(|admin| bind("admin", &[admin.listen]))
            .transpose()?;
        let certs = server
            .tls
            .as_ref()
            .map(|identity| CertStore::new(&identity.chain, &identity.key))
            .transpose()?
            .map(Arc::new);

        let state = match &books {
            None => State::new(&config, telemetry.clone(), lifecycle.clone()),
            Some(books) => State::with_keys(
                &config,
                telemetry.clone(),
                lifecycle.clone(),
                Arc::clone(&books.numbers),
                books.directory.clone(),
                Some(books.ledger.clone()),
                &books.share,
            ),
        };
        state.adopt(state.prepare(&config)?);
        let current = Current(Arc::new(ArcSwap::from_pointee(Plane::new(
            &config,
            &state,
            books.as_ref(),
        ))));
        let api = books.as_ref().map(|books| {
            Api::new(
                admin::Setup::new(&config),
                Arc::clone(&books.store),
                Arc::new(books.clone()),
            )
        });
        let settings = EdgeSettings {
            client_timeout: server.client_timeout,
            keepalive: server.keepalive,
            linger: server.linger,
        };
        let addresses = Addresses {
            http: http.addresses(),
            h2c: h2c.addresses(),
            admin: admin.as_ref().and_then(|admin| admin.addresses().first().copied()),
        };

        let mut host = Host::new(lifecycle.clone());
        let mut admin_host = Host::new(Lifecycle::new());
        let edge = || Edge::new(current.clone(), current.clone(), settings, lifecycle.clone());
        let protocol = certs.clone().map_or(Protocol::Http1, Protocol::Tls);
        host.add(Site {
            name: "http",
            edge: edge(),
            listeners: http,
            protocol,
        })?;
        if !addresses.h2c.is_empty() {
            host.add(Site {
                name: "h2c",
                edge: edge(),
                listeners: h2c,
                protocol: Protocol::H2c,
            })?;
        }
        if let Some(listeners) = admin {
            let mut router = admin::router(Arc::new(Status(state.clone())), telemetry);
            if let Some(api) = &api {
                router = router.merge(api.router());
            }
            let service = router
                .map_request(|request: Request<Body>| request.map(axum::body::Body::new))
                .map_response(|response: Response<axum::body::Body>| response.map(Body::boxed));
            let settings = EdgeSettings {
                linger: Duration::ZERO,
                ..settings
            };
            let edge = Edge::new(
                service,
                Faults::new(&config, None),
                settings,
                admin_host.lifecycle().clone(),
            );
            admin_host.add(Site {
                name: "admin",
                edge,
                listeners,
                protocol: Protocol::Http1,
            })?;
        }
        let drain = server.drain;
        Ok(Self {
            host,
            admin: admin_host,
            state,
            books,
            api,
            current,
            certs,
            config: Arc::new(config),
            drain,
            addresses,
            sockets,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What outlives a reload: limits, counts, pools.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What is in flight, and the way down.
    pub fn lifecycle(&self) -> &Lifecycle {
        self.state.lifecycle()
    }

    /// Goes on with another configuration. Requests in flight finish on the old one; no count is reset. On an error
    /// all is as it was.
    pub async fn reload(&mut self, config: Config) -> Result<(), StartError> {
        // All that can fail comes first, and only then is anything changed.
        let certificate = match (&self.certs, &config.server.tls) {
            (Some(certs), Some(identity)) => Some((certs, CertStore::certificate(&identity.chain, &identity.key)?)),
            _ => None,
        };
        let prepared = self.state.prepare(&config)?;
        self.state.directory().reload(&config).await?;
        if let Some((certs, certificate)) = certificate {
            certs.replace(certificate);
        }
        self.state.adopt(prepared);
        self.current
            .0
            .store(Arc::new(Plane::new(&config, &self.state, self.books.as_ref())));
        if let Some(api) = &self.api {
            api.reload(admin::Setup::new(&config));
        }
        self.drain = config.server.drain;
        self.config = Arc::new(config);
        Ok(())
    }

    /// Another process listens on the same sockets: no listener of this one, the admin's neither, may take a connection
    /// from it.
    fn is_relieved(&self) {
        self.admin.lifecycle().go_down();
    }

    /// The configuration in use.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Stops listening, lets what is in flight finish within the drain time, and ends. True when all of it did.
    ///
    /// The admin listener says `draining` meanwhile, and ends last.
    pub async fn shut_down(self) -> bool {
        // Else the addresses would seem to listen still.
        drop(self.sockets);
        self.state.lifecycle().go_down();
        let ledger = self.state.ledger().cloned();
        if let Some(ledger) = &ledger {
            // Whoever takes over can spend at once what no request here has set aside.
            ledger.drain().await;
        }
        let in_time = self.host.finish(self.drain).await;
        if let Some(ledger) = ledger {
            ledger.stop().await;
        }
        self.admin.lifecycle().go_down();
        self.admin.finish(ADMIN_DRAIN).await;
        self.state.telemetry().flush();
        in_time
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

// === impl Current ===

impl Service<Request<Body>> for Current {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Oneshot<DataPlane, Request<Body>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.load().data.clone().oneshot(request)
    }
}

impl RenderFault for Current {
    fn render(&self, fault: Fault, head: Option<&Parts>) -> Response<Bytes> {
        self.0.load().faults.render(fault, head)
    }
}

// === impl Plane ===

impl Plane {
    fn new(config: &Config, state: &State, books: Option<&Books>) -> Self {
        Self {
            data: stack::data_plane(config, state, books.map(|books| books.beside(config))),
            faults: Faults::new(config, Some(state.telemetry().clone())),
        }
    }
}

// === impl Status ===

impl admin::Status for Status {
    fn not_ready(&self) -> Option<&'static str> {
        let draining = self.0.lifecycle().is_going_down().then_some("draining");
        draining.or_else(|| self.0.ledger()?.ready().is_err().then_some("ledger_full"))
    }

    fn degraded(&self) -> Option<&'static str> {
        let stats = self.0.ledger()?.stats();
        (!stats.store_up).then_some("the store does not answer: charges wait in the journal")
    }

    fn now(&self) -> Now {
        let ledger = self.0.ledger().map(|ledger| {
            let stats = ledger.stats();
            LedgerNow {
                held: stats.held.get(),
                reserved: stats.reserved.get(),
                pending: stats.pending_rows,
                store_up: stats.store_up,
                writable: ledger.ready().is_ok(),
            }
        });
        Now {
            in_flight: self.0.lifecycle().in_flight(),
            buffered: self.0.budget().used(),
            ledger,
        }
    }
}

// === impl StartError ===

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<store::Error> for StartError {
    fn from(error: store::Error) -> Self {
        Self::Keys(error)
    }
}

impl From<http::Error> for StartError {
    fn from(error: http::Error) -> Self {
        Self::Backend(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Duplicate(error) => write!(f, "cannot duplicate a listening socket: {error}"),
            Self::Keys(error) => write!(f, "the fixed keys cannot be written into the store: {error}"),
            Self::Backend(error) => write!(f, "a backend's host or api_key cannot be sent in a header: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
