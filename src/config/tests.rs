//! What is made of a configuration, and every way in which one can be wrong.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;

mod errors;
mod mutated;
mod samples;

const GOOD: &str = r#"
[server]
listen = ["127.0.0.1:8080"]
[[backend]]
name = "b"
base_url = "https://example.com/v1"
[[model]]
name = "m"
route = [{ backend = "b" }]
"#;

const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Errors> {
    let dir = tempfile::tempdir().unwrap();
    load_in(dir.path(), text, variables)
}

fn load_in(dir: &Path, text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Errors> {
    let path = dir.join("t.toml");
    fs::write(&path, text).unwrap();
    Loader::new(variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))).load(&path)
}

/// The errors, without the folder before the file's name.
fn errors(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let errors = load_in(dir.path(), text, variables).expect_err("this is wrong");
    let folder = format!("{}/", dir.path().display());
    errors
        .to_string()
        .replace(&folder, "")
        .lines()
        .map(str::to_owned)
        .collect()
}

// === secrets ===

#[test]
fn secrets_are_never_shown() {
    const SECRET: &str = "sk-very-secret";
    let backend = |key: &str| format!("{GOOD}[[backend]]\nname = \"c\"\nbase_url = \"https://x\"\n{key}\n");
    let good = backend("api_key = { env = \"KEY\" }");
    let loaded = load_with(&good, &[("KEY", SECRET)]).unwrap();
    let key = &loaded.config.backends[1].api_keys[0];
    assert_eq!(key.expose(), SECRET);
    assert_eq!(key.to_string(), "[redacted, from variable KEY]");
    assert!(!format!("{loaded:?} {loaded:#?}").contains(SECRET));
    assert!(!show(&loaded.config).contains(SECRET));

    let wrong = [
        format!("api_key = \"{SECRET}\""),
        format!("api_key = [\"{SECRET}\"]"),
        format!("api_key = {{ env = \"{SECRET}\" }}"),
        format!("api_key = {{ file = \"{SECRET}\" }}"),
        format!("api_key = {{ evn = \"{SECRET}\" }}"),
        format!("api_key = {{ env = [\"{SECRET}\"] }}"),
        format!("api_kye = \"{SECRET}\""),
        format!("api_key = \"{SECRET}"),
        format!("base_url2 = \"https://{SECRET}@x\""),
        "api_key = { env = \"TWO_LINES\" }".to_owned(),
    ];
    for key in wrong {
        let errors = load_with(&backend(&key), &[("TWO_LINES", "sk-very-secret\nx")]).expect_err(&key);
        assert!(!format!("{errors} {errors:?}").contains(SECRET), "{key}: {errors}");
    }
    let literal = errors(&backend(&format!("api_key = \"{SECRET}\"")), &[]);
    let remedy = "a secret written out; write { env = \"NAME\" } or { file = \"path\" }";
    assert_eq!(literal, [format!("t.toml:13: backend[1].api_key: {remedy}")]);
}

#[test]
fn a_secret_file_is_beside_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("key.txt"), "sk-1\r\n").unwrap();
    fs::write(dir.path().join("empty.txt"), "\n").unwrap();
    let text = |file: &str| {
        GOOD.replace(
            "name = \"b\"",
            &format!("name = \"b\"\napi_key = {{ file = \"{file}\" }}"),
        )
    };
    let loaded = load_in(dir.path(), &text("key.txt"), &[]).unwrap();
    assert_eq!(loaded.config.backends[0].api_keys[0].expose(), "sk-1");
    assert_eq!(loaded.files, [dir.path().join("t.toml"), dir.path().join("key.txt")]);
    let empty = load_in(dir.path(), &text("empty.txt"), &[]).unwrap_err();
    assert!(
        empty.problems()[0].to_string().contains("empty.txt is empty"),
        "{empty}"
    );
}

#[test]
fn a_store_s_password_and_the_key_of_keys_are_never_shown() {
    const SECRET: &str = "hunter2";
    let key = "ab".repeat(32);
    let url = format!("postgres://u:{SECRET}@h/d");
    let with = |store: &str| format!("{GOOD}price = \"free\"\n[store]\n{store}\n");
    let reveal = "[keys]\nreveal = { key = { env = \"REVEAL\" } }";
    let variables = [("URL", url.as_str()), ("REVEAL", key.as_str()), ("SHORT", SECRET)];
    let of_variable = load_with(&with(&format!("url = {{ env = \"URL\" }}\n{reveal}")), &variables).unwrap();
    let of_file = load_with(&with(&format!("url = \"{url}\"\n{reveal}")), &variables).unwrap();
    for loaded in [&of_variable, &of_file] {
        let store = loaded.config.store.as_ref().unwrap();
        let StoreUrl::Postgres { url: read } = &store.url else {
            panic!("{store:?}")
        };
        assert_eq!(read.expose(), url);
        assert_eq!(store.reveal.as_ref().unwrap().expose(), &[0xab; 32]);
        let shown = format!("{loaded:?} {loaded:#?} {}", show(&loaded.config));
        assert!(
            !shown.contains(SECRET) && !shown.contains("abab") && !shown.contains("171, 171"),
            "{shown}"
        );
        assert!(shown.contains("postgres://u:***@h/d"), "{shown}");
    }
    let warned = |loaded: &Loaded| {
        let told = "store.url: holds a password";
        loaded.warnings.iter().any(|w| w.to_string().starts_with(told))
    };
    assert!(warned(&of_file) && !warned(&of_variable));

    let wrong = [
        format!("url = \"postgres:/u:{SECRET}@h/d\""),
        format!("url = \"postgres://u:{SECRET}/@h/d\""),
        format!("url = [\"{url}\"]"),
        format!("ulr = \"{url}\""),
        format!("url = {{ env = \"{url}\" }}"),
        "url = { env = \"SHORT\" }".to_owned(),
        "url = \"sqlite://x\"\n[keys]\nreveal = { key = { env = \"SHORT\" } }".to_owned(),
        format!("url = \"sqlite://x\"\n[keys]\nreveal = \"{SECRET}\""),
    ];
    for store in wrong {
        let errors = load_with(&with(&store), &variables).expect_err(&store);
        assert!(!format!("{errors} {errors:?}").contains(SECRET), "{store}: {errors}");
    }
    let short = errors(
        &with("url = \"sqlite://x\"\n[keys]\nreveal = { key = { env = \"SHORT\" } }"),
        &variables,
    );
    let remedy = "put 32 random bytes there, in hexadecimal or base64: `openssl rand -hex 32` makes them";
    assert_eq!(
        short,
        [format!("t.toml:14: keys.reveal.key: not a key of 32 bytes; {remedy}")]
    );
}

// === the store ===

#[test]
fn a_store_and_its_defaults() {
    let with = |store: &str| format!("{GOOD}price = \"free\"\n[store]\n{store}\n");
    let dir = tempfile::tempdir().unwrap();
    let store = |text: &str| load_in(dir.path(), &with(text), &[]).unwrap().config.store.unwrap();
    let relative = store("url = \"sqlite://data/t.db\"");
    let path = dir.path().join("data/t.db");
    assert_eq!(relative.url, StoreUrl::Sqlite { path });
    let ledger = Ledger {
        durability: Durability::Disk,
        path: dir.path().join("data/t.db-ledger"),
        lease: Duration::from_secs(30),
        keep_rows: Some(Duration::from_hours(400 * 24)),
    };
    assert_eq!(relative.ledger, ledger);
    assert!(relative.bonuses.steps().is_empty() && relative.reveal.is_none());
    let chosen = "url = \"postgres://h/d\"\n[ledger]\npath = \"j\"\nkeep_rows = \"forever\"\ndurability = \"process\"";
    let chosen = store(chosen).ledger;
    assert_eq!((chosen.path, chosen.keep_rows), (dir.path().join("j"), None));
    assert_eq!(chosen.durability, Durability::Process);
    let in_run_dir = store("url = \"postgres://h/d\"").ledger.path;
    assert_eq!(in_run_dir, Path::new("/run/tollgate/ledger"));
    assert!(load_with(GOOD, &[]).unwrap().config.store.is_none());
}

#[test]
fn a_key_s_quota_is_money() {
    let text = format!(
        "{GOOD}price = \"free\"\n[store]\nurl = \"sqlite://x\"\n[[key]]\nname = \"k\"\nsha256 = \"{HASH}\"\n\
         account = \"acme\"\nquota = 500_000\nperiod = \"month\"\n"
    );
    let loaded = load_with(&text, &[]).unwrap();
    assert_eq!(loaded.warnings, []);
    let key = &loaded.config.keys[0];
    let quota = Quota {
        amount: "1".parse().unwrap(),
        period: Some(Period::Month),
    };
    assert_eq!((key.account.as_deref(), key.quota), (Some("acme"), Some(quota)));
    assert!(show(&loaded.config).contains("account = \"acme\"\n"));
    assert!(show(&loaded.config).contains("quota = 500000\nperiod = \"month\"\n"));
}

#[test]
fn warnings_about_a_store() {
    let warnings = |more: &str| -> Vec<String> {
        let loaded = load_with(&format!("{GOOD}price = \"free\"\n{more}\n"), &[]).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect()
    };
    let without = "[ledger]\ndurability = \"store\"\n[topup]\n[keys]\nreveal = { key = { env = \"NOT_SET\" } }";
    let without = warnings(without);
    let no_effect = ["ledger", "topup", "keys"].map(|table| format!("{table}: has no effect: there is no [store]"));
    assert_eq!(without[..3], no_effect);
    assert!(without[3].starts_with("key: there is none"));
    let key = format!("[[key]]\nname = \"k\"\nsha256 = \"{HASH}\"\n[store]\nurl = \"postgres://h/d\"");
    assert_eq!(
        warnings(&key),
        [
            "key[0].account: left out, so there is no balance that the key's use is charged to",
            "ledger.path: left out, so the journal is in /run/tollgate/ledger; a run_dir is often in memory, which no \
             reboot leaves",
        ]
    );
    let unused = "[store]\nurl = \"sqlite://x\"\n[ledger]\ndurability = \"store\"\npath = \"j\"";
    assert_eq!(
        warnings(unused),
        ["ledger.path: has no effect: with durability = \"store\" there is no journal"]
    );
}

// === overrides ===

#[test]
fn variables_override_the_file() {
    let variables = [
        ("TOLLGATE__SERVER__THREADS", "4"),
        ("TOLLGATE__SERVER__LISTEN", "[\"127.0.0.1:1\", \"[::1]:1\"]"),
        ("TOLLGATE__SERVER__DRAIN", "7s"),
        ("TOLLGATE__SERVER__RUN_DIR", "\"/srv/quoted\""),
        ("TOLLGATE__SERVER__ACCESS_LOG", "false"),
        ("TOLLGATE__GROUP__TEAM__RPM", "10"),
        ("TOLLGATE__ADMIN__LISTEN", "127.0.0.1:2"),
        ("TOLLGATE_ADMIN_TOKEN", "not an override"),
    ];
    let text = format!("{GOOD}[group.Team]\ntpm = 5\n");
    let config = load_with(&text, &variables).unwrap().config;
    assert_eq!(config.server.worker_threads().get(), 4);
    assert_eq!(config.server.listen.len(), 2);
    assert_eq!(config.server.drain, Duration::from_secs(7));
    assert_eq!(config.server.run_dir, Path::new("/srv/quoted"));
    assert!(!config.server.access_log);
    let team = config.groups["Team"].limits;
    assert_eq!((team.rpm.unwrap().get(), team.tpm.unwrap().get()), (10, 5));
    assert_eq!(config.admin.unwrap().listen.port(), 2);
}

#[test]
fn a_wrong_variable_is_named() {
    let unaddressable = "a variable sets one value or a list of values; write this into the file";
    let table = [
        (
            "TOLLGATE__SERVER__THREAD",
            "4",
            "server.thread: unknown key; did you mean `threads`?".to_owned(),
        ),
        (
            "TOLLGATE__BACKEND__NAME",
            "x",
            format!("backend.name: is a list of tables, which a variable cannot address; {unaddressable}"),
        ),
        (
            "TOLLGATE__BACKEND",
            "[]",
            format!("backend: is a list of tables, which a variable cannot address; {unaddressable}"),
        ),
        (
            "TOLLGATE__SERVER__LISTEN__0",
            "x",
            format!("server.listen.0: has no keys below it; {unaddressable}"),
        ),
        (
            "TOLLGATE__CREDITS",
            "{ per_usd = 1 }",
            format!("credits: cannot be set to a table by a variable; {unaddressable}"),
        ),
        (
            "TOLLGATE__SERVER__THREADS",
            "four",
            "server.threads = \"four\": a string where a whole number belongs; write a whole number from 0 up"
                .to_owned(),
        ),
    ];
    for (name, value, expected) in table {
        assert_eq!(
            errors(GOOD, &[(name, value)]),
            [format!("environment variable {name}: {expected}")]
        );
    }
}

// === warnings and reloads ===

#[test]
fn warnings() {
    let text = GOOD.replace(
        "[[backend]]",
        "max_body = \"512MiB\"\ntrusted_proxies = [\"0.0.0.0/0\"]\n[[backend]]",
    );
    let more = "[[backend]]\nname = \"idle\"\nbase_url = \"http://x\"\n[admin]\nlisten = \"127.0.0.1:1\"\n\
                [group.g]\nmodels = [\"n\", \"other-*\"]\n[[key]]\nname = \"old\"\nexpires = 2020-01-01\n";
    let loaded = load_with(&format!("{text}{more}sha256 = \"{HASH}\"\n"), &[]).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let expected = [
        "admin.token: there is none, so nobody can use the admin API",
        "server.max_body: more than a quarter of max_buffered, which is all one account gets",
        "server.trusted_proxies[0]: anyone may say in X-Forwarded-For where they come from",
        "backend[1].name: no model has a route to \"idle\"",
        "group.g.models[0]: no model is called \"n\"; did you mean \"m\"?",
        "key[0].expires: is past, so the key is refused",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn what_needs_a_restart() {
    let load = |text: &str| load_with(text, &[]).unwrap().config;
    let old = load(GOOD);
    let reloadable =
        format!("{GOOD}[group.default]\nrpm = 5\n").replace("[[backend]]", "max_requests = 5\n[[backend]]");
    // The folder of the two differs, so that a relative path would, too.
    assert_eq!(diff_fixed(&old, &load(&reloadable)), Vec::<String>::new());
    let fixed = GOOD
        .replace(
            "8080\"]",
            "8081\"]\nh2c_listen = [\"127.0.0.1:8082\"]\nthreads = 2\nclient_timeout = \"1s\"\n\
             keepalive = \"1s\"\nlinger = \"1s\"\nrun_dir = \"/x\"\naccess_log = false",
        )
        .replace("[[backend]]", "[admin]\nlisten = \"127.0.0.1:8083\"\n[[backend]]");
    let keys = [
        "server.listen",
        "server.h2c_listen",
        "server.threads",
        "server.client_timeout",
        "server.keepalive",
        "server.linger",
        "server.run_dir",
        "server.access_log",
        "admin.listen",
    ];
    assert_eq!(diff_fixed(&old, &load(&fixed)), keys);

    let with = |store: &str| load(&format!("{GOOD}price = \"free\"\n[store]\n{store}\n"));
    let stored = with("url = \"sqlite:///x/t.db\"");
    assert_eq!(diff_fixed(&load(GOOD), &stored), ["store.url"]);
    let bonus = with("url = \"sqlite:///x/t.db\"\n[topup]\nbonus = [{ from = 1, percent = 1 }]");
    assert_eq!(diff_fixed(&stored, &bonus), Vec::<String>::new());
    let other = "url = \"postgres://h/d\"\n[ledger]\ndurability = \"process\"\nlease = \"5s\"\nkeep_rows = \"9d\"";
    let keys = [
        "store.url",
        "ledger.durability",
        "ledger.path",
        "ledger.lease",
        "ledger.keep_rows",
    ];
    assert_eq!(diff_fixed(&stored, &with(other)), keys);
}
