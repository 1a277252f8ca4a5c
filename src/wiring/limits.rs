//! Whose limits a request counts against, and which limits those are.

use std::num::NonZeroU64;
use std::sync::Arc;

use tollgate_layers::rate_limit::Picks;

use super::Caller;
use crate::config::{Limits, Model};

/// What a limit counts by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// A group's limit counts for each account.
    Group {
        /// Whose requests.
        account: Arc<str>,
        /// Of which group's keys.
        group: Arc<str>,
    },
    /// A key's own limit.
    Key(Arc<str>),
    /// A model's limit counts for each account.
    Model {
        /// Whose requests.
        account: Arc<str>,
        /// For which model.
        model: Arc<str>,
    },
}

/// The limits of the caller's group and key, as `which` reads them.
pub fn of_caller(caller: &Caller, which: impl Fn(&Limits) -> Option<u64>) -> Picks<Counted> {
    let key = caller.key();
    let group = which(&key.group.limits).map(|limit| {
        let counted = Counted::Group {
            account: Arc::clone(caller.account()),
            group: Arc::clone(&key.group.name),
        };
        (counted, limit)
    });
    let own = which(&key.limits).map(|limit| (Counted::Key(Arc::clone(&key.name)), limit));
    group.into_iter().chain(own).collect()
}

/// The limit of a model, as `which` reads it.
pub fn of_model(caller: &Caller, model: &Model, which: impl Fn(&Limits) -> Option<u64>) -> Picks<Counted> {
    let limit = which(&model.limits).map(|limit| {
        let counted = Counted::Model {
            account: Arc::clone(caller.account()),
            model: Arc::clone(&model.name),
        };
        (counted, limit)
    });
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
