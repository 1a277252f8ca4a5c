//! Where a call may go, in which order, and what is written down of each attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Extensions, Request};
use tollgate_layers::Rejection;
use tollgate_layers::buffer::Held;
use tollgate_layers::disconnect::{Drain, OnDisconnect, Spawn};
use tollgate_layers::fallback::{Attempt, AttemptEnd, Budget, Policy};
use tollgate_layers::model::ModelRequest;
use tollgate_layers::timeout::Timeouts;

use super::State;
use super::attempt::{Call, Candidate, internal};
use crate::config::{self, Config};
use crate::proxy::Sent;
use crate::telemetry;
use crate::wiring::Caller;

/// How much is tried for one request.
pub(super) const BUDGET: Budget = Budget {
    attempts: 8,
    time: Duration::from_mins(1),
};

/// The routes of a model by priority and weight, then those of its fallbacks.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    config: Arc<Config>,
    state: State,
}

impl Routes {
    pub(super) fn new(config: Arc<Config>, state: State) -> Self {
        Self { config, state }
    }

    fn add(&self, model: &Arc<config::Model>, call: &Call, candidates: &mut Vec<Candidate>) {
        let mut routes: Vec<&config::Route> = model.routes.iter().collect();
        order(&mut routes);
        let found = routes.into_iter().filter_map(|route| {
            Some(Candidate {
                backend: self.state.backend(&route.backend.name)?,
                upstream_model: Arc::clone(&route.model),
                model: Arc::clone(model),
                call: call.clone(),
                sent: Sent::default(),
            })
        });
        candidates.extend(found);
    }
}

impl Policy for Routes {
    type Candidate = Candidate;

    fn candidates(&self, request: &Request<Held>) -> Result<Vec<Candidate>, Rejection> {
        let facts = request.extensions();
        let call = facts.get::<Call>().ok_or_else(|| internal("call"))?;
        let caller = facts.get::<Caller>().ok_or_else(|| internal("caller"))?;
        let mut candidates = Vec::with_capacity(call.model.routes.len());
        self.add(&call.model, call, &mut candidates);
        for &index in &call.model.fallback {
            // A fallback is a model like any other: who may not call it does not get it by the back door.
            if let Some(model) = self
                .config
                .models
                .get(index)
                .filter(|model| caller.allows_model(&model.name))
            {
                self.add(model, call, &mut candidates);
            }
        }
        Ok(candidates)
    }

    fn prepare(&self, candidate: &Candidate, request: &mut Request<Held>) -> Result<(), Rejection> {
        request.extensions_mut().insert(candidate.clone());
        Ok(())
    }

    fn attempted(&self, candidate: &Candidate, attempt: Attempt) {
        let (status, reason) = match attempt.end {
            AttemptEnd::Accepted(status) | AttemptEnd::Rejected(status) => (Some(status.as_u16()), None),
            AttemptEnd::Refused(reason) => (None, Some(reason.as_str())),
            AttemptEnd::Cancelled => (None, Some("cancelled")),
        };
        let call = &candidate.call;
        if let (AttemptEnd::Accepted(status), Some(tokens)) = (attempt.end, &call.tokens)
            && !status.is_success()
        {
            // The client gets the backend's error; no token was used.
            tokens.cancel();
        }
        call.record.note(|facts| {
            let backend = Arc::clone(&candidate.backend.config.name);
            facts.attempts.push(telemetry::Attempt {
                backend,
                status,
                reason,
                elapsed: attempt.elapsed,
            });
            if candidate.model.name != call.model.name {
                facts.served = Some(Arc::clone(&candidate.model.name));
            }
        });
    }
}

/// By priority; of one priority each first as often as its weight says.
fn order(routes: &mut [&config::Route]) {
    if routes.len() < 2 {
        return;
    }
    routes.sort_by_key(|route| route.priority);
    for peers in routes.chunk_by_mut(|a, b| a.priority == b.priority) {
        let mut rest = peers;
        while rest.len() > 1 {
            let total: u64 = rest.iter().map(|route| u64::from(route.weight.get())).sum();
            let mut point = random() % total;
            let drawn = rest.iter().position(|route| {
                let weight = u64::from(route.weight.get());
                let hit = point < weight;
                point = point.saturating_sub(weight);
                hit
            });
            rest.swap(0, drawn.unwrap_or(0));
            rest = &mut rest[1..];
        }
    }
}

/// SplitMix64 over a counter: spread is all that is needed here, not secrecy.
fn random() -> u64 {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let mut z = STATE.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// How long the backend of an attempt may take.
pub(super) fn timeouts(facts: &Extensions) -> Timeouts {
    let (Some(candidate), Some(asked)) = (facts.get::<Candidate>(), facts.get::<ModelRequest>()) else {
        return Timeouts::default();
    };
    let limits = candidate.backend.config.timeout;
    Timeouts {
        streamed: asked.stream,
        first_byte: Some(limits.first_byte),
        idle: Some(limits.idle),
        total: Some(limits.total),
        stream_total: limits.stream_total,
    }
}

/// What happens to an attempt whose client has left. A whole answer is nearly done and paid for: it is read to its end.
pub(super) fn on_disconnect(left_behind: &Arc<dyn Spawn>, request: &Request<Held>) -> OnDisconnect {
    let facts = request.extensions();
    let (Some(candidate), Some(asked)) = (facts.get::<Candidate>(), facts.get::<ModelRequest>()) else {
        return OnDisconnect::Cancel;
    };
    let backend = &candidate.backend;
    if asked.stream && backend.config.on_disconnect == config::OnDisconnect::Cancel {
        return OnDisconnect::Cancel;
    }
    let drain = Drain::new(backend.config.timeout.total, Arc::clone(&backend.drains));
    OnDisconnect::Drain(drain.with_spawn(Arc::clone(left_behind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_shares_of_a_priority() {
        const DRAWS: u32 = 10_000;
        let config = crate::config::Loader::new([])
            .parse(
                r#"
                server.listen = "127.0.0.1:0"
                [[backend]]
                name = "a"
                base_url = "http://127.0.0.1:1"
                [[model]]
                name = "m"
                route = [
                    { backend = "a", model = "spare", weight = 100, priority = 1 },
                    { backend = "a", model = "nine", weight = 9 },
                    { backend = "a", model = "one", weight = 1 },
                ]
                "#,
            )
            .expect("a configuration");
        let model = config.model("m").expect("the model");
        let mut firsts = 0;
        for _ in 0..DRAWS {
            let mut routes: Vec<_> = model.routes.iter().collect();
            order(&mut routes);
            assert_eq!(&*routes[2].model, "spare");
            firsts += u32::from(&*routes[0].model == "nine");
        }
        // A binomial of 0.9: five standard deviations are 150.
        assert!(firsts.abs_diff(DRAWS / 10 * 9) < 150, "{firsts}");
    }
}
