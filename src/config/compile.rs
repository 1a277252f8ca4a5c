//! From what was typed to what the program runs on: names resolved, secrets and certificates read, all of it checked.

mod models;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use rust_decimal::Decimal;

use super::error::{Problem, Warning};
use super::raw::{self, List};
use super::read::{At, nearest, quoted};
use super::sources::Sources;
use super::value::{Name, SecretRef};
use super::{
    Admin, AdminToken, Backend, Config, Credits, ErrorStyle, Group, Identity, Key, Limits, Metering, ModelPatterns,
    Secret, Server, Timeouts,
};

/// What is built from a configuration, and everything there is to say about it.
pub(crate) struct Compiler<'a> {
    pub(crate) sources: Sources<'a>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Warning>,
}

/// Things by name. A name whose thing could not be built is there with `None`: who names it is right to.
type ByName<T> = HashMap<String, Option<Arc<T>>>;

// === impl Compiler ===

impl<'a> Compiler<'a> {
    /// Goes on from what reading found wrong.
    pub(crate) fn new(sources: Sources<'a>, problems: Vec<Problem>) -> Self {
        Self {
            sources,
            problems,
            warnings: Vec::new(),
        }
    }

    /// Builds the configuration. `None` only when there is a problem; there may be problems all the same.
    pub(crate) fn config(&mut self, root: &raw::Root) -> Option<Config> {
        self.refuse_shared_addresses(root);
        let server = root.server.as_ref().and_then(|s| self.server(s));
        let admin = root.admin.as_ref().map(|a| self.admin(a));
        let by_name = self.backends(&root.backend);
        let models = self.models(&root.model, &by_name);
        let groups = self.groups(&root.group);
        let credits = Credits {
            per_usd: root.credits.per_usd.value,
        };
        let keys = self.keys(&root.key, &groups, credits);
        let run_dir = server.as_ref().map(|server| server.run_dir.as_path());
        let store = root.store.as_ref().map(|store| self.store(store, root, run_dir));
        if root.store.is_none() {
            self.no_store(root);
        }
        self.warn(root);

        let in_order = |b: &At<raw::Backend>| by_name.get(&b.name.as_ref()?.0).cloned()?;
        let groups: BTreeMap<Arc<str>, Arc<Group>> = groups
            .into_values()
            .flatten()
            .map(|g| (Arc::clone(&g.name), g))
            .collect();
        Some(Config {
            server: server?,
            admin: match admin {
                Some(admin) => Some(admin?),
                None => None,
            },
            errors: ErrorStyle {
                code: root.errors.code.value,
            },
            metering: Metering {
                tag_header: root.metering.tag_header.value.clone(),
            },
            credits,
            store: match store {
                Some(store) => Some(store?),
                None => None,
            },
            backends: root.backend.iter().filter_map(in_order).collect(),
            model_by_name: models
                .iter()
                .enumerate()
                .map(|(i, m)| (Arc::clone(&m.name), i))
                .collect(),
            models,
            groups,
            key_by_hash: keys.iter().enumerate().map(|(i, k)| (k.sha256, i)).collect(),
            keys,
        })
    }

    fn server(&mut self, raw: &raw::Server) -> Option<Server> {
        if raw.max_body.0 > raw.max_buffered.0 {
            let remedy = "make it smaller, or max_buffered larger: no such body would ever be let in";
            let what = format!("larger than max_buffered, {} bytes", raw.max_buffered.0);
            self.problems.push(
                raw.max_body
                    .problem(Some(format!("{} bytes", raw.max_body.0)), what, remedy),
            );
        }
        let tls = match &raw.tls {
            None => Some(None),
            Some(tls) => match (&tls.cert, &tls.key) {
                (Some(cert), Some(key)) => self.identity(cert, key).map(Some),
                _ => None,
            },
        };
        let listen = values(&raw.listen.as_ref()?.0);
        if let Some(empty) = raw.listen.as_ref().filter(|l| l.0.is_empty() && !self.told_of(&l.path)) {
            let remedy = "name at least one address, such as \"127.0.0.1:8080\"";
            self.problems.push(empty.problem(None, "no address", remedy));
        }
        Some(Server {
            listen,
            h2c_listen: values(&raw.h2c_listen.0),
            threads: NonZeroUsize::new(raw.threads.value),
            ips: values(&raw.ips),
            trusted_proxies: values(&raw.trusted_proxies),
            max_body: raw.max_body.0,
            max_buffered: raw.max_buffered.0,
            max_requests: value(raw.max_requests.as_ref()),
            max_cached: raw.max_cached.0,
            client_timeout: raw.client_timeout.0,
            keepalive: raw.keepalive.0,
            drain: raw.drain.0,
            linger: raw.linger.0,
            run_dir: self.sources.resolve(&raw.run_dir.value),
            overhead_header: raw.overhead_header.value,
            access_log: raw.access_log.value,
            tls: tls?,
        })
    }

    fn admin(&mut self, raw: &raw::Admin) -> Option<Admin> {
        self.refuse_same_names("token", raw.token.iter().map(|t| t.name.as_ref()));
        let tokens: Vec<Option<AdminToken>> = raw.token.iter().map(|t| self.admin_token(t)).collect();
        Some(Admin {
            listen: raw.listen.as_ref()?.value,
            tokens: tokens.into_iter().collect::<Option<_>>()?,
        })
    }

    fn admin_token(&mut self, raw: &raw::AdminToken) -> Option<AdminToken> {
        let token = self.secret(raw.token.as_ref()?);
        Some(AdminToken {
            name: raw.name.as_ref()?.0.clone(),
            token: token?,
            role: raw.role.as_ref()?.value,
        })
    }

    fn backends(&mut self, list: &List<raw::Backend>) -> ByName<Backend> {
        self.refuse_same_names("backend", list.iter().map(|b| b.name.as_ref()));
        let mut by_name = ByName::new();
        for raw in list {
            let backend = self.backend(raw).map(Arc::new);
            if let Some(name) = &raw.name {
                by_name.entry(name.0.clone()).or_insert(backend);
            }
        }
        by_name
    }

    fn backend(&mut self, raw: &At<raw::Backend>) -> Option<Backend> {
        let api_keys: Vec<_> = raw
            .api_key
            .iter()
            .flat_map(|keys| &keys.0)
            .map(|key| self.secret(key))
            .collect();
        let ca = raw
            .ca
            .as_ref()
            .map(|ca| self.or_tell(|s| s.roots(ca).map_err(|p| vec![p])));
        let client_identity = self.client_identity(raw);
        let base_url = raw.base_url.as_ref()?.value.clone();
        if !base_url.tls {
            for unused in [&raw.ca, &raw.client_cert, &raw.client_key].into_iter().flatten() {
                self.warn_at(&unused.path, "has no effect: base_url is http://");
            }
        }
        let timeout = &raw.timeout;
        Some(Backend {
            name: raw.name.as_ref()?.0.as_str().into(),
            base_url,
            api_keys: api_keys.into_iter().collect::<Option<_>>()?,
            dialect: raw.dialect.value,
            timeout: Timeouts {
                connect: timeout.connect.0,
                first_byte: timeout.first_byte.0,
                idle: timeout.idle.0,
                total: timeout.total.0,
                stream_total: timeout.stream_total.0,
            },
            max_concurrency: value(raw.max_concurrency.as_ref()),
            max_idle_connections: raw.max_idle_connections.value,
            http2: raw.http2.value,
            stream_usage: raw.stream_usage.value,
            on_disconnect: raw.on_disconnect.value,
            pass_headers: raw.pass_headers.iter().map(|h| h.value.0.clone()).collect(),
            ca: match ca {
                Some(ca) => Some(ca?),
                None => None,
            },
            client_identity: client_identity.ok()?,
        })
    }

    /// `Ok(None)` when there is to be none, `Err` when the problem has been told.
    fn client_identity(&mut self, raw: &raw::Backend) -> Result<Option<Identity>, ()> {
        match (&raw.client_cert, &raw.client_key) {
            (Some(cert), key) => self.identity(cert, key.as_ref().unwrap_or(cert)).map(Some).ok_or(()),
            (None, None) => Ok(None),
            (None, Some(key)) => {
                self.problems
                    .push(key.problem(None, "a key without its certificate", "add client_cert"));
                Err(())
            }
        }
    }

    fn groups(&mut self, table: &BTreeMap<String, At<raw::Group>>) -> ByName<Group> {
        let mut groups = ByName::new();
        for (name, raw) in table {
            let limits = Limits {
                rpm: value(raw.rpm.as_ref()),
                tpm: value(raw.tpm.as_ref()),
                concurrency: value(raw.concurrency.as_ref()),
            };
            let multiplier = raw.multiplier.0;
            let group = self.patterns(&raw.models).map(|models| Group {
                name: name.as_str().into(),
                models,
                multiplier,
                limits,
            });
            groups.insert(name.clone(), group.map(Arc::new));
        }
        let unlimited = || Group {
            name: "default".into(),
            models: ModelPatterns::all(),
            multiplier: Decimal::ONE,
            limits: Limits::default(),
        };
        groups
            .entry("default".to_owned())
            .or_insert_with(|| Some(Arc::new(unlimited())));
        groups
    }

    fn keys(&mut self, list: &List<raw::Key>, groups: &ByName<Group>, credits: Credits) -> Vec<Arc<Key>> {
        self.refuse_same_names("key", list.iter().map(|k| k.name.as_ref()));
        let mut seen: HashMap<[u8; 32], &At<raw::Key>> = HashMap::new();
        let mut keys = Vec::new();
        for raw in list {
            if let Some(hash) = &raw.sha256 {
                if let Some(first) = seen.get(&hash.0) {
                    let what = format!("the hash of {} as well", first.path);
                    self.problems.push(hash.problem(None, what, "take one of the two out"));
                }
                seen.entry(hash.0).or_insert(raw);
            }
            keys.extend(self.key(raw, groups, credits).map(Arc::new));
        }
        keys
    }

    fn key(&mut self, raw: &raw::Key, groups: &ByName<Group>, credits: Credits) -> Option<Key> {
        let models = raw.models.as_ref().map(|models| self.patterns(models));
        let index = groups.iter().map(|(name, group)| (name.as_str(), group)).collect();
        let group = self.known("group", &raw.group, &index);
        if let (Some(period), None) = (&raw.period, &raw.quota) {
            self.problems
                .push(period.problem(None, "a period without a quota", "add quota, or take it out"));
        }
        let period = value(raw.period.as_ref());
        let quota = raw.quota.as_ref().map(|quota| self.quota(quota, period, credits));
        Some(Key {
            name: raw.name.as_ref()?.0.as_str().into(),
            sha256: raw.sha256.as_ref()?.0,
            group: Arc::clone(group?.as_ref()?),
            account: raw.account.as_ref().map(|a| a.0.as_str().into()),
            models: match models {
                Some(models) => Some(models?),
                None => None,
            },
            ips: values(&raw.ips),
            limits: Limits {
                rpm: value(raw.rpm.as_ref()),
                tpm: value(raw.tpm.as_ref()),
                concurrency: value(raw.concurrency.as_ref()),
            },
            quota: match quota {
                Some(quota) => Some(quota?),
                None => None,
            },
            expires: raw.expires.as_ref().and_then(|e| e.0),
        })
    }

    fn patterns(&mut self, list: &List<Name>) -> Option<ModelPatterns> {
        let patterns = list.iter().map(|p| p.0.clone()).collect();
        ModelPatterns::new(patterns)
            .map_err(|(i, what)| {
                let what = format!("not a glob: {what}");
                let remedy = "write a model's name, or a glob with *, ?, [ab] or {a,b}; \\ takes a character as it is";
                self.problems
                    .extend(list.get(i).map(|p| p.problem(Some(quoted(&p.0)), what, remedy)));
            })
            .ok()
    }

    // === resolving ===

    fn secret(&mut self, at: &At<SecretRef>) -> Option<Secret> {
        self.or_tell(|s| s.secret(at).map_err(|p| vec![p]))
    }

    fn identity(&mut self, cert: &At<PathBuf>, key: &At<PathBuf>) -> Option<Identity> {
        self.or_tell(|s| s.identity(cert, key))
    }

    fn or_tell<T>(&mut self, f: impl FnOnce(&mut Sources<'a>) -> Result<T, Vec<Problem>>) -> Option<T> {
        f(&mut self.sources)
            .map_err(|problems| self.problems.extend(problems))
            .ok()
    }

    fn known<'i, T>(&mut self, what: &str, name: &At<Name>, index: &'i HashMap<&str, T>) -> Option<&'i T> {
        let found = index.get(name.0.as_str());
        if found.is_none() {
            let mut names: Vec<&str> = index.keys().copied().collect();
            names.sort_unstable();
            let remedy = match nearest(&name.0, &names) {
                Some(near) => format!("did you mean {near:?}?"),
                None if names.is_empty() => format!("add the {what}"),
                None => format!("add the {what}, or name one of: {}", some(&names)),
            };
            self.problems
                .push(name.problem(Some(quoted(&name.0)), format!("no {what} of this name"), remedy));
        }
        found
    }
}

fn value<T: Copy>(at: Option<&At<T>>) -> Option<T> {
    at.map(|at| at.value)
}

fn values<T: Clone>(list: &List<T>) -> Vec<T> {
    list.iter().map(|at| at.value.clone()).collect()
}

/// The first of some names, for a remedy.
fn some(names: &[&str]) -> String {
    const MOST: usize = 8;
    let more = if names.len() > MOST { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(MOST)].join(", "))
}
