//! A key as people read it.

use std::time::SystemTime;

use serde_json::Value;

use crate::cli::session::Listing;
use crate::cli::table::{Cell, Column, Tone};
use crate::cli::text::{NONE, count, list, money, or_none, text, time, when};

pub(super) const LISTING: Listing = Listing {
    plural: "keys",
    log: false,
    columns: &[
        Column::new("NAME").squeezed(),
        Column::new("ACCOUNT").squeezed(),
        Column::new("STATUS"),
        Column::new("CREDITS USED").to_the_right(),
        Column::new("REMAINING").to_the_right(),
        Column::new("EXPIRES"),
        Column::new("LAST USED"),
        Column::new("KEY").spare(),
        Column::new("GROUP").squeezed().spare(),
        Column::new("ID").spare(),
    ],
    row,
};

fn row(key: &Value, now: SystemTime) -> Vec<Cell> {
    vec![
        or_none(key, "name").into(),
        or_none(key, "account").into(),
        status(key),
        count(key, "used_credits").unwrap_or_else(|| NONE.to_owned()).into(),
        count(key, "remaining").unwrap_or_else(|| "unlimited".to_owned()).into(),
        when(key, "expires", now, "never").into(),
        when(key, "last_used", now, "never").into(),
        or_none(key, "masked").into(),
        or_none(key, "group").into(),
        or_none(key, "id").into(),
    ]
}

/// All of a key. The key itself is there right after it was made, and comes first.
pub(super) fn key(key: &Value, now: SystemTime) -> Vec<(&'static str, Cell)> {
    let mut shown: Vec<(&'static str, Cell)> = Vec::new();
    if let Some(secret) = text(key, "key") {
        shown.push(("key", secret.into()));
    }
    shown.extend([
        ("name", or_none(key, "name").into()),
        ("account", or_none(key, "account").into()),
        ("id", or_none(key, "id").into()),
        ("shown as", or_none(key, "masked").into()),
        ("status", status(key)),
        ("group", or_none(key, "group").into()),
        ("models", list(key, "models", "all of its group").into()),
        ("addresses", list(key, "ips", "any").into()),
        ("limits", limits(key).into()),
        ("quota", quota(key).into()),
        ("remaining", remaining(key).into()),
        ("used", money(key, "used").into()),
        ("expires", time(key, "expires", now, "never").into()),
        ("created", time(key, "created", now, NONE).into()),
        ("last used", time(key, "last_used", now, "never").into()),
    ]);
    shown
}

/// A key that was kept.
pub(super) fn revealed(answer: &Value, _: SystemTime) -> Vec<(&'static str, Cell)> {
    vec![("key", or_none(answer, "key").into())]
}

fn status(key: &Value) -> Cell {
    let text = or_none(key, "status");
    let tone = match &*text {
        "enabled" => Tone::Good,
        "disabled" | "expired" | "exhausted" | "revoked" => Tone::Bad,
        _ => Tone::Plain,
    };
    Cell::toned(text, tone)
}

fn limits(key: &Value) -> String {
    let limits = [
        ("rpm", "requests a minute"),
        ("tpm", "tokens a minute"),
        ("concurrency", "at once"),
    ];
    let own: Vec<_> = limits
        .into_iter()
        .filter_map(|(name, unit)| Some(format!("{} {unit}", count(key, name)?)))
        .collect();
    if own.is_empty() {
        "those of its group".to_owned()
    } else {
        own.join(", ")
    }
}

fn quota(key: &Value) -> String {
    match (count(key, "quota"), text(key, "period")) {
        (Some(credits), Some(period)) => format!("{credits} credits a {period}"),
        (Some(credits), None) => format!("{credits} credits"),
        (None, _) => "unlimited: what its account has".to_owned(),
    }
}

fn remaining(key: &Value) -> String {
    let spent = count(key, "spent").map(|spent| format!(" ({spent} spent)"));
    match count(key, "remaining") {
        Some(credits) => format!("{credits} credits{}", spent.unwrap_or_default()),
        None => "unlimited".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_key_may_do_in_words() {
        let words =
            json!({"rpm": 600, "tpm": 200_000, "quota": 500_000, "period": "day", "remaining": 499_000, "spent": 1000});
        assert_eq!(limits(&words), "600 requests a minute, 200,000 tokens a minute");
        assert_eq!(quota(&words), "500,000 credits a day");
        assert_eq!(remaining(&words), "499,000 credits (1,000 spent)");
        let free = json!({"rpm": null, "quota": null, "remaining": null, "spent": 7});
        assert_eq!(limits(&free), "those of its group");
        assert_eq!(
            (quota(&free), remaining(&free)),
            ("unlimited: what its account has".into(), "unlimited".into())
        );
    }
}
