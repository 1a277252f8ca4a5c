//! What the verbs on keys ask the admin API.
#![expect(clippy::unwrap_used, reason = "tests")]

use clap::Parser as _;
use http::Method;
use serde_json::json;

use super::*;
use crate::cli::{Cli, Command, USAGE};

fn verb(line: &str) -> Result<KeyVerb, clap::Error> {
    let words = line.split_whitespace().map(|word| word.trim_matches('\''));
    match Cli::try_parse_from(["tollgate", "key"].into_iter().chain(words))?.command {
        Command::Key(KeyArgs {
            command: KeyCommand::Ask(verb),
        }) => Ok(verb),
        other => panic!("{other:?}"),
    }
}

fn call(line: &str) -> (Method, String, Value) {
    let call = verb(line).unwrap().call().unwrap();
    assert!(!call.proves || line.starts_with("reveal"), "{line}");
    (call.method, call.path, call.body.map_or(Value::Null, Value::Object))
}

/// The example that the help shows.
#[test]
fn create() {
    let line = "create --name ci --account acme --group default --quota 500000 --models 'gpt-4o,qwen-*' \
                --ips 10.0.0.0/8,::1 --expires 2027-01-31";
    let (method, path, body) = call(line);
    assert_eq!((method, &*path), (Method::POST, "/keys"));
    assert_eq!(
        body,
        json!({
            "name": "ci", "account": "acme", "group": "default", "quota": 500_000, "models": ["gpt-4o", "qwen-*"],
            "ips": ["10.0.0.0/8", "::1"], "expires": "2027-01-31",
        })
    );
    let (.., body) =
        call("create --account acme --name n --quota unlimited --models all --ips any --expires -1 --rpm 6");
    assert_eq!(body, json!({"name": "n", "account": "acme", "ips": [], "rpm": 6}));
}

#[test]
fn create_imports_by_hash() {
    let hash = "a".repeat(64);
    let (.., body) = call(&format!(
        "create --name n --account a --sha256 {hash} --prefix sk-old --last4 wxyz"
    ));
    assert_eq!(
        body,
        json!({"name": "n", "account": "a", "sha256": hash, "prefix": "sk-old", "last4": "wxyz"})
    );
    for bad in [
        "create --name n --account a --prefix sk-old".to_owned(),
        "create --name n --account a --sha256 abc".to_owned(),
        format!("create --name n --account a --sha256 {}", hash.to_uppercase()),
    ] {
        assert_eq!(verb(&bad).unwrap_err().exit_code(), i32::from(USAGE), "{bad}");
    }
}

#[test]
fn list_and_show() {
    assert_eq!(call("list"), (Method::GET, "/keys".to_owned(), Value::Null));
    assert_eq!(call("list --account a&b --limit 5").1, "/keys?account=a%26b");
    assert_eq!(call("show ci --account acme").1, "/keys/ci?account=acme");
}

#[test]
fn edit_changes_what_is_named_and_clears_by_word() {
    let (method, path, body) = call(
        "edit ci --account acme --name ci2 --quota unlimited --models all --ips any --expires never --period none",
    );
    assert_eq!((method, &*path), (Method::PATCH, "/keys/ci?account=acme"));
    assert_eq!(
        body,
        json!({"name": "ci2", "quota": null, "models": null, "ips": [], "expires": null, "period": null})
    );
    assert_eq!(
        call("edit ci --tpm unlimited --rpm 10 --concurrency 2").2,
        json!({"tpm": null, "rpm": 10, "concurrency": 2})
    );
    assert_eq!(call("edit ci --expires -1").2, json!({"expires": null}));
    let nothing = verb("edit ci --account acme").unwrap().call().unwrap_err();
    assert_eq!(nothing.code(), USAGE);
}

#[test]
fn states_and_ends() {
    for act in ["disable", "enable", "revoke"] {
        assert_eq!(
            call(&format!("{act} ci")),
            (Method::POST, format!("/keys/ci/{act}"), Value::Null)
        );
    }
    assert_eq!(call("delete ci"), (Method::DELETE, "/keys/ci".to_owned(), Value::Null));
    assert_eq!(call("rotate ci").2, json!({}));
    assert_eq!(
        call("rotate ci --overlap 24h --account a"),
        (
            Method::POST,
            "/keys/ci/rotate?account=a".to_owned(),
            json!({"overlap": "24h"})
        )
    );
}

/// The token is a proof that is added when the call is sent, not before.
#[test]
fn reveal_proves_who_asks() {
    let call = verb("reveal ci").unwrap().call().unwrap();
    assert!(call.proves);
    assert_eq!((&*call.path, call.body), ("/keys/ci/reveal", Some(Map::new())));
}

#[test]
fn wrong_use() {
    for line in [
        "create --name ci",
        "create --account acme",
        "create --name ci --account acme --quota many",
        "create --name ci --account acme --expires tomorrow",
        "create --name ci --account acme --period year",
        "show",
        "show a b",
        "rotate ci --overlap soon",
        "list --limit 0",
        "forget ci",
    ] {
        assert_eq!(verb(line).unwrap_err().exit_code(), i32::from(USAGE), "{line}");
    }
}
