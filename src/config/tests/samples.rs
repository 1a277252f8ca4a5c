//! The samples in `config/`: each is loaded, and gateway.toml shows all there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::config::raw::Root;
use crate::config::read::{Reader, as_json};
use crate::config::{Durability, Loaded, Loader, Price, StoreUrl, schema, tree};

pub(super) fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

#[test]
fn minimal() {
    let path = sample("minimal.toml");
    assert!(fs::read_to_string(&path).unwrap().lines().count() <= 15);
    let Loaded {
        config,
        warnings,
        files,
    } = Loader::new([]).load(&path).unwrap();
    assert_eq!((warnings, files), (vec![], vec![path]));
    assert_eq!(config.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.model("demo").unwrap().routes[0].backend.base_url.port, 9000);
    let key_of = |secret: &str| config.key(&Sha256::digest(secret).into());
    let key = key_of("sk-tollgate-demo").expect("the documented key");
    assert_eq!(&*key.group.name, "default");
    assert!(key_of("sk-tollgate-demo2").is_none());
    assert!(config.model("Demo").is_none() && config.admin.is_none());
}

#[test]
fn fallback() {
    let variables = ["PRIMARY_API_KEY", "SECONDARY_API_KEY_1", "SECONDARY_API_KEY_2"];
    let loader = Loader::new(variables.map(|name| (name.to_owned(), format!("sk-of-{name}"))));
    let Loaded { config, warnings, .. } = loader.load(&sample("fallback.toml")).unwrap();
    assert_eq!(warnings, []);
    let chat = config.model("chat").unwrap();
    let routes: Vec<_> = chat
        .routes
        .iter()
        .map(|r| (&*r.backend.name, &*r.model, r.weight.get(), r.priority))
        .collect();
    let expected = [
        ("primary", "chat-large-2026-05", 9, 0),
        ("secondary", "vendor/chat-large", 1, 0),
        ("spare", "chat-large", 1, 1),
    ];
    assert_eq!(routes, expected);
    assert_eq!(&*config.models[chat.fallback[0]].name, "chat-small");
    assert_eq!(chat.routes[1].backend.api_keys[1].expose(), "sk-of-SECONDARY_API_KEY_2");
    assert_eq!(chat.routes[0].backend.timeout.first_byte, Duration::from_secs(30));
    assert_eq!(
        chat.routes[0].backend.timeout.total,
        Duration::from_mins(2),
        "the default"
    );
    assert!(!config.groups["default"].models.allows("other"));
}

#[test]
fn gateway() {
    let variables = ["TOLLGATE_ADMIN_TOKEN", "DEEPSEEK_API_KEY"].map(|name| (name.to_owned(), "sk-x".to_owned()));
    let Loaded { config, warnings, .. } = Loader::new(variables).load(&sample("gateway.toml")).unwrap();
    assert_eq!(warnings, []);
    let Some(Price::Rates(rates)) = &config.model("deepseek-chat").unwrap().price else {
        panic!("has prices")
    };
    assert_eq!(rates.tokens.cached_input, Some("0.07".parse().unwrap()));
    assert_eq!(rates.tiers[0].above.get(), 200_000);
    assert_eq!(config.model("qwen-plus").unwrap().price, Some(Price::Free));
    assert!(config.keys[0].expires.is_some());
}

#[test]
fn store() {
    let variables = [("TOLLGATE_ADMIN_TOKEN".to_owned(), "sk-x".to_owned())];
    let Loaded { config, warnings, .. } = Loader::new(variables).load(&sample("store.toml")).unwrap();
    assert_eq!(warnings, []);
    let store = config.store.as_ref().unwrap();
    let beside = |name| StoreUrl::Sqlite { path: sample(name) };
    assert_eq!(store.url, beside("tollgate.db"));
    assert_eq!(store.ledger.path, sample("tollgate.db-ledger"));
    assert_eq!(store.ledger.durability, Durability::Disk);
    let bonus = |usd: &str| {
        let amount = usd.parse().unwrap();
        store.bonuses.bonus_for(amount).and_then(|bonus| bonus.of(amount))
    };
    assert_eq!((bonus("19.99"), bonus("50")), (None, "7.5".parse().ok()));
    assert_eq!(config.groups["reseller"].multiplier.to_string(), "0.8");
}

/// gateway.toml with the settings that it leaves out put in.
pub(super) fn whole_gateway_text() -> String {
    let text = fs::read_to_string(sample("gateway.toml")).unwrap();
    let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    let lines: Vec<_> = text
        .lines()
        .map(|line| if is_setting(line) { &line[1..] } else { line })
        .collect();
    lines.join("\n")
}

fn whole_gateway() -> tree::Table {
    tree::parse(&whole_gateway_text()).unwrap()
}

/// Every key of a document as a path without indices and chosen names: `backend.timeout.idle`.
fn keys_of(value: &Json, schema: &Json, path: &str, into: &mut BTreeSet<String>) {
    if let Json::Array(items) = value {
        for item in items {
            keys_of(item, schema, path, into);
        }
    }
    let Json::Object(table) = value else { return };
    for (key, value) in table {
        match property(schema, key) {
            Some((None, inner)) => keys_of(value, inner, path, into),
            Some((Some(key), inner)) => {
                into.insert(format!("{path}{key}"));
                keys_of(value, inner, &format!("{path}{key}."), into);
            }
            None => {
                into.insert(format!("{path}{key} (not in the schema)"));
            }
        }
    }
}

/// The schema of a key, and the key unless it is a name that the user chose.
fn property<'s>(schema: &'s Json, key: &str) -> Option<(Option<String>, &'s Json)> {
    if let Some(inner) = schema["properties"].get(key) {
        return Some((Some(key.to_owned()), inner));
    }
    if schema["additionalProperties"].is_object() {
        return Some((None, &schema["additionalProperties"]));
    }
    let choices = ["anyOf", "oneOf"]
        .iter()
        .filter_map(|of| schema[of].as_array())
        .flatten();
    choices
        .chain(schema.get("items"))
        .find_map(|inner| property(inner, key))
}

/// Every key of a schema, in the same form, with its default.
fn keys_in(schema: &Json, path: &str, into: &mut Vec<(String, Option<Json>)>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        into.push((format!("{path}{key}"), inner.get("default").cloned()));
        keys_in(inner, &format!("{path}{key}."), into);
    }
    for of in ["anyOf", "oneOf"] {
        schema[of]
            .as_array()
            .into_iter()
            .flatten()
            .for_each(|inner| keys_in(inner, path, into));
    }
    for inner in ["items", "additionalProperties"].iter().filter_map(|of| schema.get(of)) {
        keys_in(inner, path, into);
    }
}

#[test]
fn the_schema_and_gateway_toml_have_the_same_keys() {
    let schema = schema();
    let table = whole_gateway();
    let document = as_json(&tree::Value::Table(table.clone()));
    let (_, problems) = Reader::document::<Root>(table);
    assert_eq!(problems, [], "the reader knows them all");

    let mut written = BTreeSet::new();
    keys_of(&document, &schema, "", &mut written);
    let mut known = Vec::new();
    keys_in(&schema, "", &mut known);
    let known: BTreeSet<String> = known.into_iter().map(|(key, _)| key).collect();
    // The other form of a secret; that it is there stands at the head of the sample. A store's URL may be one, too.
    let in_prose = |key: &String| key.rsplit('.').next() == Some("file") || key == "store.url.env";
    let missing: Vec<_> = known.difference(&written).filter(|key| !in_prose(key)).collect();
    let unknown: Vec<_> = written.difference(&known).collect();
    assert_eq!((missing, unknown), (Vec::<&String>::new(), Vec::<&String>::new()));
}

#[test]
fn gateway_toml_shows_every_default() {
    fn at<'j>(value: &'j Json, path: &[&str], into: &mut Vec<&'j Json>) {
        match (value, path) {
            (Json::Array(items), [_, ..]) => items.iter().for_each(|item| at(item, path, into)),
            (value, []) => into.push(value),
            (Json::Object(table), [key, rest @ ..]) => {
                if let Some(value) = table.get(*key) {
                    at(value, rest, into);
                }
            }
            _ => {}
        }
    }
    let document = as_json(&tree::Value::Table(whole_gateway()));
    let mut known = Vec::new();
    keys_in(&schema(), "", &mut known);
    let defaults = known.into_iter().filter_map(|(key, default)| Some((key, default?)));
    // Tables and lists of tables are shown by their keys.
    let single = |d: &Json| !d.is_object() && *d != serde_json::json!([]);
    let mut count = 0;
    for (key, default) in defaults.filter(|(key, d)| single(d) && key != "group.models" && key != "group.multiplier") {
        let mut shown = Vec::new();
        at(&document, &key.split('.').collect::<Vec<_>>(), &mut shown);
        assert!(
            shown.contains(&&default),
            "{key}: the default is {default}, shown is {shown:?}"
        );
        count += 1;
    }
    assert!(count > 25, "{count}");
}
