//! Every way a configuration can be wrong, and what is made of one that is not.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;

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

// === errors ===

/// What is added to [`GOOD`], and every error that it makes.
const TABLE: &[(&str, &[&str])] = &[
    ("[servr]", &["t.toml:10: servr: unknown key; did you mean `server`?"]),
    (
        "[admin]\nlisten = \"localhost:8081\"",
        &[
            "t.toml:11: admin.listen = \"localhost:8081\": not an address and a port; write an IP address and a port: \
             \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\"",
        ],
    ),
    (
        "[admin]\nlisten = \"127.0.0.1:8080\"",
        &[
            "t.toml:11: admin.listen = \"127.0.0.1:8080\": the address of server.listen[0] as well; give each \
             listener an address of its own",
        ],
    ),
    (
        "[[backend]]\nname = \"b\"\nbase_url = \"http://x\"",
        &[
            "t.toml:11: backend[1].name = \"b\": the name of an earlier backend (line 5) as well; give each a name of its own",
        ],
    ),
    (
        "[[backend]]\nbase_url = \"example.com/v1\"\ntimeout = { idle = 5 }",
        &[
            "t.toml:10: backend[1].name: missing; add it: Its name, for routes, logs and metrics",
            "t.toml:11: backend[1].base_url = \"example.com/v1\": not a URL; write it like \"https://api.example.com/v1\"",
            "t.toml:12: backend[1].timeout.idle = 5: an integer where a duration belongs; write a number and a unit: \
             \"250ms\", \"5s\", \"2m\" or \"1h\"",
        ],
    ),
    (
        "[[backend]]\nname = \"c\"\nbase_url = \"https://user:hidden@x/v1\"",
        &[
            "t.toml:12: backend[1].base_url: a URL with a user or a password; take what stands before the @ out, and \
             give the key as api_key = { env = \"NAME\" }",
        ],
    ),
    (
        "[[backend]]\nname = \"c\"\nbase_url = \"http://x\"\napi_key = { env = \"NOT_SET\" }",
        &[
            "t.toml:13: backend[1].api_key: variable NOT_SET is not set; set it in the environment of the process, or \
             name another",
        ],
    ),
    (
        "[[backend]]\nname = \"c\"\nbase_url = \"http://x\"\napi_key = [{ file = \"no/such\" }, { env = \"A\", file = \"b\" }]",
        &[
            "t.toml:13: backend[1].api_key[1]: must have one of `env` and `file`, and nothing else; write { env = \
             \"NAME\" } or { file = \"path\" }",
            "t.toml:13: backend[1].api_key[0]: file no/such does not exist; name a file that this user may read; a \
             relative path begins at the folder of the configuration",
        ],
    ),
    (
        "[[backend]]\nname = \"c\"\nbase_url = \"http://x\"\npass_headers = [\"Authorization\", \"Host\", \"x-ok\"]",
        &[
            "t.toml:13: backend[1].pass_headers[0] = \"Authorization\": a header that holds a credential; take it out",
            "t.toml:13: backend[1].pass_headers[1] = \"Host\": a header that the gateway writes itself; take it out",
        ],
    ),
    (
        "[[backend]]\nname = \"c\"\nbase_url = \"https://x\"\nca = \"none.pem\"\nclient_key = \"k.pem\"",
        &[
            "t.toml:13: backend[1].ca = \"none.pem\": file none.pem does not exist; name a file that this user may \
             read; a relative path begins at the folder of the configuration",
            "t.toml:14: backend[1].client_key: a key without its certificate; add client_cert",
        ],
    ),
    (
        "[[model]]\nname = \"n\"\nroute = []\nmax_output = 0",
        &[
            "t.toml:12: model[1].route: no route; name a backend: route = [ { backend = \"NAME\" } ]",
            "t.toml:13: model[1].max_output = 0: too small; write a whole number from 1 up, or leave the key out for \
             none",
        ],
    ),
    (
        "[[model]]\nname = \"n\"\nroute = [{ backend = \"bb\", weight = 0 }]\nfallback = [\"mm\", \"n\"]",
        &[
            "t.toml:12: model[1].route[0].weight = 0: too small; write a whole number from 1 up, or take the route out",
            "t.toml:12: model[1].route[0].backend = \"bb\": no backend of this name; did you mean \"b\"?",
            "t.toml:13: model[1].fallback[0] = \"mm\": no model of this name; did you mean \"m\"?",
            "t.toml:13: model[1].fallback[1] = \"n\": falls back to itself: n → n; take it out of the list",
        ],
    ),
    (
        "fallback = [\"n\"]\n[[model]]\nname = \"n\"\nroute = [{ backend = \"b\" }]\nfallback = [\"o\"]\n\
         [[model]]\nname = \"o\"\nroute = [{ backend = \"b\" }]\nfallback = [\"m\"]",
        &["t.toml:18: model[2].fallback[0] = \"m\": falls back to itself: m → n → o → m; take it out of the list"],
    ),
    (
        "price = { input = -1, ouput = 2 }",
        &[
            "t.toml:10: model[0].price.ouput: unknown key; did you mean `output`?",
            "t.toml:10: model[0].price.input = -1: negative; write a number from 0 up, such as 0.27",
        ],
    ),
    (
        "price = {}",
        &[
            "t.toml:10: model[0].price: no price; name the price of a unit, such as { input = 0.27, output = 1.10 }, \
             or write \"free\"",
        ],
    ),
    (
        "price = \"cheap\"",
        &[
            "t.toml:10: model[0].price = \"cheap\": not a price; write a table of prices, such as { input = 0.27, \
             output = 1.10 }, or \"free\"",
        ],
    ),
    (
        "[group.default]\nmodels = [\"m[\"]\nmultiplier = \"2\"",
        &[
            "t.toml:11: group.default.models[0] = \"m[\": not a glob: unclosed character class; missing ']'; write a \
             model's name, or a glob with *, ?, [ab] or {a,b}; \\ takes a character as it is",
            "t.toml:12: group.default.multiplier = \"2\": a string where a number belongs; write a number from 0 up, \
             such as 0.27",
        ],
    ),
    (
        "[[key]]\nname = \"k\"\nsha256 = \"sk-the-key-itself\"\ngroup = \"gone\"\nips = [\"10.0.0.0/64\"]\n\
         expires = \"soon\"",
        &[
            "t.toml:12: key[0].sha256: not a SHA-256; write 64 hexadecimal digits; `tollgate key hash` makes them from \
             a key",
            "t.toml:13: key[0].group = \"gone\": no group of this name; add the group, or name one of: default",
            "t.toml:14: key[0].ips[0] = \"10.0.0.0/64\": not a network; write a CIDR or an address: \"10.0.0.0/8\", \
             \"192.0.2.7\" or \"fd00::/8\"",
            "t.toml:15: key[0].expires = \"soon\": not a point in time; write a date (2027-01-31, to its end in UTC), \
             RFC 3339 (2027-01-31T12:00:00Z), unix seconds, or -1 for never",
        ],
    ),
    (
        "[store]\nurl = \"sqlite://x\"\n[ledger]\n[topup]\n[keys]",
        &[
            "t.toml:10: store: not yet available in this version; take it out; it comes with the store",
            "t.toml:12: ledger: not yet available in this version; take it out; it comes with the store",
            "t.toml:13: topup: not yet available in this version; take it out; it comes with the store",
            "t.toml:14: keys: not yet available in this version; take it out; it comes with the store",
        ],
    ),
    (
        "[errors]\ncode = \"number\"\n[credits]\nper_usd = 1.5\n[metering]\ntag_header = \"x-api-key\"",
        &[
            "t.toml:11: errors.code = \"number\": not one of the choices; write \"status\" or \"reason\"",
            "t.toml:13: credits.per_usd = 1.5: a float where a whole number belongs; write a whole number from 1 up, or \
             leave the key out for none",
            "t.toml:15: metering.tag_header = \"x-api-key\": a header that holds a credential; write the name of a \
             request header that holds no credential, such as \"x-tag\"",
        ],
    ),
    (
        "backend = 5",
        &[
            "t.toml:10: model[0].backend: unknown key; known here: name, route, fallback, price, max_output, limit, deny_params",
        ],
    ),
];

#[test]
fn every_error_is_told_exactly() {
    for (added, expected) in TABLE {
        assert_eq!(errors(&format!("{GOOD}{added}\n"), &[]), *expected, "{added}");
    }
}

#[test]
fn errors_of_every_step_are_told_together() {
    let text = "[server]\nthread = 4\nmax_body = \"2GiB\"\ndrain = true\n[[key]]\nname = \"a\"\nsha256 = 5\n\
                [[key]]\nname = \"a\"\ngroup = \"g\"\n";
    let found = errors(text, &[("TOLLGATE__SERVER__LINGER", "long")]);
    let starts = [
        "t.toml:1: server.listen: missing; add it: ",
        "t.toml:2: server.thread: unknown key; did you mean `threads`?",
        "t.toml:3: server.max_body = 2147483648 bytes: larger than max_buffered",
        "t.toml:4: server.drain = true: a boolean where a duration belongs",
        "t.toml:7: key[0].sha256: not a SHA-256",
        "t.toml:8: key[1].sha256: missing",
        "t.toml:9: key[1].name = \"a\": the name of an earlier key (line 6)",
        "t.toml:10: key[1].group = \"g\": no group",
        "environment variable TOLLGATE__SERVER__LINGER: server.linger = \"long\": not a duration",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}\n{start}");
    }
}

#[test]
fn required_sections_and_bad_files() {
    assert_eq!(errors("", &[]).len(), 1, "only the server is missing");
    assert!(errors("", &[])[0].starts_with("t.toml: server: missing; add it: "));
    assert!(errors("a = [1,\n\nb = 2\n", &[])[0].contains(": not TOML: "));
    let missing = Loader::new([]).load(Path::new("/nonexistent/t.toml")).unwrap_err();
    assert!(
        missing.to_string().starts_with("/nonexistent/t.toml: cannot be read: "),
        "{missing}"
    );
}

#[test]
fn certificates_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (one, other) = (made(), made());
    write("one.pem", &one.cert.pem());
    write("one.key", &one.signing_key.serialize_pem());
    write("other.key", &other.signing_key.serialize_pem());
    write("not.pem", "hello");
    let tls = |cert: &str, key: &str| {
        let tls = format!("{GOOD}[server.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n");
        load_in(dir.path(), &tls, &[]).map_err(|e| e.problems().iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let loaded = tls("one.pem", "one.key").unwrap();
    assert_eq!(loaded.config.server.tls.as_ref().unwrap().chain.len(), 1);
    assert_eq!(
        loaded.files,
        ["t.toml", "one.key", "one.pem"].map(|name| dir.path().join(name))
    );
    assert!(!format!("{loaded:?}").contains(&one.signing_key.serialize_pem()[40..80]));
    let mismatch = "server.tls.key = \"other.key\": not the key of one.pem; name a certificate and its own key";
    assert_eq!(tls("one.pem", "other.key").unwrap_err(), [mismatch]);
    let neither = tls("not.pem", "not.pem").unwrap_err();
    assert!(
        neither[0].contains("holds no certificate") && neither[1].contains("holds no private key"),
        "{neither:?}"
    );
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
            "8081\"]\nh2c_listen = [\"127.0.0.1:8082\"]\nthreads = 2\nrun_dir = \"/x\"",
        )
        .replace("[[backend]]", "[admin]\nlisten = \"127.0.0.1:8083\"\n[[backend]]");
    let keys = [
        "server.listen",
        "server.h2c_listen",
        "server.threads",
        "server.run_dir",
        "admin.listen",
    ];
    assert_eq!(diff_fixed(&old, &load(&fixed)), keys);
}
