//! What is done with what an answer has used.

mod charge;

use http::Request;
use tokio::sync::oneshot;
use tollgate_layers::Reason;
use tollgate_layers::buffer::Held;
use tollgate_layers::meter::{Counted, End, Learned, More, Outcome, Plan, Settled, Sink, Terminal, Usage};
use tollgate_layers::model::ModelRequest;

use super::attempt::{Candidate, internal, output_field};
use super::count::when_counted;
use crate::dialect::openai::StreamEnd;
use crate::failpoint;
use crate::money::Nanos;
use crate::telemetry::Tokens;

/// A stream's reservation grows by what this many more tokens cost, or an eighth of the answer so far.
const STEP: u64 = 64;

/// An estimate may be off by so many times.
const VAGUE: u64 = 2;

/// How an attempt is metered.
pub(super) fn plan(request: &Request<Held>) -> Option<Plan<Settle>> {
    let facts = request.extensions();
    let candidate = facts.get::<Candidate>()?;
    let call = &candidate.call;
    let asked = facts.get::<ModelRequest>()?;
    let terminal = match call.endpoint.stream_end() {
        StreamEnd::Done => Terminal::Done,
        StreamEnd::ResponseEvent => Terminal::Responses,
        StreamEnd::Body => Terminal::None,
    };
    let strip = asked.stream && !asked.asked_usage && call.endpoint.takes_include_usage();
    let settle = Settle {
        candidate: candidate.clone(),
        streamed: asked.stream,
        prompt_bytes: asked.text_len as u64,
        cap_asked: output_field(call.endpoint).and_then(|field| asked.max_output_of(field)),
    };
    let mut plan = Plan::new(settle).strip(strip).expect(terminal);
    if call.bill.as_ref().is_some_and(|bill| bill.grows) {
        plan = plan.grow(asked.asked_usage);
    }
    if let Some(count) = candidate.way().count(call.endpoint, asked.stream) {
        plan = plan.count(count);
    }
    Some(plan)
}

/// Writes the outcome of one attempt down, and charges it.
#[derive(Debug)]
pub(super) struct Settle {
    candidate: Candidate,
    streamed: bool,
    /// Bytes of the request's text, to estimate the prompt from.
    prompt_bytes: u64,
    cap_asked: Option<u64>,
}

impl Sink for Settle {
    fn settle(self, mut outcome: Outcome) -> Settled {
        let used = self.used(&outcome);
        self.learn(&outcome);
        let Candidate { call, sent, .. } = &self.candidate;
        if outcome.end == End::Disconnected
            && !sent.is_sent()
            && let Some(reserved) = &call.tokens
        {
            // The client left while the backend was still being connected to.
            reserved.cancel();
        }
        if let End::Failed(reason) = outcome.end {
            call.record.note(|facts| facts.reason = Some(reason.as_str()));
        }
        let Some((usage, estimated)) = used else {
            // What was set aside goes back with the call.
            return Settled::done();
        };
        let text = outcome.content_bytes;
        match outcome.counted.take().filter(|_| text > 0) {
            None => self.account(&usage, estimated, &outcome),
            Some(counted) => self.account_counted(counted, usage, outcome),
        }
    }

    fn more(&mut self, content_bytes: u64) -> More {
        let Some(bill) = self.candidate.call.bill.as_ref().filter(|bill| bill.grows) else {
            return More::Go;
        };
        let Some(tariff) = &self.candidate.served.tariff else {
            return More::Go;
        };
        let (terms, answers) = (bill.quote.at(tariff), bill.quote.answers);
        let completion = self.learned().completion().tokens(content_bytes);
        // One chunk more may come before this is asked again, and tokens are guessed.
        let ahead = STEP.max(completion / 8);
        let cost = |tokens: u64| terms.cost(tokens.div_ceil(answers)).unwrap_or(Nanos::MAX);
        let held = bill.hold.amount();
        if cost(completion + ahead / 2) <= held {
            return More::Go;
        }
        let missing = |wanted: Nanos| Nanos::new(wanted.get().saturating_sub(held.get()));
        let little = cost(completion + 1);
        if bill.hold.grow(missing(cost(completion + 2 * ahead))) || little <= held || bill.hold.grow(missing(little)) {
            return More::Go;
        }
        // The text that could not be paid for is not sent, and not charged.
        let paid = terms.tokens(held).unwrap_or(0).saturating_mul(answers);
        More::Stop(self.estimate(completion.min(paid).max(1)))
    }
}

impl Settle {
    fn learned(&self) -> &Learned {
        &self.candidate.served.learned
    }

    /// What the next request of the kind is told by this one.
    fn learn(&self, outcome: &Outcome) {
        self.learned().learn(self.prompt_bytes, outcome);
        let whole = outcome.end == End::Complete && outcome.status.is_some_and(|status| status.is_success());
        // A stream that was cut short has not come to where its usage would be.
        if whole && !outcome.cut_short && self.candidate.call.endpoint.completes() {
            self.candidate.way().learn(self.streamed, outcome.reported());
        }
    }

    /// What was used and whether that is an estimate: the backend's word, or where it gave none an estimate that is never
    /// nothing.
    fn used(&self, outcome: &Outcome) -> Option<(Usage, bool)> {
        if let Some(usage) = outcome.usage {
            return Some((usage, !outcome.reported()));
        }
        let silent = outcome.content_bytes == 0 && !outcome.saw_finish_reason;
        // The time may be over while the backend is still being connected to.
        let is_sent = self.candidate.sent.is_sent();
        let completion = match (outcome.status, outcome.end) {
            // Nobody waited any longer: the backend has read the prompt all the same.
            (None, End::Disconnected) if is_sent => 0,
            (_, End::Refused(Reason::TotalTimeout) | End::Failed(Reason::TotalTimeout)) if silent && is_sent => 0,
            // It failed before it said anything: the client gets nothing of it, and perhaps another's answer.
            (_, End::Failed(_)) if silent => return None,
            (Some(status), _) if status.is_success() && self.candidate.call.endpoint.completes() => {
                self.learned().completion().tokens(outcome.content_bytes)
            }
            (Some(status), _) if status.is_success() => 0,
            // A backend that answered with an error, or not at all, has used nothing that it told of.
            _ => return None,
        };
        Some((self.estimate(completion), true))
    }

    fn estimate(&self, completion: u64) -> Usage {
        let mut usage = Usage::default();
        usage.prompt = self.learned().prompt().tokens(self.prompt_bytes);
        usage.completion = completion;
        usage.total = usage.prompt + completion;
        usage
    }

    /// Accounts for what a tokenizer makes of the answer's text; where it could not keep up, for the estimate. It is done
    /// where the tokens are counted, whether or not a client still waits.
    fn account_counted(self, counted: Counted, mut usage: Usage, outcome: Outcome) -> Settled {
        let charged = self.candidate.call.bill.is_some();
        let lifecycle = self.candidate.served.lifecycle.clone();
        let failpoints = lifecycle.failpoints().clone();
        let (told, settled) = oneshot::channel();
        when_counted(counted, &lifecycle, move |count| {
            if let Some(count) = count {
                usage.completion = count.max(1);
                usage.total = usage.prompt + usage.completion;
                self.learned().completion().learn(outcome.content_bytes, count);
            }
            // Nobody may be there any more to be told.
            let _ = told.send(self.account(&usage, true, &outcome));
        });
        if !charged {
            return Settled::done();
        }
        Settled::after(async move {
            failpoint::at!(failpoints, CountWait)?;
            match settled.await {
                Ok(settled) => settled.await,
                Err(_) => Err(internal("count")),
            }
        })
    }

    /// Corrects what was taken of the limits, writes it down and charges it.
    fn account(&self, usage: &Usage, estimated: bool, outcome: &Outcome) -> Settled {
        let call = &self.candidate.call;
        if let Some(reserved) = &call.tokens {
            reserved.settle(usage.prompt + usage.completion);
        }
        let tokens = tokens(usage, estimated);
        self.candidate.spent.set(tokens, self.is_shortened(&tokens, outcome));
        call.record.note(|facts| facts.tokens = Some(tokens));
        match &call.bill {
            Some(bill) => self.charge(bill, usage, outcome),
            None => Settled::done(),
        }
    }

    /// Whether the answer ended, or is likely to have ended, where credit did and not where client or model had it end.
    fn is_shortened(&self, tokens: &Tokens, outcome: &Outcome) -> bool {
        let allowed = self.candidate.served.config.max_output.map(std::num::NonZero::get);
        let stated = self.cap_asked.into_iter().chain(allowed).min();
        let ours = self
            .candidate
            .paid
            .filter(|paid| stated.is_none_or(|stated| *paid < stated));
        let most = if tokens.estimated {
            tokens.completion.saturating_mul(VAGUE)
        } else {
            tokens.completion
        };
        outcome.cut_short || ours.is_some_and(|cap| most >= cap)
    }
}

fn tokens(usage: &Usage, estimated: bool) -> Tokens {
    Tokens {
        prompt: usage.prompt,
        cached: usage.cached,
        completion: usage.completion,
        reasoning: usage.reasoning,
        estimated,
    }
}
