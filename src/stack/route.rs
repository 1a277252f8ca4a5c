//! Where a call may go, in which order, and what is written down of each attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Extensions, HeaderMap, Request, StatusCode};
use tollgate_layers::buffer::Held;
use tollgate_layers::disconnect::{Drain, OnDisconnect, Spawn};
use tollgate_layers::fallback::{Attempt, AttemptEnd, Budget, Policy, Start};
use tollgate_layers::model::ModelRequest;
use tollgate_layers::timeout::Timeouts;
use tollgate_layers::{Reason, Rejection};

use super::attempt::{Call, Candidate, internal};
use super::cache::Spent;
use super::credit::SHORTEST;
use super::served::{Models, Served};
use crate::config;
use crate::dialect::openai;
use crate::money::Nanos;
use crate::proxy::Sent;
use crate::telemetry;
use crate::wiring::Caller;

/// How much is tried for one request.
pub(super) const BUDGET: Budget = Budget {
    attempts: 8,
    time: Duration::from_mins(1),
    share: None,
};

/// The ways of a model by priority and weight, then those of its fallbacks.
#[derive(Clone, Debug)]
pub(super) struct Routes(pub(super) Models);

impl Policy for Routes {
    type Candidate = Candidate;

    fn candidates(&self, request: &Request<Held>) -> Result<Vec<Candidate>, Rejection> {
        let facts = request.extensions();
        let call = facts.get::<Call>().ok_or_else(|| internal("call"))?;
        let caller = facts.get::<Caller>().ok_or_else(|| internal("caller"))?;
        // A fallback is a model like any other: who may not call it does not get it by the back door.
        let allowed = |served: &&Arc<Served>| caller.allows_model(&served.config.name);
        let fallbacks = self.0.fallbacks(&call.model).filter(allowed);
        let mut candidates = Vec::with_capacity(call.model.ways.len());
        for served in std::iter::once(&call.model).chain(fallbacks) {
            let begin = candidates.len();
            candidates.extend((0..served.ways.len()).map(|way| Candidate {
                served: Arc::clone(served),
                way,
                call: call.clone(),
                paid: call.bill.as_ref().and_then(|bill| bill.cap),
                sent: Sent::default(),
                spent: Spent::of(call.model.config.cache),
            }));
            order(&mut candidates[begin..]);
        }
        Ok(candidates)
    }

    fn prepare(&self, candidate: &Candidate, request: &mut Request<Held>) -> Result<(), Rejection> {
        let mut candidate = candidate.clone();
        candidate.paid = afford(&candidate)?;
        request.extensions_mut().insert(candidate);
        Ok(())
    }

    fn awaits_start(&self, _: &Candidate, status: StatusCode, headers: &HeaderMap) -> bool {
        status.is_success() && openai::may_fail_in_band(headers)
    }

    fn start(&self, _: &Candidate, bytes: &[u8]) -> Start {
        match openai::start(bytes) {
            openai::Start::Content => Start::Begun,
            openai::Start::Undecided => Start::More,
            openai::Start::RateLimited => Start::Failed(Reason::UpstreamRateLimited),
            openai::Start::Failed => Start::Failed(Reason::UpstreamFailed),
        }
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
            if !matches!(attempt.end, AttemptEnd::Accepted(_)) {
                // Why an attempt failed is not why the request did: another may answer, and a refusal has its own reason.
                facts.reason = None;
            }
            facts.attempts.push(telemetry::Attempt {
                backend: Arc::clone(&candidate.backend().config.name),
                status,
                reason,
                elapsed: attempt.elapsed,
            });
            if !Arc::ptr_eq(&candidate.served, &call.model) {
                facts.served = Some(Arc::clone(&candidate.served.config.name));
            }
        });
    }
}

/// A fallback may be dearer than the model that was asked for: what is set aside must do for it, too. Where no more can be
/// had, its answer may be as long as that pays. The most tokens of each answer.
fn afford(candidate: &Candidate) -> Result<Option<u64>, Rejection> {
    let call = &candidate.call;
    let (Some(bill), Some(tariff)) = (&call.bill, &candidate.served.tariff) else {
        return Ok(candidate.paid);
    };
    if Arc::ptr_eq(&candidate.served, &call.model) {
        return Ok(candidate.paid);
    }
    let not_priced = |_| Rejection::from(Reason::NotPriced);
    let terms = bill.quote.at(tariff);
    let cost = |tokens: u64| terms.cost(tokens).map_err(not_priced);
    let missing = cost(bill.cap.unwrap_or_default())?
        .get()
        .saturating_sub(bill.hold.amount().get());
    if missing <= 0 || bill.hold.grow(Nanos::new(missing)) {
        return Ok(bill.cap);
    }
    let held = bill.hold.amount();
    match bill.cap {
        Some(cap) if held >= cost(cap.min(SHORTEST))? => {
            let paid = terms.tokens(held).map_err(not_priced)?;
            Ok(Some(cap.min(paid).max(1)))
        }
        _ => Err(Reason::InsufficientCredit.into()),
    }
}

/// Of one priority each first as often as its weight says. They come by priority.
fn order(candidates: &mut [Candidate]) {
    if candidates.len() < 2 {
        return;
    }
    for peers in candidates.chunk_by_mut(|a, b| a.way().priority == b.way().priority) {
        let mut rest = peers;
        while rest.len() > 1 {
            let weight = |candidate: &Candidate| u64::from(candidate.way().weight);
            let mut point = random() % rest.iter().map(weight).sum::<u64>().max(1);
            let drawn = rest.iter().position(|candidate| {
                let hit = point < weight(candidate);
                point = point.saturating_sub(weight(candidate));
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
    let limits = candidate.backend().config.timeout;
    Timeouts {
        streamed: asked.stream,
        // The upstream's own: it knows which of its connections is new.
        connect: None,
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
    let backend = candidate.backend();
    if asked.stream && backend.config.on_disconnect == config::OnDisconnect::Cancel {
        return OnDisconnect::Cancel;
    }
    let drain = Drain::new(backend.config.timeout.total, Arc::clone(&backend.drains));
    // While the backend is still being connected to there is nothing to read on: it would be asked, and paid, for nobody.
    let sent = candidate.sent.clone();
    let drain = drain.only_if(move || sent.is_sent());
    OnDisconnect::Drain(drain.with_spawn(Arc::clone(left_behind)))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::dialect::openai::Endpoint;
    use crate::proxy::Lifecycle;
    use crate::telemetry::{Record, Telemetry};

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
        let state = State::new(&config, Telemetry::new(None), Lifecycle::new());
        state.adopt(state.prepare(&config).expect("it can be served"));
        let models = Models::new(&config, &state);
        let served = models.get("m").expect("the model");
        let record = Record::new(Telemetry::new(None), http::Method::POST, "/", "");
        let call = Call::new(Endpoint::ChatCompletions, Arc::clone(served), record, None, None);
        let mut firsts = 0;
        for _ in 0..DRAWS {
            let mut candidates: Vec<_> = (0..3)
                .map(|way| Candidate {
                    served: Arc::clone(served),
                    way,
                    call: call.clone(),
                    paid: None,
                    sent: Sent::default(),
                    spent: Spent::default(),
                })
                .collect();
            order(&mut candidates);
            assert_eq!(&*candidates[2].way().upstream_model, "spare");
            firsts += u32::from(&*candidates[0].way().upstream_model == "nine");
        }
        // A binomial of 0.9: five standard deviations are 150.
        assert!(firsts.abs_diff(DRAWS / 10 * 9) < 150, "{firsts}");
    }
}
