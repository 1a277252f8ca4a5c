//! Configuration: one TOML file, read into `raw`, checked and resolved into [`Config`].
//!
//! What a user typed and what the program runs on are two types. Only [`Config`] leaves this folder: its names are
//! resolved, its durations and sizes are numbers, its secrets are read and wrapped in a [`Secret`], its certificates
//! are parsed. A [`Config`] that exists can be served.
//!
//! ```text
//! file → tree (values with lines) ← overrides from the environment
//!          ↓ read, by the table of keys in `raw` (which also makes the JSON Schema)
//!        raw → compile → Config
//! ```
//!
//! Every step adds to one list of errors and goes on, so that a user sees all of them at once.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderName;
use ipnet::IpNet;
use rust_decimal::Decimal;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

mod checks;
mod compile;
mod error;
mod load;
mod patterns;
mod raw;
mod read;
mod secret;
mod show;
mod sources;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod url;
mod value;
mod watch;

pub use crate::money::{AmountError, Bonus, Bonuses, Credits, Nanos, Price, Rates, Tier, TokenRates};
pub use error::{Errors, Place, Problem, Warning};
pub use load::{Loaded, Loader};
pub use patterns::ModelPatterns;
pub use raw::schema;
pub use secret::{Secret, SecretSource};
pub use show::{diff_fixed, show};
pub use store::{Durability, Ledger, PostgresUrl, RevealKey, Store, StoreUrl};
pub use url::BaseUrl;
pub use value::{expiry, network};
pub use watch::Watcher;

/// A whole, validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The public listeners and what holds for every request on them.
    pub server: Server,
    /// The admin listener; absent, there is none.
    pub admin: Option<Admin>,
    /// Accounts, keys and usage in a database; absent, there are only the fixed keys and nothing is charged.
    pub store: Option<Store>,
    /// How error bodies look.
    pub errors: ErrorStyle,
    /// What goes into usage rows.
    pub metering: Metering,
    /// How money is shown.
    pub credits: Credits,
    /// Backends in the order of the file; their names are unique.
    pub backends: Vec<Arc<Backend>>,
    /// Models in the order of the file; their names are unique. [`Model::fallback`] indexes this list.
    pub models: Vec<Arc<Model>>,
    /// Groups by name. `default` is always there.
    pub groups: BTreeMap<Arc<str>, Arc<Group>>,
    /// Fixed keys in the order of the file; names and hashes are unique.
    pub keys: Vec<Arc<Key>>,
    pub(crate) model_by_name: HashMap<Arc<str>, usize>,
    pub(crate) key_by_hash: HashMap<[u8; 32], usize>,
}

/// `[server]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// HTTP/1.1 listeners; with [`Server::tls`] they speak TLS, HTTP/1.1 and HTTP/2 by ALPN. Never empty.
    pub listen: Vec<SocketAddr>,
    /// Cleartext HTTP/2 listeners.
    pub h2c_listen: Vec<SocketAddr>,
    /// Worker threads; absent, one a core.
    pub threads: Option<NonZeroUsize>,
    /// Client addresses that may use the listeners; empty, all may.
    pub ips: Vec<IpNet>,
    /// Proxies whose `X-Forwarded-For` is believed, read right to left.
    pub trusted_proxies: Vec<IpNet>,
    /// Bytes of one request's body.
    pub max_body: u64,
    /// Bytes of all bodies in flight.
    pub max_buffered: u64,
    /// Requests in flight at once; over it 503. Absent, no cap.
    pub max_requests: Option<NonZeroUsize>,
    /// Bytes of all answers that are kept for models with a [`Model::cache`].
    pub max_cached: u64,
    /// How long a client may take to send its head, to send the next part of its body, or to read the next part of an
    /// answer.
    pub client_timeout: Duration,
    /// How long an idle downstream connection is kept.
    pub keepalive: Duration,
    /// At shutdown, how long streams may finish.
    pub drain: Duration,
    /// At shutdown, how long parked connections still get one answer.
    pub linger: Duration,
    /// Folder of the pid file and the upgrade socket, made 0700.
    pub run_dir: PathBuf,
    /// Whether answers carry `x-tollgate-overhead-us`.
    pub overhead_header: bool,
    /// Whether each request writes one access line.
    pub access_log: bool,
    /// Certificate and key of [`Server::listen`].
    pub tls: Option<Identity>,
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where the admin API, `/metrics`, `/healthz` and `/readyz` are.
    pub listen: SocketAddr,
    /// Who may use the API; names are unique.
    pub tokens: Vec<AdminToken>,
}

/// One `[[admin.token]]`.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// Name for the log.
    pub name: String,
    /// The bearer token.
    pub token: Secret,
    /// What it may do.
    pub role: Role,
}

/// What an admin token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Read and change.
    Admin,
    /// Read only.
    Read,
}

/// `[errors]`.
#[derive(Clone, Copy, Debug)]
pub struct ErrorStyle {
    /// What `error.code` holds.
    pub code: ErrorCode,
}

/// What `error.code` holds in an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The HTTP status, a number.
    Status,
    /// The reason, a string.
    Reason,
}

/// `[metering]`.
#[derive(Clone, Debug)]
pub struct Metering {
    /// Request header whose value goes into the usage row.
    pub tag_header: HeaderName,
}

/// One `[[backend]]`.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Unique name.
    pub name: Arc<str>,
    /// Where requests go.
    pub base_url: BaseUrl,
    /// Credentials, used in turn; empty, none is sent.
    pub api_keys: Vec<Secret>,
    /// Its wire.
    pub dialect: Dialect,
    /// How long it may take.
    pub timeout: Timeouts,
    /// Requests in flight at once, from each process; absent, no cap.
    pub max_concurrency: Option<NonZeroUsize>,
    /// Idle connections kept for reuse.
    pub max_idle_connections: usize,
    /// Which HTTP it speaks.
    pub http2: Http2,
    /// Whether streams report their usage.
    pub stream_usage: StreamUsage,
    /// What happens to a stream whose client left.
    pub on_disconnect: OnDisconnect,
    /// Request headers that are passed on besides the built-in list.
    pub pass_headers: Vec<HeaderName>,
    /// Private roots, instead of the system's.
    pub ca: Option<Roots>,
    /// Client certificate.
    pub client_identity: Option<Identity>,
}

/// A backend's timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To a connection ready for use: name, TCP and TLS.
    pub connect: Duration,
    /// Streams: from the request sent to the first byte of the body.
    pub first_byte: Duration,
    /// Streams: between two parts of the body.
    pub idle: Duration,
    /// Unstreamed requests: the whole answer.
    pub total: Duration,
    /// Streams: the whole answer; absent, no cap.
    pub stream_total: Option<Duration>,
}

/// A vendor's wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's API and what is compatible with it.
    OpenAi,
}

/// Which HTTP a backend is spoken to with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2 {
    /// By ALPN on TLS; HTTP/1.1 on cleartext.
    Auto,
    /// HTTP/1.1 always.
    Never,
    /// HTTP/2 always, on cleartext too.
    PriorKnowledge,
}

/// Whether a backend's streams report usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamUsage {
    /// When asked with `stream_options.include_usage`.
    Ask,
    /// Unasked.
    Native,
    /// Never: usage is estimated.
    None,
}

/// What happens to a stream whose client left. Unstreamed requests always drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The backend's connection is cut.
    Cancel,
    /// The rest is read for its usage, within bounds.
    Drain,
}

/// A certificate chain and its private key; they were checked to belong together.
#[derive(Clone, Debug)]
pub struct Identity {
    /// File of the chain, PEM.
    pub cert_path: PathBuf,
    /// File of the key, PEM.
    pub key_path: PathBuf,
    /// The chain, end entity first. Never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key; its `Debug` shows nothing of it.
    pub key: Arc<PrivateKeyDer<'static>>,
}

/// Root certificates from a file.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The file, PEM.
    pub path: PathBuf,
    /// Its certificates. Never empty.
    pub certs: Vec<CertificateDer<'static>>,
}

/// One `[[model]]`.
#[derive(Clone, Debug)]
pub struct Model {
    /// What clients ask for; also the billed name.
    pub name: Arc<str>,
    /// Where it is served. Never empty.
    pub routes: Vec<Route>,
    /// Models to try when every route failed, in order: indices into [`Config::models`].
    pub fallback: Vec<usize>,
    /// Its price; absent, it has none, and there is no [`Config::store`].
    pub price: Option<Price>,
    /// Most tokens of one answer.
    pub max_output: Option<NonZeroU64>,
    /// Limits of this model, per account.
    pub limits: Limits,
    /// Whether and how its answers are kept; absent, they are not.
    pub cache: Option<Cache>,
    /// Body parameters that are refused.
    pub deny_params: Vec<String>,
}

/// One entry of a model's `route`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where it goes.
    pub backend: Arc<Backend>,
    /// What the backend calls the model.
    pub model: Arc<str>,
    /// Its share among routes of one priority.
    pub weight: NonZeroU32,
    /// Lower is tried first.
    pub priority: u32,
}

/// How answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// For how long; at most [`Cache::LONGEST`].
    pub ttl: Duration,
    /// Whether for everybody; else each account is answered with its own.
    pub shared: bool,
}

/// Limits; an absent one is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests a minute.
    pub rpm: Option<NonZeroU64>,
    /// Tokens a minute.
    pub tpm: Option<NonZeroU64>,
    /// Requests at once.
    pub concurrency: Option<NonZeroU32>,
}

/// One `[group.NAME]`.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// What its keys may call.
    pub models: ModelPatterns,
    /// Factor on prices.
    pub multiplier: Decimal,
    /// Limits, per account.
    pub limits: Limits,
}

/// One `[[key]]`: a fixed key, known by its hash.
#[derive(Clone, Debug)]
pub struct Key {
    /// Unique name.
    pub name: Arc<str>,
    /// SHA-256 of the whole key as sent.
    pub sha256: [u8; 32],
    /// Its group.
    pub group: Arc<Group>,
    /// Name of its account in the store; never without one.
    pub account: Option<Arc<str>>,
    /// What it may call; absent, what its group may. Both must allow.
    pub models: Option<ModelPatterns>,
    /// Addresses it may come from; empty, any.
    pub ips: Vec<IpNet>,
    /// Its own limits.
    pub limits: Limits,
    /// What it may spend; never without a [`Config::store`].
    pub quota: Option<Quota>,
    /// When it ends; absent, never.
    pub expires: Option<SystemTime>,
}

/// What a key may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How much, typed in credits.
    pub amount: Nanos,
    /// How often it starts anew; absent, never.
    pub period: Option<Period>,
}

/// How often a quota starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "spans of time")]
pub enum Period {
    Day,
    Week,
    Month,
}

// === impl Config ===

impl Config {
    /// The model of this exact name.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.model_by_name.get(name).map(|&i| &self.models[i])
    }

    /// The fixed key of this hash.
    pub fn key(&self, sha256: &[u8; 32]) -> Option<&Arc<Key>> {
        self.key_by_hash.get(sha256).map(|&i| &self.keys[i])
    }
}

// === impl Cache ===

impl Cache {
    /// The longest time an answer may be kept.
    pub const LONGEST: Duration = Duration::from_hours(24);
}

// === impl Server ===

impl Server {
    /// Worker threads to start: what was asked for, else one a core.
    pub fn worker_threads(&self) -> NonZeroUsize {
        self.threads
            .unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}
