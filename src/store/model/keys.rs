//! Keys.

use serde::{Deserialize, Serialize};

use super::{Day, Millis};
use crate::money::Nanos;
use crate::store::Id;

/// A key as it stands: never the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its id; a rotation keeps it.
    pub id: Id,
    /// Whose it is.
    pub account: Id,
    /// What it may do and how often.
    #[serde(flatten)]
    pub terms: KeyTerms,
    /// SHA-256 of the whole key as sent.
    #[serde(skip)]
    pub hash: [u8; 32],
    /// For display: its first characters.
    pub prefix: String,
    /// For display: its last four.
    pub last4: String,
    /// The key before a rotation, while it still works.
    #[serde(skip)]
    pub old: Option<OldHash>,
    /// Whether it is alive.
    pub status: KeyStatus,
    /// All that was ever charged.
    pub used: Nanos,
    /// When the running period of its quota began; absent where the quota has no period.
    pub period_start: Option<Millis>,
    /// What was charged against its quota: in the running period, where there is one. (The store's reading: once the
    /// period has passed, whoever reads takes it for nothing.)
    pub spent: Nanos,
    /// An encrypted copy of the key, where the operator keeps one.
    #[serde(skip)]
    pub sealed: Option<Vec<u8>>,
    /// When it was made.
    pub created: Millis,
    /// When it was last charged.
    pub last_used: Option<Millis>,
    /// Grows with each change but those by charges.
    pub revision: i64,
}

/// What a key may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyTerms {
    /// Its name, unique among the account's keys that are not deleted.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Names or globs of models; absent: what its group may.
    pub models: Option<Vec<String>>,
    /// Addresses and networks it may come from; empty: any.
    pub ips: Vec<String>,
    /// Requests a minute.
    pub rpm: Option<u64>,
    /// Tokens a minute.
    pub tpm: Option<u64>,
    /// Requests at once.
    pub concurrency: Option<u64>,
    /// What it may spend; absent: what its account has.
    pub quota: Option<Nanos>,
    /// How often the quota starts anew; absent: never.
    pub period: Option<Period>,
    /// When it ends; absent: never.
    pub expires: Option<Millis>,
}

/// How often a quota starts anew: at midnight UTC, on Mondays, on the first of the month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "spans of time")]
pub enum Period {
    Day,
    Week,
    Month,
}

/// Whether a key is alive. Expired and exhausted are not states: they follow from time and charges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// It may be used.
    Enabled,
    /// Refused for now.
    Disabled,
    /// Ended for good, and still listed.
    Revoked,
    /// Ended and hidden; its rows keep its id.
    Deleted,
}

/// A hash that a rotation has replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldHash {
    /// SHA-256 of the key before.
    pub hash: [u8; 32],
    /// Until when it still works.
    pub until: Millis,
}

/// What makes a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Whose it is.
    pub account: Id,
    /// What it may do.
    pub terms: KeyTerms,
    /// SHA-256 of the whole key as sent.
    pub hash: [u8; 32],
    /// For display.
    pub prefix: String,
    /// For display.
    pub last4: String,
    /// An encrypted copy.
    pub sealed: Option<Vec<u8>>,
}

/// What to change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// New terms, all of them (whoever edits reads them first; `revision` guards against another's edit between).
    Terms {
        /// The terms as they shall be.
        terms: Box<KeyTerms>,
        /// The revision that was read; another one by now is a conflict.
        revision: i64,
    },
    /// A new state. From revoked only deleted follows, from deleted nothing.
    Status(KeyStatus),
    /// A new key behind the same id.
    Rotate {
        /// SHA-256 of the new key.
        hash: [u8; 32],
        /// For display.
        prefix: String,
        /// For display.
        last4: String,
        /// An encrypted copy of the new key.
        sealed: Option<Vec<u8>>,
        /// Until when the old one still works; absent: it ends now.
        overlap: Option<Millis>,
    },
}

// === impl Period ===

impl Period {
    /// When the period began that `time` falls into.
    pub fn start(self, time: Millis) -> Millis {
        let day = time.day();
        match self {
            Self::Day => day.start(),
            // 1970-01-01 was a Thursday: the Monday before it is day -3.
            Self::Week => Day(day.0 - (day.0 + 3).rem_euclid(7)).start(),
            Self::Month => first_of_month(day).start(),
        }
    }
}

/// The first day of the month of `day`, by Howard Hinnant's civil calendar
/// (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>): there, a month is counted from March.
fn first_of_month(day: Day) -> Day {
    let z = i64::from(day.0) + 719_468;
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5;
    Day(day.0 - i32::try_from(day_of_month).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_where_calendars_say() {
        let at = |text: &str| Millis::from(humantime::parse_rfc3339(text).expect("a time"));
        for (period, time, start) in [
            (Period::Day, "2026-11-21T17:25:33Z", "2026-11-21T00:00:00Z"),
            (Period::Week, "2026-11-21T17:25:33Z", "2026-11-16T00:00:00Z"),
            (Period::Week, "2026-11-16T00:00:00Z", "2026-11-16T00:00:00Z"),
            (Period::Month, "2026-11-21T17:25:33Z", "2026-11-01T00:00:00Z"),
            (Period::Month, "2028-02-29T23:59:59Z", "2028-02-01T00:00:00Z"),
            (Period::Month, "2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Period::Month, "2026-12-31T00:00:00Z", "2026-12-01T00:00:00Z"),
        ] {
            assert_eq!(period.start(at(time)), at(start), "{period:?} of {time}");
        }
    }
}
