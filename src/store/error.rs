//! What a store answers when it does not do what was asked.

use std::fmt;

use crate::failpoint::Failed;

/// The answer of a store.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a store did not do what was asked. The texts are for people and hold no secrets.
#[derive(Debug)]
pub enum Error {
    /// There is no such thing; what it is.
    NotFound(&'static str),
    /// Something of this name, hash or reference is there already, or was changed meanwhile.
    Conflict(String),
    /// The rules of the store forbid it; why.
    Refused(String),
    /// The store cannot be reached, or is full, locked or going away: later it may work.
    Unavailable(String),
    /// What is in the store breaks its rules, or cannot be read: a person must look.
    Corrupt(String),
}

impl Error {
    /// Whether the same call may work later.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// As a store that is away.
impl From<Failed> for Error {
    fn from(_: Failed) -> Self {
        Self::Unavailable("a failpoint".to_owned())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(what) => write!(f, "no such {what}"),
            Self::Conflict(why) | Self::Refused(why) => f.write_str(why),
            Self::Unavailable(why) => write!(f, "the store is unavailable: {why}"),
            Self::Corrupt(what) => write!(f, "the store is corrupt: {what}"),
        }
    }
}

impl std::error::Error for Error {}
