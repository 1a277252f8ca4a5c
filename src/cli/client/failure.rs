//! Why a verb could not be done, and what to do about it.

use std::fmt;
use std::io;

use http::StatusCode;

use crate::cli::text::clean;
use crate::cli::{FAILED, USAGE};

/// A verb that was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments, or the variables beside them, make no sense.
    Usage(String),
    /// Nobody answers there; nothing was sent.
    Unreachable { url: String, why: String },
    /// The request went out, and no whole answer came back.
    Lost {
        url: String,
        why: String,
        changes: bool,
        idempotency_key: Option<String>,
    },
    /// An answer that the admin API does not give.
    Foreign { url: String, status: StatusCode },
    /// The server says no.
    Refused(Refusal),
    /// What was read or printed locally failed.
    Io(io::Error),
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) reason: Option<String>,
    pub(crate) message: String,
    pub(crate) request_id: Option<String>,
}

// === impl Failure ===

impl Failure {
    /// The exit code that it ends in.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            _ => FAILED,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => f.write_str(what),
            Self::Unreachable { url, why } => write!(
                f,
                "no connection to the admin API at {url}: {why}\n  \
                 Is the gateway running, with [admin] listen = … there? --admin URL or TOLLGATE_ADMIN name another place."
            ),
            Self::Lost {
                url,
                why,
                changes,
                idempotency_key,
            } => {
                write!(f, "no answer from the admin API at {url}: {why}")?;
                match idempotency_key {
                    Some(key) => write!(
                        f,
                        "\n  It may have been done all the same. Repeat it with --idempotency-key {key}: \
                         then it is done once in all."
                    ),
                    None if *changes => {
                        f.write_str("\n  It may have been done all the same: look before you repeat it.")
                    }
                    None => Ok(()),
                }
            }
            Self::Foreign { url, status } => write!(
                f,
                "{url} answers, but not as an admin API does (HTTP {status})\n  \
                 Is this the address of [admin] listen, and not that of clients? --admin URL or TOLLGATE_ADMIN name it."
            ),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

// === impl Refusal ===

impl Refusal {
    /// What to do, where that is known here.
    fn remedy(&self) -> Option<&'static str> {
        match (self.status, self.reason.as_deref()) {
            (StatusCode::UNAUTHORIZED, _) => {
                Some("TOLLGATE_ADMIN_TOKEN has to be the token of one of the gateway's [[admin.token]]s.")
            }
            (_, Some("ambiguous")) => Some("Say whose key it is with --account, or name the key by its id."),
            (_, Some("path_not_found")) => {
                Some("Is this the address of [admin] listen? --admin URL or TOLLGATE_ADMIN name another place.")
            }
            (StatusCode::SERVICE_UNAVAILABLE, _) => Some("Nothing was changed; try again."),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    /// The server's words, then what support will ask for. A terminal shows what others wrote, so it is cleaned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  ", clean(&self.message))?;
        if let Some(reason) = &self.reason {
            write!(f, "{}, ", clean(reason))?;
        }
        write!(f, "HTTP {}", self.status.as_u16())?;
        if let Some(id) = &self.request_id {
            write!(f, ", request id {}", clean(id))?;
        }
        match self.remedy() {
            Some(remedy) => write!(f, "\n  {remedy}"),
            None => Ok(()),
        }
    }
}
