//! Usage rows.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::bulk::Bulk;
use super::bulk::Kind::{Int, Text};
use super::bundle::Settled;
use super::filter::Wanted;
use super::line::{self, Head};
use super::rollups::hour;
use super::session::{self, Tx};
use super::value::{json, values};
use super::{Error, Id, Line, Millis, Page, Result, Row, UsageFilter, accounts, meta};

static INSERT: Bulk = Bulk::new(
    &[Int, Int, Int, Int, Int, Int, Int, Text, Text, Text, Text],
    "INSERT INTO usage (id, count, day, lookup, time, account, key, model, grp, price, lines) ",
    " ON CONFLICT (id) DO NOTHING",
);
/// The columns that [`read`] reads.
pub(super) const COLUMNS: &str = "id, count, account, key, model, grp, price, lines";
/// How many bundles are read at once, where their rows are many.
const AT_ONCE: usize = 64;
/// Bits of an id below the second that it was made in, of 1,024 milliseconds.
const BELOW_SECOND: u32 = 31;

/// The second that an id was made in. A bundle has ids of one, so what lies in bundles of a later one comes later.
pub(super) const fn second(id: Id) -> i64 {
    id.get() >> BELOW_SECOND
}

/// The first id of a second.
const fn start(second: i64) -> Id {
    Id::new(second << BELOW_SECOND)
}

/// The first id of the second that an id was made in: no row that follows the id lies in a bundle before it.
pub(super) const fn floor(id: Id) -> Id {
    start(second(id))
}

/// Writes rows. Whether none of them was there.
pub(super) async fn insert(tx: &mut Tx, settled: &Settled<'_>) -> Result<bool> {
    let of_heads = settled.of_heads().iter();
    let mut bundles: Vec<_> = of_heads
        .flat_map(|of| of.bundles.iter().map(move |bundle| (&of.head, bundle)))
        .collect();
    bundles.sort_unstable_by_key(|(_, bundle)| bundle.first);
    let write = INSERT.run(tx, &bundles, |(head, bundle), values| {
        let count = i64::try_from(bundle.count).unwrap_or(i64::MAX);
        values.extend(values![
            bundle.first,
            count,
            bundle.day,
            bundle.lookup,
            bundle.time,
            head.account,
            head.key,
            &head.model,
            &head.group,
            &head.price,
            &bundle.lines
        ]);
    });
    let written = write.await?;
    Ok(usize::try_from(written).is_ok_and(|written| written == bundles.len()))
}

/// The rows of a bundle.
pub(super) fn read(mut row: session::Row) -> Result<(Id, Vec<Row>)> {
    let (id, count): (Id, u64) = (row.next()?, row.next()?);
    let head = Head {
        account: row.next()?,
        key: row.next()?,
        model: row.next()?,
        group: row.next()?,
        price: row.next()?,
    };
    let lines: String = row.next()?;
    let rows = line::read(&head, &lines, id)?;
    if rows.len() as u64 == count {
        return Ok((id, rows));
    }
    Err(Error::Corrupt(format!(
        "of {count} usage rows from {id} on that lie together {} are there",
        rows.len()
    )))
}

/// A page of those that a filter lets through.
pub(super) async fn list(tx: &mut Tx, filter: &UsageFilter, page: Page) -> Result<Vec<Row>> {
    let (before, limit) = accounts::bounds(page);
    let most = usize::try_from(limit).unwrap_or(0);
    if most == 0 {
        return Ok(Vec::new());
    }
    let mut rows: Vec<Row> = Vec::new();
    let (mut below, mut at_once) = (before, most.div_ceil(8).clamp(8, AT_ONCE));
    loop {
        let bundles = select(tx, filter, below, at_once).await?;
        let (full, oldest) = (bundles.len() == at_once, bundles.last().map(|(id, _)| *id));
        let found = bundles.into_iter().flat_map(|(_, rows)| rows);
        rows.extend(found.filter(|row| row.id.get() < before && wanted(filter, row)));
        let Some(oldest) = oldest.filter(|_| full) else { break };
        // Of the second that was reached there may be more: what came after it is complete.
        let complete = start(second(oldest) + 1);
        if rows.iter().filter(|row| row.id >= complete).count() >= most {
            break;
        }
        (below, at_once) = (oldest.get(), AT_ONCE);
    }
    rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.id));
    rows.truncate(most);
    Ok(rows)
}

/// What no column tells. Ids of requests are searched by a hash: others may share it.
fn wanted(filter: &UsageFilter, row: &Row) -> bool {
    filter.since.is_none_or(|since| row.time >= since)
        && filter.until.is_none_or(|until| row.time < until)
        && filter.request_id.as_ref().is_none_or(|id| *id == row.request_id)
}

/// Bundles that begin below this id, the newest first.
async fn select(tx: &mut Tx, filter: &UsageFilter, below: i64, most: usize) -> Result<Vec<(Id, Vec<Row>)>> {
    let mut wanted = Wanted::new(values![below, i64::try_from(most).unwrap_or(i64::MAX)]);
    wanted.rows(filter);
    if let Some(request) = &filter.request_id {
        let hours = hours(tx, filter).await?;
        wanted.and_among("lookup", tx, hours.map(|hour| place(hour, request)));
        // As it stands in its line. Of those that share its place, no more are read than must be.
        wanted.and_contains("lines", &json(request)?);
    }
    let Wanted { sql, values } = wanted;
    let sql = format!("SELECT {COLUMNS} FROM usage WHERE id < $1{sql} ORDER BY id DESC LIMIT $2");
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

/// Where the row of a request lies in the index.
pub(super) fn lookup(time: Millis, request: &str) -> i64 {
    place(hour(time), request)
}

/// An hour, above 28 bits of a hash of the request's id but for the last three characters.
///
/// The ids that the gateway makes are a process's prefix and a number: rows that are written together share all but the end
/// of it, so they share a bundle, and a place in the index. The hash is FNV-1a, folded
/// (<http://www.isthe.com/chongo/tech/comp/fnv/>).
fn place(hour: i64, request: &str) -> i64 {
    let start = &request.as_bytes()[..request.len().saturating_sub(3)];
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = start.iter().fold(0x811c_9dc5, step);
    (hour << 28) | i64::from((hash >> 28) ^ (hash & 0x0fff_ffff))
}

/// Which of these are there.
pub(super) async fn known(tx: &mut Tx, rows: &[Line<'_>]) -> Result<BTreeSet<Id>> {
    let seconds: BTreeSet<_> = rows.iter().map(|row| second(row.id())).collect();
    let sql = format!("SELECT {COLUMNS} FROM usage WHERE id >= $1 AND id < $2");
    let mut known = BTreeSet::new();
    for second in seconds {
        for bundle in tx.rows(&sql, values![start(second), start(second + 1)]).await? {
            known.extend(read(bundle)?.1.into_iter().map(|row| row.id));
        }
    }
    Ok(known)
}

/// Deletes old ones of closed days, the oldest first, by whole bundles. By their ids, which are made when a request ends: no
/// row is deleted too early, and what is not old enough is not read.
pub(super) async fn prune(tx: &mut Tx, before: Millis, most: u32) -> Result<u64> {
    let open = meta::open_day(tx).await?;
    let sql = "SELECT id, count FROM usage WHERE id < $1 AND day < $2 ORDER BY id LIMIT $3";
    let old = values![floor(Id::at(before)), open, i64::from(most)];
    let (mut ids, mut count) = (Vec::new(), 0_u64);
    for mut row in tx.rows(sql, old).await? {
        let (id, rows): (Id, u64) = (row.next()?, row.next()?);
        if count + rows > u64::from(most) && !ids.is_empty() {
            break;
        }
        ids.push(id.get());
        count += rows;
    }
    let sql = format!("DELETE FROM usage WHERE id {}", tx.among());
    let list = tx.list(ids);
    tx.run(&sql, vec![list]).await?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_come_together_share_a_place() {
        let at = |number: u64| place(494_000, &format!("8f14e45fceea167a-{number:08x}"));
        assert_eq!(at(0x4000), at(0x4fff));
        assert_ne!(at(0x4000), at(0x5000));
        assert!(place(494_000, "zz") > 0 && place(494_000, "") > 0);
        assert_ne!(place(1, "abcd"), place(1, "bbcd"));
        assert_ne!(place(1, "abcd"), place(2, "abcd"));
    }

    #[test]
    fn a_second_has_its_ids() {
        let id = Id::at(Millis(1_700_000_000_000));
        assert!(floor(id) <= id && id < start(second(id) + 1));
        assert_eq!(second(Id::at(Millis(1024))), 1);
        assert_eq!(second(Id::new(Id::at(Millis(1024)).get() - 1)), 0);
    }
}
