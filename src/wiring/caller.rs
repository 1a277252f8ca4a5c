//! Who is calling: the principal that auth puts into a request, and the checks that need no more than it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use tollgate_layers::bearer_auth::StaticKeys;
use tollgate_layers::{Reason, Rejection};

use super::limits::Numbers;
use crate::config::{Config, Key};

/// A key that was presented, with what it may do. Clones share it.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: Arc<Key>,
    number: u64,
    account: u64,
    group: u64,
}

impl Caller {
    /// The key.
    pub fn key(&self) -> &Arc<Key> {
        &self.0.key
    }

    /// What the key's own limits are counted by.
    pub fn key_number(&self) -> u64 {
        self.0.number
    }

    /// Whose requests the limits of a group and of a model count with. A key without an account stands for itself.
    pub fn account_number(&self) -> u64 {
        self.0.account
    }

    /// The group's part in what its limits are counted by.
    pub fn group_number(&self) -> u64 {
        self.0.group
    }

    /// Whether the key still lives.
    pub fn check_state(&self) -> Result<(), Rejection> {
        match self.0.key.expires {
            Some(end) if SystemTime::now() >= end => Err(Reason::KeyExpired.into()),
            _ => Ok(()),
        }
    }

    /// Whether the key may be used from this address.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.0.key.ips.is_empty() || contains(&self.0.key.ips, address)
    }

    /// Whether both the key and its group allow the model of this name.
    pub fn allows_model(&self, model: &str) -> bool {
        let key = &self.0.key;
        key.group.models.allows(model) && key.models.as_ref().is_none_or(|models| models.allows(model))
    }
}

/// Whether one of the networks holds the address, which is never an IPv4-mapped one here.
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// The configuration's fixed keys, by hash.
pub fn static_keys(config: &Config, numbers: &Numbers) -> StaticKeys<Caller> {
    let caller = |key: &Arc<Key>| {
        Caller(Arc::new(Inner {
            key: Arc::clone(key),
            number: numbers.of(&key.name),
            account: numbers.of(key.account.as_ref().unwrap_or(&key.name)),
            group: numbers.of(&key.group.name),
        }))
    };
    config.keys.iter().map(|key| (key.sha256, caller(key))).collect()
}
