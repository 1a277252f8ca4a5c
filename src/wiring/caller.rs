//! Who is calling: the principal that auth puts into a request, and the checks that need no more than it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use tollgate_layers::bearer_auth::StaticKeys;
use tollgate_layers::{Reason, Rejection};

use crate::config::{Config, Key};

/// A key that was presented, with what it may do. Clones share it.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Key>);

impl Caller {
    /// The key.
    pub fn key(&self) -> &Arc<Key> {
        &self.0
    }

    /// Whose requests the limits of a group and of a model count with. A key without an account stands for itself.
    pub fn account(&self) -> &Arc<str> {
        self.0.account.as_ref().unwrap_or(&self.0.name)
    }

    /// Whether the key still lives.
    pub fn check_state(&self, now: SystemTime) -> Result<(), Rejection> {
        match self.0.expires {
            Some(end) if now >= end => Err(Reason::KeyExpired.into()),
            _ => Ok(()),
        }
    }

    /// Whether the key may be used from this address.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.0.ips.is_empty() || contains(&self.0.ips, address)
    }

    /// Whether both the key and its group allow the model of this name.
    pub fn allows_model(&self, model: &str) -> bool {
        self.0.group.models.allows(model) && self.0.models.as_ref().is_none_or(|models| models.allows(model))
    }
}

/// Whether one of the networks holds the address, which is never an IPv4-mapped one here.
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// The configuration's fixed keys, by hash.
pub fn static_keys(config: &Config) -> StaticKeys<Caller> {
    config
        .keys
        .iter()
        .map(|key| (key.sha256, Caller(Arc::clone(key))))
        .collect()
}
