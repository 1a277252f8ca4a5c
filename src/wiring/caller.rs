//! Who is calling: the principal that auth puts into a request, and the checks that need no more than it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use rust_decimal::Decimal;
use tollgate_layers::bearer_auth::{ApiKey, Verdict, Verify};
use tollgate_layers::{Reason, Rejection};

use super::limits::Numbers;
use crate::config::{Config, Group};
use crate::directory::{Directory, Member, Principal};

/// A key that was presented, with what it may do. Clones share it.
#[derive(Clone, Debug)]
pub struct Caller {
    principal: Arc<Principal>,
    /// As the configuration has it that the request began on; absent, it has none of this name.
    group: Option<Arc<Group>>,
    group_number: u64,
}

/// Looks keys up in the directory.
#[derive(Clone, Debug)]
pub struct Keys {
    directory: Directory,
    groups: Arc<Groups>,
}

/// By name, each with what its limits are counted by.
type Groups = HashMap<Arc<str>, (Arc<Group>, u64)>;

// === impl Keys ===

impl Keys {
    /// Finds callers, with the groups of `config`.
    pub fn new(directory: Directory, config: &Config, numbers: &Numbers) -> Self {
        let groups = config.groups.iter();
        let groups = groups.map(|(name, group)| (Arc::clone(name), (Arc::clone(group), numbers.of(name))));
        Self {
            directory,
            groups: Arc::new(groups.collect()),
        }
    }

    fn caller(&self, principal: Arc<Principal>) -> Caller {
        let (group, group_number) = self.groups.get(&principal.group).cloned().unzip();
        Caller {
            group,
            group_number: group_number.unwrap_or_default(),
            principal,
        }
    }
}

impl Verify for Keys {
    type Principal = Caller;
    type Future = std::future::Ready<Result<Caller, Rejection>>;

    fn verify(&self, key: ApiKey<'_>, _: &http::Extensions) -> Verdict<Caller> {
        let found = self.directory.get(&key.sha256());
        let caller = found.map(|principal| self.caller(principal));
        Verdict::Now(caller.ok_or_else(|| Reason::KeyInvalid.into()))
    }
}

// === impl Caller ===

impl Caller {
    /// The key, and whose it is.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// The key's group; absent where [`check_state`](Self::check_state) refuses.
    pub fn group(&self) -> Option<&Arc<Group>> {
        self.group.as_ref()
    }

    /// The factor on prices.
    pub fn multiplier(&self) -> Decimal {
        self.group.as_ref().map_or(Decimal::ONE, |group| group.multiplier)
    }

    /// What the key's own limits are counted by.
    pub fn key_number(&self) -> u64 {
        self.principal.number
    }

    /// Whose requests the limits of a group and of a model count with. A key without an account stands for itself.
    pub fn account_number(&self) -> u64 {
        self.principal.account_number
    }

    /// The group's part in what its limits are counted by.
    pub fn group_number(&self) -> u64 {
        self.group_number
    }

    /// Whether the key still lives, its account and its group with it.
    pub fn check_state(&self) -> Result<(), Rejection> {
        let principal = &self.principal;
        if principal.disabled {
            return Err(Reason::KeyDisabled.into());
        }
        if principal.expires.is_some_and(|end| SystemTime::now() >= end) {
            return Err(Reason::KeyExpired.into());
        }
        let mut may_use_group = self.group.is_some();
        if let Member::Stored { holder, .. } = &principal.member {
            let account = holder.facts();
            if account.disabled {
                return Err(Reason::AccountDisabled.into());
            }
            may_use_group &= account.allows_group(&principal.group);
        }
        if !may_use_group {
            return Err(Reason::GroupUnknown.into());
        }
        Ok(())
    }

    /// Whether the key may be used from this address.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.principal.allows_address(address)
    }

    /// Whether both the key and its group allow the model of this name.
    pub fn allows_model(&self, model: &str) -> bool {
        let by_group = self.group.as_ref().is_some_and(|group| group.models.allows(model));
        by_group && self.principal.models.as_ref().is_none_or(|models| models.allows(model))
    }
}

/// Whether one of the networks holds the address, which is never an IPv4-mapped one here.
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}
