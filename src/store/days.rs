//! The close of days: charges become entries, and sums are checked.

use super::bulk::Bulk;
use super::bulk::Kind::{Int, Text};
use super::session::Tx;
use super::value::values;
use super::{Day, Error, Id, Millis, Result, charges, meta};

static ENTRIES: Bulk = Bulk::new(
    &[Int, Int, Text, Int, Int, Text, Int, Int, Int],
    "INSERT INTO entries (id, account, kind, amount, time, author, subject, day, count, closed)
     SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, 0 FROM (",
    ") AS v",
);

/// Closes every day before `today` that has charges; how many.
pub(super) async fn close(tx: &mut Tx, today: Day) -> Result<u64> {
    let open = meta::open_day_alone(tx).await?;
    if today <= open {
        return Ok(0);
    }
    check(tx).await?;
    let days = charges::days(tx, today).await?;
    for day in &days {
        close_one(tx, *day).await?;
    }
    charges::forget(tx, today).await?;
    tx.run("UPDATE ledger SET open_day = $1", values![today]).await?;
    // What each account has by its entries: from here on it is summed.
    let sql = "UPDATE accounts SET closed_day = $1, closed_balance = closed_balance + e.amount
        FROM (SELECT account, CAST(SUM(amount) AS BIGINT) AS amount FROM entries WHERE closed = 0 GROUP BY account) AS e
        WHERE accounts.id = e.account";
    tx.run(sql, values![Day(today.0 - 1)]).await?;
    tx.run("UPDATE entries SET closed = 1 WHERE closed = 0", values![])
        .await?;
    Ok(days.len() as u64)
}

/// Enters the charges of one day.
async fn close_one(tx: &mut Tx, day: Day) -> Result<()> {
    let charges = charges::of_day(tx, day).await?;
    let now = Millis::now();
    let entries: Vec<_> = meta::ids(tx, charges.len()).await?.zip(&charges).collect();
    ENTRIES
        .run(tx, &entries, |(id, of), values| {
            values.extend(values![
                *id, of.account, "charges", -of.amount, now, "ledger", of.key, day, of.count
            ]);
        })
        .await?;
    let total = charges.iter().map(|of| of.amount).fold(0, i64::saturating_add);
    let sql = "INSERT INTO closed_days (day, time, entries, charge) VALUES ($1, $2, $3, $4)";
    let count = i64::try_from(charges.len()).unwrap_or(i64::MAX);
    tx.run(sql, values![day, now, count, total]).await.map(drop)
}

/// Every account's balance is what its last close, its entries since and its open charges sum up to.
async fn check(tx: &mut Tx) -> Result<()> {
    let sql = "SELECT a.id, a.name FROM accounts a
        LEFT JOIN (SELECT account, CAST(SUM(amount) AS BIGINT) AS amount FROM entries WHERE closed = 0
            GROUP BY account) e ON e.account = a.id
        LEFT JOIN (SELECT account, CAST(SUM(amount) AS BIGINT) AS amount FROM charges
            GROUP BY account) c ON c.account = a.id
        WHERE a.balance <> a.closed_balance + COALESCE(e.amount, 0) - COALESCE(c.amount, 0) ORDER BY a.id LIMIT 1";
    let Some(mut row) = tx.row(sql, values![]).await? else {
        return Ok(());
    };
    let (id, name): (Id, String) = (row.next()?, row.next()?);
    Err(Error::Corrupt(format!(
        "the balance of account {name} ({id}) is not the sum of its entries and charges"
    )))
}
