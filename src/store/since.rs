//! Everything, and what has changed since: what a process keeps in memory.

use super::session::Tx;
use super::{Changes, Id, Result, accounts, keys, meta};

/// The most accounts, and the most keys, that one answer of changes holds.
const MOST: i64 = 10_000;

/// A part of everything.
pub(super) async fn load(tx: &mut Tx, after: Option<Id>, limit: u32) -> Result<Changes> {
    let revision = meta::revision(tx).await?;
    let accounts = match after {
        None => accounts::all(tx).await?,
        Some(_) => Vec::new(),
    };
    let keys = keys::above(tx, after.map_or(0, Id::get), i64::from(limit)).await?;
    Ok(Changes {
        accounts,
        keys,
        revision,
    })
}

/// What has changed. A revision is one change, so where there are too many the answer ends at one of them.
pub(super) async fn changes(tx: &mut Tx, since: i64) -> Result<Changes> {
    let mut changes = Changes {
        revision: meta::revision(tx).await?,
        accounts: accounts::since(tx, since, MOST).await?,
        keys: keys::since(tx, since, MOST).await?,
    };
    let full = |count: usize| i64::try_from(count).is_ok_and(|count| count == MOST);
    let accounts_end = changes.accounts.last().filter(|_| full(changes.accounts.len()));
    let keys_end = changes.keys.last().filter(|_| full(changes.keys.len()));
    let ends = [
        accounts_end.map(|last| last.revision),
        keys_end.map(|last| last.revision),
    ];
    if let Some(end) = ends.into_iter().flatten().min() {
        changes.accounts.retain(|account| account.revision <= end);
        changes.keys.retain(|key| key.revision <= end);
        changes.revision = end;
    }
    Ok(changes)
}
