//! What a path or a field names: by id, or by name.

use super::Api;
use super::failure::{Failure, Result};
use super::read::Problems;
use crate::store::{Account, Error, Id, Key, KeyStatus};

impl Api {
    /// The account of this id or name.
    pub(super) async fn account(&self, named: &str) -> Result<Account> {
        if let Ok(id) = named.parse::<Id>() {
            match self.store().account(id).await {
                Err(Error::NotFound(_)) => {}
                found => return Ok(found?),
            }
        }
        Ok(self.store().account_named(named).await?)
    }

    /// The account that a field names; none there is a problem of the field.
    pub(super) async fn account_in(
        &self,
        field: &str,
        named: Option<&str>,
        problems: &mut Problems,
    ) -> Result<Option<Account>> {
        let Some(named) = named else {
            return Ok(None);
        };
        match self.account(named).await {
            Err(failure) if failure.is_not_found() => {
                problems.add(field, "there is no such account");
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    /// The key of this id, or of this name when only one has it; in one account, or in all. Deleted keys are not there.
    pub(super) async fn key(&self, named: &str, account: Option<&str>) -> Result<Key> {
        let account = match account {
            Some(account) => Some(self.account(account).await?.id),
            None => None,
        };
        let gone = || Failure::not_found("key");
        if let Ok(id) = named.parse::<Id>() {
            match self.store().key(id).await {
                Ok(key) if account.is_some_and(|account| key.account != account) => return Err(gone()),
                Ok(key) if key.status == KeyStatus::Deleted => return Err(gone()),
                Err(Error::NotFound(_)) => {}
                found => return Ok(found?),
            }
        }
        let mut found = self.store().keys_named(account, named).await?;
        match (found.pop(), found.len()) {
            (None, _) => Err(gone()),
            (Some(key), 0) => Ok(key),
            (Some(_), more) => Err(Failure::ambiguous(format!(
                "{} keys have this name: name the key by its id, or its account with ?account=.",
                more + 1
            ))),
        }
    }
}
