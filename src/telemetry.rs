//! What an operator sees: metrics, access lines and the log, with each name written once, here.

mod access;
mod line;
mod record;

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

pub use access::AccessLog;
pub use record::{Attempt, End, Facts, Record, Tokens};

/// The environment variable that sets what the log shows, in `tracing`'s syntax.
pub const LOG_VARIABLE: &str = "TOLLGATE_LOG";

/// What a label says where a name would be the client's to choose.
const OTHER: &str = "other";

/// Seconds: from a cache's answer to a long stream.
const DURATION_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0,
];

/// Every metric of the gateway, and where access lines go. Clones write to the same.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    access: Option<AccessLog>,
    requests: Family<RequestLabels, Counter>,
    refusals: Family<ReasonLabels, Counter>,
    duration: Family<EndpointLabels, Histogram>,
    first_byte: Family<ModelLabels, Histogram>,
    tokens: Family<TokenLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    connections: Family<ConnectionLabels, Counter>,
    in_flight: Gauge,
    buffered: Gauge,
    estimated: Counter,
    charged: Family<ModelLabels, Counter>,
    written_off: Family<ModelLabels, Counter>,
    ledger: LedgerGauges,
    cached: Counter,
    reloads: Family<ResultLabels, Counter>,
    dropped_lines: Gauge<i64, std::sync::atomic::AtomicI64>,
    panics: Counter<u64, AtomicU64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NoLabels {}

/// What a ledger holds, when there is one. Families without labels, since those are shown only once they have a value: without a ledger there is none.
#[derive(Debug, Default)]
struct LedgerGauges {
    held: Family<NoLabels, Gauge>,
    reserved: Family<NoLabels, Gauge>,
    pending: Family<NoLabels, Gauge>,
    store_up: Family<NoLabels, Gauge>,
    writable: Family<NoLabels, Gauge>,
}

/// What is read at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Requests in flight.
    pub in_flight: usize,
    /// Bytes of request bodies held.
    pub buffered: usize,
    /// What the ledger holds; absent without one.
    pub ledger: Option<LedgerNow>,
}

/// What a ledger holds at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct LedgerNow {
    /// Nano-dollars that this process may spend.
    pub held: i64,
    /// Nano-dollars of it that requests in flight have set aside.
    pub reserved: i64,
    /// Usage rows that the store does not have yet.
    pub pending: u64,
    /// Whether the store answers.
    pub store_up: bool,
    /// Whether requests are admitted, as far as their charges are concerned.
    pub writable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    model: Arc<str>,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabels {
    model: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
struct TokenLabels {
    model: Arc<str>,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabels {
    backend: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
struct ConnectionLabels {
    backend: Arc<str>,
    reused: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

// === impl the labels ===

/// Hashes labels of the request's path by a quick mixture of their bytes, one number to the map's own hasher. The values
/// are the configuration's and ours, so nobody can choose ones that meet.
macro_rules! quick_hash {
    ($labels:ident: $($text:ident),* $(; $number:ident)?) => {
        impl Hash for $labels {
            fn hash<H: Hasher>(&self, state: &mut H) {
                let mut mixed = 0xcbf2_9ce4_8422_2325_u64;
                $(for byte in self.$text.bytes() {
                    mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                })*
                $(mixed ^= u64::from(self.$number) << 32;)?
                state.write_u64(mixed);
            }
        }
    };
}

quick_hash!(RequestLabels: endpoint, model; status);
quick_hash!(ReasonLabels: reason);
quick_hash!(EndpointLabels: endpoint);
quick_hash!(ModelLabels: model);
quick_hash!(TokenLabels: model, kind);
quick_hash!(AttemptLabels: backend, outcome);
quick_hash!(ConnectionLabels: backend, reused);

// === impl Telemetry ===

impl Telemetry {
    /// Metrics at zero. Access lines go to `access`, or nowhere.
    pub fn new(access: Option<AccessLog>) -> Self {
        let seconds = || Histogram::new(DURATION_BUCKETS);
        let mut inner = Inner {
            registry: Registry::with_prefix("tollgate"),
            access,
            requests: Family::default(),
            refusals: Family::default(),
            duration: Family::new_with_constructor(seconds),
            first_byte: Family::new_with_constructor(seconds),
            tokens: Family::default(),
            attempts: Family::default(),
            connections: Family::default(),
            in_flight: Gauge::default(),
            buffered: Gauge::default(),
            estimated: Counter::default(),
            charged: Family::default(),
            written_off: Family::default(),
            ledger: LedgerGauges::default(),
            cached: Counter::default(),
            reloads: Family::default(),
            dropped_lines: Gauge::default(),
            panics: Counter::default(),
        };
        inner.register();
        Self(Arc::new(inner))
    }

    /// The text that Prometheus scrapes.
    pub fn scrape(&self, now: Now) -> Result<String, std::fmt::Error> {
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.0.in_flight.set(gauge(now.in_flight));
        self.0.buffered.set(gauge(now.buffered));
        if let Some(ledger) = now.ledger {
            let gauges = &self.0.ledger;
            gauges.held.get_or_create(&NoLabels {}).set(ledger.held);
            gauges.reserved.get_or_create(&NoLabels {}).set(ledger.reserved);
            gauges
                .pending
                .get_or_create(&NoLabels {})
                .set(i64::try_from(ledger.pending).unwrap_or(i64::MAX));
            gauges.store_up.get_or_create(&NoLabels {}).set(ledger.store_up.into());
            gauges.writable.get_or_create(&NoLabels {}).set(ledger.writable.into());
        }
        let dropped = self.0.access.as_ref().map_or(0, AccessLog::dropped);
        self.0.dropped_lines.set(i64::try_from(dropped).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    /// A reload of the configuration was taken or refused.
    pub fn reloaded(&self, taken: bool) {
        let result = if taken { "ok" } else { "refused" };
        self.0.reloads.get_or_create(&ResultLabels { result }).inc();
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.0.panics.inc();
    }

    /// A backend answered, over a connection from the pool or a new one.
    pub fn connected(&self, backend: &Arc<str>, reused: bool) {
        let reused = if reused { "true" } else { "false" };
        self.0
            .connections
            .get_or_create(&ConnectionLabels {
                backend: Arc::clone(backend),
                reused,
            })
            .inc();
    }

    /// Waits until every access line so far is written, for a few seconds at most.
    pub fn flush(&self) {
        /// A sink that takes longer has stopped.
        const PATIENCE: Duration = Duration::from_secs(5);
        if let Some(access) = &self.0.access
            && !access.flush(PATIENCE)
        {
            tracing::warn!("access lines were lost: their sink does not take them");
        }
    }

    /// A request is over: it is counted, and its line written.
    fn finished(&self, facts: &Facts) {
        let inner = &self.0;
        let model = facts.model.clone().unwrap_or_else(|| Arc::from(OTHER));
        let endpoint = facts.endpoint.unwrap_or(OTHER);
        let labels = RequestLabels {
            endpoint,
            model: Arc::clone(&model),
            status: facts.status,
        };
        inner.requests.get_or_create(&labels).inc();
        if let Some(reason) = facts.reason {
            inner.refusals.get_or_create(&ReasonLabels { reason }).inc();
        }
        inner
            .duration
            .get_or_create(&EndpointLabels { endpoint })
            .observe(facts.elapsed.as_secs_f64());
        // An error comes at once, and says nothing of how long an answer takes to begin.
        if let (Some(first), 200..=299) = (facts.first_byte, facts.status) {
            inner
                .first_byte
                .get_or_create(&ModelLabels {
                    model: Arc::clone(&model),
                })
                .observe(first.as_secs_f64());
        }
        for attempt in &facts.attempts {
            let labels = AttemptLabels {
                backend: Arc::clone(&attempt.backend),
                outcome: attempt.outcome(),
            };
            inner.attempts.get_or_create(&labels).inc();
        }
        if let Some(charge) = facts.charge {
            let labels = ModelLabels {
                model: Arc::clone(&model),
            };
            inner.charged.get_or_create(&labels).inc_by(charge);
            if facts.written_off > 0 {
                inner.written_off.get_or_create(&labels).inc_by(facts.written_off);
            }
        }
        if facts.cached {
            // Its tokens were counted when they were used.
            inner.cached.inc();
        } else {
            self.count_tokens(&model, facts.tokens.as_ref());
        }
        if let Some(access) = &inner.access {
            access.write(|line| facts.write_json(line));
        }
    }

    fn count_tokens(&self, model: &Arc<str>, tokens: Option<&Tokens>) {
        let Some(tokens) = tokens else { return };
        for (kind, count) in [
            ("prompt", tokens.prompt),
            ("cached", tokens.cached),
            ("completion", tokens.completion),
        ] {
            if count > 0 {
                let labels = TokenLabels {
                    model: Arc::clone(model),
                    kind,
                };
                self.0.tokens.get_or_create(&labels).inc_by(count);
            }
        }
        if tokens.estimated {
            self.0.estimated.inc();
        }
    }
}

impl Inner {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "requests",
            "Requests, by endpoint, model and status",
            self.requests.clone(),
        );
        r.register(
            "refusals",
            "Requests that the gateway refused, by reason",
            self.refusals.clone(),
        );
        r.register_with_unit(
            "request_duration",
            "Time from a request's head to the last byte of its answer",
            Unit::Seconds,
            self.duration.clone(),
        );
        r.register_with_unit(
            "time_to_first_byte",
            "Time from a request's head to the first byte of a metered answer's body",
            Unit::Seconds,
            self.first_byte.clone(),
        );
        r.register(
            "tokens",
            "Tokens, by model and kind; cached ones are prompt tokens too",
            self.tokens.clone(),
        );
        r.register(
            "upstream_attempts",
            "Attempts on a backend, by outcome",
            self.attempts.clone(),
        );
        r.register(
            "upstream_connections",
            "Exchanges with a backend, by whether their connection was reused",
            self.connections.clone(),
        );
        r.register("in_flight", "Requests in flight", self.in_flight.clone());
        r.register_with_unit(
            "buffered",
            "Request bodies held in memory",
            Unit::Bytes,
            self.buffered.clone(),
        );
        r.register(
            "estimated",
            "Answers whose tokens were estimated for want of reported usage",
            self.estimated.clone(),
        );
        r.register(
            "charged_nanodollars",
            "What was charged, by model",
            self.charged.clone(),
        );
        r.register(
            "written_off_nanodollars",
            "What was used beyond what could be charged, by model",
            self.written_off.clone(),
        );
        let ledger = &self.ledger;
        r.register(
            "ledger_held_nanodollars",
            "What this process may spend",
            ledger.held.clone(),
        );
        r.register(
            "ledger_reserved_nanodollars",
            "What requests in flight have set aside of it",
            ledger.reserved.clone(),
        );
        r.register(
            "ledger_pending_rows",
            "Usage rows that are in the journal and not yet in the store",
            ledger.pending.clone(),
        );
        r.register(
            "ledger_store_up",
            "Whether the store took the last rows it was sent: 1 or 0",
            ledger.store_up.clone(),
        );
        r.register(
            "ledger_writable",
            "Whether charges can be written and the journal has room: 1, or 0 while requests are refused",
            ledger.writable.clone(),
        );
        r.register(
            "cached_answers",
            "Answers that were kept from before",
            self.cached.clone(),
        );
        r.register(
            "config_reloads",
            "Reloads of the configuration, by result",
            self.reloads.clone(),
        );
        r.register(
            "access_lines_dropped",
            "Access lines lost because their sink was too slow",
            self.dropped_lines.clone(),
        );
        r.register("panics", "Panics that were caught", self.panics.clone());
    }
}

/// Starts the log: JSON lines on standard error, `info` and above unless the environment says otherwise.
pub fn init_log() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info,pingora_core=error"));
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_env_filter(filter);
    if subscriber.try_init().is_err() {
        tracing::debug!("a log was already set up");
    }
}
