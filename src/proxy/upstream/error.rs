//! Why an exchange with a backend failed.

use std::fmt;

use pingora_error::ErrorType;

use super::super::body::BoxError;
use crate::failpoint::Failed;

/// An exchange with a backend that failed. What it says is for the log: it can hold the backend's address.
#[derive(Clone, Debug)]
pub struct UpstreamError {
    kind: Kind,
    detail: String,
    pub(super) retry_fresh: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connect,
    ConnectTimeout,
    Exchange,
}

// === impl UpstreamError ===

impl UpstreamError {
    /// Whether the backend did not accept a connection in time.
    pub fn is_connect_timeout(&self) -> bool {
        self.kind == Kind::ConnectTimeout
    }

    /// Whether no connection could be made: the backend has seen nothing of the request.
    pub fn is_connect(&self) -> bool {
        matches!(self.kind, Kind::Connect | Kind::ConnectTimeout)
    }

    pub(in crate::proxy) fn resolve(error: &dyn fmt::Display) -> Self {
        Self {
            kind: Kind::Connect,
            detail: format!("resolving the backend's name: {error}"),
            retry_fresh: false,
        }
    }

    pub(in crate::proxy) fn connect_timeout(detail: &str) -> Self {
        Self {
            kind: Kind::ConnectTimeout,
            detail: detail.to_owned(),
            retry_fresh: false,
        }
    }

    pub(super) fn connect(error: &pingora_error::Error) -> Self {
        let kind = match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Kind::ConnectTimeout,
            _ => Kind::Connect,
        };
        Self {
            kind,
            detail: error.to_string(),
            retry_fresh: false,
        }
    }

    pub(super) fn failpoint(failed: Failed) -> Self {
        Self::exchange(std::io::Error::from(failed), false)
    }

    pub(super) fn exchange(error: impl Into<BoxError>, retry_fresh: bool) -> Self {
        Self {
            kind: Kind::Exchange,
            detail: error.into().to_string(),
            retry_fresh,
        }
    }

    pub(super) fn exchange_pingora(error: &pingora_error::Error, retry_fresh: bool) -> Self {
        Self {
            kind: Kind::Exchange,
            detail: error.to_string(),
            retry_fresh,
        }
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for UpstreamError {}
