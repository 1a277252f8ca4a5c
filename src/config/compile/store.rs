//! The store: where it is, the ledger before it, and what a configuration promises that takes one.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Compiler;
use crate::config::error::{Place, Problem};
use crate::config::raw;
use crate::config::read::At;
use crate::config::value::StoreAddress;
use crate::config::{
    AmountError, Bonus, Bonuses, Credits, Durability, Ledger, Period, Quota, RevealKey, SecretSource, Store, StoreUrl,
};
use crate::money::Nanos;

impl Compiler<'_> {
    /// `None` when a problem has been told.
    pub(super) fn store(&mut self, raw: &raw::Store, root: &raw::Root, run_dir: Option<&Path>) -> Option<Store> {
        self.refuse_models_without_a_price(root);
        self.warn_of_keys_without_an_account(root);
        let bonuses = self.bonuses(&root.topup);
        let reveal = root.keys.reveal.as_ref().map(|reveal| self.reveal(reveal));
        let (url, source) = self.store_url(raw.url.as_ref()?)?;
        let ledger = self.ledger(&root.ledger, &url, run_dir?);
        Some(Store {
            url,
            source,
            ledger,
            bonuses,
            reveal: match reveal {
                Some(reveal) => Some(reveal?),
                None => None,
            },
        })
    }

    /// What to say of the tables and keys that mean something only with a store.
    pub(super) fn no_store(&mut self, root: &raw::Root) {
        self.refuse_what_takes_a_store(root);
        self.warn_of_tables_without_a_store(root);
    }

    fn store_url(&mut self, at: &At<StoreAddress>) -> Option<(StoreUrl, Option<SecretSource>)> {
        let (url, source) = match &at.value {
            StoreAddress::Url(url) => {
                if url.has_password() && matches!(at.place, Place::Line(_)) {
                    self.warn_at(&at.path, "holds a password; better: url = { env = \"NAME\" }");
                }
                (url.clone(), None)
            }
            StoreAddress::Secret(secret) => {
                let secret = self.secret(&at.map(secret.clone()))?;
                let url = StoreUrl::parse(secret.expose())
                    .map_err(|(what, remedy)| self.problems.push(at.problem(None, what, remedy)))
                    .ok()?;
                (url, Some(secret.source().clone()))
            }
        };
        let url = match url {
            StoreUrl::Sqlite { path } => StoreUrl::Sqlite {
                path: self.sources.resolve(&path),
            },
            url @ StoreUrl::Postgres { .. } => url,
        };
        Some((url, source))
    }

    /// Its folder stands beside an SQLite file: what lasts together stays together.
    fn ledger(&mut self, raw: &At<raw::Ledger>, url: &StoreUrl, run_dir: &Path) -> Ledger {
        let durability = raw.durability.value;
        let path = match (&raw.value.path, url) {
            (Some(path), _) => {
                if durability == Durability::Store {
                    self.warn_at(
                        &path.path,
                        "has no effect: with durability = \"store\" there is no journal",
                    );
                }
                self.sources.resolve(&path.value)
            }
            (None, StoreUrl::Sqlite { path }) => beside(path),
            (None, StoreUrl::Postgres { .. }) => {
                let path = run_dir.join("ledger");
                if durability == Durability::Disk {
                    let what = format!(
                        "left out, so the journal is in {}; a run_dir is often in memory, which no reboot leaves",
                        path.display()
                    );
                    self.warn_at("ledger.path", what);
                }
                path
            }
        };
        Ledger {
            durability,
            path,
            lease: raw.lease.0,
            keep_rows: raw.keep_rows.0,
        }
    }

    fn bonuses(&mut self, raw: &raw::Topup) -> Bonuses {
        let mut seen: HashMap<Nanos, &str> = HashMap::new();
        let mut steps = Vec::new();
        for step in raw.bonus.iter() {
            let (Some(from), Some(percent)) = (&step.from, &step.percent) else {
                continue; // a missing key has been told
            };
            if let Some(first) = seen.get(&from.0) {
                let (shown, what) = (Some(from.0.to_string()), format!("the amount of {first} as well"));
                self.problems.push(from.problem(shown, what, "take one of the two out"));
            }
            seen.entry(from.0).or_insert(&step.path);
            steps.push(Bonus {
                from: from.0,
                percent: percent.0,
            });
        }
        Bonuses::new(steps)
    }

    fn reveal(&mut self, raw: &raw::Reveal) -> Option<RevealKey> {
        let at = raw.key.as_ref()?;
        let secret = self.secret(at)?;
        let key = RevealKey::read(&secret);
        if key.is_none() {
            self.problems
                .push(at.problem(None, "not a key of 32 bytes", RevealKey::LIKE));
        }
        key
    }

    /// A key's quota; `None` when a problem has been told.
    pub(super) fn quota(&mut self, quota: &At<u64>, period: Option<Period>, credits: Credits) -> Option<Quota> {
        let remedy = match credits.nanos(quota.value) {
            Ok(amount) => return Some(Quota { amount, period }),
            Err(AmountError::TooPrecise) => "write a number of credits that comes to whole nano-dollars",
            Err(_) => "write fewer credits, or leave the key out for none",
        };
        let what = format!("no amount of money at {} credits a dollar", credits.per_usd);
        self.problems
            .push(quota.problem(Some(quota.value.to_string()), what, remedy));
        None
    }

    // === with a store, without one ===

    /// Limits that nobody would hold: to take them would promise what is not kept.
    fn refuse_what_takes_a_store(&mut self, root: &raw::Root) {
        let of_keys = root.key.iter().flat_map(|key| {
            [
                key.account.as_ref().map(|at| at.map(())),
                key.quota.as_ref().map(|at| at.map(())),
            ]
        });
        let remedy = "add [store] with its url, or take it out";
        self.problems.extend(
            of_keys
                .flatten()
                .map(|at| at.problem(None, "takes a store, and there is none", remedy)),
        );
    }

    fn warn_of_tables_without_a_store(&mut self, root: &raw::Root) {
        let tables = [root.ledger.map(()), root.topup.map(()), root.keys.map(())];
        for table in tables.iter().filter(|table| table.place != Place::File) {
            self.warn_at(&table.path, "has no effect: there is no [store]");
        }
    }

    fn refuse_models_without_a_price(&mut self, root: &raw::Root) {
        for model in root.model.iter().filter(|model| model.price.is_none()) {
            let key = format!("{}.price", model.path);
            if self.told_of(&key) {
                continue;
            }
            self.problems.push(Problem {
                place: model.place.clone(),
                key,
                value: None,
                what: "missing, and with a store every model has one".to_owned(),
                remedy: "add price = { input = …, output = … }, USD a million tokens, or price = \"free\"".to_owned(),
            });
        }
    }

    fn warn_of_keys_without_an_account(&mut self, root: &raw::Root) {
        for key in root.key.iter().filter(|key| key.account.is_none()) {
            let what = "left out, so there is no balance that the key's use is charged to";
            self.warn_at(&format!("{}.account", key.path), what);
        }
    }
}

/// `tollgate.db-ledger` for `tollgate.db`, as SQLite calls its own files.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().map_or_else(OsString::new, OsString::from);
    name.push("-ledger");
    file.with_file_name(name)
}
