//! A project of somebody else's: what it compiles for each layer, and which crates it meets in the layers' API.
//!
//! Both run cargo, offline, in folders of their own under the target folder.
#![cfg(feature = "full")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What every layer needs.
const BASE: [&str; 6] = [
    "bytes",
    "http",
    "http-body",
    "pin-project-lite",
    "tower-layer",
    "tower-service",
];

/// Each feature with a type of its own and what it needs besides.
const FEATURES: [(&str, &str, &[&str]); 19] = [
    ("bearer_auth", "BearerAuthLayer<StaticKeys<u8>>", &["sha2", "subtle"]),
    ("buffer", "BufferLayer", &[]),
    ("catch_panic", "CatchPanicLayer", &[]),
    ("client_addr", "ClientAddr", &["ipnet"]),
    ("concurrency", "Slots<u64>", &["hashbrown", "smallvec"]),
    ("disconnect", "OnDisconnect", &["tokio"]),
    ("fallback", "FallbackLayer<()>", &[]),
    ("ip_allow", "IpSet", &["ipnet"]),
    ("meter", "Usage", &["memchr"]),
    ("model", "ModelLayer", &["memchr", "simdutf8"]),
    ("model_allow", "ModelSet", &[]),
    ("overload", "OverloadLayer", &[]),
    ("rate_limit", "Buckets<u64>", &["hashbrown", "smallvec", "tokio"]),
    ("request_id", "RequestIdLayer", &[]),
    ("require", "RequireLayer<()>", &[]),
    ("respond", "RespondLayer<OpenAi>", &[]),
    ("response_cache", "ResponseCache", &["memchr", "moka", "sha2", "tokio"]),
    ("splice", "Edit", &[]),
    ("timeout", "Timeouts", &["tokio"]),
];

/// Crates whose types a user of the layers has to do with; and the one that stands in bounds of `Unpin`, which nobody
/// writes out.
const PUBLIC: [&str; 8] = [
    "bytes",
    "http",
    "http_body",
    "ipnet",
    "pin_project_lite",
    "tokio",
    "tower_layer",
    "tower_service",
];

fn target() -> PathBuf {
    // From `target/debug/deps/stranger-…`.
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// The output of cargo in `folder`, offline and with nothing of the environment of the cargo that runs this test.
fn cargo(folder: &Path, target: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") || name.starts_with("RUST")) {
        if !matches!(name.as_str(), "CARGO_HOME" | "RUSTUP_HOME" | "RUSTUP_TOOLCHAIN") {
            command.env_remove(name);
        }
    }
    let output = command
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_NET_OFFLINE", "true")
        .env("RUSTC_BOOTSTRAP", "1")
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}:\n{errors}");
    assert!(!errors.contains("warning:"), "cargo {arguments:?}:\n{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Writes the project, outside of this workspace.
fn project() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tollgate-stranger-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("src")).unwrap();
    let layers = env!("CARGO_MANIFEST_DIR");
    let mut manifest = format!(
        "[package]\nname = \"stranger\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\ntollgate-layers = {{ path = \"{layers}\" }}\n\n[features]\n"
    );
    let mut source = "pub use tollgate_layers::{Reason, Rejection};\n".to_owned();
    for (feature, name, _) in FEATURES {
        writeln!(manifest, "{feature} = [\"tollgate-layers/{feature}\"]").unwrap();
        writeln!(source, "#[cfg(feature = \"{feature}\")]\npub mod {feature} {{\npub use tollgate_layers::{feature}::*;\npub fn of(it: {name}) -> {name} {{ it }}\n}}").unwrap();
    }
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.join("src/lib.rs"), source).unwrap();
    std::fs::copy(Path::new(layers).join("../Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    folder
}

#[test]
fn each_layer_brings_what_it_needs_and_no_more() {
    let (folder, target) = (project(), target().join("stranger"));
    cargo(&folder, &target, &["check", "--quiet", "--all-features"]);
    for (feature, _, own) in FEATURES {
        let arguments = [
            "tree",
            "--edges",
            "normal",
            "--prefix",
            "depth",
            "--format",
            " {p}",
            "--features",
            feature,
        ];
        let tree = cargo(&folder, &target, &arguments);
        let crates: Vec<(&str, &str)> = tree
            .lines()
            .map(|line| (line.split(' ').next().unwrap(), line.split(' ').nth(1).unwrap()))
            .collect();
        let direct: BTreeSet<&str> = crates
            .iter()
            .filter(|(depth, _)| *depth == "2")
            .map(|(_, name)| *name)
            .collect();
        assert_eq!(direct, BASE.iter().chain(own).copied().collect(), "{feature}");
        for (_, name) in crates {
            let foreign = [
                "pingora", "serde", "toml", "sqlx", "rusqlite", "hyper", "axum", "reqwest", "tracing",
            ];
            assert!(
                !foreign.iter().any(|foreign| name.starts_with(foreign)),
                "{feature} brings {name}"
            );
        }
    }
    let mut listed: BTreeSet<String> = features();
    // No layer of its own: what `meter` counts text with.
    assert!(listed.remove("tokenizer"));
    assert_eq!(
        listed,
        FEATURES.iter().map(|(feature, ..)| (*feature).to_owned()).collect(),
        "each is tried"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

/// The features that the manifest has.
fn features() -> BTreeSet<String> {
    let manifest = include_str!("../Cargo.toml");
    let (_, section) = manifest.split_once("\n[features]\n").unwrap();
    let (section, _) = section.split_once("\n[").unwrap();
    let names = section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim().to_owned());
    names
        .filter(|name| !matches!(name.as_str(), "default" | "full"))
        .collect()
}

#[test]
fn the_readme_has_a_row_and_an_example_for_each_layer() {
    let readme = include_str!("../README.md");
    for (feature, ..) in FEATURES.iter().filter(|(feature, ..)| *feature != "splice") {
        let row = readme.lines().find(|line| line.contains(&format!("| `{feature}` |")));
        let row = row.unwrap_or_else(|| panic!("{feature} has no row"));
        assert!(row.contains(&format!("[{feature}](examples/{feature}.rs)")), "{row}");
        assert!(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("examples/{feature}.rs"))
                .exists(),
            "{feature}"
        );
    }
}

/// By rustdoc's own reading of the public items, which it writes as JSON where unstable options are let through.
#[test]
fn the_api_names_few_crates() {
    let (folder, target) = (Path::new(env!("CARGO_MANIFEST_DIR")), target().join("public-api"));
    let arguments = [
        "rustdoc",
        "--quiet",
        "--lib",
        "--all-features",
        "--",
        "-Zunstable-options",
        "--output-format=json",
    ];
    cargo(folder, &target, &arguments);
    let json = std::fs::read(target.join("doc/tollgate_layers.json")).unwrap();
    let docs: Value = serde_json::from_slice(&json).unwrap();
    let mut named = BTreeMap::new();
    for item in docs["index"].as_object().unwrap().values() {
        // What impls of other crates' blankets say is theirs.
        if item["crate_id"] == 0 && item["inner"]["impl"]["blanket_impl"].is_null() {
            types(&item["inner"], &mut |id| {
                let krate = docs["paths"][id.to_string()]["crate_id"].as_u64().unwrap_or(0);
                let name = docs["external_crates"][krate.to_string()]["name"].as_str();
                named
                    .entry(name.unwrap_or("self").to_owned())
                    .or_insert_with(|| item["name"].to_string());
            });
        }
    }
    for own in ["self", "core", "std", "alloc"] {
        named.remove(own);
    }
    let allowed: BTreeSet<&str> = PUBLIC.into_iter().collect();
    assert_eq!(
        named.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        allowed,
        "{named:?}"
    );
}

/// Calls `found` with the id of each type and trait that is named in a part of an item.
fn types(part: &Value, found: &mut impl FnMut(u64)) {
    match part {
        Value::Object(fields) => {
            if let (Some(id), true) = (fields.get("id").and_then(Value::as_u64), fields.contains_key("args")) {
                found(id);
            }
            fields.values().for_each(|field| types(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| types(item, found)),
        _ => {}
    }
}
