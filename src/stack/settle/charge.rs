//! Taking the money for an answer, and having its row written down before the answer is complete.

use std::sync::Arc;

use tollgate_layers::Reason;
use tollgate_layers::meter::{End, Outcome, Settled, Usage};

use super::super::credit::Bill;
use super::Settle;
use crate::failpoint;
use crate::ledger;
use crate::money::Nanos;
use crate::store::{Row, RowAttempt};
use crate::telemetry::Facts;
use crate::wiring::row;

impl Settle {
    /// Takes the money, and has it written down before the answer is complete.
    pub(super) fn charge(&self, bill: &Bill, usage: &Usage, outcome: &Outcome) -> Settled {
        let served = &self.candidate.served;
        let cost = served
            .tariff
            .as_ref()
            .map_or(Ok(Nanos::ZERO), |t| bill.quote.charge(t, *usage));
        let cost = cost.unwrap_or_else(|error| {
            // What was set aside is what was agreed to.
            tracing::error!(model = &*served.config.name, %error, "an answer cannot be charged as it was used");
            bill.hold.amount()
        });
        let Some(taken) = bill.hold.settle(cost) else {
            return Settled::done();
        };
        let positive = |money: Nanos| u64::try_from(money.get()).unwrap_or(0);
        let mut committed = None;
        let record = &self.candidate.call.record;
        let elapsed = row::millis(record.elapsed());
        record.note(|known| {
            known.charge = Some(positive(taken.charge));
            known.written_off = positive(taken.written_off);
            let row = Row {
                total_ms: elapsed,
                ..self.row(bill, known, usage, &taken, outcome)
            };
            committed = Some(bill.ledger.write(&row));
        });
        let Some(committed) = committed else {
            return Settled::done();
        };
        let failpoints = bill.ledger.failpoints().clone();
        Settled::after(async move {
            failpoint::at!(failpoints, CommitWait)?;
            committed.await.map_err(|error| {
                tracing::error!(%error, "a charge is not durable: the answer is not completed");
                Reason::LedgerFull.into()
            })
        })
    }

    fn row<'a>(
        &'a self,
        bill: &Bill,
        facts: &'a Facts,
        usage: &Usage,
        taken: &ledger::Settled,
        outcome: &Outcome,
    ) -> Row<&'a str> {
        let served = &self.candidate.served;
        let mut row = row::row(bill.account, bill.key, facts);
        if let Some(status) = outcome.status {
            row.status = status.as_u16();
            let backend = &*self.candidate.backend().config.name;
            let told = row.attempts.last();
            // The last attempt is told of when its answer is handed on, which may come later than this.
            if told.is_none_or(|told| told.backend != backend || told.status != Some(row.status)) {
                row.attempts.push(RowAttempt {
                    backend,
                    status: Some(row.status),
                    ms: row::millis(outcome.elapsed),
                });
            }
        }
        if !Arc::ptr_eq(served, &self.candidate.call.model) {
            row.served = Some(&served.config.name);
        }
        row.tokens = row::tokens(usage);
        row.bytes_out = outcome.bytes_out;
        row.first_ms = row.first_ms.or(outcome.first_byte.map(row::millis));
        row.price = Some(&served.price_text);
        row.charge = taken.charge;
        row.written_off = taken.written_off;
        row.period_start = taken.period_start;
        row.cap_asked = self.cap_asked;
        row.cap_applied = self.candidate.paid;
        row.disconnected = outcome.end == End::Disconnected;
        row.cut_short = outcome.cut_short;
        row
    }
}
