//! Hourly sums of usage: trends are read from them alone.

use std::collections::BTreeMap;

use super::bulk::Bulk;
use super::bulk::Kind::{Int, Text};
use super::filter::Wanted;
use super::rows::Settled;
use super::session::Tx;
use super::value::values;
use super::{Day, Id, Millis, Result, Row, RowTokens, UsageBy, UsageFilter, UsageSum};

const HOUR: i64 = 3_600_000;
/// Why a row has no model of ours.
const NO_MODEL: &str = "model_not_found";
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

struct Sum {
    account: Id,
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

/// A name that is no model's is the client's own, and may be any: those have one sum.
fn model(row: &Row) -> &str {
    if row.reason.as_deref() == Some(NO_MODEL) {
        ""
    } else {
        &row.model
    }
}

/// Adds rows to the sums.
pub(super) async fn add(tx: &mut Tx, rows: &[Settled<'_>]) -> Result<()> {
    // Ordered, so that two processes lock the same cells in one order.
    let mut cells = BTreeMap::<Cell<'_>, Sum>::new();
    for settled in rows {
        let row = settled.row;
        let cell = (row.key, hour(row.time), model(row), row.group.as_str());
        let sum = cells.entry(cell).or_insert_with(|| Sum::of(row.account));
        sum.requests += 1;
        sum.failed += u64::from(row.status >= 400 || row.reason.is_some());
        sum.tokens = added(sum.tokens, row.tokens);
        sum.charge = sum.charge.saturating_add(settled.charge.get());
        sum.written_off = sum.written_off.saturating_add(settled.written_off.get());
    }
    let cells: Vec<_> = cells.into_iter().collect();
    let write = ADD.run(tx, &cells, |((key, hour, model, group), sum), values| {
        let t = sum.tokens;
        values.extend(values![
            *key,
            *hour,
            *model,
            *group,
            sum.account,
            sum.requests,
            sum.failed
        ]);
        values.extend(values![t.prompt, t.cached, t.cache_write, t.completion, t.reasoning]);
        values.extend(values![t.audio_input, t.audio_output, sum.charge, sum.written_off]);
    });
    write.await.map(drop)
}

impl Sum {
    const fn of(account: Id) -> Self {
        Self {
            account,
            requests: 0,
            failed: 0,
            tokens: RowTokens {
                prompt: 0,
                cached: 0,
                cache_write: 0,
                completion: 0,
                reasoning: 0,
                audio_input: 0,
                audio_output: 0,
            },
            charge: 0,
            written_off: 0,
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
