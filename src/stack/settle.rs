//! What is done with what an answer has used.

use std::sync::Arc;

use http::Request;
use tollgate_layers::Reason;
use tollgate_layers::buffer::Held;
use tollgate_layers::meter::{End, Learned, Outcome, Plan, Sink, Terminal};
use tollgate_layers::model::ModelRequest;

use super::attempt::{Call, Candidate};
use crate::dialect::openai::StreamEnd;
use crate::proxy::Sent;
use crate::telemetry::Tokens;

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
        call: call.clone(),
        learned: Arc::clone(&candidate.served.learned),
        prompt_bytes: asked.body_len as u64,
        sent: candidate.sent.clone(),
    };
    Some(Plan::new(settle).strip(strip).expect(terminal))
}

/// Writes the outcome of one attempt down.
#[derive(Debug)]
pub(super) struct Settle {
    call: Call,
    /// What is known of the tokens of the model that answers.
    learned: Arc<Learned>,
    /// Bytes of the request, to estimate the prompt from.
    prompt_bytes: u64,
    sent: Sent,
}

impl Sink for Settle {
    fn settle(self, outcome: Outcome) {
        let tokens = self.tokens(&outcome);
        self.learned.learn(self.prompt_bytes, &outcome);
        if outcome.end == End::Disconnected
            && !self.sent.is_sent()
            && let Some(reserved) = &self.call.tokens
        {
            // The client left while the backend was still being connected to.
            reserved.cancel();
        }
        if let (Some(used), Some(reserved)) = (tokens, &self.call.tokens) {
            reserved.settle(used.prompt + used.completion);
        }
        self.call.record.note(|facts| {
            facts.tokens = tokens.or(facts.tokens);
            if let End::Failed(reason) = outcome.end {
                facts.reason = Some(reason.as_str());
            }
        });
    }
}

impl Settle {
    /// What was used: the backend's word, or where it gave none an estimate that is never nothing.
    fn tokens(&self, outcome: &Outcome) -> Option<Tokens> {
        if let Some(usage) = outcome.usage {
            return Some(Tokens {
                prompt: usage.prompt,
                cached: usage.cached,
                completion: usage.completion,
                reasoning: usage.reasoning,
                estimated: false,
            });
        }
        let silent = outcome.content_bytes == 0 && !outcome.saw_finish_reason;
        let completion = match (outcome.status, outcome.end) {
            // Nobody waited any longer: the backend has read the prompt all the same.
            (None, End::Disconnected) if self.sent.is_sent() => 0,
            (_, End::Refused(Reason::TotalTimeout) | End::Failed(Reason::TotalTimeout)) if silent => 0,
            // It failed before it said anything: the client gets nothing of it, and perhaps another's answer.
            (_, End::Failed(_)) if silent => return None,
            (Some(status), _) if status.is_success() && self.call.endpoint.completes() => {
                self.learned.completion().tokens(outcome.content_bytes)
            }
            (Some(status), _) if status.is_success() => 0,
            // A backend that answered with an error, or not at all, has used nothing that it told of.
            _ => return None,
        };
        Some(Tokens {
            prompt: self.learned.prompt().tokens(self.prompt_bytes),
            completion,
            estimated: true,
            ..Tokens::default()
        })
    }
}
