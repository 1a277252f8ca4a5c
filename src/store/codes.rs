//! Redemption codes.

use super::bulk::Bulk;
use super::bulk::Kind::{Bytes, Int, Text};
use super::session::{Row, Tx};
use super::value::values;
use super::{Code, Entry, EntryKind, Error, Id, Millis, NewCodes, Page, Redeemed, Result, accounts, entries, meta};
use crate::money::Nanos;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, batch, prefix, amount, expires, note, revoked, redeemed_by, redeemed_at, created FROM codes ",
            $rest
        )
    };
}

static INSERT: Bulk = Bulk::new(
    &[Int, Int, Bytes, Text, Int, Int, Text, Int, Int],
    "INSERT INTO codes (id, batch, hash, prefix, amount, expires, note, created, revoked) ",
    "",
);

fn read(mut row: Row) -> Result<Code> {
    Ok(Code {
        id: row.next()?,
        batch: row.next()?,
        prefix: row.next()?,
        amount: row.next()?,
        expires: row.next()?,
        note: row.next()?,
        revoked: row.next()?,
        redeemed: row
            .next::<Option<_>>()?
            .zip(row.next()?)
            .map(|(account, time)| Redeemed { account, time }),
        created: row.next()?,
    })
}

/// Makes a batch.
pub(super) async fn create(tx: &mut Tx, new: &NewCodes) -> Result<Vec<Code>> {
    if new.amount <= Nanos::ZERO {
        return Err(Error::Refused("a code is worth something".to_owned()));
    }
    let mut ids = meta::ids(tx, new.codes.len() + 1).await?;
    let batch = ids
        .next()
        .ok_or_else(|| Error::Corrupt("there are no more ids".to_owned()))?;
    let created = Millis::now();
    let codes: Vec<_> = ids.zip(&new.codes).collect();
    INSERT
        .run(tx, &codes, |(id, (hash, prefix)), values| {
            values.extend(values![
                *id,
                batch,
                hash,
                prefix,
                new.amount,
                new.expires,
                &new.note,
                created,
                false
            ]);
        })
        .await?;
    let made = codes.into_iter().map(|(id, (_, prefix))| Code {
        id,
        batch,
        prefix: prefix.clone(),
        amount: new.amount,
        expires: new.expires,
        note: new.note.clone(),
        revoked: false,
        redeemed: None,
        created,
    });
    Ok(made.collect())
}

/// A page of them.
pub(super) async fn list(tx: &mut Tx, batch: Option<Id>, page: Page) -> Result<Vec<Code>> {
    let (before, limit) = accounts::bounds(page);
    let rows = if let Some(batch) = batch {
        let sql = select!("WHERE batch = $3 AND id < $1 ORDER BY id DESC LIMIT $2");
        tx.rows(sql, values![before, limit, batch]).await?
    } else {
        let sql = select!("WHERE id < $1 ORDER BY id DESC LIMIT $2");
        tx.rows(sql, values![before, limit]).await?
    };
    rows.into_iter().map(read).collect()
}

/// Revokes one, or a batch.
pub(super) async fn revoke(tx: &mut Tx, code_or_batch: Id) -> Result<u64> {
    let sql = "UPDATE codes SET revoked = 1 WHERE (id = $1 OR batch = $1) AND redeemed_by IS NULL AND revoked = 0";
    let revoked = tx.run(sql, values![code_or_batch]).await?;
    if revoked == 0 {
        let sql = "SELECT id FROM codes WHERE id = $1 OR batch = $1 LIMIT 1";
        tx.row(sql, values![code_or_batch])
            .await?
            .ok_or(Error::NotFound("code"))?;
    }
    Ok(revoked)
}

/// Redeems one, once.
pub(super) async fn redeem(tx: &mut Tx, hash: &[u8; 32], account: Id, by: &str, now: Millis) -> Result<Entry> {
    meta::open_day(tx).await?;
    let account = accounts::locked(tx, account).await?;
    let code = tx
        .row(select!("WHERE hash = $1 FOR UPDATE"), values![hash])
        .await?
        .map(read)
        .transpose()?;
    let refused = |why: &str| Err(Error::Refused(format!("the code is {why}")));
    let code = match code {
        None => return refused("unknown"),
        Some(code) if code.redeemed.is_some() => return refused("redeemed already"),
        Some(code) if code.revoked => return refused("revoked"),
        Some(code) if code.expires.is_some_and(|end| end <= now) => return refused("expired"),
        Some(code) => code,
    };
    let sql = "UPDATE codes SET redeemed_by = $2, redeemed_at = $3 WHERE id = $1 AND redeemed_by IS NULL";
    if tx.run(sql, values![code.id, account.id, now]).await? == 0 {
        return refused("redeemed already");
    }
    let entry = Entry {
        id: meta::id(tx).await?,
        account: account.id,
        kind: EntryKind::Redemption { code: code.id },
        amount: code.amount,
        time: now,
        by: by.to_owned(),
        note: None,
    };
    entries::write(tx, &entry, None).await?;
    accounts::add(tx, &account, code.amount).await?;
    Ok(entry)
}
