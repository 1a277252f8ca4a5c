//! Usage rows.

use std::ops::RangeInclusive;

use super::bulk::Bulk;
use super::filter::Wanted;
use super::rollups::hour;
use super::session::{self, Tx};
use super::value::{Value, json, parsed, values};
use super::{Day, Id, Millis, Page, Result, Row, RowAttempt, RowTokens, UsageFilter, accounts, meta};
use crate::money::Nanos;

/// Every column but `day` and `lookup`, in the order that [`read`] reads and, after these two, [`cells`] writes.
macro_rules! columns {
    () => {
        "id, time, account, key, charge, written_off, period_start, status, flags, prompt, cached, cache_write, \
         completion, reasoning, audio_input, audio_output, bytes_in, bytes_out, first_ms, total_ms, cap_asked, \
         cap_applied, request_id, grp, endpoint, model, served, attempts, reason, price, ip, tag, usr, \
         backend_request_id"
    };
}

static INSERT: Bulk = Bulk::new(
    36,
    concat!("INSERT INTO usage (day, lookup, ", columns!(), ") VALUES "),
    " ON CONFLICT (id) DO NOTHING",
);

/// A row with what became of its charge.
pub(super) struct Settled<'a> {
    pub(super) row: &'a Row,
    /// The attempts as JSON; absent: none.
    pub(super) attempts: Option<String>,
    pub(super) charge: Nanos,
    pub(super) written_off: Nanos,
    pub(super) day: Day,
}

/// Writes those that are not there yet; how many.
pub(super) async fn insert(tx: &mut Tx, rows: &[Settled<'_>]) -> Result<u64> {
    INSERT.run(tx, rows, cells).await
}

/// Attempts as a short JSON text.
pub(super) fn attempts(row: &Row) -> Result<Option<String>> {
    if row.attempts.is_empty() {
        return Ok(None);
    }
    let short: Vec<_> = row.attempts.iter().map(|a| (&a.backend, a.status, a.ms)).collect();
    json(&short).map(Some)
}

fn cells<'a>(settled: &'a Settled<'_>, values: &mut Vec<Value<'a>>) {
    let Settled {
        row,
        attempts,
        charge,
        written_off,
        day,
    } = settled;
    let tokens = &row.tokens;
    values.extend(values![
        *day,
        lookup(hour(row.time), &row.request_id),
        row.id,
        row.time,
        row.account,
        row.key,
        *charge,
        *written_off,
        row.period_start
    ]);
    values.extend(values![
        i64::from(row.status),
        flags(row),
        tokens.prompt,
        tokens.cached,
        tokens.cache_write
    ]);
    values.extend(values![
        tokens.completion,
        tokens.reasoning,
        tokens.audio_input,
        tokens.audio_output
    ]);
    values.extend(values![
        row.bytes_in,
        row.bytes_out,
        row.first_ms,
        row.total_ms,
        row.cap_asked,
        row.cap_applied
    ]);
    values.extend(values![
        &row.request_id,
        &row.group,
        &row.endpoint,
        &row.model,
        &row.served,
        attempts
    ]);
    let ip = row.ip.map(|ip| ip.to_string());
    values.extend(values![
        &row.reason,
        &row.price,
        ip,
        &row.tag,
        &row.user,
        &row.backend_request_id
    ]);
}

fn flags(row: &Row) -> i64 {
    let flags = [
        row.streamed,
        row.estimated,
        row.disconnected,
        row.cut_short,
        row.from_cache,
    ];
    flags
        .into_iter()
        .enumerate()
        .map(|(bit, set)| i64::from(set) << bit)
        .sum()
}

fn read(mut row: session::Row) -> Result<Row> {
    let (id, time, account, key) = (row.next()?, row.next()?, row.next()?, row.next()?);
    let (charge, written_off, period_start) = (row.next()?, row.next()?, row.next()?);
    let (status, flags) = (row.next::<i64>()?, row.next::<i64>()?);
    let tokens = RowTokens {
        prompt: row.next()?,
        cached: row.next()?,
        cache_write: row.next()?,
        completion: row.next()?,
        reasoning: row.next()?,
        audio_input: row.next()?,
        audio_output: row.next()?,
    };
    let (bytes_in, bytes_out, first_ms, total_ms) = (row.next()?, row.next()?, row.next()?, row.next()?);
    let (cap_asked, cap_applied) = (row.next()?, row.next()?);
    Ok(Row {
        id,
        time,
        account,
        key,
        charge,
        written_off,
        period_start,
        status: u16::try_from(status).unwrap_or(0),
        streamed: flags & 1 != 0,
        estimated: flags & 2 != 0,
        disconnected: flags & 4 != 0,
        cut_short: flags & 8 != 0,
        from_cache: flags & 16 != 0,
        tokens,
        bytes_in,
        bytes_out,
        first_ms,
        total_ms,
        cap_asked,
        cap_applied,
        request_id: row.next()?,
        group: row.next()?,
        endpoint: row.next()?,
        model: row.next()?,
        served: row.next()?,
        attempts: read_attempts(row.next()?)?,
        reason: row.next()?,
        price: row.next()?,
        ip: row.next::<Option<String>>()?.and_then(|ip| ip.parse().ok()),
        tag: row.next()?,
        user: row.next()?,
        backend_request_id: row.next()?,
    })
}

fn read_attempts(text: Option<String>) -> Result<Vec<RowAttempt>> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let short: Vec<(String, Option<u16>, u64)> = parsed(&text)?;
    let long = short
        .into_iter()
        .map(|(backend, status, ms)| RowAttempt { backend, status, ms });
    Ok(long.collect())
}

/// A page of those that a filter lets through.
pub(super) async fn list(tx: &mut Tx, filter: &UsageFilter, page: Page) -> Result<Vec<Row>> {
    let (before, limit) = accounts::bounds(page);
    let mut wanted = Wanted::new(values![before, limit]);
    wanted.rows(filter);
    if let Some(request) = &filter.request_id {
        let hours = hours(tx, filter).await?;
        wanted.and_among("lookup", tx, hours.map(|hour| lookup(hour, request)));
    }
    let Wanted { sql, values } = wanted;
    let sql = format!(
        "SELECT {} FROM usage WHERE id < $1{sql} ORDER BY id DESC LIMIT $2",
        columns!()
    );
    tx.rows(&sql, values).await?.into_iter().map(read).collect()
}

/// The hours that may have rows.
async fn hours(tx: &mut Tx, filter: &UsageFilter) -> Result<RangeInclusive<i64>> {
    let sql = "SELECT (SELECT MIN(hour) FROM rollups), (SELECT MAX(hour) FROM rollups)";
    let mut row = tx.one(sql, values![]).await?;
    let (first, last): (Option<i64>, Option<i64>) = (row.next()?, row.next()?);
    let first = first.unwrap_or(1).max(filter.since.map_or(i64::MIN, hour));
    let last = last.unwrap_or(0).min(filter.until.map_or(i64::MAX, hour));
    Ok(first..=last)
}

/// Where the row of a request lies: its hour, then FNV-1a of its id in 32 bits
/// (<http://www.isthe.com/chongo/tech/comp/fnv/>). An index of the ids themselves would be written all over.
fn lookup(hour: i64, request: &str) -> i64 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = request.bytes().fold(0x811c_9dc5, step);
    (hour << 32) | i64::from(hash)
}

/// Which of these are there.
pub(super) async fn known(tx: &mut Tx, rows: &[Row]) -> Result<Vec<Id>> {
    let sql = format!("SELECT id FROM usage WHERE id {}", tx.among());
    let list = tx.list(rows.iter().map(|row| row.id.get()));
    let found = tx.rows(&sql, vec![list]).await?;
    found.into_iter().map(|mut row| row.next()).collect()
}

/// Deletes old ones of closed days.
pub(super) async fn prune(tx: &mut Tx, before: Millis, most: u32) -> Result<u64> {
    let open = meta::open_day(tx).await?;
    let end = Day(before.day().0.saturating_add(1)).min(open);
    let sql = "DELETE FROM usage WHERE id IN
        (SELECT id FROM usage WHERE day < $1 AND time < $2 ORDER BY day LIMIT $3)";
    tx.run(sql, values![end, before, i64::from(most)]).await
}
