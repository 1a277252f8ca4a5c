//! Bad input of each kind: told as a whole, and never our fault.

use http::Method;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::support::admin::Admin;

/// Every change there is.
const CHANGES: &[(&str, &str)] = &[
    ("POST", "/admin/v1/accounts"),
    ("PATCH", "/admin/v1/accounts/acme"),
    ("POST", "/admin/v1/accounts/acme/topup"),
    ("POST", "/admin/v1/accounts/acme/adjust"),
    ("POST", "/admin/v1/accounts/acme/redeem"),
    ("POST", "/admin/v1/keys"),
    ("PATCH", "/admin/v1/keys/ci"),
    ("POST", "/admin/v1/keys/ci/rotate"),
    ("POST", "/admin/v1/keys/ci/reveal"),
    ("POST", "/admin/v1/codes"),
    ("POST", "/admin/v1/notices"),
];

/// Every field there is, so that what is arbitrary is not refused for its name alone.
const FIELDS: &[&str] = &[
    "name",
    "billing",
    "credit_limit",
    "groups",
    "topup",
    "disabled",
    "amount",
    "source",
    "external_ref",
    "note",
    "promotional",
    "reason",
    "code",
    "account",
    "group",
    "models",
    "ips",
    "rpm",
    "tpm",
    "concurrency",
    "quota",
    "period",
    "expires",
    "sha256",
    "prefix",
    "last4",
    "overlap",
    "token",
    "count",
    "text",
    "other",
];

async fn acme() -> Admin {
    let admin = Admin::start().await;
    admin
        .post(
            "/admin/v1/accounts",
            json!({"name": "acme", "topup": "5", "groups": ["default"]}),
        )
        .await;
    admin
        .post("/admin/v1/keys", json!({"name": "ci", "account": "acme"}))
        .await;
    admin
}

#[tokio::test]
async fn every_wrong_field_is_told_at_once() {
    let admin = acme().await;
    let body = json!({"account": "nobody", "name": " x", "group": "none", "models": ["gpt-[", "ok", ""], "ips": ["10.0.0.0/33", "::1"],
        "rpm": 0, "tpm": -5, "concurrency": "many", "quota": 1.5, "period": "year", "expires": "soon", "sha256": "12", "colour": "red"});
    let reply = admin.ops(Method::POST, "/admin/v1/keys").json(body).send().await;
    let message = reply.refused(400, "invalid");
    for (field, what) in [
        ("account", "no such account"),
        ("name", "1 to 128 characters"),
        ("group", "\"none\""),
        ("models", "\"gpt-[\""),
        ("models", "\"\""),
        ("ips", "\"10.0.0.0/33\""),
        ("rpm", "above 0"),
        ("tpm", "invalid value"),
        ("concurrency", "invalid type"),
        ("quota", "invalid type"),
        ("period", "unknown variant"),
        ("expires", "-1 for never"),
        ("sha256", "64 hexadecimal digits"),
        ("colour", "unknown field"),
    ] {
        let told = message
            .split("; ")
            .any(|part| part.starts_with(&format!("{field}: ")) && part.contains(what));
        assert!(told, "{field}: {what} in {message}");
    }
    assert!(!message.contains("\"ok\"") && !message.contains("::1"), "{message}");
    assert!(reply.json()["error"]["param"].is_string());
}

#[tokio::test]
async fn bad_input_of_each_kind() {
    let admin = acme().await;
    let keys = "/admin/v1/keys";
    for (body, field) in [
        (json!({"name": "a"}), "account"),
        (json!({"account": "acme"}), "name"),
        (json!({"account": "acme", "name": "a", "group": "vip"}), "group"),
        (json!({"account": "acme", "name": "a", "period": "day"}), "period"),
        (json!({"account": "acme", "name": "a", "prefix": "sk-a"}), "prefix"),
        (
            json!({"account": "acme", "name": "a", "sha256": "ab".repeat(32), "last4": "12345"}),
            "last4",
        ),
        (json!({"account": "acme", "name": "a", "quota": u64::MAX}), "quota"),
        (
            json!({"account": "acme", "name": "a", "expires": 253_402_300_800_i64}),
            "expires",
        ),
        (json!({"account": "acme", "name": "0123456789abc"}), "name"),
        (
            json!({"account": "acme", "name": "a", "ips": "10.0.0.1 nonsense"}),
            "ips",
        ),
    ] {
        let reply = admin.ops(Method::POST, keys).json(body.clone()).send().await;
        let message = reply.refused(400, "invalid");
        assert!(message.starts_with(&format!("{field}: ")), "{body}: {message}");
        assert_eq!(reply.json()["error"]["param"], field);
    }
    let accounts = "/admin/v1/accounts";
    for body in [
        json!({"name": "x", "billing": "prepaid", "credit_limit": "5"}),
        json!({"name": "x", "billing": "postpaid", "credit_limit": "-5"}),
        json!({"name": "x", "groups": ["nowhere"]}),
        json!({"name": "x", "topup": "0"}),
        json!({"name": "x", "topup": 5}),
        json!({"name": "x", "topup": "1e3"}),
    ] {
        admin
            .ops(Method::POST, accounts)
            .json(body)
            .send()
            .await
            .refused(400, "invalid");
    }
    for text in [
        "{",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{\"name\":\"a\",\"name\":\"b\"}",
        "{} {}",
        "\u{feff}{}",
    ] {
        admin
            .ops(Method::POST, accounts)
            .bytes(text.to_owned())
            .send()
            .await
            .refused(400, "invalid");
    }
    admin
        .ops(Method::POST, accounts)
        .bytes(vec![0xff; 20])
        .send()
        .await
        .refused(400, "invalid");
    let deep = "[".repeat(100_000);
    admin
        .ops(Method::POST, accounts)
        .bytes(format!("{{\"name\":{deep}"))
        .send()
        .await
        .refused(400, "invalid");
    let large = json!({"name": "x".repeat(1 << 20)});
    admin
        .ops(Method::POST, accounts)
        .json(large)
        .send()
        .await
        .refused(413, "body_too_large");
    for query in [
        "?limit=0",
        "?limit=1001",
        "?limit=x",
        "?before=x",
        "?colour=red",
        "?limit=1&limit=2",
    ] {
        admin
            .ops(Method::GET, &format!("{accounts}{query}"))
            .send()
            .await
            .refused(400, "invalid");
    }
    admin
        .ops(Method::GET, "/admin/v1/accounts/%ff")
        .send()
        .await
        .refused(400, "invalid");
    assert_eq!(
        admin.get(accounts).await["data"].as_array().unwrap().len(),
        1,
        "nothing was made"
    );
}

/// Any JSON: bodies as they come, and objects of the fields that there are.
fn arbitrary() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        ".{0,12}",
        "[0-9.eE+-]{0,20}",
        Just("acme".to_owned()),
        Just("vip".to_owned()),
        "[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:Z.+]{0,12})?",
        "[0-9a-f]{64}",
        "[0-9a-f:./]{0,20}",
        "[*\\[\\]{}?,a-z-]{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0..100_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,5}", inner), 0..4).prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    });
    let field = prop::sample::select(FIELDS).prop_map(str::to_owned);
    let fields = prop::collection::vec((field, value.clone()), 0..6);
    prop_oneof![
        1 => value,
        9 => fields.prop_map(|fields| Value::Object(Map::from_iter(fields))),
    ]
}

#[test]
fn no_json_is_our_fault() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let admin = runtime.block_on(acme());
    let mut runner = TestRunner::new(Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    });
    let cases = (prop::sample::select(CHANGES), arbitrary());
    let done = runner.run(&cases, |((method, path), body)| {
        let ask = admin.ops(method.parse().unwrap(), path).json(body);
        let reply = runtime.block_on(ask.send());
        let fine = matches!(reply.status, 200 | 201 | 400 | 403 | 404 | 409 | 422);
        prop_assert!(fine, "{reply:?}");
        if reply.status >= 400 {
            prop_assert!(reply.json()["error"]["message"].is_string(), "{reply:?}");
        }
        Ok(())
    });
    done.unwrap();
    // What it made can all be shown.
    for path in [
        "/admin/v1/accounts",
        "/admin/v1/keys",
        "/admin/v1/codes",
        "/admin/v1/notices",
        "/admin/v1/audit",
    ] {
        runtime.block_on(admin.get(&format!("{path}?limit=1000")));
    }
}

#[test]
fn no_query_is_our_fault() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let admin = runtime.block_on(acme());
    let paths = [
        "accounts",
        "keys",
        "codes",
        "usage",
        "usage/rows",
        "notices",
        "audit",
        "accounts/acme/entries",
        "accounts/acme/verify",
    ];
    let names = [
        "limit",
        "before",
        "account",
        "key",
        "by",
        "since",
        "until",
        "batch",
        "target",
        "full",
        "request_id",
        "x",
    ];
    let value = prop_oneof![
        "[ -~]{0,15}",
        "[0-9]{1,20}[smhdw]?",
        Just("acme".to_owned()),
        Just("7d".to_owned()),
        "[0-7][0-9a-z]{12}"
    ];
    let encoded = value
        .prop_map(|text| percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string());
    let pairs = prop::collection::vec((prop::sample::select(names.to_vec()), encoded), 0..4);
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    });
    let done = runner.run(&(prop::sample::select(paths.to_vec()), pairs), |(path, pairs)| {
        let query: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let ask = admin.ops(Method::GET, &format!("/admin/v1/{path}?{}", query.join("&")));
        let reply = runtime.block_on(ask.send());
        prop_assert!(matches!(reply.status, 200 | 400 | 404 | 409), "{reply:?}");
        Ok(())
    });
    done.unwrap();
}
