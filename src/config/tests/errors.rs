//! Every way in which a configuration can be wrong, and what is said of it.

use std::fs;
use std::path::Path;

use super::{GOOD, errors, load_in};
use crate::config::Loader;

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
        "cache = { ttl = \"25h\", shred = true }",
        &[
            "t.toml:10: model[0].cache.shred: unknown key; did you mean `shared`?",
            "t.toml:10: model[0].cache.ttl = \"25h\": longer than a day; write \"24h\" or less",
        ],
    ),
    (
        "cache = { ttl = \"0s\" }",
        &[
            "t.toml:10: model[0].cache.ttl = \"0s\": must be longer than nothing; write a number and a unit: \"250ms\", \
             \"5s\", \"2m\" or \"1h\"",
        ],
    ),
    (
        "cache = {}",
        &["t.toml:10: model[0].cache.ttl: missing; add it: How long an answer is kept; a day at most"],
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
             such as 0.8",
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
        "[store]\nurl = \"sqlite://x\"",
        &[
            "t.toml:7: model[0].price: missing, and with a store every model has one; add price = { input = …, output = … \
             }, USD a million tokens, or price = \"free\"",
        ],
    ),
    (
        "price = \"free\"\n[store]\nurl = \"mysql://root:hidden@h/d\"\n[ledger]\ndurability = \"ram\"\nlease = \"1ms\"\n\
         keep_rows = \"1h\"",
        &[
            "t.toml:12: store.url: a URL of no store that is known; write sqlite://PATH, sqlite:///ABSOLUTE/PATH or \
             postgres://USER@HOST/DATABASE",
            "t.toml:14: ledger.durability = \"ram\": not one of the choices; write \"disk\", \"process\" or \"store\"",
            "t.toml:15: ledger.lease = \"1ms\": shorter than a second; write a number and a unit, from \"1s\" to \"1h\"",
            "t.toml:16: ledger.keep_rows = \"1h\": not a number of days; write days, such as \"400d\", or \"forever\"",
        ],
    ),
    (
        "price = \"free\"\n[store]\n[topup]\nbonus = [{ from = 20, percent = 10 }, { from = 20.0, percent = 1001 }, \
         { from = -1, percent = 1 }]\n[keys]\nreveal = { key = \"hidden\" }",
        &[
            "t.toml:11: store.url: missing; add it: sqlite://PATH (sqlite:///abs), made when absent; or postgres://…",
            "t.toml:13: topup.bonus[1].percent = 1001: more than 1000; write a number from 0 to 1000, such as 10",
            "t.toml:13: topup.bonus[2].from = -1: negative; write US dollars, such as 20 or 4.99",
            "t.toml:15: keys.reveal.key: a secret written out; write { env = \"NAME\" } or { file = \"path\" }",
        ],
    ),
    (
        "price = \"free\"\n[store]\nurl = { env = \"NOT_SET\" }\n[topup]\nbonus = [{ from = 20, percent = 10 }, { from = \
         20.0, percent = 11 }]",
        &[
            "t.toml:12: store.url: variable NOT_SET is not set; set it in the environment of the process, or name another",
            "t.toml:14: topup.bonus[1].from = 20.00: the amount of topup.bonus[0] as well; take one of the two out",
        ],
    ),
    (
        "[[key]]\nname = \"k\"\nsha256 = \"00000000000000000000000000000000000000000000000000000000000000ff\"\n\
         account = \"acme\"\nquota = 5\nperiod = \"day\"",
        &[
            "t.toml:13: key[0].account: takes a store, and there is none; add [store] with its url, or take it out",
            "t.toml:14: key[0].quota: takes a store, and there is none; add [store] with its url, or take it out",
        ],
    ),
    (
        "price = \"free\"\n[store]\nurl = \"sqlite://x\"\n[credits]\nper_usd = 3\n[[key]]\nname = \"k\"\n\
         sha256 = \"00000000000000000000000000000000000000000000000000000000000000ff\"\nquota = 5",
        &[
            "t.toml:18: key[0].quota = 5: no amount of money at 3 credits a dollar; write a number of credits that comes \
             to whole nano-dollars",
        ],
    ),
    (
        "price = { input = 0.0000000000001, output = 2e9 }\n[group.default]\nmultiplier = 0.0000001",
        &[
            "t.toml:10: model[0].price.input = 0.0000000000001: more than 12 digits after the point; write a number from 0 \
             up, such as 0.27",
            "t.toml:10: model[0].price.output = 2e9: more than 1000000000; write a number from 0 up, such as 0.27",
            "t.toml:12: group.default.multiplier = 0.0000001: more than 6 digits after the point; write a number from 0 up, \
             such as 0.8",
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
            "t.toml:10: model[0].backend: unknown key; known here: name, route, fallback, price, max_output, limit, cache, deny_params",
        ],
    ),
];

#[test]
fn every_error_is_told_exactly() {
    for (added, expected) in TABLE {
        assert_eq!(errors(&format!("{GOOD}{added}\n"), &[]), *expected, "{added}");
    }
}

/// Found by fuzzing: it was told of a line after the last.
#[test]
fn what_is_open_at_the_end_is_told_of_the_last_line() {
    for (text, line) in [
        ("a = \"\"\"x\n\n", 2),
        ("a = 1\nb\n", 2),
        ("a = [\n1\n", 2),
        ("a", 1),
        ("[", 1),
    ] {
        let told = errors(text, &[]);
        let lines: Vec<_> = told.iter().filter_map(|error| error.split(':').nth(1)).collect();
        assert!(lines.iter().all(|at| at.parse::<usize>().unwrap() <= line), "{told:?}");
        assert!(lines.contains(&line.to_string().as_str()), "{told:?}");
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
