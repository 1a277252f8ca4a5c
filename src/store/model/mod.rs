//! What the store keeps. Money is nano-dollars, times are Unix milliseconds, ids sort by time.

mod accounts;
mod keys;
mod ledger;
mod records;
mod usage;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use self::accounts::*;
pub use self::keys::*;
pub use self::ledger::*;
pub use self::records::*;
pub use self::usage::*;
use super::Id;

/// A moment in Unix milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

/// A day of UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub i32);

/// Who holds money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// An account's balance.
    Account(Id),
    /// A key's quota.
    Key(Id),
}

// === impl Millis, Day ===

impl Millis {
    /// Now, by the system's clock.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// The day it falls on.
    pub fn day(self) -> Day {
        Day(i32::try_from(self.0.div_euclid(Day::MILLIS)).unwrap_or(i32::MAX))
    }
}

impl From<SystemTime> for Millis {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl From<Millis> for SystemTime {
    fn from(time: Millis) -> Self {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(time.0).unwrap_or(0))
    }
}

impl Day {
    /// Milliseconds of one day.
    pub const MILLIS: i64 = 86_400_000;

    /// Its first moment.
    pub fn start(self) -> Millis {
        Millis(i64::from(self.0) * Self::MILLIS)
    }
}

// === impl Owner ===

impl Owner {
    /// The id of the account or key.
    pub const fn id(self) -> Id {
        match self {
            Self::Account(id) | Self::Key(id) => id,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(id) => write!(f, "account {id}"),
            Self::Key(id) => write!(f, "key {id}"),
        }
    }
}
