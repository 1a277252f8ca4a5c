//! A configuration as text, for people: what it resolves to.

use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{
    Backend, Bonus, Config, Group, Identity, Key, Ledger, Limits, Model, ModelPatterns, Price, SecretSource, Server,
    Store,
};

/// The text of `tollgate check`: close to TOML, with every default filled in, names resolved, and of secrets only where
/// they were read from.
pub fn show(config: &Config) -> String {
    let mut text = Text(String::new());
    text.server(&config.server);
    if let Some(admin) = &config.admin {
        text.section("[admin]");
        text.line("listen", quoted(&admin.listen));
        for token in &admin.tokens {
            text.section("[[admin.token]]");
            text.line("name", quoted(&token.name));
            text.line("token", secret(token.token.source()));
            text.line("role", quoted(&token.role.as_str()));
        }
    }
    if let Some(store) = &config.store {
        text.store(store);
    }
    text.section("[credits]");
    text.line("per_usd", config.credits.per_usd);
    text.section("[errors]");
    text.line("code", quoted(&config.errors.code.as_str()));
    text.section("[metering]");
    text.line("tag_header", quoted(&config.metering.tag_header));
    config.backends.iter().for_each(|backend| text.backend(backend));
    config.models.iter().for_each(|model| text.model(model, config));
    config.groups.values().for_each(|group| text.group(group));
    config.keys.iter().for_each(|key| text.key(key, config));
    text.0
}

/// What changed from one configuration to another and needs a restart, as paths of keys.
///
/// A reload takes everything else.
pub fn diff_fixed(old: &Config, new: &Config) -> Vec<String> {
    let (o, n) = (&old.server, &new.server);
    let url = |config: &Config| config.store.as_ref().map(|store| store.url.clone());
    // That there is a ledger, or none, is told as the store's.
    let ledger = |changed: fn(&Ledger, &Ledger) -> bool| match (&old.store, &new.store) {
        (Some(old), Some(new)) => changed(&old.ledger, &new.ledger),
        _ => false,
    };
    let admin = |config: &Config| config.admin.as_ref().map(|a| a.listen);
    let changed = [
        ("server.listen", o.listen != n.listen),
        ("server.h2c_listen", o.h2c_listen != n.h2c_listen),
        ("server.threads", o.threads != n.threads),
        ("server.client_timeout", o.client_timeout != n.client_timeout),
        ("server.keepalive", o.keepalive != n.keepalive),
        ("server.linger", o.linger != n.linger),
        ("server.run_dir", o.run_dir != n.run_dir),
        ("server.access_log", o.access_log != n.access_log),
        // A new certificate is taken; that there is one, or none, is part of the listener.
        ("server.tls", o.tls.is_some() != n.tls.is_some()),
        ("admin.listen", admin(old) != admin(new)),
        ("store.url", url(old) != url(new)),
        ("ledger.durability", ledger(|o, n| o.durability != n.durability)),
        ("ledger.path", ledger(|o, n| o.path != n.path)),
        ("ledger.lease", ledger(|o, n| o.lease != n.lease)),
        ("ledger.keep_rows", ledger(|o, n| o.keep_rows != n.keep_rows)),
    ];
    changed
        .iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| (*key).to_owned())
        .collect()
}

struct Text(String);

// === impl Text ===

impl Text {
    fn section(&mut self, header: &str) {
        let blank = if self.0.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.0, "{blank}{header}");
    }

    fn line(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.line(key, value);
        }
    }

    fn server(&mut self, server: &Server) {
        self.section("[server]");
        self.line("listen", addresses(&server.listen));
        self.line("h2c_listen", addresses(&server.h2c_listen));
        match server.threads {
            Some(threads) => self.line("threads", threads),
            None => self.line("threads", format!("0    # {}, one a core", server.worker_threads())),
        }
        self.line("ips", list(&server.ips));
        self.line("trusted_proxies", list(&server.trusted_proxies));
        self.line("max_body", size(server.max_body));
        self.line("max_buffered", size(server.max_buffered));
        self.some("max_requests", server.max_requests);
        self.line("max_cached", size(server.max_cached));
        self.line("client_timeout", span(server.client_timeout));
        self.line("keepalive", span(server.keepalive));
        self.line("drain", span(server.drain));
        self.line("linger", span(server.linger));
        self.line("run_dir", path(&server.run_dir));
        self.line("overhead_header", server.overhead_header);
        self.line("access_log", server.access_log);
        if let Some(tls) = &server.tls {
            self.section("[server.tls]");
            self.identity("cert", "key", tls);
        }
    }

    fn store(&mut self, store: &Store) {
        self.section("[store]");
        match &store.source {
            Some(source) => self.line("url", format!("{}    # {}", secret(source), store.url)),
            None => self.line("url", quoted(&store.url)),
        }
        let ledger = &store.ledger;
        self.section("[ledger]");
        self.line("durability", quoted(&ledger.durability.as_str()));
        self.line("path", path(&ledger.path));
        self.line("lease", span(ledger.lease));
        let days = |keep: Duration| format!("{}d", keep.as_secs() / 86_400);
        let keep = ledger.keep_rows.map_or_else(|| "forever".to_owned(), days);
        self.line("keep_rows", quoted(&keep));
        self.section("[topup]");
        let step = |step: &Bonus| format!("{{ from = {}, percent = {} }}", step.from, step.percent);
        let steps: Vec<_> = store.bonuses.steps().iter().map(step).collect();
        self.line("bonus", format!("[{}]", steps.join(", ")));
        if let Some(reveal) = &store.reveal {
            self.section("[keys]");
            self.line("reveal", format!("{{ key = {} }}", secret(reveal.source())));
        }
    }

    fn identity(&mut self, cert: &str, key: &str, identity: &Identity) {
        let count = identity.chain.len();
        self.line(
            cert,
            format!("{}    # certificates: {count}", path(&identity.cert_path)),
        );
        self.line(key, path(&identity.key_path));
    }

    fn backend(&mut self, backend: &Backend) {
        self.section("[[backend]]");
        self.line("name", quoted(&backend.name));
        self.line("base_url", quoted(&backend.base_url));
        let secrets: Vec<_> = backend.api_keys.iter().map(|key| secret(key.source())).collect();
        if !secrets.is_empty() {
            self.line("api_key", format!("[{}]", secrets.join(", ")));
        }
        self.line("dialect", quoted(&backend.dialect.as_str()));
        let t = &backend.timeout;
        let stream_total = t.stream_total.map_or_else(|| quoted(&"off"), span);
        self.line(
            "timeout",
            format!(
                "{{ connect = {}, first_byte = {}, idle = {}, total = {}, stream_total = {stream_total} }}",
                span(t.connect),
                span(t.first_byte),
                span(t.idle),
                span(t.total),
            ),
        );
        self.some("max_concurrency", backend.max_concurrency);
        self.line("max_idle_connections", backend.max_idle_connections);
        self.line("http2", quoted(&backend.http2.as_str()));
        self.line("stream_usage", quoted(&backend.stream_usage.as_str()));
        self.line("on_disconnect", quoted(&backend.on_disconnect.as_str()));
        self.line("pass_headers", list(&backend.pass_headers));
        if let Some(roots) = &backend.ca {
            self.line(
                "ca",
                format!("{}    # certificates: {}", path(&roots.path), roots.certs.len()),
            );
        }
        if let Some(identity) = &backend.client_identity {
            self.identity("client_cert", "client_key", identity);
        }
    }

    fn model(&mut self, model: &Model, config: &Config) {
        self.section("[[model]]");
        self.line("name", quoted(&model.name));
        self.line("route", "[");
        for route in &model.routes {
            let (backend, name) = (quoted(&route.backend.name), quoted(&route.model));
            let (weight, priority) = (route.weight, route.priority);
            let _ = writeln!(
                self.0,
                "  {{ backend = {backend}, model = {name}, weight = {weight}, priority = {priority} }},"
            );
        }
        self.0.push_str("]\n");
        self.line("fallback", list(model.fallback.iter().map(|&i| &config.models[i].name)));
        match &model.price {
            None => {}
            Some(Price::Free) => self.line("price", quoted(&"free")),
            Some(Price::Rates(rates)) => self.line("price", rates),
        }
        self.some("max_output", model.max_output);
        let limits = limits(&model.limits);
        if !limits.is_empty() {
            let limits: Vec<_> = limits.iter().map(|(key, n)| format!("{key} = {n}")).collect();
            self.line("limit", format!("{{ {} }}", limits.join(", ")));
        }
        let cache = |cache: super::Cache| format!("{{ ttl = {}, shared = {} }}", span(cache.ttl), cache.shared);
        self.some("cache", model.cache.map(cache));
        self.line("deny_params", list(&model.deny_params));
    }

    fn group(&mut self, group: &Group) {
        let bare = group
            .name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let name = if bare {
            group.name.to_string()
        } else {
            quoted(&group.name)
        };
        self.section(&format!("[group.{name}]"));
        self.patterns(&group.models);
        self.line("multiplier", group.multiplier);
        self.limits(&group.limits);
    }

    fn key(&mut self, key: &Key, config: &Config) {
        self.section("[[key]]");
        self.line("name", quoted(&key.name));
        let hash = key
            .sha256
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        self.line("sha256", quoted(&hash));
        self.line("group", quoted(&key.group.name));
        self.some("account", key.account.as_ref().map(quoted));
        if let Some(models) = &key.models {
            self.patterns(models);
        }
        self.line("ips", list(&key.ips));
        self.limits(&key.limits);
        self.some("quota", key.quota.map(|q| config.credits.whole(q.amount)));
        self.some("period", key.quota.and_then(|q| q.period).map(|p| quoted(&p.as_str())));
        let seconds = |end: SystemTime| end.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.some("expires", key.expires.map(seconds));
    }

    fn patterns(&mut self, models: &ModelPatterns) {
        self.line("models", list(models.patterns()));
    }

    fn limits(&mut self, of: &Limits) {
        for (key, n) in limits(of) {
            self.line(key, n);
        }
    }
}

fn limits(limits: &Limits) -> Vec<(&'static str, u64)> {
    let concurrency = limits.concurrency.map(|n| u64::from(n.get()));
    let all = [
        ("rpm", limits.rpm.map(u64::from)),
        ("tpm", limits.tpm.map(u64::from)),
        ("concurrency", concurrency),
    ];
    all.into_iter().filter_map(|(key, n)| Some((key, n?))).collect()
}

fn secret(source: &SecretSource) -> String {
    match source {
        SecretSource::Env(name) => format!("{{ env = {} }}", quoted(name)),
        SecretSource::File(file) => format!("{{ file = {} }}", path(file)),
    }
}

/// A TOML basic string; Rust's escapes of what may be in a name are TOML's.
fn quoted(text: &impl ToString) -> String {
    format!("{:?}", text.to_string())
}

fn path(path: &Path) -> String {
    quoted(&path.display())
}

fn list(values: impl IntoIterator<Item = impl ToString>) -> String {
    let values: Vec<_> = values.into_iter().map(|v| quoted(&v)).collect();
    format!("[{}]", values.join(", "))
}

fn addresses(addresses: &[SocketAddr]) -> String {
    list(addresses)
}

/// A duration as it is typed.
pub(super) fn span(span: Duration) -> String {
    let ms = span.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.iter().find(|(unit, _)| ms != 0 && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => quoted(&format!("{}{name}", ms / unit)),
        None => quoted(&format!("{ms}ms")),
    }
}

fn size(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => quoted(&format!("{}{name}", bytes / unit)),
        None => bytes.to_string(),
    }
}
