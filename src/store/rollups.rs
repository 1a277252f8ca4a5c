//! Hourly sums of usage: trends are read from them alone.

use std::collections::BTreeMap;

use super::bulk::Bulk;
use super::bulk::Kind::{Int, Text};
use super::bundle::Settled;
use super::filter::Wanted;
use super::line::Mark;
use super::session::Tx;
use super::value::values;
use super::{Day, Id, Millis, Result, RowTokens, UsageBy, UsageFilter, UsageSum};
use crate::money::Nanos;

const HOUR: i64 = 3_600_000;
/// The most sums of one answer: a year by hour and more.
const MOST: i64 = 10_000;

static ADD: Bulk = Bulk::new(
    &[
        Int, Int, Text, Text, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int,
    ],
    "INSERT INTO rollups (key, hour, model, grp, account, requests, failed, prompt, cached, cache_write, completion,
     reasoning, audio_input, audio_output, charge, written_off) ",
    " ON CONFLICT (key, hour, model, grp) DO UPDATE SET requests = rollups.requests + excluded.requests,
     failed = rollups.failed + excluded.failed, prompt = rollups.prompt + excluded.prompt,
     cached = rollups.cached + excluded.cached, cache_write = rollups.cache_write + excluded.cache_write,
     completion = rollups.completion + excluded.completion, reasoning = rollups.reasoning + excluded.reasoning,
     audio_input = rollups.audio_input + excluded.audio_input,
     audio_output = rollups.audio_output + excluded.audio_output, charge = rollups.charge + excluded.charge,
     written_off = rollups.written_off + excluded.written_off",
);

/// Key, hour, model, group.
type Cell<'a> = (Id, i64, &'a str, &'a str);

/// What rows sum up to.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    requests: u64,
    failed: u64,
    tokens: RowTokens,
    charge: i64,
    written_off: i64,
}

/// The hour that a moment falls into, counted from 1970.
pub(super) const fn hour(time: Millis) -> i64 {
    time.0.div_euclid(HOUR)
}

/// Adds rows to the sums.
pub(super) async fn add(tx: &mut Tx, settled: &Settled<'_>) -> Result<()> {
    // Ordered, so that two processes lock the same cells in one order.
    let mut cells = BTreeMap::<Cell<'_>, (Id, Sum)>::new();
    for of in settled.of_heads() {
        let head = &of.head;
        for (hour, unknown_model, sum) in &of.hours {
            // A name that is no model's is the client's own, and may be any: those have one sum.
            let model = if *unknown_model { "" } else { &head.model };
            let cell = (head.key, *hour, model, head.group.as_str());
            let (_, all) = cells.entry(cell).or_insert((head.account, Sum::default()));
            *all = all.with(sum);
        }
    }
    let cells: Vec<_> = cells.into_iter().collect();
    let write = ADD.run(tx, &cells, |((key, hour, model, group), (account, sum)), values| {
        let t = sum.tokens;
        values.extend(values![*key, *hour, *model, *group, *account, sum.requests, sum.failed]);
        values.extend(values![t.prompt, t.cached, t.cache_write, t.completion, t.reasoning]);
        values.extend(values![t.audio_input, t.audio_output, sum.charge, sum.written_off]);
    });
    write.await.map(drop)
}

impl Sum {
    /// One row more.
    pub(super) fn add(&mut self, mark: &Mark, charge: Nanos, written_off: Nanos) {
        *self = self.with(&Self {
            requests: 1,
            failed: mark.failed.into(),
            tokens: mark.tokens,
            charge: charge.get(),
            written_off: written_off.get(),
        });
    }

    const fn with(&self, other: &Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            failed: self.failed + other.failed,
            tokens: added(self.tokens, other.tokens),
            charge: self.charge.saturating_add(other.charge),
            written_off: self.written_off.saturating_add(other.written_off),
        }
    }
}

const fn added(a: RowTokens, b: RowTokens) -> RowTokens {
    RowTokens {
        prompt: a.prompt.saturating_add(b.prompt),
        cached: a.cached.saturating_add(b.cached),
        cache_write: a.cache_write.saturating_add(b.cache_write),
        completion: a.completion.saturating_add(b.completion),
        reasoning: a.reasoning.saturating_add(b.reasoning),
        audio_input: a.audio_input.saturating_add(b.audio_input),
        audio_output: a.audio_output.saturating_add(b.audio_output),
    }
}

/// Sums of the hours that a filter lets through; where they are too many, the last ones.
pub(super) async fn sums(tx: &mut Tx, filter: &UsageFilter, by: UsageBy) -> Result<Vec<UsageSum>> {
    let mut wanted = Wanted::new(values![MOST]);
    wanted.hours(filter);
    let expression = match by {
        UsageBy::Hour => "hour",
        UsageBy::Day => "hour / 24",
        UsageBy::Model => "model",
        UsageBy::Key => "key",
        UsageBy::Account => "account",
        UsageBy::Group => "grp",
    };
    let columns = [
        "requests",
        "failed",
        "prompt",
        "cached",
        "cache_write",
        "completion",
        "reasoning",
        "audio_input",
        "audio_output",
        "charge",
        "written_off",
    ];
    let columns = columns
        .map(|column| format!("CAST(SUM({column}) AS BIGINT)"))
        .join(", ");
    let Wanted { sql, values } = wanted;
    let sql = format!(
        "SELECT {expression}, {columns} FROM rollups WHERE requests > 0{sql} GROUP BY 1 ORDER BY 1 DESC LIMIT $1"
    );
    let mut sums = Vec::new();
    for mut row in tx.rows(&sql, values).await? {
        let name = match by {
            UsageBy::Hour => Millis(row.next::<i64>()? * HOUR).0.to_string(),
            UsageBy::Day => row.next::<Day>()?.start().0.to_string(),
            UsageBy::Key | UsageBy::Account => row.next::<Id>()?.to_string(),
            UsageBy::Model | UsageBy::Group => row.next()?,
        };
        sums.push(UsageSum {
            by: name,
            requests: row.next()?,
            failed: row.next()?,
            tokens: RowTokens {
                prompt: row.next()?,
                cached: row.next()?,
                cache_write: row.next()?,
                completion: row.next()?,
                reasoning: row.next()?,
                audio_input: row.next()?,
                audio_output: row.next()?,
            },
            charge: row.next()?,
            written_off: row.next()?,
        });
    }
    // A database sorts texts as its locale says; here they come as their bytes do. Times are of one length.
    sums.reverse();
    if matches!(by, UsageBy::Model | UsageBy::Group) {
        sums.sort_by(|a, b| a.by.cmp(&b.by));
    }
    Ok(sums)
}
