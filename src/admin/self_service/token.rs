//! `GET /api/usage/token`: what a key has, in credits.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;

use super::{Caller, Shared, Shown};
use crate::money::{Credits, Nanos};
use crate::store::Millis;

/// What an account without a ceiling has free, in USD: as the billing endpoints say it.
pub(super) const UNLIMITED_USD: i64 = 100_000_000;

#[derive(Serialize)]
pub(super) struct TokenAnswer {
    code: bool,
    message: &'static str,
    data: TokenUsage,
}

#[derive(Serialize)]
struct TokenUsage {
    object: &'static str,
    name: String,
    total_granted: i64,
    total_used: i64,
    total_available: i64,
    unlimited_quota: bool,
    model_limits: BTreeMap<String, bool>,
    model_limits_enabled: bool,
    /// Unix seconds; 0, never.
    expires_at: i64,
}

/// `GET /api/usage/token`.
pub(super) async fn show(State(shared): State<Shared>, caller: Caller) -> Shown<TokenAnswer> {
    let credits = shared.config().credits;
    let has = Has::of(&caller, credits);
    let terms = &caller.key.terms;
    let models = terms.models.iter().flatten().map(|model| (model.clone(), true));
    Shown(TokenAnswer {
        code: true,
        message: "ok",
        data: TokenUsage {
            object: "token_usage",
            name: terms.name.clone(),
            total_granted: has.granted,
            total_used: has.used,
            total_available: has.available,
            unlimited_quota: terms.quota.is_none(),
            model_limits: models.collect(),
            model_limits_enabled: terms.models.is_some(),
            expires_at: terms.expires.map_or(0, seconds),
        },
    })
}

/// What a key has, in credits: granted = used + available.
pub(super) struct Has {
    pub(super) granted: i64,
    used: i64,
    available: i64,
}

impl Has {
    pub(super) fn of(caller: &Caller, credits: Credits) -> Self {
        let (used, available) = match (caller.key.terms.quota, caller.free) {
            (Some(quota), _) => {
                // Both rounded by themselves would not come to the quota any more, which is a whole number.
                let used = credits.whole(caller.spent);
                (used, credits.whole(quota).saturating_sub(used))
            }
            (None, Some(free)) => (credits.whole(caller.used), credits.whole(free)),
            (None, None) => {
                let free = Nanos::new(UNLIMITED_USD * 1_000_000_000);
                (credits.whole(caller.used), credits.whole(free))
            }
        };
        let available = available.max(0);
        Self {
            granted: used.saturating_add(available),
            used,
            available,
        }
    }
}

/// Unix seconds.
pub(super) fn seconds(time: Millis) -> i64 {
    time.0.div_euclid(1_000)
}
