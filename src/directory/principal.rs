//! A caller, compiled: what its checks need, and where its money is.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use parking_lot::Mutex;

use super::{Numbers, Refusals};
use crate::config::{self, Limits, ModelPatterns};
use crate::ledger::{Funds, KeyFunds};
use crate::store::{Account, Id, Key, KeyStatus};

/// Who a key belongs to and what it may do. Fixed for its life: a change of the key makes another one.
#[derive(Debug)]
pub struct Principal {
    /// The key's name.
    pub name: Arc<str>,
    /// The name of its group; whether there is one, the configuration knows.
    pub group: Arc<str>,
    /// What it may call; absent, what its group may. Both must allow.
    pub models: Option<Arc<ModelPatterns>>,
    /// Addresses it may come from; empty, any.
    pub ips: Vec<IpNet>,
    /// Its own limits.
    pub limits: Limits,
    /// When it ends; absent, never.
    pub expires: Option<SystemTime>,
    /// Whether it is refused for now.
    pub disabled: bool,
    /// What its own limits are counted by.
    pub number: u64,
    /// What the limits of its account are counted by. A key without an account stands for itself.
    pub account_number: u64,
    /// Its requests that came to nothing.
    pub refusals: Refusals,
    /// Whose it is.
    pub member: Member,
}

/// Whose a key is.
#[derive(Debug)]
pub enum Member {
    /// A fixed key without a store: of an account by name, or of nobody but itself.
    Fixed {
        /// The account's name.
        account: Option<Arc<str>>,
    },
    /// A key of the store.
    Stored {
        /// The key's id.
        id: Id,
        /// Its account.
        holder: Arc<Holder>,
        /// What it may spend of it.
        funds: KeyFunds,
    },
}

/// An account of the store, as requests see it. Its keys share it.
pub struct Holder {
    /// Its id.
    pub id: Id,
    /// What this process may spend of it.
    pub funds: Arc<Funds>,
    facts: ArcSwap<HolderFacts>,
}

/// What may change of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Whether its keys are refused.
    pub disabled: bool,
    /// The groups that its keys may use; absent, all.
    pub groups: Option<Vec<String>>,
}

/// What many keys have in common is kept once: of a million keys most have one of a few groups and lists of models.
#[derive(Default)]
pub(super) struct Interned {
    texts: Mutex<HashMap<Arc<str>, Weak<str>>>,
    models: Mutex<HashMap<Vec<String>, Weak<ModelPatterns>>>,
}

// === impl Principal ===

impl Principal {
    /// A key of the configuration, where there is no store.
    pub(super) fn fixed(key: &config::Key, numbers: &Numbers) -> Self {
        Self {
            name: Arc::clone(&key.name),
            group: Arc::clone(&key.group.name),
            models: key.models.clone().map(Arc::new),
            ips: key.ips.clone(),
            limits: key.limits,
            expires: key.expires,
            disabled: false,
            number: numbers.of(&key.name),
            account_number: numbers.of(key.account.as_ref().unwrap_or(&key.name)),
            refusals: Refusals::default(),
            member: Member::Fixed {
                account: key.account.clone(),
            },
        }
    }

    /// Whether the key may be used from this address.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.ips.is_empty() || self.ips.iter().any(|network| network.contains(&address))
    }

    /// The name of its account.
    pub fn account_name(&self) -> Option<Arc<str>> {
        match &self.member {
            Member::Fixed { account } => account.clone(),
            Member::Stored { holder, .. } => Some(Arc::clone(&holder.facts().name)),
        }
    }
}

// === impl Holder ===

impl Holder {
    pub(super) fn new(account: &Account, funds: Arc<Funds>) -> Self {
        Self {
            id: account.id,
            funds,
            facts: ArcSwap::from_pointee(HolderFacts::of(account)),
        }
    }

    pub(super) fn update(&self, account: &Account) {
        self.facts.store(Arc::new(HolderFacts::of(account)));
    }

    /// What holds at this moment.
    pub fn facts(&self) -> arc_swap::Guard<Arc<HolderFacts>> {
        self.facts.load()
    }
}

impl HolderFacts {
    fn of(account: &Account) -> Self {
        Self {
            name: account.name.as_str().into(),
            disabled: account.disabled,
            groups: account.groups.clone(),
        }
    }

    /// Whether keys of this group may spend of it.
    pub fn allows_group(&self, group: &str) -> bool {
        let allowed = self.groups.as_ref();
        allowed.is_none_or(|groups| groups.iter().any(|allowed| allowed == group))
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").field("id", &self.id).finish_non_exhaustive()
    }
}

// === impl Interned ===

impl Interned {
    pub(super) fn stored(&self, key: &Key, holder: Arc<Holder>) -> Principal {
        let terms = &key.terms;
        let (ips, unreadable) = networks(&terms.ips);
        let models = terms.models.as_ref().map(|patterns| self.patterns(patterns));
        // What was written is checked when it is written. Should it not be readable all the same, the key must not get
        // more than it was given.
        let broken = unreadable || matches!(models, Some(None));
        if broken {
            tracing::error!(key = %key.id, "a key's models or addresses cannot be read: it is refused");
        }
        Principal {
            name: terms.name.as_str().into(),
            group: self.text(&terms.group),
            models: models.flatten(),
            ips,
            limits: Limits {
                rpm: terms.rpm.and_then(NonZeroU64::new),
                tpm: terms.tpm.and_then(NonZeroU64::new),
                concurrency: terms
                    .concurrency
                    .and_then(|most| NonZeroU32::new(u32::try_from(most).unwrap_or(u32::MAX))),
            },
            expires: terms.expires.map(SystemTime::from),
            disabled: broken || key.status != KeyStatus::Enabled,
            number: key.id.get().cast_unsigned(),
            account_number: holder.id.get().cast_unsigned(),
            refusals: Refusals::default(),
            member: Member::Stored {
                id: key.id,
                funds: holder.funds.key(key),
                holder,
            },
        }
    }

    fn text(&self, text: &str) -> Arc<str> {
        let mut texts = self.texts.lock();
        if let Some(known) = texts.get(text).and_then(Weak::upgrade) {
            return known;
        }
        let new: Arc<str> = text.into();
        texts.insert(Arc::clone(&new), Arc::downgrade(&new));
        new
    }

    /// `None`: a pattern is none.
    fn patterns(&self, patterns: &[String]) -> Option<Arc<ModelPatterns>> {
        let mut models = self.models.lock();
        if let Some(known) = models.get(patterns).and_then(Weak::upgrade) {
            return Some(known);
        }
        let new = Arc::new(ModelPatterns::new(patterns.to_vec()).ok()?);
        models.retain(|_, used| used.strong_count() > 0);
        models.insert(patterns.to_vec(), Arc::downgrade(&new));
        Some(new)
    }
}

/// The networks, and whether one of the texts is none.
fn networks(texts: &[String]) -> (Vec<IpNet>, bool) {
    let read: Vec<_> = texts.iter().map(|text| config::network(text)).collect();
    let unreadable = read.iter().any(Option::is_none);
    (read.into_iter().flatten().collect(), unreadable)
}
