//! Usage rows.

use std::ops::RangeInclusive;

use super::bulk::Bulk;
use super::bulk::Kind::{Int, Text};
use super::filter::Wanted;
use super::rest::{self, Head};
use super::rollups::hour;
use super::session::{self, Tx};
use super::value::{Value, values};
use super::{Day, Id, Millis, Page, Result, Row, UsageFilter, accounts, meta};
use crate::money::Nanos;

static INSERT: Bulk = Bulk::new(
    &[Int, Int, Int, Int, Int, Int, Int, Text, Text, Text],
    "INSERT INTO usage (id, day, lookup, time, account, key, charge, model, grp, rest) ",
    " ON CONFLICT (id) DO NOTHING",
);

/// A row with what became of its charge.
pub(super) struct Settled<'a> {
    pub(super) row: &'a Row,
    /// What has no column, as [`rest::write`] writes it.
    pub(super) rest: String,
    pub(super) charge: Nanos,
    pub(super) written_off: Nanos,
    /// That the charge counts in.
    pub(super) day: Day,
}

/// Writes those that are not there yet; how many.
pub(super) async fn insert(tx: &mut Tx, rows: &[Settled<'_>]) -> Result<u64> {
    INSERT.run(tx, rows, cells).await
}

fn cells<'a>(settled: &'a Settled<'_>, values: &mut Vec<Value<'a>>) {
    let row = settled.row;
    values.extend([
        row.id.into(),
        settled.day.into(),
        lookup(hour(row.time), &row.request_id).into(),
        row.time.into(),
        row.account.into(),
        row.key.into(),
        settled.charge.into(),
        (&row.model).into(),
        (&row.group).into(),
        (&settled.rest).into(),
    ]);
}

fn read(mut row: session::Row) -> Result<Row> {
    let head = Head {
        id: row.next()?,
        time: row.next()?,
        account: row.next()?,
        key: row.next()?,
        charge: row.next()?,
        model: row.next()?,
        group: row.next()?,
    };
    let text: String = row.next()?;
    rest::read(head, &text)
}

/// A page of those that a filter lets through.
pub(super) async fn list(tx: &mut Tx, filter: &UsageFilter, page: Page) -> Result<Vec<Row>> {
    let (mut before, limit) = accounts::bounds(page);
    let most = usize::try_from(limit).unwrap_or(0);
    let mut rows = Vec::new();
    loop {
        let found = select(tx, filter, before, limit).await?;
        let (full, last) = (found.len() == most, found.last().map(|row| row.id.get()));
        // Ids of requests are searched by a hash: another one may share it.
        let meant = |row: &Row| filter.request_id.as_ref().is_none_or(|id| *id == row.request_id);
        rows.extend(found.into_iter().filter(meant));
        match last {
            Some(last) if full && rows.len() < most => before = last,
            _ => break,
        }
    }
    rows.truncate(most);
    Ok(rows)
}

async fn select(tx: &mut Tx, filter: &UsageFilter, before: i64, limit: i64) -> Result<Vec<Row>> {
    let mut wanted = Wanted::new(values![before, limit]);
    wanted.rows(filter);
    if let Some(request) = &filter.request_id {
        let hours = hours(tx, filter).await?;
        wanted.and_among("lookup", tx, hours.map(|hour| lookup(hour, request)));
    }
    let Wanted { sql, values } = wanted;
    let sql = format!(
        "SELECT id, time, account, key, charge, model, grp, rest FROM usage WHERE id < $1{sql} ORDER BY id DESC LIMIT $2"
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

/// Where the row of a request lies in the index: its hour, 28 bits of a hash of its id but for the last three
/// characters, then those, of which 5 bits tell hexadecimal digits apart.
///
/// The ids that the gateway makes are a process's prefix and a number: rows that are written together lie together, so a
/// batch writes a few pages of the index. An index of the ids' hashes would be written all over, a page a row. The hash
/// is FNV-1a, folded (<http://www.isthe.com/chongo/tech/comp/fnv/>).
fn lookup(hour: i64, request: &str) -> i64 {
    let (start, end) = request.as_bytes().split_at(request.len().saturating_sub(3));
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = start.iter().fold(0x811c_9dc5, step);
    let hash = i64::from((hash >> 28) ^ (hash & 0x0fff_ffff));
    let end = end.iter().fold(0, |all, byte| (all << 5) | i64::from(byte & 31));
    (hour << 43) | (hash << 15) | end
}

/// Which of these are there.
pub(super) async fn known(tx: &mut Tx, rows: &[Row]) -> Result<Vec<Id>> {
    let sql = format!("SELECT id FROM usage WHERE id {}", tx.among());
    let list = tx.list(rows.iter().map(|row| row.id.get()));
    let found = tx.rows(&sql, vec![list]).await?;
    found.into_iter().map(|mut row| row.next()).collect()
}

/// Deletes old ones of closed days, the oldest first. By their ids, which are made when a request ends: no row is deleted
/// too early, and what is not old enough is not read.
pub(super) async fn prune(tx: &mut Tx, before: Millis, most: u32) -> Result<u64> {
    let open = meta::open_day(tx).await?;
    let sql = "DELETE FROM usage WHERE id IN
        (SELECT id FROM usage WHERE id < $1 AND day < $2 AND time < $3 ORDER BY id LIMIT $4)";
    tx.run(sql, values![Id::at(before), open, before, i64::from(most)])
        .await
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn requests_that_come_together_lie_together() {
        let at = |number: u64| lookup(494_000, &format!("8f14e45fceea167a-{number:08x}"));
        let all: HashSet<_> = (0x4000..0x6000).map(at).collect();
        assert_eq!(all.len(), 0x2000);
        let block: Vec<_> = (0x5000..0x6000).map(at).collect();
        let (first, last) = (block.iter().min().expect("some"), block.iter().max().expect("some"));
        assert!(last - first < 1 << 15);
        assert!(lookup(494_000, "zz") > 0 && lookup(494_000, "") > 0);
        assert_ne!(lookup(1, "ab"), lookup(1, "b"));
    }
}
