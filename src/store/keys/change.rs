//! Keys: how they are made and changed.

use super::locked;
use crate::money::Nanos;
use crate::store::session::Tx;
use crate::store::value::{json, values};
use crate::store::{
    Error, Id, Key, KeyChange, KeyStatus, KeyTerms, Millis, NewKey, OldHash, Result, accounts, allotments, meta,
};

/// Makes one.
pub(in crate::store) async fn create(tx: &mut Tx, new: &NewKey) -> Result<Key> {
    accounts::locked(tx, new.account).await?;
    let now = Millis::now();
    fresh(tx, &new.hash, now).await?;
    let mut key = Key {
        id: meta::id(tx).await?,
        account: new.account,
        terms: new.terms.clone(),
        hash: new.hash,
        prefix: new.prefix.clone(),
        last4: new.last4.clone(),
        old: None,
        status: KeyStatus::Enabled,
        used: Nanos::ZERO,
        period_start: None,
        spent: Nanos::ZERO,
        sealed: new.sealed.clone(),
        created: now,
        last_used: None,
        revision: 0,
    };
    valid(&key.terms)?;
    key.period_start = key.terms.period.map(|period| period.start(now));
    write(tx, &mut key).await?;
    Ok(key)
}

/// A hash that no living key has, also not as its old one.
async fn fresh(tx: &mut Tx, hash: &[u8; 32], now: Millis) -> Result<()> {
    let sql = "SELECT id FROM keys WHERE old_hash = $1 AND old_until > $2 LIMIT 1";
    match tx.row(sql, values![hash, now]).await? {
        Some(_) => Err(Error::Conflict("the hash is taken".to_owned())),
        None => Ok(()),
    }
}

fn valid(terms: &KeyTerms) -> Result<()> {
    if terms.quota.is_some_and(Nanos::is_negative) {
        return Err(Error::Refused("a quota is not negative".to_owned()));
    }
    Ok(())
}

/// Writes it with a new revision: all that is not of charges.
async fn write(tx: &mut Tx, key: &mut Key) -> Result<()> {
    key.revision = meta::revise(tx).await?;
    let sql = "INSERT INTO keys (id, account, name, grp, models, ips, rpm, tpm, concurrency, quota, period, expires,
        hash, prefix, last4, old_hash, old_until, status, period_start, spent, sealed, created, revision, used)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
        $23, 0)
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, grp = excluded.grp, models = excluded.models,
        ips = excluded.ips, rpm = excluded.rpm, tpm = excluded.tpm, concurrency = excluded.concurrency,
        quota = excluded.quota, period = excluded.period, expires = excluded.expires, hash = excluded.hash,
        prefix = excluded.prefix, last4 = excluded.last4, old_hash = excluded.old_hash,
        old_until = excluded.old_until, status = excluded.status, period_start = excluded.period_start,
        spent = excluded.spent, sealed = excluded.sealed, revision = excluded.revision";
    let terms = &key.terms;
    let values = values![
        key.id,
        key.account,
        &terms.name,
        &terms.group,
        terms.models.as_ref().map(json).transpose()?,
        json(&terms.ips)?,
        terms.rpm,
        terms.tpm,
        terms.concurrency,
        terms.quota,
        terms.period.map(|period| i64::from(period as u8) + 1),
        terms.expires,
        &key.hash,
        &key.prefix,
        &key.last4,
        key.old.as_ref().map(|old| &old.hash[..]),
        key.old.map(|old| old.until),
        i64::from(key.status as u8),
        key.period_start.unwrap_or_default(),
        key.spent,
        key.sealed.as_deref(),
        key.created,
        key.revision,
    ];
    tx.run(sql, values).await.map(drop)
}

/// Changes one.
pub(in crate::store) async fn change(tx: &mut Tx, id: Id, change: &KeyChange) -> Result<Key> {
    let mut key = locked(tx, id).await?;
    if key.status == KeyStatus::Deleted {
        return Err(Error::Refused("the key is deleted".to_owned()));
    }
    match change {
        KeyChange::Terms { terms, revision } => {
            if key.revision != *revision {
                return Err(Error::Conflict("the key was changed meanwhile".to_owned()));
            }
            set_terms(tx, &mut key, terms).await?;
        }
        KeyChange::Status(status) if key.status == *status => return Ok(key),
        KeyChange::Status(status) => set_status(&mut key, *status)?,
        KeyChange::Rotate {
            hash,
            prefix,
            last4,
            sealed,
            overlap,
        } => {
            if key.status == KeyStatus::Revoked {
                return Err(Error::Refused("the key is revoked".to_owned()));
            }
            fresh(tx, hash, Millis::now()).await?;
            key.old = overlap.map(|until| OldHash { hash: key.hash, until });
            key.hash = *hash;
            key.prefix.clone_from(prefix);
            key.last4.clone_from(last4);
            key.sealed.clone_from(sealed);
        }
    }
    write(tx, &mut key).await?;
    Ok(key)
}

/// A quota that is new, or that starts anew differently, begins with nothing spent. One that only becomes smaller still
/// covers what is spent and held: granted − charged is never negative.
async fn set_terms(tx: &mut Tx, key: &mut Key, terms: &KeyTerms) -> Result<()> {
    valid(terms)?;
    let start = terms.period.map(|period| period.start(Millis::now()));
    let anew = key.terms.period != terms.period || key.terms.quota.is_none() || start > key.period_start;
    if anew {
        key.period_start = start;
        key.spent = Nanos::ZERO;
    }
    if let Some(quota) = terms.quota {
        let held = allotments::held(tx, key.id, key.period_start.unwrap_or_default().0).await?;
        let least = key.spent.saturating_add(Nanos::new(held));
        if quota < least {
            let why = format!("{least} USD of the quota are already spent or reserved");
            return Err(Error::Refused(why));
        }
    }
    key.terms = terms.clone();
    Ok(())
}

/// A key that has ended keeps nothing that could revive it.
fn set_status(key: &mut Key, status: KeyStatus) -> Result<()> {
    if key.status == KeyStatus::Revoked && status != KeyStatus::Deleted {
        return Err(Error::Refused("the key is revoked".to_owned()));
    }
    key.status = status;
    if matches!(status, KeyStatus::Revoked | KeyStatus::Deleted) {
        key.old = None;
        key.sealed = None;
    }
    Ok(())
}
