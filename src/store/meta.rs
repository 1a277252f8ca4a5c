//! The rows of which there is one: ids and revisions, and the ledger's first open day.

use super::id::STORE_NODE;
use super::session::Tx;
use super::value::values;
use super::{Day, Id, Millis, Result};

/// The next revision. Its row stays locked to the transaction's end, so revisions become visible in their order.
pub(super) async fn revise(tx: &mut Tx) -> Result<i64> {
    let sql = "UPDATE meta SET revision = revision + 1 RETURNING revision";
    tx.one(sql, values![]).await?.next()
}

/// The revision of the newest change.
pub(super) async fn revision(tx: &mut Tx) -> Result<i64> {
    tx.one("SELECT revision FROM meta", values![]).await?.next()
}

/// A new id of the store's own.
pub(super) async fn id(tx: &mut Tx) -> Result<Id> {
    let first = moments(tx, 1).await?;
    Ok(Id::of(first, STORE_NODE))
}

/// So many new ids, ascending.
pub(super) async fn ids(tx: &mut Tx, count: usize) -> Result<impl Iterator<Item = Id> + use<>> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let first = moments(tx, count).await?;
    Ok((first..first + count).map(|moment| Id::of(moment, STORE_NODE)))
}

/// The first of `count` moments that nobody else is given.
async fn moments(tx: &mut Tx, count: i64) -> Result<i64> {
    let last: i64 = tx.one("SELECT last_id FROM meta FOR UPDATE", values![]).await?.next()?;
    let first = Id::moment(Millis::now()).max(last + 1);
    tx.run("UPDATE meta SET last_id = $1", values![first + count - 1])
        .await?;
    Ok(first)
}

/// The first day that is not closed, as a transaction that only reads sees it.
pub(super) async fn open_day_seen(tx: &mut Tx) -> Result<Day> {
    tx.one("SELECT open_day FROM ledger", values![]).await?.next()
}

/// The first day that is not closed. No day is closed until the transaction ends.
pub(super) async fn open_day(tx: &mut Tx) -> Result<Day> {
    tx.one("SELECT open_day FROM ledger FOR KEY SHARE", values![])
        .await?
        .next()
}

/// The same, and no balance changes until the transaction ends.
pub(super) async fn open_day_alone(tx: &mut Tx) -> Result<Day> {
    tx.one("SELECT open_day FROM ledger FOR UPDATE", values![])
        .await?
        .next()
}
