//! Usage rows, and sums of them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Millis;
use crate::money::Nanos;
use crate::store::Id;

/// One request, once its key was known. Its charge is a ledger entry of its own until the day is closed. Its texts are its
/// own, or borrowed where it is only to be written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row<T = String> {
    /// Its id, which makes settling it idempotent.
    pub id: Id,
    /// When the request came.
    pub time: Millis,
    /// The request's id.
    pub request_id: T,
    /// Whose.
    pub account: Id,
    /// By which key.
    pub key: Id,
    /// The key's group.
    pub group: T,
    /// A fixed name of the endpoint.
    pub endpoint: T,
    /// What the client asked for; empty where no model of ours was.
    pub model: T,
    /// The model that answered.
    pub served: Option<T>,
    /// Each attempt.
    pub attempts: Vec<RowAttempt<T>>,
    /// The answer's status.
    pub status: u16,
    /// Why it was refused or failed.
    pub reason: Option<T>,
    /// Whether it was a stream.
    pub streamed: bool,
    /// Tokens of each kind.
    #[serde(flatten)]
    pub tokens: RowTokens,
    /// Bytes of the request.
    pub bytes_in: u64,
    /// Bytes of the answer.
    pub bytes_out: u64,
    /// Milliseconds to the first byte of the answer.
    pub first_ms: Option<u64>,
    /// Milliseconds in all.
    pub total_ms: u64,
    /// The price it was charged by, as JSON.
    pub price: Option<T>,
    /// What was charged.
    pub charge: Nanos,
    /// What it cost beyond what could be taken.
    pub written_off: Nanos,
    /// The period of the key's quota that the charge counts in.
    pub period_start: Option<Millis>,
    /// The cap on the answer that the client asked for, in tokens.
    pub cap_asked: Option<u64>,
    /// The cap that was sent.
    pub cap_applied: Option<u64>,
    /// The usage was estimated.
    pub estimated: bool,
    /// The client left before the end.
    pub disconnected: bool,
    /// The stream was ended because no more credit could be taken.
    pub cut_short: bool,
    /// The answer came from the cache.
    pub from_cache: bool,
    /// Where the request came from.
    pub ip: Option<IpAddr>,
    /// The client's tag.
    pub tag: Option<T>,
    /// The client's `user`.
    pub user: Option<T>,
    /// The backend's own id of the request.
    pub backend_request_id: Option<T>,
}

/// One attempt on a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowAttempt<T = String> {
    /// Its name.
    pub backend: T,
    /// Its status, when it answered.
    pub status: Option<u16>,
    /// Milliseconds until its head, or its failure.
    pub ms: u64,
}

/// Tokens of one request, each kind by itself: `prompt` and `completion` are sums that hold the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the field's own names")]
pub struct RowTokens {
    pub prompt: u64,
    pub cached: u64,
    pub cache_write: u64,
    pub completion: u64,
    pub reasoning: u64,
    pub audio_input: u64,
    pub audio_output: u64,
}

/// Which rows, or which hours of the roll-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Of this account.
    pub account: Option<Id>,
    /// Of this key.
    pub key: Option<Id>,
    /// Of this model as asked for.
    pub model: Option<String>,
    /// Of this group.
    pub group: Option<String>,
    /// From this moment on; roll-ups: from its hour on.
    pub since: Option<Millis>,
    /// Before this moment.
    pub until: Option<Millis>,
    /// One request (rows only).
    pub request_id: Option<String>,
}

/// What a trend is summed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum UsageBy {
    Hour,
    Day,
    Model,
    Key,
    Account,
    Group,
}

/// One sum of a trend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageSum {
    /// The hour or day as Unix milliseconds, the model, the id, or the group.
    pub by: String,
    /// Requests.
    pub requests: u64,
    /// Those of them that were refused or failed.
    pub failed: u64,
    /// Tokens.
    #[serde(flatten)]
    pub tokens: RowTokens,
    /// What was charged.
    pub charge: Nanos,
    /// What was not.
    pub written_off: Nanos,
}
