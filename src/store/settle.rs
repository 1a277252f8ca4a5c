//! Usage rows and their charges.

use std::collections::BTreeMap;

use super::bulk::Bulk;
use super::bulk::Kind::Int;
use super::bundle::Settled;
use super::line::Mark;
use super::purse::{Purse, Share};
use super::session::Tx;
use super::value::values;
use super::{Billing, Id, Line, Millis, Result, accounts, charges, meta, rollups, rows};
use crate::money::Nanos;

static CHARGE_ACCOUNTS: Bulk = Bulk::new(
    &[Int, Int],
    "UPDATE accounts SET balance = balance - v.column2, used = used + v.column2 FROM (",
    ") AS v WHERE accounts.id = v.column1",
);
static CHARGE_KEYS: Bulk = Bulk::new(
    &[Int, Int, Int, Int, Int],
    "UPDATE keys SET used = used + v.column2, spent = v.column3, period_start = v.column4, last_used = v.column5
     FROM (",
    ") AS v WHERE keys.id = v.column1",
);
static HOLD: Bulk = Bulk::new(
    &[Int, Int, Int],
    "UPDATE allotments SET amount = v.column3 FROM (",
    ") AS v WHERE allotments.owner = v.column1 AND allotments.process = v.column2",
);

/// A key while its rows are settled.
struct Key {
    quota: Option<i64>,
    periodic: bool,
    period_start: i64,
    spent: i64,
    used: i64,
    last_used: Option<i64>,
    shares: Vec<Share>,
    /// Of the period that began at `period_start`.
    purse: Purse,
    touched: bool,
}

/// All that the batch is charged to, locked.
struct Owners {
    process: Id,
    accounts: BTreeMap<Id, Purse>,
    keys: BTreeMap<Id, Key>,
}

/// Settles rows, each once. `false`: some are there that none should be, which a `look` will see; then nothing may be
/// committed.
pub(super) async fn settle(tx: &mut Tx, process: Id, lines: &[Line<'_>], look: bool) -> Result<bool> {
    let open = meta::open_day(tx).await?;
    // It stays, and whoever else settles for it waits.
    let sql = "SELECT settled FROM processes WHERE id = $1 FOR NO KEY UPDATE";
    let until = match tx.row(sql, values![process]).await? {
        Some(mut row) => Some(row.next::<Id>()?),
        None => None,
    };
    if until.is_none() {
        tx.lock("SELECT pg_advisory_xact_lock($1)", values![process]).await?;
    }
    let mut owners = Owners::lock(tx, process, lines).await?;
    // Rows come in the order of their ids, unless they are sent again, or their process is gone.
    let all_new = until.is_some_and(|until| lines.first().is_none_or(|first| first.id() > until))
        && lines.is_sorted_by(|a, b| a.id() < b.id());
    let mut known = if all_new && !look {
        None
    } else {
        Some(rows::known(tx, lines).await?)
    };
    let mut settled = Settled::default();
    for line in lines {
        if known.as_mut().is_some_and(|known| !known.insert(line.id())) {
            continue;
        }
        let mark = line.mark();
        let (charge, written_off) = owners.charge(mark);
        settled.add(*line, charge, written_off, mark.time.day().max(open))?;
    }
    if !rows::insert(tx, &settled).await? {
        return Ok(false);
    }
    rollups::add(tx, &settled).await?;
    charges::add(tx, &settled).await?;
    owners.write(tx).await?;
    if let (Some(until), Some(last)) = (until, lines.iter().map(Line::id).max()) {
        let sql = "UPDATE processes SET settled = $2 WHERE id = $1";
        tx.run(sql, values![process, last.max(until)]).await?;
    }
    Ok(true)
}

impl Owners {
    /// Accounts before keys, each by id.
    async fn lock(tx: &mut Tx, process: Id, rows: &[Line<'_>]) -> Result<Self> {
        let mut accounts = lock_accounts(tx, rows).await?;
        let mut keys = lock_keys(tx, process, rows).await?;
        let ids = accounts.keys().chain(keys.keys()).map(|id| id.get());
        let sql = format!(
            "SELECT owner, process, amount, period_start FROM allotments WHERE owner {}",
            tx.among()
        );
        let list = tx.list(ids);
        let mut shares = BTreeMap::<Id, Vec<Share>>::new();
        for mut row in tx.rows(&sql, vec![list]).await? {
            let share = (row.next()?, row.next()?, row.next()?, row.next()?);
            let (owner, process, amount, period_start) = share;
            let share = Share {
                process,
                amount,
                period_start,
            };
            shares.entry(owner).or_default().push(share);
        }
        for (id, key) in &mut keys {
            key.shares = shares.remove(id).unwrap_or_default();
            key.enter(process, key.period_start);
        }
        let purse = |id, ceiling| Purse::new(process, ceiling, 0, shares.get(&id).map_or(&[], Vec::as_slice));
        let accounts = std::mem::take(&mut accounts)
            .into_iter()
            .map(|(id, ceiling)| (id, purse(id, ceiling)));
        Ok(Self {
            process,
            accounts: accounts.collect(),
            keys,
        })
    }

    /// What of the row's charge can be taken, and what is written off with the rest.
    fn charge(&mut self, row: &Mark) -> (Nanos, Nanos) {
        let asked = row.charge.get().max(0);
        let period_start = row.period_start.map_or(0, |start| start.0);
        let key = self.keys.get_mut(&row.key);
        let account = self.accounts.get_mut(&row.account);
        // An account that is not there owes nothing; that the row was sent is kept.
        let mut taken = account.as_ref().map_or(0, |purse| asked.min(purse.room()));
        if let Some(key) = key {
            if key.periodic && period_start > key.period_start {
                key.enter(self.process, period_start);
            }
            // A charge of a period that has passed was covered when it was reserved, and no longer counts.
            if period_start == key.period_start {
                taken = taken.min(key.purse.room());
                key.purse.charge(taken);
            }
            key.used = key.used.saturating_add(taken);
            if taken > 0 || row.answered {
                key.last_used = key.last_used.max(Some(row.time.0));
                key.touched = true;
            }
        }
        if let Some(account) = account {
            account.charge(taken);
        }
        let rest = Nanos::new(asked - taken);
        (Nanos::new(taken), row.written_off.saturating_add(rest))
    }

    async fn write(&self, tx: &mut Tx) -> Result<()> {
        let charged: Vec<_> = self.accounts.iter().filter(|(_, purse)| purse.charged() > 0).collect();
        CHARGE_ACCOUNTS
            .run(tx, &charged, |(id, purse), values| {
                values.extend(values![**id, purse.charged()]);
            })
            .await?;
        let touched: Vec<_> = self.keys.iter().filter(|(_, key)| key.touched).collect();
        CHARGE_KEYS
            .run(tx, &touched, |(id, key), values| {
                let spent = key.spent.saturating_add(key.purse.charged());
                values.extend(values![**id, key.used, spent, key.period_start, key.last_used]);
            })
            .await?;
        let accounts = self.accounts.iter().map(|(id, purse)| (*id, *purse));
        let purses = accounts.chain(self.keys.iter().map(|(id, key)| (*id, key.purse)));
        let held: Vec<_> = purses.filter_map(|(id, purse)| Some((id, purse.left()?))).collect();
        HOLD.run(tx, &held, |(id, left), values| {
            values.extend(values![*id, self.process, *left]);
        })
        .await?;
        Ok(())
    }
}

impl Key {
    /// Counts from this period on; what was charged in the one before has passed with it.
    fn enter(&mut self, process: Id, period_start: i64) {
        if period_start != self.period_start {
            (self.period_start, self.spent) = (period_start, 0);
        }
        let ceiling = self.quota.map(|quota| quota.saturating_sub(self.spent));
        self.purse = Purse::new(process, ceiling, period_start, &self.shares);
    }
}

/// Each of them once.
fn once(ids: impl Iterator<Item = Id>) -> Vec<i64> {
    let mut ids: Vec<_> = ids.map(Id::get).collect();
    ids.dedup();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What each account may spend in all.
async fn lock_accounts(tx: &mut Tx, rows: &[Line<'_>]) -> Result<BTreeMap<Id, Option<i64>>> {
    let sql = format!(
        "SELECT id, balance, postpaid, credit_limit FROM accounts WHERE id {} ORDER BY id FOR UPDATE",
        tx.among()
    );
    let list = tx.list(once(rows.iter().map(Line::account)));
    let mut accounts = BTreeMap::new();
    for mut row in tx.rows(&sql, vec![list]).await? {
        let (id, balance, postpaid, credit_limit) = (row.next()?, row.next()?, row.next()?, row.next()?);
        let billing = if postpaid {
            Billing::Postpaid { credit_limit }
        } else {
            Billing::Prepaid
        };
        accounts.insert(id, accounts::ceiling(&billing, balance));
    }
    Ok(accounts)
}

/// Keys, without what processes hold of them.
async fn lock_keys(tx: &mut Tx, process: Id, rows: &[Line<'_>]) -> Result<BTreeMap<Id, Key>> {
    let sql = format!(
        "SELECT id, quota, period, period_start, spent, last_used FROM keys WHERE id {} ORDER BY id FOR UPDATE",
        tx.among()
    );
    let list = tx.list(once(rows.iter().map(Line::key)));
    let mut keys = BTreeMap::new();
    for mut row in tx.rows(&sql, vec![list]).await? {
        let (id, quota, period) = (row.next()?, row.next()?, row.next::<Option<i64>>()?);
        let key = Key {
            quota,
            periodic: period.is_some(),
            period_start: row.next()?,
            spent: row.next()?,
            used: 0,
            last_used: row.next::<Option<Millis>>()?.map(|time| time.0),
            shares: Vec::new(),
            purse: Purse::new(process, None, 0, &[]),
            touched: false,
        };
        keys.insert(id, key);
    }
    Ok(keys)
}
