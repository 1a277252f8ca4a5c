//! Whose limits a request counts against, and which limits those are.
//!
//! They are whole ones here: which part of them this process enforces, the buckets and slots know from
//! their [`Share`](super::Share), when they count. So an answer shows the limit that was promised, and a request that was under way when the share
//! changed is settled by the new one.

use std::num::NonZeroU64;

use tollgate_layers::rate_limit::Picks;

use super::Caller;
use crate::config::Limits;
pub use crate::directory::Numbers;

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

/// The limits of the caller's group and key, as `which` reads them.
pub fn of_caller(caller: &Caller, which: impl Fn(&Limits) -> Option<u64>) -> Picks<Counted> {
    let group = caller.group().and_then(|group| which(&group.limits)).map(|limit| {
        let (account, group) = (caller.account_number(), caller.group_number());
        (Counted::Group { account, group }, limit)
    });
    let own = which(&caller.principal().limits).map(|limit| (Counted::Key(caller.key_number()), limit));
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
