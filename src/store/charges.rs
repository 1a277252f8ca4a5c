//! The charges of open days, summed by day, account and key.
//!
//! A close enters these sums and reads no rows. The proof of an account in full reads its rows and compares.

use std::collections::BTreeMap;

use super::bulk::Bulk;
use super::bulk::Kind::Int;
use super::bundle::{Charged, Settled};
use super::filter::SLACK;
use super::rows;
use super::session::Tx;
use super::value::values;
use super::{Day, Id, Millis, Result};

static ADD: Bulk = Bulk::new(
    &[Int, Int, Int, Int, Int, Int],
    "INSERT INTO charges (day, account, key, count, amount, first) ",
    " ON CONFLICT (day, account, key) DO UPDATE SET count = charges.count + excluded.count,
     amount = charges.amount + excluded.amount,
     first = CASE WHEN excluded.first < charges.first THEN excluded.first ELSE charges.first END",
);

/// How many bundles of rows are read at once.
const AT_ONCE: usize = 64;

/// The charges of one key on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charges {
    pub(super) day: Day,
    pub(super) account: Id,
    pub(super) key: Id,
    pub(super) count: i64,
    pub(super) amount: i64,
}

/// Adds what rows were charged to the sums.
pub(super) async fn add(tx: &mut Tx, settled: &Settled<'_>) -> Result<()> {
    // Ordered, so that two processes lock the same cells in one order.
    let mut cells = BTreeMap::<(Day, Id, Id), Charged>::new();
    for of in settled.of_heads() {
        for (day, charged) in &of.days {
            let all = cells.entry((*day, of.head.account, of.head.key));
            all.and_modify(|all| *all = all.with(charged)).or_insert(*charged);
        }
    }
    let cells: Vec<_> = cells.into_iter().collect();
    let write = ADD.run(tx, &cells, |((day, account, key), charged), values| {
        let Charged { count, amount, first } = *charged;
        values.extend(values![*day, *account, *key, count, amount, first]);
    });
    write.await.map(drop)
}

/// The days before `until` that have any.
pub(super) async fn days(tx: &mut Tx, until: Day) -> Result<Vec<Day>> {
    let sql = "SELECT DISTINCT day FROM charges WHERE day < $1 ORDER BY day";
    let days = tx.rows(sql, values![until]).await?;
    days.into_iter().map(|mut row| row.next()).collect()
}

/// Those of one day.
pub(super) async fn of_day(tx: &mut Tx, day: Day) -> Result<Vec<Charges>> {
    let sql = "SELECT account, key, count, amount FROM charges WHERE day = $1 ORDER BY account, key";
    let mut charges = Vec::new();
    for mut row in tx.rows(sql, values![day]).await? {
        charges.push(Charges {
            day,
            account: row.next()?,
            key: row.next()?,
            count: row.next()?,
            amount: row.next()?,
        });
    }
    Ok(charges)
}

/// Forgets those of days that are closed.
pub(super) async fn forget(tx: &mut Tx, until: Day) -> Result<()> {
    let sql = "DELETE FROM charges WHERE day < $1";
    tx.run(sql, values![until]).await.map(drop)
}

/// Those of one account, and the smallest id of their rows.
pub(super) async fn of_account(tx: &mut Tx, account: Id) -> Result<(Vec<Charges>, Option<Id>)> {
    let sql = "SELECT day, key, count, amount, first FROM charges WHERE account = $1 ORDER BY day, key";
    let (mut charges, mut first) = (Vec::new(), None::<Id>);
    for mut row in tx.rows(sql, values![account]).await? {
        charges.push(Charges {
            day: row.next()?,
            account,
            key: row.next()?,
            count: row.next()?,
            amount: row.next()?,
        });
        let id = row.next()?;
        first = Some(first.map_or(id, |first| first.min(id)));
    }
    Ok((charges, first))
}

/// Those of one account as its rows have them: the rows that the sums know of, and all whose ids are of open days.
pub(super) async fn in_rows(tx: &mut Tx, account: Id, open: Day, first: Option<Id>) -> Result<Vec<Charges>> {
    let of_open = Id::at(Millis(open.start().0.saturating_sub(SLACK)));
    let mut from = rows::floor(first.map_or(of_open, |first| first.min(of_open)));
    let sql = format!(
        "SELECT day, {} FROM usage WHERE account = $1 AND id >= $2 AND day >= $3 ORDER BY id LIMIT {AT_ONCE}",
        rows::COLUMNS
    );
    let mut sums = BTreeMap::<(Day, Id), (i64, i64)>::new();
    loop {
        let bundles = tx.rows(&sql, values![account, from, open]).await?;
        let full = bundles.len() == AT_ONCE;
        for mut bundle in bundles {
            let day = bundle.next()?;
            let (id, rows) = rows::read(bundle)?;
            for row in rows.iter().filter(|row| !row.charge.is_zero()) {
                let (count, amount) = sums.entry((day, row.key)).or_default();
                *count += 1;
                *amount = amount.saturating_add(row.charge.get());
            }
            from = Id::new(id.get() + 1);
        }
        if !full {
            break;
        }
    }
    let charges = sums.into_iter().map(|((day, key), (count, amount))| Charges {
        day,
        account,
        key,
        count,
        amount,
    });
    Ok(charges.collect())
}
