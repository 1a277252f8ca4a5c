//! The models as this stack serves them: each with the ways to a backend that answers for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tollgate_layers::meter::{Count, Learned};

use super::State;
use super::count::Counter;
use super::state::Backend;
use crate::config::{self, Config, StreamUsage};
use crate::dialect::openai::{self, Endpoint};
use crate::money::Tariff;
use crate::proxy::Lifecycle;

/// Every model of a configuration. Made once with the stack, so that a request looks nothing up but its model's name.
#[derive(Clone, Debug)]
pub(super) struct Models(Arc<Table>);

#[derive(Debug)]
struct Table {
    served: Vec<Arc<Served>>,
    by_name: HashMap<Arc<str>, usize>,
}

/// One model: an extension of the request, once it is known that its caller may use it.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) config: Arc<config::Model>,
    /// What its limits are counted by.
    pub(super) number: u64,
    /// How many bytes its tokens have, from what it was seen to use.
    pub(super) learned: Arc<Learned>,
    /// Its price, as requests are charged by it.
    pub(super) tariff: Option<Tariff>,
    /// The same as rows tell it.
    pub(super) price_text: Arc<str>,
    /// What waits for counts at a shutdown.
    pub(super) lifecycle: Lifecycle,
    /// By priority.
    pub(super) ways: Vec<Way>,
    /// Other models to try, in order.
    fallback: Vec<usize>,
}

/// One way to an answer.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) backend: Arc<Backend>,
    /// What the backend calls the model.
    pub(super) upstream_model: Arc<str>,
    pub(super) priority: u32,
    pub(super) weight: u32,
    /// Whether the last answer had no usage: of those that are no streams, and of streams.
    silent: [AtomicBool; 2],
    counter: Option<Counter>,
}

impl Models {
    /// The models of a configuration that `state` has adopted.
    pub(super) fn new(config: &Config, state: &State) -> Self {
        let served: Vec<_> = config
            .models
            .iter()
            .map(|model| Arc::new(Served::new(model, state)))
            .collect();
        let names = config.models.iter().map(|model| Arc::clone(&model.name));
        let by_name = names.enumerate().map(|(index, name)| (name, index)).collect();
        Self(Arc::new(Table { served, by_name }))
    }

    /// The model of this exact name.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Served>> {
        self.0.served.get(*self.0.by_name.get(name)?)
    }

    /// The models to try when `served` has failed, in order.
    pub(super) fn fallbacks<'a>(&'a self, served: &'a Served) -> impl Iterator<Item = &'a Arc<Served>> {
        served.fallback.iter().filter_map(|&index| self.0.served.get(index))
    }
}

impl Served {
    /// Whether an answer may think where nobody sees it, whichever way it comes.
    pub(super) fn hides_reasoning(&self, asks_reasoning: bool) -> bool {
        let mut names = self.ways.iter().map(|way| &way.upstream_model);
        names.any(|name| openai::hides_reasoning(name, asks_reasoning))
    }

    fn new(model: &Arc<config::Model>, state: &State) -> Self {
        let mut ways: Vec<_> = model
            .routes
            .iter()
            .filter_map(|route| {
                Some(Way {
                    backend: state.backend(&route.backend.name)?,
                    upstream_model: Arc::clone(&route.model),
                    priority: route.priority,
                    weight: route.weight.get(),
                    silent: Default::default(),
                    counter: Counter::of(&route.model, state),
                })
            })
            .collect();
        ways.sort_by_key(|way| way.priority);
        Self {
            config: Arc::clone(model),
            number: state.numbers().of(&model.name),
            learned: state.learned(&model.name),
            tariff: model.price.as_ref().map(Tariff::new),
            price_text: model
                .price
                .as_ref()
                .map_or_else(Arc::default, |price| price.to_string().into()),
            lifecycle: state.lifecycle().clone(),
            ways,
            fallback: model.fallback.clone(),
        }
    }
}

// === impl Way ===

impl Way {
    /// A count of an answer that is to come, where no usage will come with it.
    pub(super) fn count(&self, endpoint: Endpoint, streamed: bool) -> Option<Count> {
        let counter = self.counter.as_ref().filter(|_| endpoint.completes())?;
        let told = streamed && self.backend.config.stream_usage == StreamUsage::None;
        let refused = streamed && endpoint.takes_include_usage() && self.backend.refuses_usage.load(Ordering::Relaxed);
        let silent = self.silent[usize::from(streamed)].load(Ordering::Relaxed);
        (told || refused || silent).then(|| counter.start())?
    }

    /// An answer came whole: whether it had usage says what the next one will have.
    pub(super) fn learn(&self, streamed: bool, reported: bool) {
        let silent = &self.silent[usize::from(streamed)];
        // A store of what stands there already would take the line from other threads.
        if silent.load(Ordering::Relaxed) == reported {
            silent.store(!reported, Ordering::Relaxed);
        }
    }
}
