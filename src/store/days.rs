//! The close of days: charges become entries, and sums are checked.

use super::bulk::Bulk;
use super::session::Tx;
use super::value::values;
use super::{Day, Error, Id, Millis, Result, meta};

static ENTRIES: Bulk = Bulk::new(
    9,
    "INSERT INTO entries (id, account, kind, amount, time, author, subject, day, count, closed)
     SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, 0 FROM (VALUES ",
    ") AS v",
);

/// The charges of one key on one day.
struct Charges {
    account: Id,
    key: Id,
    count: i64,
    charge: i64,
}

/// Closes every day before `today` that has charges; how many.
pub(super) async fn close(tx: &mut Tx, today: Day) -> Result<u64> {
    let open = meta::open_day_alone(tx).await?;
    if today <= open {
        return Ok(0);
    }
    check(tx, open).await?;
    let mut closed = 0;
    let mut from = open;
    while let Some(day) = next(tx, from, today).await? {
        from = Day(day.0 + 1);
        closed += u64::from(close_one(tx, day).await?);
    }
    tx.run("UPDATE ledger SET open_day = $1", values![today]).await?;
    // What each account has by its entries: from here on it is summed.
    let sql = "UPDATE accounts SET closed_day = $1, closed_balance = closed_balance + e.amount
        FROM (SELECT account, CAST(SUM(amount) AS BIGINT) AS amount FROM entries WHERE closed = 0 GROUP BY account) AS e
        WHERE accounts.id = e.account";
    tx.run(sql, values![Day(today.0 - 1)]).await?;
    tx.run("UPDATE entries SET closed = 1 WHERE closed = 0", values![])
        .await?;
    Ok(closed)
}

/// The next day in `from..until` that has rows.
async fn next(tx: &mut Tx, from: Day, until: Day) -> Result<Option<Day>> {
    let sql = "SELECT MIN(day) FROM usage WHERE day >= $1 AND day < $2";
    tx.one(sql, values![from, until]).await?.next()
}

/// Enters the charges of one day; whether there were any.
async fn close_one(tx: &mut Tx, day: Day) -> Result<bool> {
    let sql = "SELECT account, key, COUNT(*), CAST(SUM(charge) AS BIGINT) FROM usage
        WHERE day = $1 AND charge <> 0 GROUP BY account, key ORDER BY account, key";
    let mut charges = Vec::new();
    for mut row in tx.rows(sql, values![day]).await? {
        charges.push(Charges {
            account: row.next()?,
            key: row.next()?,
            count: row.next()?,
            charge: row.next()?,
        });
    }
    if charges.is_empty() {
        return Ok(false);
    }
    let now = Millis::now();
    let entries: Vec<_> = meta::ids(tx, charges.len()).await?.zip(&charges).collect();
    ENTRIES
        .run(tx, &entries, |(id, of), values| {
            values.extend(values![
                *id, of.account, "charges", -of.charge, now, "ledger", of.key, day, of.count
            ]);
        })
        .await?;
    let total = charges.iter().map(|of| of.charge).fold(0, i64::saturating_add);
    let sql = "INSERT INTO closed_days (day, time, entries, charge) VALUES ($1, $2, $3, $4)";
    let count = i64::try_from(charges.len()).unwrap_or(i64::MAX);
    tx.run(sql, values![day, now, count, total]).await?;
    Ok(true)
}

/// Every account's balance is what its last close, its entries since and its open charges sum up to.
async fn check(tx: &mut Tx, open: Day) -> Result<()> {
    let sql = "SELECT a.id, a.name FROM accounts a
        LEFT JOIN (SELECT account, CAST(SUM(amount) AS BIGINT) AS amount FROM entries WHERE closed = 0
            GROUP BY account) e ON e.account = a.id
        LEFT JOIN (SELECT account, CAST(SUM(charge) AS BIGINT) AS charge FROM usage WHERE day >= $1
            GROUP BY account) u ON u.account = a.id
        WHERE a.balance <> a.closed_balance + COALESCE(e.amount, 0) - COALESCE(u.charge, 0) ORDER BY a.id LIMIT 1";
    let Some(mut row) = tx.row(sql, values![open]).await? else {
        return Ok(());
    };
    let (id, name): (Id, String) = (row.next()?, row.next()?);
    Err(Error::Corrupt(format!(
        "the balance of account {name} ({id}) is not the sum of its entries and charges"
    )))
}
