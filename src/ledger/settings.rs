//! What a ledger is told, and why it does not do.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use crate::store::{self, Millis};

/// How a ledger works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When a charge counts as written.
    pub durability: Durability,
    /// Where journals lie, this process's and those that crashed ones have left.
    pub folder: PathBuf,
    /// How long the store keeps what this process was allotted after its last beat.
    pub lease: Duration,
    /// Bytes of rows that the store does not have yet, above which no request is admitted.
    pub max_journal: u64,
    /// How long an answer waits for its charge to be written.
    pub max_wait: Duration,
    /// How long usage rows are kept; absent: for ever.
    pub retention: Option<Duration>,
}

/// When a charge counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the disk: survives a loss of power.
    Disk,
    /// With the operating system: survives the end of the process.
    Process,
    /// In the store: for a process without a lasting disk. Without the store no answer completes.
    Store,
}

/// Why no request may be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// So much waits for the store that there is no more room.
    Full,
    /// Charges cannot be written: the disk (or, with [`Durability::Store`], the store) fails.
    Failing,
    /// It has stopped.
    Stopped,
}

/// Why a ledger does not start.
#[derive(Debug)]
pub enum StartError {
    /// The folder of the journals.
    Folder(PathBuf, io::Error),
    /// The journal itself.
    Journal(PathBuf, String),
    /// The store.
    Store(store::Error),
}

// === impl Settings ===

impl Settings {
    /// On disk in this folder, the rest as usual: a lease of 30 seconds, a journal of 256 MiB, five seconds to wait.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            durability: Durability::Disk,
            folder: folder.into(),
            lease: Duration::from_secs(30),
            max_journal: 256 << 20,
            max_wait: Duration::from_secs(5),
            retention: None,
        }
    }

    /// When a lease ends that begins now.
    pub(super) fn lease_end(&self) -> Millis {
        let lease = i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX);
        Millis(Millis::now().0.saturating_add(lease))
    }
}

// === impl NotReady ===

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the journal is full: the store does not take what was charged",
            Self::Failing => "charges cannot be written",
            Self::Stopped => "the ledger has stopped",
        })
    }
}

impl std::error::Error for NotReady {}

// === impl StartError ===

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path, error) => write!(f, "the ledger's folder {}: {error}", path.display()),
            Self::Journal(path, error) => write!(f, "the journal {}: {error}", path.display()),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Folder(_, error) => Some(error),
            Self::Journal(..) => None,
            Self::Store(error) => Some(error),
        }
    }
}

impl From<store::Error> for StartError {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}
