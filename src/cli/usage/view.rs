//! Usage as people read it.

use std::time::SystemTime;

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::cli::session::Listing;
use crate::cli::table::{Cell, Column, Tone};
use crate::cli::text::{NONE, count, or_none, stamp, text, usd};

pub(super) const ROWS: Listing = Listing {
    plural: "requests",
    log: true,
    columns: &[
        Column::new("TIME"),
        Column::new("KEY").squeezed(),
        Column::new("MODEL").squeezed(),
        Column::new("STATUS").squeezed(),
        Column::new("PROMPT").to_the_right(),
        Column::new("COMPLETION").to_the_right(),
        Column::new("CREDITS").to_the_right(),
        Column::new("MS").to_the_right(),
        Column::new("REQUEST ID").spare(),
        Column::new("ENDPOINT").spare(),
    ],
    row,
};

/// The columns of sums; the first one's title is the same for whatever they are summed by.
pub(super) const SUMS: Listing = Listing {
    plural: "usage",
    log: false,
    columns: &[
        Column::new("BY").squeezed(),
        Column::new("REQUESTS").to_the_right(),
        Column::new("FAILED").to_the_right(),
        Column::new("PROMPT").to_the_right(),
        Column::new("CACHED").to_the_right().spare(),
        Column::new("COMPLETION").to_the_right(),
        Column::new("REASONING").to_the_right().spare(),
        Column::new("USD").to_the_right(),
        Column::new("CREDITS").to_the_right(),
        Column::new("WRITTEN OFF").to_the_right().spare(),
    ],
    row: sum,
};

/// What a table of sums adds up.
const COUNTS: [&str; 7] = [
    "requests",
    "failed",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "charge_credits",
];

fn sum(sum: &Value, _: SystemTime) -> Vec<Cell> {
    let number = |name| Cell::from(count(sum, name).unwrap_or_else(|| NONE.to_owned()));
    let dollars = |name| Cell::from(usd(sum, name).unwrap_or_else(|| NONE.to_owned()));
    vec![
        span(&or_none(sum, "by")).into(),
        number("requests"),
        number("failed"),
        number("prompt_tokens"),
        number("cached_tokens"),
        number("completion_tokens"),
        number("reasoning_tokens"),
        dollars("charge"),
        number("charge_credits"),
        dollars("written_off"),
    ]
}

/// What a sum is of: of an hour or a day only what is not zero (`2026-11-21`, `2026-11-21T17:00Z`).
fn span(by: &str) -> String {
    let Ok(time) = humantime::parse_rfc3339(by) else {
        return by.to_owned();
    };
    let text = humantime::format_rfc3339_seconds(time).to_string();
    match text.strip_suffix("T00:00:00Z") {
        Some(day) => day.to_owned(),
        None => text.replace(":00Z", "Z"),
    }
}

/// All sums in one.
pub(super) fn total(sums: &[Value]) -> Value {
    let money = |name: &str| -> Decimal {
        let amounts = sums
            .iter()
            .filter_map(|sum| sum.get(name)?.as_str()?.parse::<Decimal>().ok());
        amounts.fold(Decimal::ZERO, Decimal::saturating_add)
    };
    let mut total = json!({
        "by": "total",
        "charge": money("charge").normalize().to_string(),
        "written_off": money("written_off").normalize().to_string(),
    });
    for name in COUNTS {
        let counts = sums.iter().filter_map(|sum| sum.get(name)?.as_i64());
        total[name] = counts.fold(0_i64, i64::saturating_add).into();
    }
    total
}

fn row(row: &Value, _: SystemTime) -> Vec<Cell> {
    let number = |name| Cell::from(count(row, name).unwrap_or_else(|| NONE.to_owned()));
    vec![
        stamp(row, "time").into(),
        or_none(row, "key").into(),
        or_none(row, "model").into(),
        status(row),
        number("prompt_tokens"),
        number("completion_tokens"),
        number("charge_credits"),
        number("total_ms"),
        or_none(row, "request_id").into(),
        or_none(row, "endpoint").into(),
    ]
}

/// The answer's status, and why it was refused or failed.
fn status(row: &Value) -> Cell {
    let status = or_none(row, "status");
    match text(row, "reason") {
        Some(reason) => Cell::toned(format!("{status} {reason}"), Tone::Bad),
        None => status.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_exact() {
        let sums = [
            json!({"by": "a", "requests": 2, "charge": "0.100000001", "charge_credits": 50_000, "written_off": "0.00"}),
            json!({"by": "b", "requests": 1, "charge": "0.20", "charge_credits": 100_000, "written_off": "0.00"}),
        ];
        let total = total(&sums);
        assert_eq!(
            (&total["charge"], &total["requests"]),
            (&"0.300000001".into(), &3.into())
        );
        assert_eq!(
            (&total["charge_credits"], &total["written_off"]),
            (&150_000.into(), &"0".into())
        );
    }

    #[test]
    fn hours_and_days_are_short() {
        assert_eq!(span("2026-11-21T00:00:00.000Z"), "2026-11-21");
        assert_eq!(span("2026-11-21T17:00:00.000Z"), "2026-11-21T17:00Z");
        assert_eq!(span("gpt-4o"), "gpt-4o");
    }
}
