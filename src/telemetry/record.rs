//! What becomes known of one request, and its access line.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Telemetry;

/// The facts of one request, filled in as they become known. Clones share them.
///
/// The request is counted and its line written when the last clone is gone, so whoever still has something to add,
/// such as a meter that reads on after the client has left, holds one.
#[derive(Clone)]
pub struct Record(Arc<Shared>);

struct Shared {
    telemetry: Telemetry,
    began: Instant,
    facts: Mutex<Facts>,
    /// What else wants to know the facts when they are all there.
    witness: OnceLock<Witness>,
}

/// Told the facts of a request when it is over.
type Witness = Box<dyn Fn(&Facts) + Send + Sync>;

/// What is known of a request.
#[derive(Clone, Debug)]
#[expect(
    missing_docs,
    reason = "the fields are the access line's, and the README explains them"
)]
pub struct Facts {
    pub time: SystemTime,
    pub request_id: String,
    pub method: http::Method,
    pub path: String,
    /// A fixed name of the endpoint, never the client's own path.
    pub endpoint: Option<&'static str>,
    pub ip: Option<IpAddr>,
    pub key: Option<Arc<str>>,
    pub account: Option<Arc<str>>,
    pub group: Option<Arc<str>>,
    /// What the client asked for, once it is known to be a model of ours.
    pub model: Option<Arc<str>>,
    /// The beginning of what the client asked for, where that is no model of ours: its own text, and so no label.
    pub unknown_model: Option<String>,
    /// The model that answered, when it is another one.
    pub served: Option<Arc<str>>,
    pub attempts: Vec<Attempt>,
    pub status: u16,
    pub reason: Option<&'static str>,
    pub streamed: bool,
    pub tokens: Option<Tokens>,
    /// The answer was kept from before: its tokens are those that it had used then.
    pub cached: bool,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Until the first byte of the answer's body.
    pub first_byte: Option<Duration>,
    pub elapsed: Duration,
    pub end: End,
    pub tag: Option<String>,
    pub user: Option<String>,
    pub backend_request_id: Option<String>,
    /// What was charged, in nano-dollars; absent, nothing was.
    pub charge: Option<u64>,
    /// What could not be charged, in nano-dollars.
    pub written_off: u64,
}

/// One attempt on a backend.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its name.
    pub backend: Arc<str>,
    /// Its status, when it answered.
    pub status: Option<u16>,
    /// Why it gave no answer that could be used.
    pub reason: Option<&'static str>,
    /// Until its head, or its failure.
    pub elapsed: Duration,
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// All tokens of the prompt, cached ones too.
    pub prompt: u64,
    /// Those of the prompt that were cached.
    pub cached: u64,
    /// Tokens of the answer, reasoning too.
    pub completion: u64,
    /// Those of the answer that were reasoning.
    pub reasoning: u64,
    /// Whether they were estimated, the backend having reported none.
    pub estimated: bool,
}

/// How a request ended, for the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The client left before the end; what stands until something else happens.
    #[default]
    Disconnected,
    /// The whole answer went out.
    Complete,
    /// The answer broke off.
    Failed,
}

// === impl Record ===

impl Record {
    /// A request that has just arrived.
    pub fn new(telemetry: Telemetry, method: http::Method, path: &str, request_id: &str) -> Self {
        /// A path is the client's to choose: a line keeps the beginning of a long one.
        const LONGEST_PATH: usize = 256;
        let path = path[..path.floor_char_boundary(LONGEST_PATH)].to_owned();
        let facts = Facts {
            time: SystemTime::now(),
            request_id: request_id.to_owned(),
            method,
            path,
            endpoint: None,
            ip: None,
            key: None,
            account: None,
            group: None,
            model: None,
            unknown_model: None,
            served: None,
            attempts: Vec::new(),
            status: 0,
            reason: None,
            streamed: false,
            tokens: None,
            cached: false,
            bytes_in: 0,
            bytes_out: 0,
            first_byte: None,
            elapsed: Duration::ZERO,
            end: End::default(),
            tag: None,
            user: None,
            backend_request_id: None,
            charge: None,
            written_off: 0,
        };
        Self(Arc::new(Shared {
            telemetry,
            began: Instant::now(),
            facts: Mutex::new(facts),
            witness: OnceLock::new(),
        }))
    }

    /// Adds to the facts.
    pub fn note(&self, add: impl FnOnce(&mut Facts)) {
        add(&mut self.0.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells `witness` all facts when the request is over. The first witness stays.
    pub fn on_close(&self, witness: impl Fn(&Facts) + Send + Sync + 'static) {
        drop(self.0.witness.set(Box::new(witness)));
    }

    /// Since the request's head was read.
    pub fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let facts = self.facts.get_mut().unwrap_or_else(PoisonError::into_inner);
        if facts.elapsed.is_zero() {
            facts.elapsed = self.began.elapsed();
        }
        self.telemetry.finished(facts);
        if let Some(witness) = self.witness.get() {
            witness(facts);
        }
    }
}

// === impl Attempt, End ===

impl Attempt {
    /// A word for the metric: few, and none of them the backend's.
    pub(super) fn outcome(&self) -> &'static str {
        match (self.status, self.reason) {
            (Some(200..=399), _) => "ok",
            (Some(429), _) => "rate_limited",
            (Some(400..=499), _) => "client_error",
            (Some(_), _) => "server_error",
            (None, reason) => reason.unwrap_or("failed"),
        }
    }
}

impl End {
    /// The word in the access line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Complete => "complete",
            Self::Failed => "failed",
        }
    }
}
