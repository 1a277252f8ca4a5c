//! What processes hold of balances and quotas.

use super::keys::Quota;
use super::session::Tx;
use super::value::values;
use super::{Error, Id, Millis, Owner, Result, Taken, accounts, keys, processes};
use crate::money::Nanos;

/// How long an ask counts, in milliseconds: whoever asked has gone on by then.
pub(super) const ASK_LIVES: i64 = 10_000;

/// How a table tells an account from a key.
pub(super) const fn kind(owner: Owner) -> i64 {
    match owner {
        Owner::Account(_) => 0,
        Owner::Key(_) => 1,
    }
}

/// The owner of a row.
pub(super) const fn owner(kind: i64, id: Id) -> Owner {
    match kind {
        0 => Owner::Account(id),
        _ => Owner::Key(id),
    }
}

/// Takes for a process up to `most` of what is free.
pub(super) async fn take(tx: &mut Tx, process: Id, owner: Owner, most: Nanos, now: Millis) -> Result<Taken> {
    processes::registered(tx, process).await?;
    let (ceiling, period_start) = ceiling(tx, owner, now).await?;
    let (mut held, mut others) = (0, 0);
    let sql = "SELECT process, amount FROM allotments WHERE owner = $1 AND period_start = $2";
    for mut row in tx.rows(sql, values![owner.id(), period_start]).await? {
        let (holder, amount): (Id, i64) = (row.next()?, row.next()?);
        *(if holder == process { &mut held } else { &mut others }) += amount;
    }
    let free = ceiling.saturating_sub(held).saturating_sub(others);
    let amount = most.get().min(free).max(0);
    if amount > 0 {
        // What is left of a period that has passed is overwritten.
        let sql = "INSERT INTO allotments (owner, process, kind, amount, period_start) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (owner, process) DO UPDATE SET amount = excluded.amount, period_start = excluded.period_start";
        let values = values![owner.id(), process, kind(owner), held + amount, period_start];
        tx.run(sql, values).await?;
        let sql = "DELETE FROM asks WHERE owner = $1 AND process = $2";
        tx.run(sql, values![owner.id(), process]).await?;
    }
    Ok(Taken {
        amount: Nanos::new(amount),
        held: Nanos::new(held + amount),
        others_hold: others > 0,
        period_start: Some(Millis(period_start)).filter(|start| start.0 != 0),
    })
}

/// What all processes together may hold of an owner who has a ceiling, and the period that it belongs to. The owner
/// stays locked.
async fn ceiling(tx: &mut Tx, owner: Owner, now: Millis) -> Result<(i64, i64)> {
    let unlimited = |what: &str| Error::Refused(format!("the {what} has no ceiling: nothing of it is taken"));
    match owner {
        Owner::Account(id) => {
            let account = accounts::locked(tx, id).await?;
            let ceiling = accounts::ceiling(&account.billing, account.balance);
            Ok((ceiling.ok_or_else(|| unlimited("account"))?, 0))
        }
        Owner::Key(id) => {
            let mut quota = keys::quota(tx, id).await?;
            let most = quota.most.ok_or_else(|| unlimited("key"))?;
            let start = quota.period.map_or(0, |period| period.start(now).0);
            if start > quota.period_start {
                quota = Quota {
                    period_start: start,
                    spent: 0,
                    ..quota
                };
                let sql = "UPDATE keys SET period_start = $2, spent = 0 WHERE id = $1";
                tx.run(sql, values![id, start]).await?;
            }
            Ok((most.saturating_sub(quota.spent), quota.period_start))
        }
    }
}

/// Gives part of it back.
pub(super) async fn give_back(tx: &mut Tx, process: Id, owner: Owner, amount: Nanos) -> Result<()> {
    let more = || Error::Refused("the process does not hold so much".to_owned());
    if amount.is_negative() {
        return Err(more());
    }
    let period = match owner {
        Owner::Account(id) => accounts::locked(tx, id).await.map(|_| None)?,
        Owner::Key(id) => keys::quota(tx, id).await?.period,
    };
    let sql = "UPDATE allotments SET amount = amount - $3 WHERE owner = $1 AND process = $2 AND amount >= $3";
    if amount.is_zero() || tx.run(sql, values![owner.id(), process, amount]).await? == 1 {
        let sql = "DELETE FROM allotments WHERE owner = $1 AND process = $2 AND amount = 0";
        tx.run(sql, values![owner.id(), process]).await?;
        return Ok(());
    }
    let sql = "SELECT amount FROM allotments WHERE owner = $1 AND process = $2";
    match (tx.row(sql, values![owner.id(), process]).await?, period) {
        // It was of a period that has passed, and went with it.
        (None, Some(_)) => Ok(()),
        _ => Err(more()),
    }
}

/// Asks the others for some.
pub(super) async fn ask(tx: &mut Tx, process: Id, owner: Owner, amount: Nanos) -> Result<()> {
    processes::registered(tx, process).await?;
    let sql = "INSERT INTO asks (owner, process, kind, amount, time) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (owner, process) DO UPDATE SET amount = excluded.amount, time = excluded.time";
    let values = values![owner.id(), process, kind(owner), amount, Millis::now()];
    tx.run(sql, values).await.map(drop)
}

/// What all processes hold of the owner, in the period that began then (0: there is none).
pub(super) async fn held(tx: &mut Tx, owner: Id, period_start: i64) -> Result<i64> {
    let sql = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM allotments WHERE owner = $1 AND period_start = $2";
    tx.one(sql, values![owner, period_start]).await?.next()
}
