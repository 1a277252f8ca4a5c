//! Ledger entries: every change of a balance but the charges of open days.

use super::session::{Row, Tx};
use super::value::values;
use super::{Account, Entry, EntryKind, Error, Id, Millis, Page, Result, Topup, accounts, allotments, meta};
use crate::money::Nanos;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, account, kind, amount, time, author, note, source, external_ref, subject, day, count FROM entries ",
            $rest
        )
    };
}

fn read(mut row: Row) -> Result<Entry> {
    let (id, account, kind) = (row.next()?, row.next()?, row.next::<String>()?);
    let (amount, time, by, note) = (row.next()?, row.next()?, row.next()?, row.next()?);
    let (source, external_ref, subject) = (row.next::<Option<_>>()?, row.next()?, row.next::<Option<_>>()?);
    let broken = || Error::Corrupt(format!("an entry of kind {kind} cannot be read"));
    let subject = || subject.ok_or_else(broken);
    let kind = match kind.as_str() {
        "topup" => EntryKind::Topup {
            source: source.ok_or_else(broken)?,
            external_ref,
        },
        "bonus" => EntryKind::Bonus { topup: subject()? },
        "promotion" => EntryKind::Promotion,
        "redemption" => EntryKind::Redemption { code: subject()? },
        "charges" => EntryKind::Charges {
            key: subject()?,
            day: row.next::<Option<_>>()?.ok_or_else(broken)?,
            count: row.next::<Option<_>>()?.ok_or_else(broken)?,
        },
        "adjustment" => EntryKind::Adjustment,
        _ => return Err(broken()),
    };
    Ok(Entry {
        id,
        account,
        kind,
        amount,
        time,
        by,
        note,
    })
}

/// A page of an account's.
pub(super) async fn list(tx: &mut Tx, account: Id, page: Page) -> Result<Vec<Entry>> {
    let (before, limit) = accounts::bounds(page);
    let sql = select!("WHERE account = $1 AND id < $2 ORDER BY id DESC LIMIT $3");
    tx.rows(sql, values![account, before, limit])
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// Writes one that is not of charges.
pub(super) async fn write(tx: &mut Tx, entry: &Entry, idempotency_key: Option<&str>) -> Result<()> {
    let (kind, source, external_ref, subject) = match &entry.kind {
        EntryKind::Topup { source, external_ref } => ("topup", Some(source.as_str()), external_ref.as_deref(), None),
        EntryKind::Bonus { topup } => ("bonus", None, None, Some(*topup)),
        EntryKind::Promotion => ("promotion", None, None, None),
        EntryKind::Redemption { code } => ("redemption", None, None, Some(*code)),
        EntryKind::Adjustment => ("adjustment", None, None, None),
        EntryKind::Charges { .. } => return Err(Error::Refused("charges are entered by the close".to_owned())),
    };
    let sql = "INSERT INTO entries (id, account, kind, amount, time, author, note, source, external_ref,
        idempotency_key, subject, closed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0)";
    let Entry {
        id,
        account,
        amount,
        time,
        by,
        note,
        ..
    } = entry;
    let values = values![
        *id,
        *account,
        kind,
        *amount,
        *time,
        by,
        note,
        source,
        external_ref,
        idempotency_key,
        subject
    ];
    tx.run(sql, values).await.map(drop)
}

/// Adds money and its bonus, once.
pub(super) async fn topup(tx: &mut Tx, topup: &Topup) -> Result<Vec<Entry>> {
    if topup.amount <= Nanos::ZERO || topup.bonus.is_negative() {
        return Err(Error::Refused("a top-up adds something".to_owned()));
    }
    meta::open_day(tx).await?;
    let account = accounts::locked(tx, topup.account).await?;
    if let Some(first) = first(tx, topup).await? {
        return Ok(first);
    }
    let total = topup.amount.checked_add(topup.bonus);
    let total = total.ok_or_else(|| Error::Refused("the balance would be more than can be held".to_owned()))?;
    let mut ids = meta::ids(tx, 2).await?;
    let mut next = || {
        ids.next()
            .ok_or_else(|| Error::Corrupt("there are no more ids".to_owned()))
    };
    let kind = if topup.source == "promotion" {
        EntryKind::Promotion
    } else {
        EntryKind::Topup {
            source: topup.source.clone(),
            external_ref: topup.external_ref.clone(),
        }
    };
    let mut entries = vec![entry(next()?, topup, kind, topup.amount)];
    if !topup.bonus.is_zero() {
        let kind = EntryKind::Bonus { topup: entries[0].id };
        entries.push(entry(next()?, topup, kind, topup.bonus));
    }
    for (i, entry) in entries.iter().enumerate() {
        let idempotency_key = topup.idempotency_key.as_deref().filter(|_| i == 0);
        write(tx, entry, idempotency_key).await?;
    }
    accounts::add(tx, &account, total).await?;
    Ok(entries)
}

fn entry(id: Id, topup: &Topup, kind: EntryKind, amount: Nanos) -> Entry {
    Entry {
        id,
        account: topup.account,
        kind,
        amount,
        time: Millis::now(),
        by: topup.by.clone(),
        note: topup.note.clone(),
    }
}

/// What the same top-up has entered before. Of the same name but another content: a conflict.
async fn first(tx: &mut Tx, topup: &Topup) -> Result<Option<Vec<Entry>>> {
    let by_ref = select!("WHERE external_ref = $1");
    let by_key = select!("WHERE account = $1 AND idempotency_key = $2");
    let mut found = None;
    if let Some(name) = &topup.external_ref {
        found = tx.row(by_ref, values![name]).await?.map(|row| ("external_ref", row));
    }
    if let (None, Some(key)) = (&found, &topup.idempotency_key) {
        found = tx
            .row(by_key, values![topup.account, key])
            .await?
            .map(|row| ("idempotency_key", row));
    }
    let Some((name, row)) = found else {
        return Ok(None);
    };
    let first = read(row)?;
    if first.account != topup.account || first.amount != topup.amount {
        return Err(Error::Conflict(format!("the {name} is taken by another top-up")));
    }
    let sql = select!("WHERE account = $1 AND id > $2 AND kind = 'bonus' AND subject = $2 ORDER BY id LIMIT 1");
    let bonus = tx
        .row(sql, values![first.account, first.id])
        .await?
        .map(read)
        .transpose()?;
    Ok(Some([Some(first), bonus].into_iter().flatten().collect()))
}

/// Adds to a balance, or takes what no process holds.
pub(super) async fn adjust(tx: &mut Tx, id: Id, amount: Nanos, reason: &str, by: &str) -> Result<Entry> {
    if amount.is_zero() {
        return Err(Error::Refused("an adjustment changes something".to_owned()));
    }
    meta::open_day(tx).await?;
    let account = accounts::locked(tx, id).await?;
    if amount.is_negative() {
        spendable(tx, &account, amount).await?;
    }
    let entry = Entry {
        id: meta::id(tx).await?,
        account: id,
        kind: EntryKind::Adjustment,
        amount,
        time: Millis::now(),
        by: by.to_owned(),
        note: Some(reason.to_owned()),
    };
    write(tx, &entry, None).await?;
    accounts::add(tx, &account, amount).await?;
    Ok(entry)
}

/// What is taken must be free.
async fn spendable(tx: &mut Tx, account: &Account, amount: Nanos) -> Result<()> {
    let Some(ceiling) = accounts::ceiling(&account.billing, account.balance) else {
        return Ok(());
    };
    let free = Nanos::new(ceiling.saturating_sub(allotments::held(tx, account.id, 0).await?));
    if free.saturating_add(amount).is_negative() {
        return Err(Error::Refused(format!("only {free} USD of the balance are free")));
    }
    Ok(())
}
