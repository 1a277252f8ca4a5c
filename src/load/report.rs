//! The figures.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::LoadArgs;
use super::request::Outcome;

/// What has been seen so far.
pub(super) struct Tally(Mutex<Seen>);

struct Seen {
    sent: u64,
    skipped: u64,
    ok: u64,
    answered: u64,
    status: BTreeMap<u16, u64>,
    errors: BTreeMap<&'static str, u64>,
    prompt_tokens: u64,
    completion_tokens: u64,
    latency: Histogram<u64>,
    first_token: Histogram<u64>,
    gaps: Histogram<u64>,
}

/// The report, as `--json` prints it. Times are in milliseconds; those of failed requests are left out.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    url: String,
    model: String,
    stream: bool,
    /// Requests a second asked for, in an open loop.
    rate: Option<f64>,
    seconds: f64,
    sent: u64,
    /// Answered in full with a 2xx.
    ok: u64,
    /// Due, and not sent, because too many were in flight.
    skipped: u64,
    ok_per_second: f64,
    status: BTreeMap<u16, u64>,
    errors: BTreeMap<&'static str, u64>,
    tokens: Tokens,
    latency_ms: Option<Quantiles>,
    time_to_first_token_ms: Option<Quantiles>,
    inter_token_latency_ms: Option<Quantiles>,
}

#[derive(Debug, Serialize)]
struct Tokens {
    prompt: u64,
    completion: u64,
    completion_per_second: f64,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

// === impl Tally ===

impl Tally {
    pub(super) fn new() -> Self {
        // A microsecond to four hours, at three significant digits.
        let histogram =
            || Histogram::new_with_bounds(1, 4 * 3600 * 1_000_000, 3).expect("these bounds are in order and in range");
        Self(Mutex::new(Seen {
            sent: 0,
            skipped: 0,
            ok: 0,
            answered: 0,
            status: BTreeMap::new(),
            errors: BTreeMap::new(),
            prompt_tokens: 0,
            completion_tokens: 0,
            latency: histogram(),
            first_token: histogram(),
            gaps: histogram(),
        }))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sent(&self) {
        self.seen().sent += 1;
    }

    pub(super) fn skip(&self) {
        self.seen().skipped += 1;
    }

    /// Requests sent, and those of them that have ended.
    pub(super) fn so_far(&self) -> (u64, u64) {
        let seen = self.seen();
        (seen.sent, seen.answered)
    }

    pub(super) fn note(&self, outcome: Outcome) {
        let ok = outcome.is_ok();
        let mut seen = self.seen();
        seen.answered += 1;
        seen.prompt_tokens += outcome.prompt_tokens;
        seen.completion_tokens += outcome.completion_tokens;
        if let Some(status) = outcome.status {
            *seen.status.entry(status.as_u16()).or_default() += 1;
        }
        if let Some(error) = outcome.error {
            *seen.errors.entry(error).or_default() += 1;
        }
        if !ok {
            return;
        }
        seen.ok += 1;
        seen.latency.saturating_record(micros(outcome.latency));
        if let Some(first) = outcome.first_token {
            seen.first_token.saturating_record(micros(first));
        }
        for gap in outcome.gaps {
            seen.gaps.saturating_record(micros(gap));
        }
    }

    pub(super) fn report(&self, args: &LoadArgs, took: Duration) -> Report {
        let seen = self.seen();
        let seconds = took.as_secs_f64();
        let per_second = |count: u64| if seconds > 0.0 { float(count) / seconds } else { 0.0 };
        Report {
            url: args.url.clone(),
            model: args.model.clone(),
            stream: args.stream,
            rate: args.rate,
            seconds,
            sent: seen.sent,
            ok: seen.ok,
            skipped: seen.skipped,
            ok_per_second: per_second(seen.ok),
            status: seen.status.clone(),
            errors: seen.errors.clone(),
            tokens: Tokens {
                prompt: seen.prompt_tokens,
                completion: seen.completion_tokens,
                completion_per_second: per_second(seen.completion_tokens),
            },
            latency_ms: Quantiles::of(&seen.latency),
            time_to_first_token_ms: Quantiles::of(&seen.first_token),
            inter_token_latency_ms: Quantiles::of(&seen.gaps),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "counts and microseconds stay far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

// === impl Quantiles ===

impl Quantiles {
    /// None when nothing was recorded.
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| float(histogram.value_at_quantile(quantile)) / 1000.0;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: float(histogram.max()) / 1000.0,
        })
    }
}

// === impl Report ===

impl Report {
    pub(super) fn any_ok(&self) -> bool {
        self.ok > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} requests sent in {:.1} s, {} answered in full",
            self.sent, self.seconds, self.ok
        )?;
        if self.skipped > 0 {
            writeln!(
                f,
                "{} more were due and not sent: too many were in flight",
                self.skipped
            )?;
        }
        writeln!(f, "  answered in full    {:.1} a second", self.ok_per_second)?;
        let tokens = &self.tokens;
        writeln!(
            f,
            "  tokens              {} in, {} out",
            tokens.prompt, tokens.completion
        )?;
        writeln!(f, "  tokens out          {:.1} a second", tokens.completion_per_second)?;
        for (status, count) in &self.status {
            writeln!(f, "  status {status}          {count}")?;
        }
        for (error, count) in &self.errors {
            writeln!(f, "  {error:<18}  {count}")?;
        }
        let rows = [
            ("latency", &self.latency_ms),
            ("time to first token", &self.time_to_first_token_ms),
            ("inter-token latency", &self.inter_token_latency_ms),
        ];
        writeln!(
            f,
            "  {:<20} {:>10} {:>10} {:>10} {:>10}",
            "milliseconds", "p50", "p90", "p99", "max"
        )?;
        for (name, quantiles) in rows {
            if let Some(Quantiles { p50, p90, p99, max }) = quantiles {
                writeln!(f, "  {name:<20} {p50:>10.2} {p90:>10.2} {p99:>10.2} {max:>10.2}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn quantiles_are_those_of_the_requests_that_ended_well() {
        let tally = Tally::new();
        for millis in 1..=100 {
            let latency = Duration::from_millis(millis);
            tally.sent();
            tally.note(Outcome {
                status: Some(StatusCode::OK),
                latency,
                completion_tokens: 2,
                ..Outcome::default()
            });
        }
        let latency = Duration::from_secs(9);
        tally.note(Outcome {
            status: Some(StatusCode::TOO_MANY_REQUESTS),
            latency,
            ..Outcome::default()
        });
        tally.note(Outcome {
            status: Some(StatusCode::OK),
            error: Some("timeout"),
            latency,
            ..Outcome::default()
        });

        let seen = tally.seen();
        let quantiles = Quantiles::of(&seen.latency).expect("some were recorded");
        for (seen, wanted) in [
            (quantiles.p50, 50.0),
            (quantiles.p90, 90.0),
            (quantiles.p99, 99.0),
            (quantiles.max, 100.0),
        ] {
            assert!((seen - wanted).abs() <= wanted / 1000.0, "{seen} is not {wanted}");
        }
        assert_eq!((seen.ok, seen.answered, seen.completion_tokens), (100, 102, 200));
        assert_eq!(
            (seen.status[&200], seen.status[&429], seen.errors["timeout"]),
            (101, 1, 1)
        );
        assert!(Quantiles::of(&seen.gaps).is_none());
    }
}
