//! What becomes known of one request, and its access line.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::{Telemetry, millis};

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
}

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
    /// The model that answered, when it is another one.
    pub served: Option<Arc<str>>,
    pub attempts: Vec<Attempt>,
    pub status: u16,
    pub reason: Option<&'static str>,
    pub streamed: bool,
    pub tokens: Option<Tokens>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Until the first byte of the answer's body.
    pub first_byte: Option<Duration>,
    pub elapsed: Duration,
    pub end: End,
    pub tag: Option<String>,
    pub user: Option<String>,
    pub backend_request_id: Option<String>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// All tokens of the prompt, cached ones too.
    #[serde(rename = "prompt_tokens")]
    pub prompt: u64,
    /// Those of the prompt that were cached.
    #[serde(rename = "cached_tokens", skip_serializing_if = "is_zero")]
    pub cached: u64,
    /// Tokens of the answer, reasoning too.
    #[serde(rename = "completion_tokens")]
    pub completion: u64,
    /// Those of the answer that were reasoning.
    #[serde(rename = "reasoning_tokens", skip_serializing_if = "is_zero")]
    pub reasoning: u64,
    /// Whether they were estimated, the backend having reported none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

/// How a request ended, for the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The client left before the end; what stands until something else happens.
    #[default]
    Disconnected,
    /// The whole answer went out.
    Complete,
    /// The answer broke off.
    Failed,
}

/// The access line: one flat JSON object.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    served_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<(&'a str, serde_json::Value, f64)>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    end: End,
    streamed: bool,
    #[serde(flatten)]
    tokens: Option<Tokens>,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_request_id: Option<&'a str>,
}

// === impl Record ===

impl Record {
    /// A request that has just arrived.
    pub fn new(telemetry: Telemetry, method: http::Method, path: &str, request_id: &str) -> Self {
        /// A path is the client's to choose: a line keeps the beginning of a long one.
        const LONGEST_PATH: usize = 256;
        let path = path.chars().take(LONGEST_PATH).collect();
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
            served: None,
            attempts: Vec::new(),
            status: 0,
            reason: None,
            streamed: false,
            tokens: None,
            bytes_in: 0,
            bytes_out: 0,
            first_byte: None,
            elapsed: Duration::ZERO,
            end: End::default(),
            tag: None,
            user: None,
            backend_request_id: None,
        };
        Self(Arc::new(Shared {
            telemetry,
            began: Instant::now(),
            facts: Mutex::new(facts),
        }))
    }

    /// Adds to the facts.
    pub fn note(&self, add: impl FnOnce(&mut Facts)) {
        add(&mut self.0.facts.lock().unwrap_or_else(PoisonError::into_inner));
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
    }
}

// === impl Facts ===

impl Facts {
    pub(super) fn write_json(&self, line: &mut Vec<u8>) {
        let attempts = self
            .attempts
            .iter()
            .map(|attempt| {
                let outcome = match (attempt.status, attempt.reason) {
                    (Some(status), _) => status.into(),
                    (None, reason) => reason.unwrap_or("failed").into(),
                };
                (&*attempt.backend, outcome, millis(attempt.elapsed))
            })
            .collect();
        let shown = Line {
            time: humantime::format_rfc3339_millis(self.time).to_string(),
            request_id: &self.request_id,
            method: self.method.as_str(),
            path: &self.path,
            endpoint: self.endpoint,
            ip: self.ip,
            key: self.key.as_deref(),
            account: self.account.as_deref(),
            group: self.group.as_deref(),
            model: self.model.as_deref(),
            served_model: self.served.as_deref(),
            attempts,
            status: self.status,
            reason: self.reason,
            end: self.end,
            streamed: self.streamed,
            tokens: self.tokens,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            first_byte_ms: self.first_byte.map(millis),
            ms: millis(self.elapsed),
            tag: self.tag.as_deref(),
            user: self.user.as_deref(),
            backend_request_id: self.backend_request_id.as_deref(),
        };
        // A Vec takes every byte, and every field is a JSON value.
        let _ = serde_json::to_writer(line, &shown);
    }
}

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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}
