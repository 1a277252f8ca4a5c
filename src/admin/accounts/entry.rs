//! An entry as it is shown.

use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::Api;
use crate::admin::times::{Time, shown_day};
use crate::admin::values::{Ident, Usd};
use crate::store::{Entry, EntryKind};

/// One change of a balance. Which of the last seven fields it has depends on its kind.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct EntryView {
    id: Ident,
    account: Ident,
    #[schema(example = "topup")]
    kind: &'static str,
    /// What it adds; below 0, what it takes.
    amount: Usd,
    amount_credits: i64,
    time: Time,
    /// The token's name, `ledger`, or a key's id.
    by: String,
    note: Option<String>,
    #[serde(flatten)]
    of_kind: OfKind,
}

/// What only some kinds of entry have.
#[derive(Default, Serialize, ToSchema)]
struct OfKind {
    /// Top-up: by which channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Top-up: the channel's own name of the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_ref: Option<String>,
    /// Bonus: the top-up's entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    topup: Option<Ident>,
    /// Redemption: the code's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Ident>,
    /// Charges: of which key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Ident>,
    /// Charges: of which day.
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    /// Charges: how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl EntryView {
    pub(super) fn new(api: &Api, entry: Entry) -> Self {
        let (kind, of_kind) = of_kind(entry.kind);
        Self {
            id: Ident(entry.id),
            account: Ident(entry.account),
            kind,
            amount: Usd(entry.amount),
            amount_credits: api.whole(entry.amount),
            time: Time(entry.time),
            by: entry.by,
            note: entry.note,
            of_kind,
        }
    }
}

fn of_kind(kind: EntryKind) -> (&'static str, OfKind) {
    let mut of_kind = OfKind::default();
    let name = match kind {
        EntryKind::Topup { source, external_ref } => {
            of_kind.source = Some(source);
            of_kind.external_ref = external_ref;
            "topup"
        }
        EntryKind::Bonus { topup } => {
            of_kind.topup = Some(Ident(topup));
            "bonus"
        }
        EntryKind::Promotion => "promotion",
        EntryKind::Redemption { code } => {
            of_kind.code = Some(Ident(code));
            "redemption"
        }
        EntryKind::Charges { key, day, count } => {
            of_kind.key = Some(Ident(key));
            of_kind.day = Some(shown_day(day));
            of_kind.count = Some(count);
            "charges"
        }
        EntryKind::Adjustment => "adjustment",
    };
    (name, of_kind)
}
