//! A request's facts as a usage row.

use std::time::Duration;

use tollgate_layers::meter::Usage;

use crate::money::Nanos;
use crate::store::{Id, Millis, Row, RowAttempt, RowTokens};
use crate::telemetry::{Attempt, End, Facts};

/// The row of a request with these facts, which cost nothing so far. The ledger gives it its id.
pub fn row(account: Id, key: Id, facts: &Facts) -> Row<&str> {
    let tokens = facts.tokens.unwrap_or_default();
    Row {
        id: Id::default(),
        time: Millis::from(facts.time),
        request_id: &facts.request_id,
        account,
        key,
        group: facts.group.as_deref().unwrap_or_default(),
        endpoint: facts.endpoint.unwrap_or_default(),
        // Whoever mistyped a name is helped by seeing it.
        model: facts
            .model
            .as_deref()
            .or(facts.unknown_model.as_deref())
            .unwrap_or_default(),
        served: facts.served.as_deref(),
        attempts: facts.attempts.iter().map(attempt).collect(),
        status: facts.status,
        reason: facts.reason,
        streamed: facts.streamed,
        tokens: RowTokens {
            prompt: tokens.prompt,
            cached: tokens.cached,
            completion: tokens.completion,
            reasoning: tokens.reasoning,
            ..RowTokens::default()
        },
        bytes_in: facts.bytes_in,
        bytes_out: facts.bytes_out,
        first_ms: facts.first_byte.map(millis),
        total_ms: millis(facts.elapsed),
        price: None,
        charge: Nanos::ZERO,
        written_off: Nanos::ZERO,
        period_start: None,
        cap_asked: None,
        cap_applied: None,
        estimated: tokens.estimated,
        disconnected: facts.end == End::Disconnected,
        cut_short: false,
        from_cache: facts.cached,
        ip: facts.ip,
        tag: facts.tag.as_deref(),
        user: facts.user.as_deref(),
        backend_request_id: facts.backend_request_id.as_deref(),
    }
}

/// Each kind of token of a report.
pub fn tokens(usage: &Usage) -> RowTokens {
    RowTokens {
        prompt: usage.prompt,
        cached: usage.cached,
        cache_write: usage.cache_write,
        completion: usage.completion,
        reasoning: usage.reasoning,
        audio_input: usage.audio_input,
        audio_output: usage.audio_output,
    }
}

fn attempt(attempt: &Attempt) -> RowAttempt<&str> {
    RowAttempt {
        backend: &attempt.backend,
        status: attempt.status,
        ms: millis(attempt.elapsed),
    }
}

/// Whole milliseconds.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use http::Method;

    use super::*;
    use crate::store::{Draft, Lines};
    use crate::telemetry::{Record, Telemetry};

    #[test]
    fn a_row_reads_back_as_it_was_written() {
        let record = Record::new(Telemetry::new(None), Method::POST, "/v1/chat/completions", "id-1");
        record.note(|facts| {
            facts.ip = Some("::1".parse().unwrap());
            facts.attempts.push(Attempt {
                backend: "main".into(),
                status: Some(200),
                reason: None,
                elapsed: Duration::from_millis(3),
            });
            let mut row = row(Id::new(2 << 40), Id::new(3 << 40), facts);
            row.charge = Nanos::new(i64::MAX);
            row.period_start = Some(Millis(1));
            row.tokens.prompt = u64::MAX;
            let mut lines = Lines::default();
            lines.push(&Draft::of(&row), Id::new(1 << 40));
            let (read, bad) = Lines::read(lines.text());
            assert!(bad.is_empty(), "{bad:?}");
            assert_eq!(read.text(), lines.text());
            let line = read.all().next().unwrap();
            assert_eq!((line.id(), line.charge()), (Id::new(1 << 40), row.charge));
        });
    }
}
