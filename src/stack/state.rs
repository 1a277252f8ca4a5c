//! What outlives a reload: pools, counts and limits. A new stack is built on the old state.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Uri};
use tokio::sync::Semaphore;
use tollgate_layers::buffer::Budget;
use tollgate_layers::concurrency::Slots;
use tollgate_layers::disconnect::{Rest, Spawn};
use tollgate_layers::meter::Learned;
use tollgate_layers::rate_limit::Buckets;
use tollgate_layers::{Reason, Rejection};

use super::count::Counters;
use crate::config;
use crate::dialect::openai;
use crate::directory::Directory;
use crate::failpoint::Failpoints;
use crate::ledger::Ledger;
use crate::proxy::{HttpVersion, Lifecycle, Origin, OriginSettings, TlsFiles};
use crate::telemetry::Telemetry;
use crate::wiring::Share;
use crate::wiring::limits::{Counted, Numbers};

/// One account may hold at most this part of the memory for bodies.
const OWNER_SHARE: usize = 4;

/// At most so many answers of a backend are read on after their client has left.
const MOST_DRAINS: usize = 64;

/// How long an idle connection to a backend is kept: below the 60 s or more that servers keep theirs, so that it is
/// mostly we who close.
const IDLE: Duration = Duration::from_secs(55);

/// The state of the data plane. Clones share it.
#[derive(Clone, Debug)]
pub struct State(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    telemetry: Telemetry,
    lifecycle: Lifecycle,
    budget: Arc<Budget>,
    requests: Buckets<Counted>,
    tokens: Buckets<Counted>,
    slots: Slots<Counted>,
    numbers: Arc<Numbers>,
    directory: Directory,
    ledger: Option<Ledger>,
    learned: Mutex<HashMap<Arc<str>, Arc<Learned>>>,
    backends: Mutex<HashMap<Arc<str>, Arc<Backend>>>,
    left_behind: LeftBehind,
    counters: Counters,
}

/// Runs what goes on without its client, where a shutdown waits for it.
struct LeftBehind(Arc<dyn Spawn>);

/// What a configuration needs, made and not yet in use.
#[derive(Debug)]
pub struct Prepared {
    backends: HashMap<Arc<str>, Arc<Backend>>,
    max_buffered: usize,
}

/// A backend as it runs.
pub struct Backend {
    /// As configured.
    pub config: Arc<config::Backend>,
    /// How it is reached.
    pub endpoint: Arc<Origin>,
    /// Whether it once refused `stream_options`, and is not asked for usage again.
    pub refuses_usage: AtomicBool,
    /// Places for answers that are read on after their client has left.
    pub drains: Arc<Semaphore>,
    /// Requests in flight.
    places: Arc<AtomicUsize>,
    /// Where each call goes, in the order of [`openai::Endpoint::ALL`].
    uris: Vec<Uri>,
    credentials: Vec<HeaderValue>,
    turn: AtomicUsize,
}

/// A place among a backend's requests in flight, given back on drop.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

// === impl State ===

impl State {
    /// An empty state, sized for `config`, with its fixed keys and no others.
    pub fn new(config: &config::Config, telemetry: Telemetry, lifecycle: Lifecycle) -> Self {
        let numbers = Arc::new(Numbers::default());
        let directory = Directory::fixed(config, Arc::clone(&numbers));
        Self::with_keys(
            config,
            telemetry,
            lifecycle,
            numbers,
            directory,
            None,
            &Share::default(),
        )
    }

    /// The same with the keys of `directory`, whose requests are charged to `ledger`, and with this share of every limit.
    pub fn with_keys(
        config: &config::Config,
        telemetry: Telemetry,
        lifecycle: Lifecycle,
        numbers: Arc<Numbers>,
        directory: Directory,
        ledger: Option<Ledger>,
        share: &Share,
    ) -> Self {
        let life = lifecycle.clone();
        Self(Arc::new(Inner {
            left_behind: LeftBehind(Arc::new(move |rest: Rest| life.run_behind(rest))),
            telemetry,
            lifecycle,
            budget: Budget::new(bytes(config.server.max_buffered), OWNER_SHARE),
            requests: Buckets::sharing(share.clone()),
            tokens: Buckets::sharing(share.clone()),
            slots: Slots::sharing(share.clone()),
            numbers,
            directory,
            ledger,
            learned: Mutex::default(),
            backends: Mutex::default(),
            counters: Counters::default(),
        }))
    }

    /// Makes all that a new configuration needs, and changes nothing yet: backends that are reached as before keep
    /// their connections.
    pub fn prepare(&self, config: &config::Config) -> Result<Prepared, http::Error> {
        let backends = self.0.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let next = config.backends.iter().map(|backend| {
            let old = backends.get(&backend.name).map(AsRef::as_ref);
            let failpoints = self.0.lifecycle.failpoints();
            let new = Backend::new(backend, old, failpoints)?;
            Ok((Arc::clone(&backend.name), Arc::new(new)))
        });
        Ok(Prepared {
            backends: next.collect::<Result<_, http::Error>>()?,
            max_buffered: bytes(config.server.max_buffered),
        })
    }

    /// Goes on with what was prepared.
    pub fn adopt(&self, prepared: Prepared) {
        self.0.budget.resize(prepared.max_buffered, OWNER_SHARE);
        *self.0.backends.lock().unwrap_or_else(PoisonError::into_inner) = prepared.backends;
    }

    /// The backend of this name in the configuration adopted last.
    pub fn backend(&self, name: &str) -> Option<Arc<Backend>> {
        self.0
            .backends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Metrics and access lines.
    pub fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    /// What is in flight.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    /// Where the rest of an answer is read whose client has left.
    pub fn left_behind(&self) -> &Arc<dyn Spawn> {
        &self.0.left_behind.0
    }

    /// The memory for request bodies.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.0.budget
    }

    /// Requests a minute.
    pub fn requests(&self) -> &Buckets<Counted> {
        &self.0.requests
    }

    /// Tokens a minute.
    pub fn tokens(&self) -> &Buckets<Counted> {
        &self.0.tokens
    }

    /// Every key.
    pub fn directory(&self) -> &Directory {
        &self.0.directory
    }

    /// What requests are charged to; absent without a store.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.0.ledger.as_ref()
    }

    /// What limits count by.
    pub fn numbers(&self) -> &Numbers {
        &self.0.numbers
    }

    /// What was learned of the tokens of the model of this name, in whatever configuration.
    pub fn learned(&self, model: &Arc<str>) -> Arc<Learned> {
        let mut known = self.0.learned.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(Arc::clone(model)).or_default())
    }

    /// Where tokens are counted that no backend reports.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Requests at once.
    pub fn slots(&self) -> &Slots<Counted> {
        &self.0.slots
    }
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

impl fmt::Debug for LeftBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeftBehind")
    }
}

// === impl Backend ===

impl Backend {
    fn new(config: &Arc<config::Backend>, old: Option<&Self>, failpoints: &Failpoints) -> Result<Self, http::Error> {
        let settings = endpoint_settings(config);
        // The settings name files; a certificate that was renewed stands in the same one.
        let same = old.filter(|old| *old.endpoint.settings() == settings && same_certificates(&old.config, config));
        let endpoint = match same {
            Some(same) => Arc::clone(&same.endpoint),
            None => Arc::new(Origin::new(settings)?.with_failpoints(failpoints.clone())),
        };
        let uri = |call: openai::Endpoint| Uri::try_from(format!("{}{}", config.base_url.path, call.path()));
        let uris = openai::Endpoint::ALL.map(uri).into_iter().collect::<Result<_, _>>()?;
        let credentials = config
            .api_keys
            .iter()
            .map(|key| {
                let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose()))?;
                value.set_sensitive(true);
                Ok(value)
            })
            .collect::<Result<_, http::Error>>()?;
        Ok(Self {
            config: Arc::clone(config),
            endpoint,
            refuses_usage: AtomicBool::new(same.is_some_and(|old| old.refuses_usage.load(Ordering::Relaxed))),
            drains: old.map_or_else(|| Arc::new(Semaphore::new(MOST_DRAINS)), |old| Arc::clone(&old.drains)),
            places: old.map_or_else(Arc::default, |old| Arc::clone(&old.places)),
            uris,
            credentials,
            turn: AtomicUsize::new(0),
        })
    }

    /// A place among the requests that the backend takes at once. They are counted by the backend's name: neither a new
    /// limit nor a new address forgets the requests that are under way. By this process alone: it is for what a backend
    /// can bear of one, and no caller was promised anything.
    pub fn place(&self) -> Result<Place, Rejection> {
        let most = self.config.max_concurrency.map_or(usize::MAX, NonZeroUsize::get);
        if self.places.fetch_add(1, Ordering::Relaxed) >= most {
            self.places.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::Overloaded.into());
        }
        Ok(Place(Arc::clone(&self.places)))
    }

    /// How many requests it has in flight.
    pub fn in_flight(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }

    /// The path of a call, below the backend's own.
    pub fn uri(&self, call: openai::Endpoint) -> Option<&Uri> {
        self.uris.get(call as usize)
    }

    /// The credential for the next request, each in turn.
    pub fn credential(&self) -> Option<&HeaderValue> {
        match self.credentials.len() {
            0 => None,
            1 => self.credentials.first(),
            many => self.credentials.get(self.turn.fetch_add(1, Ordering::Relaxed) % many),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.config.name)
            .finish_non_exhaustive()
    }
}

/// Whether two configurations of a backend trust the same authorities and show the same certificate.
fn same_certificates(old: &config::Backend, new: &config::Backend) -> bool {
    let roots = |config: &config::Backend| config.ca.as_ref().map(|roots| roots.certs.clone());
    let same_identity = match (&old.client_identity, &new.client_identity) {
        (Some(old), Some(new)) => old.chain == new.chain && old.key.secret_der() == new.key.secret_der(),
        (old, new) => old.is_none() && new.is_none(),
    };
    same_identity && roots(old) == roots(new)
}

fn endpoint_settings(config: &config::Backend) -> OriginSettings {
    let url = &config.base_url;
    let tls = url.tls.then(|| TlsFiles {
        ca: config.ca.as_ref().map(|roots| roots.path.clone()),
        client: config
            .client_identity
            .as_ref()
            .map(|identity| (identity.cert_path.clone(), identity.key_path.clone())),
    });
    OriginSettings {
        host: url.host.clone(),
        port: url.port,
        tls,
        http: match config.http2 {
            config::Http2::Auto => HttpVersion::Auto,
            config::Http2::Never => HttpVersion::Http1,
            config::Http2::PriorKnowledge => HttpVersion::Http2,
        },
        connect_timeout: config.timeout.connect,
        max_idle: config.max_idle_connections,
        idle_timeout: IDLE,
    }
}
