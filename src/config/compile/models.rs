//! Models: their routes, what they fall back to, their prices.

use std::collections::HashMap;
use std::sync::Arc;

use rust_decimal::Decimal;

use super::{ByName, Compiler, value, values};
use crate::config::raw::{self, List};
use crate::config::read::At;
use crate::config::show::span;
use crate::config::value::Amount;
use crate::config::{Backend, Cache, Limits, Model, Price, Rates, Route, Tier, TokenRates};

impl Compiler<'_> {
    pub(super) fn models(&mut self, list: &List<raw::Model>, backends: &ByName<Backend>) -> Vec<Arc<Model>> {
        self.refuse_same_names("model", list.iter().map(|m| m.name.as_ref()));
        let mut index = HashMap::new();
        for (i, name) in list
            .iter()
            .enumerate()
            .filter_map(|(i, m)| Some((i, &m.name.as_ref()?.0)))
        {
            index.entry(name.as_str()).or_insert(i);
        }
        let models: Vec<_> = list.iter().map(|raw| self.model(raw, backends, &index)).collect();
        self.refuse_cycles(list, &index);
        models.into_iter().flatten().map(Arc::new).collect()
    }

    fn model(&mut self, raw: &raw::Model, backends: &ByName<Backend>, index: &HashMap<&str, usize>) -> Option<Model> {
        let fallback = raw
            .fallback
            .iter()
            .map(|name| self.known("model", name, index).copied())
            .collect::<Vec<_>>();
        let price = raw.price.as_ref().and_then(|price| self.price(price));
        let cache = raw.cache.as_ref().and_then(|cache| self.cache(cache));
        let routes = raw.route.as_ref()?;
        if routes.is_empty() && !self.told_of(&routes.path) {
            let remedy = "name a backend: route = [ { backend = \"NAME\" } ]";
            self.problems.push(routes.problem(None, "no route", remedy));
        }
        let name: Arc<str> = raw.name.as_ref().map_or("", |n| &n.0).into();
        let routes: Vec<_> = routes.iter().map(|route| self.route(route, &name, backends)).collect();
        Some(Model {
            name,
            routes: routes.into_iter().collect::<Option<_>>()?,
            fallback: fallback.into_iter().collect::<Option<_>>()?,
            price,
            max_output: value(raw.max_output.as_ref()),
            limits: Limits {
                rpm: value(raw.limit.rpm.as_ref()),
                tpm: value(raw.limit.tpm.as_ref()),
                concurrency: value(raw.limit.concurrency.as_ref()),
            },
            cache,
            deny_params: values(&raw.deny_params),
        })
    }

    fn route(&mut self, raw: &raw::Route, model: &Arc<str>, backends: &ByName<Backend>) -> Option<Route> {
        let index = backends
            .iter()
            .map(|(name, backend)| (name.as_str(), backend))
            .collect();
        let backend = self.known("backend", raw.backend.as_ref()?, &index)?.as_ref()?;
        Some(Route {
            backend: Arc::clone(backend),
            model: raw
                .model
                .as_ref()
                .map_or_else(|| Arc::clone(model), |m| m.0.as_str().into()),
            weight: raw.weight.0,
            priority: raw.priority.value,
        })
    }

    fn cache(&mut self, raw: &raw::Cache) -> Option<Cache> {
        let ttl = raw.ttl.as_ref()?;
        if ttl.0 > Cache::LONGEST {
            self.problems
                .push(ttl.problem(Some(span(ttl.0)), "longer than a day", "write \"24h\" or less"));
        }
        Some(Cache {
            ttl: ttl.0,
            shared: raw.shared.value,
        })
    }

    fn price(&mut self, price: &At<raw::Price>) -> Option<Price> {
        let rates = match &price.value {
            raw::Price::Free => return Some(Price::Free),
            raw::Price::Rates(rates) => rates,
        };
        macro_rules! tokens {
            ($from:expr) => {
                TokenRates {
                    input: amount(&$from.input),
                    cached_input: amount(&$from.cached_input),
                    output: amount(&$from.output),
                    cache_write: amount(&$from.cache_write),
                    cache_write_1h: amount(&$from.cache_write_1h),
                    audio_input: amount(&$from.audio_input),
                    audio_output: amount(&$from.audio_output),
                }
            };
        }
        let tier = |t: &At<raw::Tier>| {
            Some(Tier {
                above: t.above.as_ref()?.value,
                tokens: tokens!(t),
            })
        };
        let rates = Rates {
            tokens: tokens!(rates),
            tiers: rates.tiers.iter().map(tier).collect::<Option<_>>()?,
            request: amount(&rates.request),
            character: amount(&rates.character),
            second: amount(&rates.second),
            image: rates
                .image
                .iter()
                .map(|(size, price)| (size.clone(), price.0))
                .collect(),
        };
        if rates == Rates::default() && !self.told_of(&price.path) {
            let remedy = "name the price of a unit, such as { input = 0.27, output = 1.10 }, or write \"free\"";
            self.problems.push(price.problem(None, "no price", remedy));
        }
        if !rates.tiers.is_sorted_by(|a, b| a.above < b.above) {
            let remedy = "put the tiers in order of `above`, each once";
            self.problems.push(price.problem(None, "tiers out of order", remedy));
        }
        Some(Price::Rates(Box::new(rates)))
    }
}

#[expect(clippy::ref_option, reason = "called on a dozen fields of a borrowed table")]
fn amount(at: &Option<At<Amount>>) -> Option<Decimal> {
    at.as_ref().map(|at| at.0)
}
