//! What the store keeps. Money is nano-dollars, times are Unix milliseconds, ids sort by time.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Id;
use crate::money::Nanos;

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

// === accounts ===

/// An account as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: Id,
    /// Its unique name.
    pub name: String,
    /// How it pays.
    pub billing: Billing,
    /// Whether its keys are refused.
    pub disabled: bool,
    /// The groups that its keys may use; absent: all.
    pub groups: Option<Vec<String>>,
    /// What it has: negative, what it owes.
    pub balance: Nanos,
    /// All that was ever charged.
    pub used: Nanos,
    /// When it was made.
    pub created: Millis,
    /// Grows with each change but those of `balance` and `used` by charges.
    pub revision: i64,
}

/// How an account pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Billing {
    /// It spends what it has.
    Prepaid,
    /// It may owe.
    Postpaid {
        /// So much; absent: without limit.
        credit_limit: Option<Nanos>,
    },
}

/// What makes an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccount {
    /// Its unique name.
    pub name: String,
    /// How it pays.
    pub billing: Billing,
    /// The groups that its keys may use; absent: all.
    pub groups: Option<Vec<String>>,
}

/// What to change of an account; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountEdit {
    /// A new unique name.
    pub name: Option<String>,
    /// How it pays. Refused where it would leave less than is already spent or reserved.
    pub billing: Option<Billing>,
    /// Whether its keys are refused.
    pub disabled: Option<bool>,
    /// The groups that its keys may use; `Some(None)`: all.
    pub groups: Option<Option<Vec<String>>>,
}

// === keys ===

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

// === the ledger ===

/// One change of a balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id.
    pub id: Id,
    /// Whose balance.
    pub account: Id,
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
    /// What it adds: negative, what it takes.
    pub amount: Nanos,
    /// When.
    pub time: Millis,
    /// Who made it: a token's name, `ledger`, or a key's id for a redemption.
    pub by: String,
    /// What someone wrote to it.
    pub note: Option<String>,
}

/// Why a balance changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EntryKind {
    /// Money came in.
    Topup {
        /// By which channel.
        source: String,
        /// The channel's own unique name of the payment.
        external_ref: Option<String>,
    },
    /// What the bonus table adds to a top-up.
    Bonus {
        /// The top-up's entry.
        topup: Id,
    },
    /// Promotional credit.
    Promotion,
    /// A code was redeemed.
    Redemption {
        /// The code's id.
        code: Id,
    },
    /// All charges of one key on one closed day.
    Charges {
        /// The key.
        key: Id,
        /// The day.
        day: Day,
        /// How many.
        count: u64,
    },
    /// Someone set it right; the note says why.
    Adjustment,
}

/// Money that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topup {
    /// Whose.
    pub account: Id,
    /// How much, above zero.
    pub amount: Nanos,
    /// What the bonus table adds.
    pub bonus: Nanos,
    /// By which channel; `promotion` makes it promotional credit.
    pub source: String,
    /// The channel's unique name of the payment: a second one of the same name and amount changes nothing and tells the
    /// first one's entries; with another amount or account it is a conflict.
    pub external_ref: Option<String>,
    /// The caller's own key of this request, alike.
    pub idempotency_key: Option<String>,
    /// What someone wrote to it.
    pub note: Option<String>,
    /// Who.
    pub by: String,
}

/// What a process was given of an owner's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// So much, now added to what it had.
    pub amount: Nanos,
    /// All that the process holds of this owner.
    pub held: Nanos,
    /// Whether another process holds some that could be asked for.
    pub others_hold: bool,
    /// For a key's quota with a period: when the period began that the amount belongs to.
    pub period_start: Option<Millis>,
}

/// What another process would like to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Of whose money.
    pub owner: Owner,
    /// So much.
    pub amount: Nanos,
}

/// A process that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub id: Id,
    /// What sets its ids apart from those of others.
    pub node: u8,
}

/// A process's place among those that serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// How many serve, this one included.
    pub of: u32,
    /// How many of them were registered before this one.
    pub rank: u32,
}

/// What has changed since a process last looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// The revision of the newest change of an account or key.
    pub revision: i64,
    /// What others ask for of what this process holds.
    pub asks: Vec<Ask>,
    /// Whether the process is still registered: no, when its lease ended and another has taken what it held.
    pub registered: bool,
    /// Its place among those that serve, if it does.
    pub position: Option<Position>,
}

/// Accounts and keys that changed.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The accounts as they now are.
    pub accounts: Vec<Account>,
    /// The keys as they now are, deleted ones too.
    pub keys: Vec<Key>,
    /// Up to which revision.
    pub revision: i64,
}

/// What became of an account's sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The balance that the account shows.
    pub balance: Nanos,
    /// The sum of its entries, and of the charges of days still open: as they are summed by key and day, and for a full
    /// proof as the rows have them. Where these two differ, the one that is not the balance.
    pub sum: Nanos,
    /// From which close it was summed; absent: from the first entry.
    pub since: Option<Day>,
    /// How many entries and open charges were summed.
    pub entries: u64,
    /// What its processes hold of it.
    pub allotted: Nanos,
}

// === usage ===

/// One request, once its key was known. Its charge is a ledger entry of its own until the day is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its id, which makes settling it idempotent.
    pub id: Id,
    /// When the request came.
    pub time: Millis,
    /// The request's id.
    pub request_id: String,
    /// Whose.
    pub account: Id,
    /// By which key.
    pub key: Id,
    /// The key's group.
    pub group: String,
    /// A fixed name of the endpoint.
    pub endpoint: String,
    /// What the client asked for; empty where no model of ours was.
    pub model: String,
    /// The model that answered.
    pub served: Option<String>,
    /// Each attempt.
    pub attempts: Vec<RowAttempt>,
    /// The answer's status.
    pub status: u16,
    /// Why it was refused or failed.
    pub reason: Option<String>,
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
    pub price: Option<String>,
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
    pub tag: Option<String>,
    /// The client's `user`.
    pub user: Option<String>,
    /// The backend's own id of the request.
    pub backend_request_id: Option<String>,
}

/// One attempt on a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowAttempt {
    /// Its name.
    pub backend: String,
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

// === codes, notices, audit ===

/// A redemption code: never the code itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Its id.
    pub id: Id,
    /// The batch it was made in.
    pub batch: Id,
    /// For display: its first characters.
    pub prefix: String,
    /// What it is worth.
    pub amount: Nanos,
    /// When it ends; absent: never.
    pub expires: Option<Millis>,
    /// What someone wrote to its batch.
    pub note: Option<String>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Who redeemed it, and when.
    pub redeemed: Option<Redeemed>,
    /// When it was made.
    pub created: Millis,
}

/// Who redeemed a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeemed {
    /// The account.
    pub account: Id,
    /// When.
    pub time: Millis,
}

/// What makes a batch of codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCodes {
    /// SHA-256 of each code, and the characters of it that are shown.
    pub codes: Vec<([u8; 32], String)>,
    /// What each is worth.
    pub amount: Nanos,
    /// When they end.
    pub expires: Option<Millis>,
    /// A note.
    pub note: Option<String>,
}

/// What the operator announces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its id.
    pub id: Id,
    /// Its text, Markdown.
    pub text: String,
    /// From when on it is shown.
    pub created: Millis,
}

/// One change that someone made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Its id.
    pub id: Id,
    /// When.
    pub time: Millis,
    /// The token's name.
    pub by: String,
    /// What was done, as `key.create`.
    pub action: String,
    /// What it was done to: its id.
    pub target: Option<Id>,
    /// As it was, JSON.
    pub before: Option<String>,
    /// As it is, JSON.
    pub after: Option<String>,
}

/// A page: newest first, below `before`, at most `limit` (the store itself gives at most 1,000).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only what has a smaller id.
    pub before: Option<Id>,
    /// At most so many.
    pub limit: u32,
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
