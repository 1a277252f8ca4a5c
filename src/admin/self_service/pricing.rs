//! `GET /api/pricing`: the catalogue with its prices, and what groups pay.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;

use super::ratio::{self, Ratios, number};
use super::{Shared, Shown};
use crate::config::{Config, Group, Model};
use crate::money::Price;

/// Priced by what is used.
const BY_TOKENS: u8 = 0;
/// Priced by the request.
const BY_REQUEST: u8 = 1;

#[derive(Serialize)]
pub(super) struct PricingAnswer {
    success: bool,
    message: &'static str,
    data: Vec<ModelPrice>,
    group_ratio: BTreeMap<String, Multiplier>,
    usable_group: BTreeMap<String, String>,
    /// How the numbers make a price.
    explained: &'static str,
}

#[derive(Serialize)]
struct ModelPrice {
    model_name: String,
    quota_type: u8,
    #[serde(flatten)]
    ratios: Ratios,
    enable_groups: Vec<String>,
    /// In full, USD as strings: tokens by the million, the rest each; `"free"`; null, it has none.
    price: Value,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Multiplier(#[serde(serialize_with = "number")] Decimal);

/// `GET /api/pricing`.
pub(super) async fn list(State(shared): State<Shared>) -> Shown<PricingAnswer> {
    let config = shared.config();
    let ratio = |group: &Arc<Group>| (group.name.to_string(), Multiplier(group.multiplier));
    let usable = |group: &Arc<Group>| (group.name.to_string(), explained(group.multiplier));
    Shown(PricingAnswer {
        success: true,
        message: "",
        data: config
            .models
            .iter()
            .map(|model| ModelPrice::new(config, model))
            .collect(),
        group_ratio: config.groups.values().map(ratio).collect(),
        usable_group: config.groups.values().map(usable).collect(),
        explained: "A million input tokens cost model_ratio × 2 USD, cached ones that × cache_ratio, output tokens that × \
                    completion_ratio; a model with quota_type 1 costs model_price USD a request. All of it × the \
                    group_ratio of the key's group. price has every price in USD.",
    })
}

impl ModelPrice {
    fn new(config: &Config, model: &Model) -> Self {
        let price = model.price.as_ref();
        let by_request = match price {
            Some(Price::Rates(rates)) => rates.request.is_some() && rates.tokens.input.is_none(),
            _ => false,
        };
        let groups = config.groups.values().filter(|group| group.models.allows(&model.name));
        Self {
            model_name: model.name.to_string(),
            quota_type: if by_request { BY_REQUEST } else { BY_TOKENS },
            ratios: Ratios::of(price),
            enable_groups: groups.map(|group| group.name.to_string()).collect(),
            price: ratio::shown(price),
        }
    }
}

/// What a multiplier means.
fn explained(multiplier: Decimal) -> String {
    let multiplier = multiplier.normalize();
    if multiplier == Decimal::ONE {
        "Prices as listed.".to_owned()
    } else if multiplier.is_zero() {
        "Free of charge.".to_owned()
    } else {
        format!("Prices as listed × {multiplier}.")
    }
}
