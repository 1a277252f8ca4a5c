//! What a configuration must not be, and what it had better not be.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use super::compile::Compiler;
use super::error::{Place, Warning};
use super::raw::{self, List};
use super::read::{At, nearest, quoted};
use super::value::Name;

// === impl Compiler ===

impl Compiler<'_> {
    /// Whether something below a key is wrong already: a list is then shorter than it was typed.
    pub(super) fn told_of(&self, path: &str) -> bool {
        self.problems.iter().any(|problem| problem.key.starts_with(path))
    }

    // === refusing ===

    pub(super) fn refuse_same_names<'n>(&mut self, what: &str, names: impl Iterator<Item = Option<&'n At<Name>>>) {
        let mut seen: HashMap<&str, &Place> = HashMap::new();
        for name in names.flatten() {
            if let Some(first) = seen.get(name.0.as_str()) {
                let line = match first {
                    Place::Line(line) => format!(" (line {line})"),
                    _ => String::new(),
                };
                let what = format!("the name of an earlier {what}{line} as well");
                self.problems
                    .push(name.problem(Some(quoted(&name.0)), what, "give each a name of its own"));
            }
            seen.entry(&name.0).or_insert(&name.place);
        }
    }

    pub(super) fn refuse_shared_addresses(&mut self, root: &raw::Root) {
        let server = root.server.as_ref();
        let admin = root.admin.as_ref().and_then(|a| a.listen.as_ref());
        let listen = server.and_then(|s| s.listen.as_ref()).into_iter().flat_map(|l| &l.0);
        let h2c = server.into_iter().flat_map(|s| &s.h2c_listen.0);
        let mut seen: HashMap<SocketAddr, &str> = HashMap::new();
        for at in listen.chain(h2c).chain(admin).filter(|at| at.port() != 0) {
            if let Some(first) = seen.get(&at.value) {
                let (shown, what) = (quoted(&at.to_string()), format!("the address of {first} as well"));
                self.problems
                    .push(at.problem(Some(shown), what, "give each listener an address of its own"));
            }
            seen.entry(at.value).or_insert(&at.path);
        }
    }

    /// A model whose fallbacks lead back to it.
    pub(super) fn refuse_cycles(&mut self, list: &List<raw::Model>, index: &HashMap<&str, usize>) {
        let next = |i: usize| {
            list[i]
                .fallback
                .iter()
                .filter_map(|n| Some((n, *index.get(n.0.as_str())?)))
        };
        let name = |i: usize| list[i].name.as_ref().map_or("?", |n| n.0.as_str());
        // 0: not seen, 1: on the way here, 2: done.
        let mut state = vec![0u8; list.len()];
        for start in 0..list.len() {
            if state[start] != 0 {
                continue;
            }
            state[start] = 1;
            let mut way = vec![(start, next(start))];
            while let Some((model, rest)) = way.last_mut() {
                let model = *model;
                let Some((at, to)) = rest.next() else {
                    state[model] = 2;
                    way.pop();
                    continue;
                };
                if state[to] == 1 {
                    let from = way.iter().position(|(i, _)| *i == to).unwrap_or(0);
                    let names: Vec<_> = way[from..].iter().map(|(i, _)| name(*i)).chain([name(to)]).collect();
                    let what = format!("falls back to itself: {}", names.join(" → "));
                    self.problems
                        .push(at.problem(Some(quoted(&at.0)), what, "take it out of the list"));
                } else if state[to] == 0 {
                    state[to] = 1;
                    way.push((to, next(to)));
                }
            }
        }
    }

    // === warning ===

    pub(super) fn warn_at(&mut self, key: &str, what: impl Into<String>) {
        self.warnings.push(Warning {
            key: key.to_owned(),
            what: what.into(),
        });
    }

    pub(super) fn warn(&mut self, root: &raw::Root) {
        if root.model.is_empty() {
            self.warn_at("model", "there is none, so every request is answered 404");
        }
        if root.key.is_empty() && root.store.is_none() {
            self.warn_at("key", "there is none, so every request is answered 401");
        }
        if root.admin.as_ref().is_some_and(|a| a.token.is_empty()) {
            self.warn_at("admin.token", "there is none, so nobody can use the admin API");
        }
        if let Some(server) = &root.server {
            if server.max_body.0 > server.max_buffered.0 / 4 && server.max_body.0 <= server.max_buffered.0 {
                self.warn_at(
                    "server.max_body",
                    "more than a quarter of max_buffered, which is all one account gets",
                );
            }
            for net in server.trusted_proxies.iter().filter(|net| net.prefix_len() == 0) {
                self.warn_at(&net.path, "anyone may say in X-Forwarded-For where they come from");
            }
        }
        self.warn_of_unused_backends(root);
        self.warn_of_unknown_models(root);
        let ended = |key: &&At<raw::Key>| {
            key.expires
                .as_ref()
                .and_then(|e| e.0)
                .is_some_and(|end| end <= SystemTime::now())
        };
        for key in root.key.iter().filter(ended) {
            self.warn_at(&format!("{}.expires", key.path), "is past, so the key is refused");
        }
    }

    pub(super) fn warn_of_unused_backends(&mut self, root: &raw::Root) {
        let routes = || {
            root.model
                .iter()
                .filter_map(|m| m.route.as_ref())
                .flat_map(|r| &r.value)
        };
        let used = |name: &str| routes().any(|r| r.backend.as_ref().is_some_and(|b| b.0 == name));
        for name in root
            .backend
            .iter()
            .filter_map(|b| b.name.as_ref())
            .filter(|name| !used(&name.0))
        {
            self.warn_at(&name.path, format!("no model has a route to {:?}", name.0));
        }
    }

    pub(super) fn warn_of_unknown_models(&mut self, root: &raw::Root) {
        let models: Vec<&str> = root
            .model
            .iter()
            .filter_map(|m| Some(m.name.as_ref()?.0.as_str()))
            .collect();
        let of_groups = root.group.values().flat_map(|g| &g.models.value);
        let of_keys = root.key.iter().filter_map(|k| k.models.as_ref()).flat_map(|m| &m.value);
        let exact = |p: &&At<Name>| !p.0.contains(['*', '?', '[', '{', '\\']);
        for pattern in of_groups
            .chain(of_keys)
            .filter(exact)
            .filter(|p| !models.contains(&p.0.as_str()))
        {
            let guess = nearest(&pattern.0, &models).map(|near| format!("; did you mean {near:?}?"));
            self.warn_at(
                &pattern.path,
                format!("no model is called {:?}{}", pattern.0, guess.unwrap_or_default()),
            );
        }
    }
}
