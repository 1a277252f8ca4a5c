//! `GET /dashboard/billing/…`: what a key has and has used, in US dollars, as OpenAI's dashboard once told it.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use rust_decimal::Decimal;
use serde::Serialize;

use super::ratio::{number, usd};
use super::token::{Has, UNLIMITED_USD, seconds};
use super::{Caller, Refusal, Shared, Shown};
use crate::money::Nanos;
use crate::store::{Day, Millis, UsageBy, UsageFilter};

#[derive(Serialize)]
pub(super) struct Subscription {
    object: &'static str,
    has_payment_method: bool,
    #[serde(serialize_with = "number")]
    soft_limit_usd: Decimal,
    #[serde(serialize_with = "number")]
    hard_limit_usd: Decimal,
    #[serde(serialize_with = "number")]
    system_hard_limit_usd: Decimal,
    /// Unix seconds; 0, without end.
    access_until: i64,
}

#[derive(Serialize)]
pub(super) struct UsageAnswer {
    object: &'static str,
    /// In cents.
    #[serde(serialize_with = "number")]
    total_usage: Decimal,
}

/// `GET [/v1]/dashboard/billing/subscription`.
pub(super) async fn subscription(State(shared): State<Shared>, caller: Caller) -> Shown<Subscription> {
    let credits = shared.config().credits;
    let granted = if caller.key.terms.quota.is_some() {
        let granted = u64::try_from(Has::of(&caller, credits).granted).unwrap_or(0);
        usd(credits.nanos(granted).unwrap_or(Nanos::MAX))
    } else {
        Decimal::from(UNLIMITED_USD)
    };
    Shown(Subscription {
        object: "billing_subscription",
        has_payment_method: true,
        soft_limit_usd: granted,
        hard_limit_usd: granted,
        system_hard_limit_usd: granted,
        access_until: caller.key.terms.expires.map_or(0, seconds),
    })
}

/// `GET [/v1]/dashboard/billing/usage?start_date&end_date`; both days count. Without dates: all that was ever used.
pub(super) async fn usage(
    State(shared): State<Shared>,
    uri: Uri,
    caller: Caller,
) -> Result<Shown<UsageAnswer>, Refusal> {
    let (since, until) = span(uri.query().unwrap_or_default()).ok_or(Refusal::new(
        StatusCode::BAD_REQUEST,
        "start_date and end_date are dates, as 2025-01-31.",
    ))?;
    let used = if since.is_none() && until.is_none() {
        caller.used
    } else {
        let filter = UsageFilter {
            key: Some(caller.key.id),
            since,
            until,
            ..UsageFilter::default()
        };
        let _place = shared.read()?;
        let days = shared.0.store.usage(&filter, UsageBy::Day).await?;
        days.into_iter().map(|day| day.charge).sum()
    };
    Ok(Shown(UsageAnswer {
        object: "list",
        total_usage: usd(used) * Decimal::ONE_HUNDRED,
    }))
}

/// From the first moment of the first day to the end of the last; `None`, where something is no date.
fn span(query: &str) -> Option<(Option<Millis>, Option<Millis>)> {
    let (mut since, mut until) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            _ if value.is_empty() => {}
            "start_date" => since = Some(date(&value)?.start()),
            "end_date" => until = Some(Day(date(&value)?.0 + 1).start()),
            _ => {}
        }
    }
    Some((since, until))
}

/// A date, padded or not: 2025-01-02 or 2025-1-2.
fn date(text: &str) -> Option<Day> {
    let mut parts = text.splitn(3, '-');
    let mut part = |length: usize| {
        let part = parts.next()?;
        let fits = (1..=length).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if fits { part.parse::<u32>().ok() } else { None }
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    let midnight = humantime::parse_rfc3339(&format!("{year:04}-{month:02}-{day:02}T00:00:00Z")).ok()?;
    Some(Millis::from(midnight).day())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn dates() {
        let day = |text: &str| date(text).map(|day| day.0);
        assert_eq!(day("2025-01-02"), Some(20_090));
        assert_eq!(day("2025-1-2"), Some(20_090));
        assert_eq!(day("1970-1-1"), Some(0));
        for bad in [
            "",
            "2025",
            "2025-1",
            "2025-13-1",
            "2025-2-30",
            "2025-1-2-3",
            "-1-1-1",
            "2025-1-2T00:00:00Z",
            "a-b-c",
        ] {
            assert_eq!(day(bad), None, "{bad}");
        }
        let (since, until) = span("start_date=2025-1-2&end_date=2025-1-2&x=y").unwrap();
        assert_eq!(until.unwrap().0 - since.unwrap().0, Day::MILLIS, "both days count");
        assert_eq!(span("start_date="), Some((None, None)));
        assert_eq!(span("start_date=soon"), None);
    }
}
