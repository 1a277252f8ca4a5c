//! Which module may import which: a forbidden edge between top-level modules fails the build's tests.
//!
//! Sources are read as tokens, without comments and strings, so a path is found in a `use`, in a group, in a signature
//! or in a macro call alike. Both `crate::…` and `tollgate::…` count, and `super::…` where it climbs to the root.
//!
//! [`EDGES`] is the whole rule. A new top-level module needs a row there: without one, nothing may import it and it may
//! import nothing.

mod tokens;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tokens::{Token, tokens};

/// Every top-level module, or root file, with what it may import. The layers crate counts as the module `layers`.
const EDGES: &[(&str, &[&str])] = &[
    // The program: what starts things knows what it starts.
    ("main", STARTED),
    ("cli", STARTED),
    (
        "serve",
        &[
            "admin",
            "config",
            "dialect",
            "directory",
            "failpoint",
            "layers",
            "ledger",
            "money",
            "proxy",
            "stack",
            "store",
            "telemetry",
            "wiring",
        ],
    ),
    // The data plane.
    (
        "stack",
        &[
            "config",
            "wiring",
            "dialect",
            "directory",
            "failpoint",
            "ledger",
            "money",
            "proxy",
            "layers",
            "store",
            "telemetry",
        ],
    ),
    (
        "wiring",
        &["layers", "directory", "ledger", "money", "store", "config", "telemetry"],
    ),
    ("directory", &["config", "ledger", "money", "store", "telemetry"]),
    ("ledger", &["failpoint", "money", "store", "telemetry"]),
    ("store", &["failpoint", "money", "telemetry"]),
    ("money", &[]),
    ("dialect", &["telemetry"]),
    ("config", &["money", "telemetry"]),
    ("proxy", &["failpoint", "telemetry"]),
    // Beside it.
    (
        "admin",
        &["store", "ledger", "directory", "money", "config", "telemetry"],
    ),
    ("backend", &["telemetry"]),
    ("load", &["telemetry"]),
    ("telemetry", &[]),
    ("failpoint", &[]),
];

/// What the command line starts: the servers and tools, and the configuration that they are started from.
const STARTED: &[&str] = &[
    "admin",
    "backend",
    "cli",
    "config",
    "load",
    "money",
    "proxy",
    "serve",
    "stack",
    "store",
    "telemetry",
];

#[test]
fn every_import_is_an_allowed_edge() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = 0;
    let mut found = Vec::new();
    for (folder, check) in [
        ("src", violations as fn(&Path, &str) -> Vec<String>),
        ("layers/src", layers_violations),
    ] {
        for file in rust_files(&root.join(folder)) {
            let source = fs::read_to_string(&file).expect("a source file is readable");
            let shown = file.strip_prefix(root.join(folder)).expect("it was listed from there");
            found.extend(check(shown, &source).into_iter().map(|v| format!("{folder}/{v}")));
            files += 1;
        }
    }
    assert!(files > 10, "only {files} source files found under {}", root.display());
    assert!(found.is_empty(), "forbidden imports:\n  {}\n", found.join("\n  "));
}

#[test]
fn a_planted_edge_is_caught() {
    let cases = [
        ("proxy/edge.rs", "use crate::config::Config;", "proxy → config"),
        ("proxy/edge.rs", "use tollgate_layers::Rejection;", "proxy → layers"),
        ("proxy/mod.rs", "use super::ledger::Guard;", "proxy → ledger"),
        ("proxy/edge.rs", "use super::super::store::Store;", "proxy → store"),
        (
            "proxy/edge.rs",
            "mod deep { mod er { use super::super::super::super::admin::x; } }",
            "proxy → admin",
        ),
        (
            "wiring/keys.rs",
            "use crate::{config::{self, Key}, proxy::{body::Body, edge}};",
            "wiring → proxy",
        ),
        (
            "wiring.rs",
            "fn f() -> crate::dialect::Usage { todo() }",
            "wiring → dialect",
        ),
        (
            "ledger/mod.rs",
            "pub(in crate::ledger) fn f(x: &dyn ::tollgate::admin::Api) {}",
            "ledger → admin",
        ),
        (
            "store/mod.rs",
            "macro_rules! m { () => { $crate::ledger::f() } }",
            "store → ledger",
        ),
        (
            "admin/keys.rs",
            "let c = '\"'; let l: &'a str = r#\"crate::store\"#; crate::stack::build(l)",
            "admin → stack",
        ),
        (
            "config/raw.rs",
            "#[cfg(test)] mod tests { use crate::serve::run; }",
            "config → serve",
        ),
        ("telemetry.rs", "use crate::config;", "telemetry → config"),
        ("money/price.rs", "use crate::config::Config;", "money → config"),
        (
            "money/charge.rs",
            "use tollgate_layers::meter::Usage;",
            "money → layers",
        ),
        ("stack.rs", "use crate::admin;", "stack → admin"),
        ("novel.rs", "use crate::telemetry;", "novel → telemetry"),
        (
            "admin/mod.rs",
            "use pingora_core::server::Server;",
            "admin names pingora_core",
        ),
        ("stack.rs", "use crate::*;", "stack → *"),
        ("stack.rs", "use crate::Config;", "stack → Config"),
    ];
    for (file, source, wanted) in cases {
        let found = violations(Path::new(file), source);
        assert_eq!(found.len(), 1, "{file}: {source}: {found:?}");
        assert!(found[0].contains(wanted), "{file}: wanted {wanted:?}, found {found:?}");
    }
    assert_eq!(
        layers_violations(Path::new("auth.rs"), "use tollgate::config::Config;").len(),
        1
    );
    assert_eq!(
        layers_violations(Path::new("auth.rs"), "use pingora_http::RequestHeader;").len(),
        1
    );
    assert_eq!(
        violations(Path::new("proxy/a.rs"), "\n\nuse crate::store::S;\n"),
        ["proxy/a.rs:3: proxy → store is not an allowed edge"]
    );
}

#[test]
fn what_is_allowed_passes() {
    let cases = [
        (
            "proxy/edge.rs",
            "use pingora_core::Error; use super::body::Body; use self::deep::X; use crate::proxy::upstream;",
        ),
        (
            "proxy/mod.rs",
            "pub(crate) mod edge; pub(super) fn f() {} use crate::telemetry::NAMES;",
        ),
        (
            "stack.rs",
            "use crate::{config::Config, proxy::Edge, wiring, dialect}; use tollgate_layers::auth::AuthLayer;",
        ),
        (
            "admin/mod.rs",
            "// use crate::proxy::Edge;\n/* crate::stack /* nested */ crate::proxy */ const S: &str = \"crate::proxy\";",
        ),
        (
            "admin/mod.rs",
            "//! [`crate::proxy`]\nmod tests { use super::*; }\nuse store::crate_like; const C: char = '\\'';",
        ),
        (
            "wiring/a.rs",
            "mod tests { use super::super::limits::X; } fn f(tollgate: u8) -> u8 { tollgate }",
        ),
        ("lib.rs", "pub mod proxy; pub use crate::config::Config;"),
        ("cli/serve.rs", "use crate::serve; use crate::config;"),
    ];
    for (file, source) in cases {
        assert_eq!(
            violations(Path::new(file), source),
            Vec::<String>::new(),
            "{file}: {source}"
        );
    }
}

#[test]
fn the_table_is_closed() {
    let known: BTreeSet<_> = EDGES.iter().map(|(module, _)| *module).chain(["layers"]).collect();
    for (module, targets) in EDGES {
        for target in *targets {
            assert!(known.contains(target), "{module} may import {target}, which has no row");
        }
    }
}

// === the rule ===

/// What a file of the root package (`file` relative to `src/`) imports against the rule.
fn violations(file: &Path, source: &str) -> Vec<String> {
    let module = module_path(file);
    let Some(top) = module.first().cloned() else {
        return Vec::new(); // lib.rs declares the modules and may re-export from any
    };
    let row = EDGES
        .iter()
        .find(|(name, _)| *name == top)
        .map_or(&[][..], |(_, targets)| targets);
    let mut found = Vec::new();
    for Found { line, target } in imports(source, &module) {
        let place = format!("{}:{line}", file.display());
        match target {
            Target::Ours(to) if to == top || row.contains(&to.as_str()) => {}
            Target::Ours(to) => found.push(format!("{place}: {top} → {to} is not an allowed edge")),
            Target::Pingora(_) if top == "proxy" => {}
            Target::Pingora(name) => found.push(format!("{place}: {top} names {name}: only src/proxy may")),
        }
    }
    found
}

/// The layers crate stands alone: nothing of the gateway's, nothing of Pingora's.
fn layers_violations(file: &Path, source: &str) -> Vec<String> {
    let bad = |t: &Token| t.text.starts_with("pingora") || t.text == "tollgate";
    let tokens = tokens(source);
    let named = tokens
        .iter()
        .enumerate()
        .filter(|(i, t)| bad(t) && (t.text != "tollgate" || tokens.get(i + 1).is_some_and(|next| next.text == "::")));
    named
        .map(|(_, t)| format!("{}:{}: layers names {}", file.display(), t.line, t.text))
        .collect()
}

/// `proxy/edge.rs` is `[proxy, edge]`, `proxy/mod.rs` is `[proxy]`, `lib.rs` is the root itself.
fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<_> = file
        .with_extension("")
        .iter()
        .map(|p| p.to_string_lossy().into_owned())
        .collect();
    if matches!(path.last().map(String::as_str), Some("mod")) || path == ["lib"] {
        path.pop();
    }
    path
}

// === reading imports ===

#[derive(Debug)]
struct Found {
    line: usize,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// A top-level module of ours, or whatever else stands at the crate's root under that name.
    Ours(String),
    Pingora(String),
}

/// Every path in `source` that leaves the module `module`, in reading order.
fn imports(source: &str, module: &[String]) -> Vec<Found> {
    let tokens = tokens(source);
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let mut inline: Vec<usize> = Vec::new(); // the brace depths at which inline modules were opened
    let mut depth = 0;
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => {
                depth += 1;
                if i >= 2 && text(i - 2) == "mod" {
                    inline.push(depth);
                }
            }
            "}" => {
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
                depth = depth.saturating_sub(1);
            }
            name if name.starts_with("pingora") => {
                found.push(Found {
                    line: token.line,
                    target: Target::Pingora(name.to_owned()),
                });
            }
            "tollgate_layers" => found.push(Found {
                line: token.line,
                target: Target::Ours("layers".to_owned()),
            }),
            head @ ("crate" | "super" | "tollgate") if text(i + 1) == "::" => {
                if head == "super" && i >= 2 && text(i - 1) == "::" && text(i - 2) == "super" {
                    continue; // the middle of a longer path, read with its head
                }
                // How many modules above this one the path starts: all of them for the crate's root.
                let here = module.len() + inline.len();
                let mut next = i + 2;
                let mut climbed = if head == "super" { 1 } else { here };
                while head == "super" && text(next) == "super" {
                    climbed += 1;
                    next += if text(next + 1) == "::" { 2 } else { 1 };
                }
                if climbed >= here {
                    let names = heads(&tokens, next);
                    found.extend(names.map(|t| Found {
                        line: t.line,
                        target: Target::Ours(t.text.clone()),
                    }));
                }
            }
            _ => {}
        }
    }
    found
}

/// The first names of the path that continues at `at`: one, or each of a group's.
fn heads(tokens: &[Token], at: usize) -> impl Iterator<Item = &Token> {
    let grouped = tokens.get(at).is_some_and(|t| t.text == "{");
    let mut depth = 0_usize;
    let mut expects = true;
    let mut done = false;
    tokens.iter().skip(at).filter(move |token| {
        if done {
            return false;
        }
        if !grouped {
            done = true;
            return true;
        }
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                done = depth == 0;
            }
            "," => expects = depth == 1,
            _ if depth == 1 && expects => {
                expects = false;
                return token.text != "self";
            }
            _ => {}
        }
        false
    })
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a source folder is readable") {
            let path = entry.expect("its entries too").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
