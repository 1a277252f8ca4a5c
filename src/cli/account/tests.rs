//! What the verbs on accounts ask the admin API.
#![expect(clippy::unwrap_used, reason = "tests")]

use clap::Parser as _;
use http::Method;
use serde_json::json;

use super::*;
use crate::cli::{Ask, Cli, Command, USAGE};

fn verb(line: &str) -> Result<AccountVerb, clap::Error> {
    let words = line.split_whitespace().map(|word| word.trim_matches('\''));
    match Cli::try_parse_from(["tollgate", "account"].into_iter().chain(words))?.command {
        Command::Ask(Ask::Account(args)) => Ok(args.command),
        other => panic!("{other:?}"),
    }
}

fn call(line: &str) -> (Method, String, Value) {
    let call = verb(line).unwrap().call().unwrap();
    (call.method, call.path, call.body.map_or(Value::Null, Value::Object))
}

#[test]
fn create() {
    assert_eq!(
        call("create acme --topup 5.00"),
        (
            Method::POST,
            "/accounts".to_owned(),
            json!({"name": "acme", "topup": "5.00"})
        )
    );
    assert_eq!(
        call("create acme --billing postpaid --credit-limit 100 --groups default,vip").2,
        json!({"name": "acme", "billing": "postpaid", "credit_limit": "100", "groups": ["default", "vip"]})
    );
}

#[test]
fn list_show_history_and_verify() {
    assert_eq!(call("list"), (Method::GET, "/accounts".to_owned(), Value::Null));
    assert_eq!(call("show acme").1, "/accounts/acme");
    assert_eq!(call("history a/b --limit all").1, "/accounts/a%2Fb/entries");
    assert_eq!(call("verify acme").1, "/accounts/acme/verify");
    assert_eq!(call("verify acme --full").1, "/accounts/acme/verify?full=true");
}

#[test]
fn edit() {
    assert_eq!(
        call("edit acme --name acme2 --credit-limit unlimited --groups all --disable"),
        (
            Method::PATCH,
            "/accounts/acme".to_owned(),
            json!({"name": "acme2", "credit_limit": null, "groups": null, "disabled": true})
        )
    );
    assert_eq!(call("edit acme --enable").2, json!({"disabled": false}));
    assert_eq!(verb("edit acme").unwrap().call().unwrap_err().code(), USAGE);
}

#[test]
fn topup_is_done_once_however_often_it_is_sent() {
    let parsed = verb("topup acme 20 --source bank --external-ref INV-1 --note May --promotional").unwrap();
    let (one, two) = (parsed.call().unwrap(), parsed.call().unwrap());
    assert_eq!(&*one.path, "/accounts/acme/topup");
    assert_eq!(
        Value::Object(one.body.unwrap()),
        json!({"amount": "20", "source": "bank", "external_ref": "INV-1", "note": "May", "promotional": true})
    );
    assert!(one.idempotency_key.is_some() && one.idempotency_key != two.idempotency_key);
    let named = verb("topup acme 20 --idempotency-key again").unwrap().call().unwrap();
    assert_eq!(named.idempotency_key.as_deref(), Some("again"));
}

#[test]
fn adjust_goes_both_ways() {
    assert_eq!(
        call("adjust acme -1.50 --reason twice"),
        (
            Method::POST,
            "/accounts/acme/adjust".to_owned(),
            json!({"amount": "-1.50", "reason": "twice"})
        )
    );
    assert_eq!(call("adjust acme 2 --reason gift").2["amount"], "2");
}

#[test]
fn wrong_use() {
    for line in [
        "create",
        "create acme --topup 0",
        "create acme --topup -5",
        "create acme --billing later",
        "create acme --credit-limit -1",
        "topup acme",
        "topup acme -5",
        "topup acme five",
        "adjust acme 5",
        "edit acme --disable --enable",
        "verify",
    ] {
        assert_eq!(verb(line).unwrap_err().exit_code(), i32::from(USAGE), "{line}");
    }
    let unsaid = Cli::try_parse_from(["tollgate", "account", "adjust", "acme", "5", "--reason", ""]);
    assert_eq!(unsaid.unwrap_err().exit_code(), i32::from(USAGE));
}
