//! The configuration's fixed keys, written into the store.

use crate::config::{self, Config};
use crate::store::{Account, Billing, Error, Key, KeyChange, KeyStatus, KeyTerms, Millis, NewAccount, NewKey, Period};

use super::{Backing, Directory};

/// What is shown of a key that only its hash is known of.
const UNKNOWN: &str = "";

impl Directory {
    /// Makes the store's keys what the configuration says of its fixed ones. An account that is not there is made, with
    /// nothing in it; what was charged to a key stays.
    pub(super) async fn import(&self, config: &Config) -> Result<(), Error> {
        let Some(backing) = &self.0.backing else { return Ok(()) };
        for key in &config.keys {
            let name = key.account.as_ref().unwrap_or(&key.name);
            let account = backing.account(name).await?;
            let made = backing.key(&account, key).await;
            if let Err(Error::Conflict(_)) = made {
                // Another process does the same at this moment, and was quicker: what it made is looked at.
                backing.key(&account, key).await?;
            } else {
                made?;
            }
        }
        Ok(())
    }
}

impl Backing {
    async fn account(&self, name: &str) -> Result<Account, Error> {
        match self.store.account_named(name).await {
            Err(Error::NotFound(_)) => {}
            found => return found,
        }
        let new = NewAccount {
            name: name.to_owned(),
            billing: Billing::Prepaid,
            groups: None,
        };
        let made = self.store.create_account(new).await;
        match made {
            // Another process was quicker.
            Err(Error::Conflict(_)) => self.store.account_named(name).await,
            made => {
                tracing::info!(account = name, "a fixed key's account was made; it has no credit yet");
                made
            }
        }
    }

    async fn key(&self, account: &Account, fixed: &config::Key) -> Result<Key, Error> {
        let terms = terms(fixed);
        let named = self.store.keys_named(Some(account.id), &fixed.name).await?;
        let Some(known) = named.into_iter().next() else {
            let new = NewKey {
                account: account.id,
                terms,
                hash: fixed.sha256,
                prefix: UNKNOWN.to_owned(),
                last4: UNKNOWN.to_owned(),
                sealed: None,
            };
            return self.store.create_key(new).await;
        };
        let mut key = known;
        if key.hash != fixed.sha256 {
            let rotate = KeyChange::Rotate {
                hash: fixed.sha256,
                prefix: UNKNOWN.to_owned(),
                last4: UNKNOWN.to_owned(),
                sealed: None,
                overlap: None,
            };
            key = self.store.change_key(key.id, rotate).await?;
        }
        if key.terms != terms {
            let change = KeyChange::Terms {
                terms: Box::new(terms),
                revision: key.revision,
            };
            key = self.store.change_key(key.id, change).await?;
        }
        if key.status == KeyStatus::Revoked {
            tracing::warn!(key = &*fixed.name, "a fixed key was revoked in the store, and stays so");
        }
        Ok(key)
    }
}

fn terms(key: &config::Key) -> KeyTerms {
    KeyTerms {
        name: key.name.to_string(),
        group: key.group.name.to_string(),
        models: key.models.as_ref().map(|models| models.patterns().to_vec()),
        ips: key.ips.iter().map(ToString::to_string).collect(),
        rpm: key.limits.rpm.map(Into::into),
        tpm: key.limits.tpm.map(Into::into),
        concurrency: key.limits.concurrency.map(|most| u64::from(most.get())),
        quota: key.quota.map(|quota| quota.amount),
        period: key.quota.and_then(|quota| quota.period).map(|period| match period {
            config::Period::Day => Period::Day,
            config::Period::Week => Period::Week,
            config::Period::Month => Period::Month,
        }),
        expires: key.expires.map(Millis::from),
    }
}
