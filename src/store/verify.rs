//! The proof of one account's balance.

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
    let open = meta::open_day_seen(tx).await?;
    let sql = "SELECT COUNT(*), CAST(COALESCE(SUM(charge), 0) AS BIGINT) FROM usage
        WHERE day >= $1 AND account = $2 AND charge <> 0";
    let mut row = tx.one(sql, values![open, account]).await?;
    let (charges, charge): (u64, i64) = (row.next()?, row.next()?);
    let before = if full { 0 } else { closed };
    Ok(Verified {
        balance,
        sum: Nanos::new(before.saturating_add(amount).saturating_sub(charge)),
        since,
        entries: entries + charges,
        allotted: Nanos::new(allotments::held(tx, account, 0).await?),
    })
}
