//! The proof of one account's balance.

use super::charges::{self, Charges};
use super::session::Tx;
use super::value::values;
use super::{Error, Id, Result, Verified, allotments, meta};
use crate::money::Nanos;

/// Sums an account up, from its last close or from its first entry.
pub(super) async fn verify(tx: &mut Tx, account: Id, full: bool) -> Result<Verified> {
    let sql = "SELECT balance, closed_balance, closed_day FROM accounts WHERE id = $1";
    let row = tx.row(sql, values![account]).await?;
    let mut row = row.ok_or(Error::NotFound("account"))?;
    let (balance, closed): (Nanos, i64) = (row.next()?, row.next()?);
    let since = row.next::<Option<_>>()?.filter(|_| !full);
    let entries = if full {
        "SELECT COUNT(*), CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entries WHERE account = $1"
    } else {
        "SELECT COUNT(*), CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entries WHERE account = $1 AND closed = 0"
    };
    let mut row = tx.one(entries, values![account]).await?;
    let (entries, amount): (u64, i64) = (row.next()?, row.next()?);
    let before = if full { 0 } else { closed };
    let entered = before.saturating_add(amount);

    let (summed, first) = charges::of_account(tx, account).await?;
    let (mut charges, mut sum) = after(entered, &summed);
    if full {
        let open = meta::open_day_seen(tx).await?;
        let rows = charges::in_rows(tx, account, open, first).await?;
        let by_rows = after(entered, &rows);
        if sum == balance {
            (charges, sum) = by_rows;
        }
        if sum == balance && rows != summed {
            return Err(Error::Corrupt(format!(
                "the sums of the charges of account {account} are not those of its rows"
            )));
        }
    }
    Ok(Verified {
        balance,
        sum,
        since,
        entries: entries + charges,
        allotted: Nanos::new(allotments::held(tx, account, 0).await?),
    })
}

/// How many charges, and what they leave.
fn after(entered: i64, charges: &[Charges]) -> (u64, Nanos) {
    let count: i64 = charges.iter().map(|of| of.count).sum();
    let left = charges.iter().map(|of| of.amount).fold(entered, i64::saturating_sub);
    (u64::try_from(count).unwrap_or(0), Nanos::new(left))
}
