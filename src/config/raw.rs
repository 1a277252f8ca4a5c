//! What may be typed: every table of the configuration with its keys, types and defaults.
//!
//! The text above a key is its description in the JSON Schema. Defaults are written as TOML. Nothing outside this
//! folder sees these types.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use http::HeaderName;
use ipnet::IpNet;
use serde_json::json;

use super::read::{At, Leaf, OneOrMany, Read, Reader, TableSchema, table};
use super::tree::{Node, Value};
use super::value::{
    Amount, Expiry, Factor, Free, Lease, Name, PassHeader, Percent, Retention, SecretRef, Sha256, Size, Span,
    StoreAddress, Timeout, TimeoutOrOff, Usd, Weight,
};
use super::{BaseUrl, Dialect, Durability, ErrorCode, Http2, OnDisconnect, Period, Role, StreamUsage};

/// A list.
pub(crate) type List<T> = Vec<At<T>>;

table! {
    /// Configuration of Tollgate, an LLM API gateway.
    struct Root {
        /// The public listeners, and what holds for every request on them.
        required server: Server,
        /// The admin listener. Without it there is none.
        optional admin: Admin,
        /// Accounts, keys and usage in a database. Without it there are only fixed keys, and nothing is charged.
        optional store: Store,
        /// Charges on their way to the store.
        default ledger: Ledger = "{}",
        /// How money is shown to people.
        default credits: Credits = "{}",
        /// What a top-up adds.
        default topup: Topup = "{}",
        /// Keys in the store.
        default keys: Keys = "{}",
        /// How error bodies look.
        default errors: Errors = "{}",
        /// What goes into usage rows.
        default metering: Metering = "{}",
        /// Backends that requests are sent to.
        default backend: List<Backend> = "[]",
        /// Models that clients may ask for.
        default model: List<Model> = "[]",
        /// Groups of keys, by name. The group `default` is there without being written.
        default group: BTreeMap<String, At<Group>> = "{}",
        /// Fixed keys, for small set-ups.
        default key: List<Key> = "[]",
    }
}

table! {
    /// The public listeners, and what holds for every request on them.
    struct Server {
        /// Addresses to listen on, with HTTP/1.1; with `tls`, HTTP/1.1 and HTTP/2.
        required listen: OneOrMany<SocketAddr>,
        /// Addresses to listen on with cleartext HTTP/2.
        default h2c_listen: OneOrMany<SocketAddr> = "[]",
        /// Worker threads; 0 is one a core.
        default threads: usize = "0",
        /// Networks that clients may come from; empty, any.
        default ips: List<IpNet> = "[]",
        /// Networks of proxies whose X-Forwarded-For is believed, read right to left.
        default trusted_proxies: List<IpNet> = "[]",
        /// Largest body of one request.
        default max_body: Size = "\"32MiB\"",
        /// All bodies in flight; over it requests get 503. One account holds at most a quarter.
        default max_buffered: Size = "\"1GiB\"",
        /// Requests in flight at once; over it requests get 503. Left out, no cap.
        optional max_requests: NonZeroUsize,
        /// Answers that are kept for models with a `cache`, all together.
        default max_cached: Size = "\"64MiB\"",
        /// How long a client may take to send its head, to send the next part of its body, and to read the next part
        /// of an answer.
        default client_timeout: Timeout = "\"60s\"",
        /// How long an idle connection of a client is kept.
        default keepalive: Timeout = "\"75s\"",
        /// At shutdown, how long streams may finish.
        default drain: Span = "\"30s\"",
        /// At shutdown, how long parked connections still get one answer, with Connection: close.
        default linger: Span = "\"5s\"",
        /// Folder of the pid file and the upgrade socket, made with mode 0700.
        default run_dir: PathBuf = "\"/run/tollgate\"",
        /// Whether answers carry x-tollgate-overhead-us, the gateway's own time in microseconds.
        default overhead_header: bool = "false",
        /// Whether each request writes one access line.
        default access_log: bool = "true",
        /// Certificate of `listen`. Without it `listen` is cleartext.
        optional tls: Tls,
    }
}

table! {
    /// A certificate and its key.
    struct Tls {
        /// File of the certificate chain, PEM, the server's own first.
        required cert: PathBuf,
        /// File of the private key, PEM.
        required key: PathBuf,
    }
}

table! {
    /// The admin listener.
    struct Admin {
        /// Address of the admin API, /metrics, /healthz and /readyz.
        required listen: SocketAddr,
        /// Who may use the admin API.
        default token: List<AdminToken> = "[]",
    }
}

table! {
    /// A bearer token of the admin API.
    struct AdminToken {
        /// Name for the log.
        required name: Name,
        /// The token.
        required token: SecretRef,
        /// What it may do: read and change, or only read.
        required role: Role,
    }
}

table! {
    /// Accounts, keys and usage in a database. Without it there are only fixed keys, and nothing is charged.
    struct Store {
        /// sqlite://PATH (sqlite:///abs), made when absent; or postgres://…. A URL with a password comes from the
        /// environment or a file.
        required url: StoreAddress,
    }
}

table! {
    /// Charges on their way to the store.
    struct Ledger {
        /// What a charge survives before an answer is complete. "disk": its journal is synced, one sync for all that
        /// wait; "process": written, not synced; "store": there is no lasting disk, so it is in the store.
        default durability: Durability = "\"disk\"",
        /// Folder of the journal. Left out, it is beside an SQLite store, with -ledger after the file's name, else
        /// `ledger` in run_dir.
        optional path: PathBuf,
        /// How long what a process took of a balance stays its own when it is not heard of.
        default lease: Lease = "\"30s\"",
        /// How long usage rows are kept, or "forever". Sums by the hour and balances stay.
        default keep_rows: Retention = "\"400d\"",
    }
}

table! {
    /// How money is shown to people.
    struct Credits {
        /// Credits of one US dollar.
        default per_usd: NonZeroU64 = "500_000",
    }
}

table! {
    /// What a top-up adds.
    struct Topup {
        /// Bonus by the amount topped up: of the steps that it reaches, the highest holds.
        default bonus: List<Bonus> = "[]",
    }
}

table! {
    /// A bonus of a top-up.
    struct Bonus {
        /// Amount in USD from which it holds.
        required from: Usd,
        /// Per cent that are added.
        required percent: Percent,
    }
}

table! {
    /// Keys in the store.
    struct Keys {
        /// Keeps an encrypted copy of keys, shown only after identity is proved again.
        optional reveal: Reveal,
    }
}

table! {
    /// The encrypted copy of keys.
    struct Reveal {
        /// The key that it is encrypted with: 32 bytes, in hexadecimal or base64.
        required key: SecretRef,
    }
}

table! {
    /// How error bodies look.
    struct Errors {
        /// What `error.code` holds: "status", a number; "reason", a string, for clients that type it so.
        default code: ErrorCode = "\"status\"",
    }
}

table! {
    /// What goes into usage rows.
    struct Metering {
        /// Request header whose value goes into the row.
        default tag_header: HeaderName = "\"x-tollgate-tag\"",
    }
}

table! {
    /// A backend that requests are sent to.
    struct Backend {
        /// Its name, for routes, logs and metrics.
        required name: Name,
        /// Where requests go; a request's path, less a leading /v1, is appended.
        required base_url: BaseUrl,
        /// Its credential, or a list that is used in turn. Left out, none is sent.
        optional api_key: OneOrMany<SecretRef>,
        /// Its wire.
        default dialect: Dialect = "\"openai\"",
        /// How long it may take.
        default timeout: BackendTimeout = "{}",
        /// Requests in flight at once, from each process of the gateway. Left out, no cap.
        optional max_concurrency: NonZeroUsize,
        /// Idle connections that are kept for reuse.
        default max_idle_connections: usize = "128",
        /// "auto": by ALPN on TLS, HTTP/1.1 on cleartext; "never": HTTP/1.1; "prior_knowledge": HTTP/2, on cleartext too.
        default http2: Http2 = "\"auto\"",
        /// Usage of streams: "ask" for it; "native": it is sent unasked; "none": never sent, so it is estimated.
        default stream_usage: StreamUsage = "\"ask\"",
        /// When a client leaves a stream: "cancel" cuts the backend off; "drain" reads on to the usage, within bounds.
        default on_disconnect: OnDisconnect = "\"cancel\"",
        /// Request headers that are passed on besides those that always are.
        default pass_headers: List<PassHeader> = "[]",
        /// File of the roots to trust, PEM, instead of the system's.
        optional ca: PathBuf,
        /// File of the client's certificate chain, PEM.
        optional client_cert: PathBuf,
        /// File of the client certificate's key, PEM. Left out, it is in `client_cert`.
        optional client_key: PathBuf,
    }
}

table! {
    /// How long a backend may take.
    struct BackendTimeout {
        /// To a connection ready for use.
        default connect: Timeout = "\"5s\"",
        /// Streams: to the first byte of the answer's body.
        default first_byte: Timeout = "\"120s\"",
        /// Streams: between two parts of the body.
        default idle: Timeout = "\"120s\"",
        /// Unstreamed requests: the whole answer.
        default total: Timeout = "\"120s\"",
        /// Streams: the whole answer, or "off".
        default stream_total: TimeoutOrOff = "\"off\"",
    }
}

table! {
    /// A model that clients may ask for.
    struct Model {
        /// What clients ask for; also the billed name.
        required name: Name,
        /// Where it is served.
        required route: List<Route>,
        /// Other models, in order, when every route failed before the first byte.
        default fallback: List<Name> = "[]",
        /// Its price, or "free". With a store every model has one.
        optional price: Price,
        /// Most tokens of one answer. Left out, no cap.
        optional max_output: NonZeroU64,
        /// Limits of this model, per account.
        default limit: Limit = "{}",
        /// Keeps answers, for requests that are the same. Left out, none is kept.
        optional cache: Cache,
        /// Parameters that are refused, since they change what a request costs or keep a tenant's data; false, null,
        /// "auto" and "default" pass.
        default deny_params: List<String> = "[\"service_tier\", \"background\", \"store\"]",
    }
}

table! {
    /// A place where a model is served.
    struct Route {
        /// Name of the backend.
        required backend: Name,
        /// What the backend calls the model. Left out, the model's own name.
        optional model: Name,
        /// Its share among the routes of one priority.
        default weight: Weight = "1",
        /// Lower ones are tried first.
        default priority: u32 = "0",
    }
}

table! {
    /// Limits; one left out is none.
    struct Limit {
        /// Requests a minute.
        optional rpm: NonZeroU64,
        /// Tokens a minute.
        optional tpm: NonZeroU64,
        /// Requests at once.
        optional concurrency: NonZeroU32,
    }
}

table! {
    /// Answers that are kept.
    struct Cache {
        /// How long an answer is kept; a day at most.
        required ttl: Timeout,
        /// Whether one account may be answered with what another was. Else each account has its own.
        default shared: bool = "false",
    }
}

table! {
    /// Prices in USD: tokens by the million, the rest each.
    struct Rates {
        /// A million prompt tokens.
        optional input: Amount,
        /// A million prompt tokens that the backend had cached.
        optional cached_input: Amount,
        /// A million completion tokens.
        optional output: Amount,
        /// A million tokens written to the backend's cache.
        optional cache_write: Amount,
        /// A million tokens written to the backend's cache for an hour.
        optional cache_write_1h: Amount,
        /// A million audio tokens of the prompt.
        optional audio_input: Amount,
        /// A million audio tokens of the completion.
        optional audio_output: Amount,
        /// A request.
        optional request: Amount,
        /// A character.
        optional character: Amount,
        /// A second of audio.
        optional second: Amount,
        /// An image, by quality and size: "hd:1024x1792".
        default image: BTreeMap<String, At<Amount>> = "{}",
        /// Prices of tokens of requests with more input.
        default tiers: List<Tier> = "[]",
    }
}

table! {
    /// Prices of tokens of requests with more input; those it leaves out stay as they are.
    struct Tier {
        /// Input tokens over which it holds.
        required above: NonZeroU64,
        /// A million prompt tokens.
        optional input: Amount,
        /// A million prompt tokens that the backend had cached.
        optional cached_input: Amount,
        /// A million completion tokens.
        optional output: Amount,
        /// A million tokens written to the backend's cache.
        optional cache_write: Amount,
        /// A million tokens written to the backend's cache for an hour.
        optional cache_write_1h: Amount,
        /// A million audio tokens of the prompt.
        optional audio_input: Amount,
        /// A million audio tokens of the completion.
        optional audio_output: Amount,
    }
}

table! {
    /// A group of keys.
    struct Group {
        /// Models its keys may call: names, or globs.
        default models: List<Name> = "[\"*\"]",
        /// Factor on prices.
        default multiplier: Factor = "1.0",
        /// Requests a minute, per account.
        optional rpm: NonZeroU64,
        /// Tokens a minute, per account.
        optional tpm: NonZeroU64,
        /// Requests at once, per account.
        optional concurrency: NonZeroU32,
    }
}

table! {
    /// A fixed key, known by its hash.
    struct Key {
        /// Its name, for logs and metrics.
        required name: Name,
        /// SHA-256 of the whole key as sent, in hexadecimal: `tollgate key hash` makes it.
        required sha256: Sha256,
        /// Its group.
        default group: Name = "\"default\"",
        /// Name of its account in the store.
        optional account: Name,
        /// Models it may call: names, or globs. Left out, those of its group; both must allow.
        optional models: List<Name>,
        /// Networks it may come from; empty, any.
        default ips: List<IpNet> = "[]",
        /// Requests a minute.
        optional rpm: NonZeroU64,
        /// Tokens a minute.
        optional tpm: NonZeroU64,
        /// Requests at once.
        optional concurrency: NonZeroU32,
        /// Credits it may spend. Left out, as many as its account has.
        optional quota: u64,
        /// How often the quota starts anew. Left out, never.
        optional period: Period,
        /// When it ends: a date (its end, UTC), RFC 3339, unix seconds, or -1 for never.
        optional expires: Expiry,
    }
}

/// A model's price.
#[derive(Clone, Debug)]
pub(crate) enum Price {
    Free,
    Rates(Box<Rates>),
}

impl Read for Price {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::Table(_) => Rates::read(node, reader).map(|rates| Self::Rates(Box::new(rates))),
            _ => Free::read(node, reader).map(|_| Self::Free),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "anyOf": [<Free as Leaf>::schema(), Rates::schema()] })
    }
}

/// The JSON Schema of the configuration.
pub fn schema() -> serde_json::Value {
    let mut schema = Root::schema();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Tollgate");
    schema
}
