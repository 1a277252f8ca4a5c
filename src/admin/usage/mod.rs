//! `/usage`: what was used, summed by the hour or by what it was used for; `rows` has every request.

pub(super) mod rows;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::failure::{Answer, ErrorBody, Failure, Result, ok};
use super::read::{Problems, Query};
use super::times::{Bound, shown, shown_day};
use super::values::Usd;
use crate::store::{Millis, UsageBy, UsageFilter, UsageSum};

/// What to sum, and by what.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SumsQuery {
    /// `hour`, `day`, `model`, `key`, `account` or `group`; `day` when left out.
    #[param(value_type = Option<String>)]
    by: Option<UsageBy>,
    /// Of this key, by id or name.
    key: Option<String>,
    /// Of this account, by id or name.
    account: Option<String>,
    /// Of this model, as asked for.
    model: Option<String>,
    /// Of this group.
    group: Option<String>,
    /// From when on: RFC 3339, a date, unix seconds, or a span back from now as `24h` or `7d`. Sums go by whole hours.
    #[param(value_type = Option<String>)]
    since: Option<Bound>,
    /// Until when, alike.
    #[param(value_type = Option<String>)]
    until: Option<Bound>,
}

/// Sums, in the order of `by`.
#[derive(Serialize, ToSchema)]
pub(super) struct Sums {
    data: Vec<SumView>,
}

/// One sum.
#[derive(Serialize, ToSchema)]
pub(super) struct SumView {
    /// The hour (RFC 3339), the day (a date), the model, the id of the key or account, or the group.
    by: String,
    requests: u64,
    /// Those of them that were refused or failed.
    failed: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    completion_tokens: u64,
    reasoning_tokens: u64,
    charge: Usd,
    charge_credits: i64,
    /// What was used and could not be charged.
    written_off: Usd,
    written_off_credits: i64,
}

/// Sums usage.
#[utoipa::path(get, path = "/admin/v1/usage", tag = "usage", operation_id = "sum_usage", params(SumsQuery),
    responses((status = 200, body = Sums), (status = "default", body = ErrorBody)))]
pub(super) async fn sums(State(api): State<Api>, Query(query, mut problems): Query<SumsQuery>) -> Result<Answer<Sums>> {
    let by = query.by.unwrap_or(UsageBy::Day);
    let of = Of {
        key: query.key,
        account: query.account,
        model: query.model,
        group: query.group,
        since: query.since,
        until: query.until,
    };
    let filter = of.filter(&api, &mut problems).await?;
    let found = api.store().usage(&filter, by).await?;
    ok(Sums {
        data: found.into_iter().map(|sum| SumView::new(&api, by, sum)).collect(),
    })
}

/// What usage is asked for.
struct Of {
    key: Option<String>,
    account: Option<String>,
    model: Option<String>,
    group: Option<String>,
    since: Option<Bound>,
    until: Option<Bound>,
}

impl Of {
    /// The filter, with names found.
    async fn filter(self, api: &Api, problems: &mut Problems) -> Result<UsageFilter> {
        let (since, until) = (self.since.map(Bound::since), self.until.map(Bound::until));
        if since.zip(until).is_some_and(|(since, until)| since >= until) {
            problems.add("until", "is not after since");
        }
        problems.none()?;
        let account = api.account_in("account", self.account.as_deref(), problems).await?;
        let key = match self.key.as_deref() {
            None => None,
            // A deleted key's usage is still there, under its id.
            Some(named) => match api.key(named, self.account.as_deref()).await {
                Err(failure) if failure.is_not_found() => Some(named.parse().map_err(|_| unknown_key())?),
                found => Some(found?.id),
            },
        };
        problems.none()?;
        Ok(UsageFilter {
            account: account.map(|account| account.id),
            key,
            model: self.model,
            group: self.group,
            since,
            until,
            request_id: None,
        })
    }
}

fn unknown_key() -> Failure {
    Failure::invalid(Some("key"), "key: there is no such key")
}

impl SumView {
    fn new(api: &Api, by: UsageBy, sum: UsageSum) -> Self {
        Self {
            by: label(by, sum.by),
            requests: sum.requests,
            failed: sum.failed,
            prompt_tokens: sum.tokens.prompt,
            cached_tokens: sum.tokens.cached,
            completion_tokens: sum.tokens.completion,
            reasoning_tokens: sum.tokens.reasoning,
            charge: Usd(sum.charge),
            charge_credits: api.whole(sum.charge),
            written_off: Usd(sum.written_off),
            written_off_credits: api.whole(sum.written_off),
        }
    }
}

/// Times as people write them; the rest as it is.
fn label(by: UsageBy, text: String) -> String {
    match (by, text.parse().map(Millis)) {
        (UsageBy::Hour, Ok(hour)) => shown(hour),
        (UsageBy::Day, Ok(day)) => shown_day(day.day()),
        _ => text,
    }
}
