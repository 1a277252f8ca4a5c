//! Keys: how they are read.

mod change;

pub(super) use self::change::{change, create};
use super::session::{Row, Tx};
use super::value::{parsed, values};
use super::{Error, Id, Key, KeyStatus, KeyTerms, Millis, OldHash, Page, Period, Result, accounts};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, account, name, grp, models, ips, rpm, tpm, concurrency, quota, period, expires, hash, prefix, ",
            "last4, old_hash, old_until, status, used, period_start, spent, sealed, created, last_used, revision ",
            "FROM keys ",
            $rest
        )
    };
}

fn read(mut row: Row) -> Result<Key> {
    let (id, account) = (row.next()?, row.next()?);
    let terms = KeyTerms {
        name: row.next()?,
        group: row.next()?,
        models: row.next::<Option<String>>()?.as_deref().map(parsed).transpose()?,
        ips: parsed(&row.next::<String>()?)?,
        rpm: row.next()?,
        tpm: row.next()?,
        concurrency: row.next()?,
        quota: row.next()?,
        period: row.next::<Option<i64>>()?.map(period).transpose()?,
        expires: row.next()?,
    };
    let (hash, prefix, last4) = (row.next()?, row.next()?, row.next()?);
    let old = row.next::<Option<[u8; 32]>>()?.zip(row.next()?);
    let old = old.map(|(hash, until)| OldHash { hash, until });
    Ok(Key {
        id,
        account,
        terms,
        hash,
        prefix,
        last4,
        old,
        status: status(row.next()?)?,
        used: row.next()?,
        period_start: Some(row.next::<Millis>()?).filter(|start| start.0 != 0),
        spent: row.next()?,
        sealed: row.next()?,
        created: row.next()?,
        last_used: row.next()?,
        revision: row.next()?,
    })
}

fn period(number: i64) -> Result<Period> {
    let all = [Period::Day, Period::Week, Period::Month];
    let known = all.into_iter().find(|period| i64::from(*period as u8) + 1 == number);
    known.ok_or_else(|| Error::Corrupt(format!("a key has the unknown period {number}")))
}

fn status(number: i64) -> Result<KeyStatus> {
    let all = [
        KeyStatus::Enabled,
        KeyStatus::Disabled,
        KeyStatus::Revoked,
        KeyStatus::Deleted,
    ];
    let known = all.into_iter().find(|status| i64::from(*status as u8) == number);
    known.ok_or_else(|| Error::Corrupt(format!("a key has the unknown status {number}")))
}

/// What a key's quota leaves, read for a change.
#[derive(Clone, Copy)]
pub(super) struct Quota {
    pub(super) most: Option<i64>,
    pub(super) period: Option<Period>,
    pub(super) period_start: i64,
    pub(super) spent: i64,
}

/// The quota of a key, which stays locked.
pub(super) async fn quota(tx: &mut Tx, id: Id) -> Result<Quota> {
    let sql = "SELECT quota, period, period_start, spent FROM keys WHERE id = $1 FOR UPDATE";
    let mut row = tx.row(sql, values![id]).await?.ok_or(Error::NotFound("key"))?;
    Ok(Quota {
        most: row.next()?,
        period: row.next::<Option<i64>>()?.map(period).transpose()?,
        period_start: row.next()?,
        spent: row.next()?,
    })
}

/// The one of this id.
pub(super) async fn get(tx: &mut Tx, id: Id) -> Result<Key> {
    let row = tx.row(select!("WHERE id = $1"), values![id]).await?;
    row.ok_or(Error::NotFound("key")).and_then(read)
}

/// The same, and nobody else changes it until the transaction ends.
async fn locked(tx: &mut Tx, id: Id) -> Result<Key> {
    let row = tx.row(select!("WHERE id = $1 FOR UPDATE"), values![id]).await?;
    row.ok_or(Error::NotFound("key")).and_then(read)
}

/// Those of this name.
pub(super) async fn named(tx: &mut Tx, account: Option<Id>, name: &str) -> Result<Vec<Key>> {
    let sql = select!("WHERE name = $1 AND status <> 3 AND (account = $2 OR $2 IS NULL) ORDER BY id DESC LIMIT 1000");
    tx.rows(sql, values![name, account])
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// A page of them.
pub(super) async fn list(tx: &mut Tx, account: Option<Id>, page: Page) -> Result<Vec<Key>> {
    let (before, limit) = accounts::bounds(page);
    let rows = if let Some(account) = account {
        let sql = select!("WHERE account = $3 AND status <> 3 AND id < $1 ORDER BY id DESC LIMIT $2");
        tx.rows(sql, values![before, limit, account]).await?
    } else {
        let sql = select!("WHERE status <> 3 AND id < $1 ORDER BY id DESC LIMIT $2");
        tx.rows(sql, values![before, limit]).await?
    };
    rows.into_iter().map(read).collect()
}

/// Those above an id that are not deleted, by id.
pub(super) async fn above(tx: &mut Tx, after: i64, limit: i64) -> Result<Vec<Key>> {
    let sql = select!("WHERE status <> 3 AND id > $1 ORDER BY id LIMIT $2");
    tx.rows(sql, values![after, limit])
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// Those that have changed, by revision.
pub(super) async fn since(tx: &mut Tx, revision: i64, limit: i64) -> Result<Vec<Key>> {
    let sql = select!("WHERE revision > $1 ORDER BY revision LIMIT $2");
    tx.rows(sql, values![revision, limit])
        .await?
        .into_iter()
        .map(read)
        .collect()
}
