//! Redemption codes, announcements, the audit, and the pages that all come in.

use serde::{Deserialize, Serialize};

use super::Millis;
use crate::money::Nanos;
use crate::store::Id;

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
