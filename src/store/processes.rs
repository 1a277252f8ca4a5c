//! Processes that are there, which of them serve, and what they tell each other.

use std::collections::BTreeMap;

use super::allotments::{ASK_LIVES, owner};
use super::id::STORE_NODE;
use super::session::Tx;
use super::value::values;
use super::{Ask, Error, Id, Millis, Position, Process, Pulse, Result, meta};
use crate::money::Nanos;

/// A new process. Its node is the next one that is free, not the least: one that has just ended may still make ids.
pub(super) async fn register(tx: &mut Tx, lease_end: Millis) -> Result<Process> {
    let id = meta::id(tx).await?;
    let last: i64 = tx.one("SELECT last_node FROM meta", values![]).await?.next()?;
    let mut used = Vec::new();
    for mut row in tx.rows("SELECT node FROM processes", values![]).await? {
        used.push(row.next::<i64>()?);
    }
    let nodes = i64::from(STORE_NODE);
    let node = (1..=nodes)
        .map(|step| (last + step).rem_euclid(nodes))
        .find(|node| !used.contains(node));
    let node = node.ok_or_else(|| Error::Refused(format!("{nodes} processes are registered: no more are possible")))?;
    let sql = "INSERT INTO processes (id, node, lease_end, serves) VALUES ($1, $2, $3, 0)";
    tx.run(sql, values![id, node, lease_end]).await?;
    tx.run("UPDATE meta SET last_node = $1", values![node]).await?;
    let node = u8::try_from(node).map_err(|_| Error::Corrupt("a node is beyond 8 bits".to_owned()))?;
    Ok(Process { id, node })
}

/// It lives on.
pub(super) async fn beat(tx: &mut Tx, process: Id, lease_end: Millis) -> Result<()> {
    let sql = "UPDATE processes SET lease_end = $2 WHERE id = $1";
    match tx.run(sql, values![process, lease_end]).await? {
        0 => Err(Error::NotFound("process")),
        _ => Ok(()),
    }
}

/// It takes requests, or does no longer.
pub(super) async fn serve(tx: &mut Tx, process: Id, serves: bool) -> Result<()> {
    let sql = "UPDATE processes SET serves = $2 WHERE id = $1";
    match tx.run(sql, values![process, serves]).await? {
        0 => Err(Error::NotFound("process")),
        _ => Ok(()),
    }
}

/// What it should know.
pub(super) async fn pulse(tx: &mut Tx, process: Id) -> Result<Pulse> {
    // Ids grow, so they are the order in which processes came.
    let sql = "SELECT revision,
        (SELECT COUNT(*) FROM processes WHERE id = $1),
        (SELECT COUNT(*) FROM processes WHERE id = $1 AND serves = 1),
        (SELECT COUNT(*) FROM processes WHERE serves = 1),
        (SELECT COUNT(*) FROM processes WHERE serves = 1 AND id < $1) FROM meta";
    let mut row = tx.one(sql, values![process]).await?;
    let (revision, registered, serves): (_, _, bool) = (row.next()?, row.next()?, row.next()?);
    // At most as many as there are nodes.
    let mut count = || Ok::<_, Error>(u32::try_from(row.next::<i64>()?).unwrap_or(u32::MAX));
    let (of, rank) = (count()?, count()?);
    let sql = "SELECT a.kind, a.owner, a.amount FROM asks a JOIN allotments t ON t.owner = a.owner
        WHERE t.process = $1 AND t.amount > 0 AND a.process <> $1 AND a.time > $2";
    let since = Millis(Millis::now().0 - ASK_LIVES);
    let mut asked = BTreeMap::<(i64, Id), Nanos>::new();
    for mut row in tx.rows(sql, values![process, since]).await? {
        let sum = asked.entry((row.next()?, row.next()?)).or_default();
        *sum = sum.saturating_add(row.next()?);
    }
    let asks = asked.into_iter().map(|((kind, id), amount)| Ask {
        owner: owner(kind, id),
        amount,
    });
    Ok(Pulse {
        revision,
        asks: asks.collect(),
        registered,
        position: serves.then_some(Position { of, rank }),
    })
}

/// It is gone.
pub(super) async fn release(tx: &mut Tx, process: Id) -> Result<()> {
    tx.row("SELECT id FROM processes WHERE id = $1 FOR UPDATE", values![process])
        .await?;
    for sql in [
        "DELETE FROM allotments WHERE process = $1",
        "DELETE FROM asks WHERE process = $1",
        "DELETE FROM processes WHERE id = $1",
    ] {
        tx.run(sql, values![process]).await?;
    }
    Ok(())
}

/// Whoever did not beat is gone.
pub(super) async fn release_expired(tx: &mut Tx, now: Millis) -> Result<Vec<Id>> {
    let sql = "SELECT id FROM processes WHERE lease_end < $1 ORDER BY id FOR UPDATE";
    let mut released = Vec::new();
    for mut row in tx.rows(sql, values![now]).await? {
        released.push(row.next()?);
    }
    for process in &released {
        release(tx, *process).await?;
    }
    Ok(released)
}

/// The process is registered, and stays so until the transaction ends.
pub(super) async fn registered(tx: &mut Tx, process: Id) -> Result<()> {
    let row = tx
        .row("SELECT id FROM processes WHERE id = $1 FOR KEY SHARE", values![process])
        .await?;
    row.map(drop).ok_or(Error::NotFound("process"))
}
