//! Who changed what.

use super::session::{Row, Tx};
use super::value::values;
use super::{Audit, Id, Millis, Page, Result, accounts, meta};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, time, author, action, target, was, became FROM audit ",
            $rest
        )
    };
}

fn read(mut row: Row) -> Result<Audit> {
    Ok(Audit {
        id: row.next()?,
        time: row.next()?,
        by: row.next()?,
        action: row.next()?,
        target: row.next()?,
        before: row.next()?,
        after: row.next()?,
    })
}

/// Writes one down.
pub(super) async fn write(
    tx: &mut Tx,
    by: &str,
    action: &str,
    target: Option<Id>,
    before: Option<&str>,
    after: Option<&str>,
) -> Result<()> {
    let id = meta::id(tx).await?;
    let sql = "INSERT INTO audit (id, time, author, action, target, was, became) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = values![id, Millis::now(), by, action, target, before, after];
    tx.run(sql, values).await.map(drop)
}

/// A page of them.
pub(super) async fn list(tx: &mut Tx, target: Option<Id>, page: Page) -> Result<Vec<Audit>> {
    let (before, limit) = accounts::bounds(page);
    let rows = if let Some(target) = target {
        let sql = select!("WHERE target = $3 AND id < $1 ORDER BY id DESC LIMIT $2");
        tx.rows(sql, values![before, limit, target]).await?
    } else {
        let sql = select!("WHERE id < $1 ORDER BY id DESC LIMIT $2");
        tx.rows(sql, values![before, limit]).await?
    };
    rows.into_iter().map(read).collect()
}
