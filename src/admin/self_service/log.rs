//! `GET /api/log/token`: the last requests of a key, newest first.

use axum::extract::State;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Value, json};

use super::ratio::{Ratios, decimal};
use super::token::seconds;
use super::{Caller, Refusal, Shared, Shown};
use crate::config::Config;
use crate::store::{Page, Row, UsageFilter};

/// Rows of one answer.
const MOST: u32 = 1_000;
/// The type of a row that was charged.
const CONSUMED: u8 = 2;
/// The type of a row that was refused or failed.
const FAILED: u8 = 5;

#[derive(Serialize)]
pub(super) struct LogAnswer {
    success: bool,
    message: &'static str,
    data: Vec<LogRow>,
}

#[derive(Serialize)]
struct LogRow {
    /// Unix seconds.
    created_at: i64,
    r#type: u8,
    model_name: String,
    /// In credits.
    quota: i64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// Seconds.
    use_time: u64,
    is_stream: bool,
    token_name: String,
    group: String,
    ip: String,
    request_id: String,
    /// JSON in a string.
    other: String,
}

/// `GET /api/log/token`.
pub(super) async fn list(State(shared): State<Shared>, caller: Caller) -> Result<Shown<LogAnswer>, Refusal> {
    let filter = UsageFilter {
        key: Some(caller.key.id),
        ..UsageFilter::default()
    };
    let page = Page {
        before: None,
        limit: MOST,
    };
    let rows = {
        let _place = shared.read()?;
        shared.0.store.rows(&filter, page).await?
    };
    let config = shared.config();
    Ok(Shown(LogAnswer {
        success: true,
        message: "",
        data: rows.into_iter().map(|row| LogRow::new(config, &caller, row)).collect(),
    }))
}

impl LogRow {
    fn new(config: &Config, caller: &Caller, row: Row) -> Self {
        let failed = row.status >= 400 && row.charge.is_zero();
        Self {
            created_at: seconds(row.time),
            r#type: if failed { FAILED } else { CONSUMED },
            quota: config.credits.whole(row.charge),
            prompt_tokens: row.tokens.prompt,
            completion_tokens: row.tokens.completion,
            use_time: row.total_ms.saturating_add(500) / 1_000,
            is_stream: row.streamed,
            token_name: caller.key.terms.name.clone(),
            ip: row.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            other: other(config, &row).to_string(),
            model_name: row.model,
            group: row.group,
            request_id: row.request_id,
        }
    }
}

/// What a row was charged by, where the row says so; else what its model costs now.
fn other(config: &Config, row: &Row) -> Value {
    let price: Option<Value> = row.price.as_deref().and_then(|price| serde_json::from_str(price).ok());
    let now = || Ratios::of(config.model(&row.model).and_then(|model| model.price.as_ref()));
    let ratios = price.as_ref().and_then(Ratios::charged).unwrap_or_else(now);
    let charged = price.as_ref().and_then(|price| decimal(price.get("multiplier")?));
    let group = || config.groups.get(row.group.as_str()).map(|group| group.multiplier);
    let multiplier = charged.or_else(group).unwrap_or(Decimal::ONE);
    let number = |decimal: Decimal| serde_json::from_str(&decimal.normalize().to_string()).unwrap_or(Value::Null);
    json!({
        "model_ratio": number(ratios.model_ratio),
        "completion_ratio": number(ratios.completion_ratio),
        "cache_ratio": number(ratios.cache_ratio),
        "model_price": number(ratios.model_price),
        "group_ratio": number(multiplier),
        "cache_tokens": row.tokens.cached,
        "reasoning_tokens": row.tokens.reasoning,
        "frt": row.first_ms,
        "status": row.status,
        "reason": row.reason,
        "estimated": row.estimated,
        "price": price,
    })
}
