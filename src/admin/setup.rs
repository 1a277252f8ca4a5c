//! What the admin API takes from the configuration; a reload makes a new one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::seal::Sealer;
use crate::config::{Config, Group, Role};
use crate::money::{Bonuses, Credits};

/// The configuration as the admin API needs it.
pub struct Setup {
    pub(super) tokens: Vec<Token>,
    pub(super) groups: BTreeMap<Arc<str>, Arc<Group>>,
    pub(super) credits: Credits,
    pub(super) bonuses: Bonuses,
    pub(super) sealer: Option<Sealer>,
}

/// Who may use the API: a token by its hash.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) name: Arc<str>,
    pub(super) hash: [u8; 32],
    pub(super) role: Role,
}

impl Setup {
    /// That of `config`.
    pub fn new(config: &Config) -> Self {
        let store = config.store.as_ref();
        let tokens = config.admin.iter().flat_map(|admin| &admin.tokens);
        Self {
            tokens: tokens
                .map(|token| Token {
                    name: token.name.as_str().into(),
                    hash: Sha256::digest(token.token.expose()).into(),
                    role: token.role,
                })
                .collect(),
            groups: config.groups.clone(),
            credits: config.credits,
            bonuses: store.map(|store| store.bonuses.clone()).unwrap_or_default(),
            sealer: store
                .and_then(|store| store.reveal.as_ref())
                .map(|key| Sealer::new(key.expose())),
        }
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("tokens", &self.tokens.len())
            .field("groups", &self.groups.len())
            .finish_non_exhaustive()
    }
}
