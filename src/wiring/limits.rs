//! Whose limits a request counts against, and which limits those are.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use tollgate_layers::rate_limit::Picks;

use super::Caller;
use crate::config::Limits;

/// What a limit counts by. Names are [`Numbers`] here: a request touches a dozen counters, and hashes no text for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// A group's limit counts for each account.
    Group {
        /// Whose requests.
        account: u64,
        /// Of which group's keys.
        group: u64,
    },
    /// A key's own limit.
    Key(u64),
    /// A model's limit counts for each account.
    Model {
        /// Whose requests.
        account: u64,
        /// For which model.
        model: u64,
    },
}

/// A number for every name of a configuration. A name keeps its number for as long as the process runs, so that a
/// reload resets no count.
#[derive(Debug, Default)]
pub struct Numbers(Mutex<HashMap<Arc<str>, u64>>);

impl Numbers {
    /// The number of `name`: a new one, if it was never asked for.
    pub fn of(&self, name: &Arc<str>) -> u64 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = known.len() as u64;
        *known.entry(Arc::clone(name)).or_insert(next)
    }
}

/// The limits of the caller's group and key, as `which` reads them.
pub fn of_caller(caller: &Caller, which: impl Fn(&Limits) -> Option<u64>) -> Picks<Counted> {
    let key = caller.key();
    let group = which(&key.group.limits).map(|limit| {
        let (account, group) = (caller.account_number(), caller.group_number());
        (Counted::Group { account, group }, limit)
    });
    let own = which(&key.limits).map(|limit| (Counted::Key(caller.key_number()), limit));
    group.into_iter().chain(own).collect()
}

/// The `limits` of the model of this number, as `which` reads them.
pub fn of_model(
    caller: &Caller,
    model: u64,
    limits: &Limits,
    which: impl Fn(&Limits) -> Option<u64>,
) -> Picks<Counted> {
    let account = caller.account_number();
    let limit = which(limits).map(|limit| (Counted::Model { account, model }, limit));
    limit.into_iter().collect()
}

/// Requests a minute.
pub fn rpm(limits: &Limits) -> Option<u64> {
    limits.rpm.map(NonZeroU64::get)
}

/// Tokens a minute.
pub fn tpm(limits: &Limits) -> Option<u64> {
    limits.tpm.map(NonZeroU64::get)
}

/// Requests at once.
pub fn concurrency(limits: &Limits) -> Option<u64> {
    limits.concurrency.map(|most| most.get().into())
}
