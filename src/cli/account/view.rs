//! Accounts and their entries as people read them.

use std::time::SystemTime;

use serde_json::Value;

use crate::cli::session::Listing;
use crate::cli::table::{Cell, Column, Tone};
use crate::cli::text::{NONE, count, list, money, or_none, stamp, text, time, usd, when};

pub(super) const ACCOUNTS: Listing = Listing {
    plural: "accounts",
    log: false,
    columns: &[
        Column::new("NAME").squeezed(),
        Column::new("STATUS"),
        Column::new("BILLING"),
        Column::new("BALANCE USD").to_the_right(),
        Column::new("CREDITS").to_the_right(),
        Column::new("USED USD").to_the_right(),
        Column::new("CREATED").spare(),
        Column::new("ID").spare(),
    ],
    row,
};

pub(super) const ENTRIES: Listing = Listing {
    plural: "entries",
    log: true,
    columns: &[
        Column::new("TIME"),
        Column::new("KIND"),
        Column::new("USD").to_the_right(),
        Column::new("CREDITS").to_the_right(),
        Column::new("BY").squeezed(),
        Column::new("DETAIL").squeezed(),
        Column::new("ID").spare(),
    ],
    row: entry,
};

fn row(account: &Value, now: SystemTime) -> Vec<Cell> {
    vec![
        or_none(account, "name").into(),
        status(account),
        or_none(account, "billing").into(),
        usd(account, "balance").unwrap_or_else(|| NONE.to_owned()).into(),
        count(account, "balance_credits")
            .unwrap_or_else(|| NONE.to_owned())
            .into(),
        usd(account, "used").unwrap_or_else(|| NONE.to_owned()).into(),
        when(account, "created", now, NONE).into(),
        or_none(account, "id").into(),
    ]
}

/// All of an account, and what was just put in or taken out.
pub(super) fn account(account: &Value, now: SystemTime) -> Vec<(&'static str, Cell)> {
    let mut shown: Vec<(&'static str, Cell)> = vec![
        ("name", or_none(account, "name").into()),
        ("id", or_none(account, "id").into()),
        ("status", status(account)),
        ("billing", billing(account).into()),
        ("balance", money(account, "balance").into()),
        ("used", money(account, "used").into()),
        ("groups", list(account, "groups", "all").into()),
        ("created", time(account, "created", now, NONE).into()),
    ];
    let several = account.get("entries").and_then(Value::as_array).into_iter().flatten();
    for entry in several.chain(account.get("entry")) {
        let what = format!("{}: {}", or_none(entry, "kind"), money(entry, "amount"));
        shown.push(("entry", what.into()));
    }
    shown
}

/// What became of an account's sum.
pub(super) fn proof(answer: &Value, _: SystemTime) -> Vec<(&'static str, Cell)> {
    let verdict = if answer["ok"] == true {
        Cell::toned("the balance is the sum of its entries", Tone::Good)
    } else {
        Cell::toned("the balance is NOT the sum of its entries", Tone::Bad)
    };
    let dollars = |name| usd(answer, name).map_or_else(|| NONE.to_owned(), |usd| format!("{usd} USD"));
    vec![
        ("verdict", verdict),
        ("balance", dollars("balance").into()),
        ("sum", dollars("sum").into()),
        (
            "entries",
            count(answer, "entries").unwrap_or_else(|| NONE.to_owned()).into(),
        ),
        (
            "since",
            text(answer, "since")
                .unwrap_or_else(|| "the first entry".to_owned())
                .into(),
        ),
        ("allotted", dollars("allotted").into()),
    ]
}

fn status(account: &Value) -> Cell {
    match account.get("disabled").and_then(Value::as_bool) {
        Some(true) => Cell::toned("disabled", Tone::Bad),
        Some(false) => Cell::toned("enabled", Tone::Good),
        None => NONE.into(),
    }
}

fn billing(account: &Value) -> String {
    let billing = or_none(account, "billing");
    match (&*billing, usd(account, "credit_limit")) {
        ("postpaid", Some(limit)) => format!("postpaid, up to {limit} USD"),
        ("postpaid", None) => "postpaid, without limit".to_owned(),
        _ => billing,
    }
}

fn entry(entry: &Value, _: SystemTime) -> Vec<Cell> {
    vec![
        stamp(entry, "time").into(),
        or_none(entry, "kind").into(),
        usd(entry, "amount").unwrap_or_else(|| NONE.to_owned()).into(),
        count(entry, "amount_credits").unwrap_or_else(|| NONE.to_owned()).into(),
        or_none(entry, "by").into(),
        detail(entry).into(),
        or_none(entry, "id").into(),
    ]
}

/// What an entry's own kind says of it, and its note.
fn detail(entry: &Value) -> String {
    let named = [
        ("source", "by "),
        ("external_ref", "payment "),
        ("topup", "of top-up "),
        ("code", "code "),
        ("key", "key "),
        ("day", "on "),
    ];
    let mut parts: Vec<_> = named
        .into_iter()
        .filter_map(|(name, before)| Some(format!("{before}{}", text(entry, name)?)))
        .collect();
    parts.extend(count(entry, "count").map(|requests| format!("{requests} requests")));
    parts.extend(text(entry, "note"));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_an_entry_was() {
        let topup = json!({"kind": "topup", "source": "bank", "external_ref": "INV-1", "note": "May"});
        assert_eq!(detail(&topup), "by bank, payment INV-1, May");
        let charges = json!({"kind": "charges", "key": "06k1", "day": "2026-11-21", "count": 1200, "note": null});
        assert_eq!(detail(&charges), "key 06k1, on 2026-11-21, 1,200 requests");
    }

    #[test]
    fn how_it_pays() {
        assert_eq!(
            billing(&json!({"billing": "postpaid", "credit_limit": "1000.00"})),
            "postpaid, up to 1,000.00 USD"
        );
        assert_eq!(
            billing(&json!({"billing": "postpaid", "credit_limit": null})),
            "postpaid, without limit"
        );
        assert_eq!(billing(&json!({"billing": "prepaid", "credit_limit": null})), "prepaid");
    }
}
