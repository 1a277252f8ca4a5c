//! Announcements.

use super::session::Tx;
use super::value::values;
use super::{Error, Id, Millis, Notice, Page, Result, accounts, meta};

/// Makes one.
pub(super) async fn create(tx: &mut Tx, text: String) -> Result<Notice> {
    let (id, created) = (meta::id(tx).await?, Millis::now());
    let sql = "INSERT INTO notices (id, text, created) VALUES ($1, $2, $3)";
    tx.run(sql, values![id, &text, created]).await?;
    Ok(Notice { id, text, created })
}

/// A page of them.
pub(super) async fn list(tx: &mut Tx, page: Page) -> Result<Vec<Notice>> {
    let (before, limit) = accounts::bounds(page);
    let sql = "SELECT id, text, created FROM notices WHERE id < $1 ORDER BY id DESC LIMIT $2";
    let rows = tx.rows(sql, values![before, limit]).await?.into_iter();
    rows.map(|mut row| {
        Ok(Notice {
            id: row.next()?,
            text: row.next()?,
            created: row.next()?,
        })
    })
    .collect()
}

/// Withdraws one.
pub(super) async fn delete(tx: &mut Tx, id: Id) -> Result<()> {
    match tx.run("DELETE FROM notices WHERE id = $1", values![id]).await? {
        0 => Err(Error::NotFound("notice")),
        _ => Ok(()),
    }
}
