//! Accounts.

use super::session::{Row, Tx};
use super::value::{json, parsed, values};
use super::{Account, AccountEdit, Billing, Error, Id, Millis, NewAccount, Page, Result, allotments, meta};
use crate::money::Nanos;

/// The most that one page holds.
const MOST: u32 = 1000;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, postpaid, credit_limit, disabled, groups, balance, used, created, revision FROM accounts ",
            $rest
        )
    };
}

fn read(mut row: Row) -> Result<Account> {
    let (id, name, postpaid, credit_limit) = (row.next()?, row.next()?, row.next()?, row.next()?);
    let billing = if postpaid {
        Billing::Postpaid { credit_limit }
    } else {
        Billing::Prepaid
    };
    Ok(Account {
        id,
        name,
        billing,
        disabled: row.next()?,
        groups: row.next::<Option<String>>()?.as_deref().map(parsed).transpose()?,
        balance: row.next()?,
        used: row.next()?,
        created: row.next()?,
        revision: row.next()?,
    })
}

/// What an account of this balance may spend in all; `None`: there is no ceiling.
pub(super) const fn ceiling(billing: &Billing, balance: Nanos) -> Option<i64> {
    match billing {
        Billing::Prepaid => Some(balance.get()),
        Billing::Postpaid {
            credit_limit: Some(limit),
        } => Some(balance.get().saturating_add(limit.get())),
        Billing::Postpaid { credit_limit: None } => None,
    }
}

const fn stored(billing: &Billing) -> (bool, Option<Nanos>) {
    match billing {
        Billing::Prepaid => (false, None),
        Billing::Postpaid { credit_limit } => (true, *credit_limit),
    }
}

fn groups(groups: Option<&Vec<String>>) -> Result<Option<String>> {
    groups.map(json).transpose()
}

fn valid(billing: &Billing) -> Result<()> {
    match billing {
        Billing::Postpaid {
            credit_limit: Some(limit),
        } if limit.is_negative() => Err(Error::Refused("a credit limit is not negative".to_owned())),
        _ => Ok(()),
    }
}

/// Makes one.
pub(super) async fn create(tx: &mut Tx, new: &NewAccount) -> Result<Account> {
    valid(&new.billing)?;
    let id = meta::id(tx).await?;
    let revision = meta::revise(tx).await?;
    let (postpaid, limit) = stored(&new.billing);
    let sql = "INSERT INTO accounts
        (id, name, postpaid, credit_limit, disabled, groups, balance, used, created, revision)
        VALUES ($1, $2, $3, $4, 0, $5, 0, 0, $6, $7)";
    let groups = groups(new.groups.as_ref())?;
    let values = values![id, &new.name, postpaid, limit, groups, Millis::now(), revision];
    tx.run(sql, values).await?;
    get(tx, id).await
}

/// The one of this id.
pub(super) async fn get(tx: &mut Tx, id: Id) -> Result<Account> {
    let row = tx.row(select!("WHERE id = $1"), values![id]).await?;
    row.ok_or(Error::NotFound("account")).and_then(read)
}

/// The same, and nobody else changes it until the transaction ends.
pub(super) async fn locked(tx: &mut Tx, id: Id) -> Result<Account> {
    let row = tx.row(select!("WHERE id = $1 FOR UPDATE"), values![id]).await?;
    row.ok_or(Error::NotFound("account")).and_then(read)
}

/// The one of this name.
pub(super) async fn named(tx: &mut Tx, name: &str) -> Result<Account> {
    let row = tx.row(select!("WHERE name = $1"), values![name]).await?;
    row.ok_or(Error::NotFound("account")).and_then(read)
}

/// A page of them.
pub(super) async fn list(tx: &mut Tx, page: Page) -> Result<Vec<Account>> {
    let sql = select!("WHERE id < $1 ORDER BY id DESC LIMIT $2");
    let (before, limit) = bounds(page);
    tx.rows(sql, values![before, limit])
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// All of them, by id.
pub(super) async fn all(tx: &mut Tx) -> Result<Vec<Account>> {
    tx.rows(select!("ORDER BY id"), values![])
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// Those that have changed, by revision.
pub(super) async fn since(tx: &mut Tx, revision: i64, limit: i64) -> Result<Vec<Account>> {
    let sql = select!("WHERE revision > $1 ORDER BY revision LIMIT $2");
    tx.rows(sql, values![revision, limit])
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// A page's bounds: below which id, and how many.
pub(super) fn bounds(page: Page) -> (i64, i64) {
    (page.before.map_or(i64::MAX, Id::get), i64::from(page.limit.min(MOST)))
}

/// Changes one.
pub(super) async fn edit(tx: &mut Tx, id: Id, edit: &AccountEdit) -> Result<Account> {
    let mut account = locked(tx, id).await?;
    if let Some(billing) = edit.billing {
        valid(&billing)?;
        if let Some(ceiling) = ceiling(&billing, account.balance) {
            let held = allotments::held(tx, id, 0).await?;
            if ceiling < held {
                let why = "more than that is already spent or reserved";
                return Err(Error::Refused(why.to_owned()));
            }
        }
        account.billing = billing;
    }
    account
        .name
        .clone_from(edit.name.as_ref().unwrap_or(&account.name.clone()));
    account.disabled = edit.disabled.unwrap_or(account.disabled);
    if let Some(groups) = &edit.groups {
        account.groups.clone_from(groups);
    }
    account.revision = meta::revise(tx).await?;
    let (postpaid, limit) = stored(&account.billing);
    let sql = "UPDATE accounts SET name = $2, postpaid = $3, credit_limit = $4, disabled = $5, groups = $6,
        revision = $7 WHERE id = $1";
    let groups = groups(account.groups.as_ref())?;
    let values = values![
        id,
        &account.name,
        postpaid,
        limit,
        account.disabled,
        groups,
        account.revision
    ];
    tx.run(sql, values).await?;
    Ok(account)
}

/// Adds to the balance of a locked account.
pub(super) async fn add(tx: &mut Tx, account: &Account, amount: Nanos) -> Result<()> {
    let balance = account.balance.checked_add(amount);
    let balance = balance.ok_or_else(|| Error::Refused("the balance would be more than can be held".to_owned()))?;
    let revision = meta::revise(tx).await?;
    let sql = "UPDATE accounts SET balance = $2, revision = $3 WHERE id = $1";
    tx.run(sql, values![account.id, balance, revision]).await.map(drop)
}
