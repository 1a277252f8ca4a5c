//! Keys, from their making to their end.

use serde_json::{Value, json};

use super::server::Server;
use super::{json, ok};

/// A key as the API shows it.
fn key(changes: &Value) -> Value {
    let mut key = json!({
        "id": "06k1", "account": {"id": "06a1", "name": "acme"}, "name": "ci", "masked": "sk-a**********wxyz",
        "group": "default", "models": ["gpt-4o", "qwen-*"], "ips": ["10.0.0.0/8", "::1"], "rpm": null, "tpm": null,
        "concurrency": null, "quota": 500_000, "period": null, "spent": 1_000, "remaining": 499_000,
        "used_credits": 1_000, "used": "0.002", "expires": "2027-01-31T23:59:59.999Z", "status": "enabled",
        "created": "2026-11-21T12:00:00.000Z", "last_used": null,
    });
    let all = key.as_object_mut().unwrap();
    all.extend(changes.as_object().unwrap().clone());
    key
}

const CREATE: [&str; 14] = [
    "key",
    "create",
    "--name",
    "ci",
    "--account",
    "acme",
    "--group",
    "default",
    "--quota",
    "500000",
    "--models",
    "gpt-4o,qwen-*",
    "--ips",
    "10.0.0.0/8,::1",
];

#[tokio::test]
async fn create_shows_the_key_once() {
    let made = key(&json!({"key": "sk-the-whole-key"}));
    let server = Server::answers([(201, made.clone()), (201, made.clone())]).await;
    let line = [&CREATE[..], &["--expires", "2027-01-31"]].concat();

    assert_eq!(json(&server, &line).await, made);
    let shown = ok(&server, &line).await;
    assert!(
        shown.starts_with("key        sk-the-whole-key\nname       ci\naccount    acme\n"),
        "{shown}"
    );
    assert!(
        shown.contains("\nmodels     gpt-4o, qwen-*\naddresses  10.0.0.0/8, ::1\n"),
        "{shown}"
    );
    assert!(
        shown.contains("\nquota      500,000 credits\nremaining  499,000 credits (1,000 spent)\n"),
        "{shown}"
    );
    assert!(shown.contains("\nexpires    2027-01-31T23:59:59.999Z ("), "{shown}");

    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /admin/v1/keys");
    assert_eq!(
        asked[0].body,
        json!({
            "account": "acme", "name": "ci", "group": "default", "quota": 500_000, "models": ["gpt-4o", "qwen-*"],
            "ips": ["10.0.0.0/8", "::1"], "expires": "2027-01-31",
        })
    );
    assert_eq!(asked[0], asked[1]);
}

#[tokio::test]
async fn every_change_shows_the_key_as_it_now_is() {
    let state = |status: &str| key(&json!({"status": status}));
    for (arguments, line, body, answer) in [
        (
            "edit ci --quota unlimited",
            "PATCH /admin/v1/keys/ci",
            json!({"quota": null}),
            key(&json!({"quota": null})),
        ),
        (
            "disable ci --account acme",
            "POST /admin/v1/keys/ci/disable?account=acme",
            Value::Null,
            state("disabled"),
        ),
        (
            "enable 06k1",
            "POST /admin/v1/keys/06k1/enable",
            Value::Null,
            state("enabled"),
        ),
        (
            "rotate ci --overlap 24h",
            "POST /admin/v1/keys/ci/rotate",
            json!({"overlap": "24h"}),
            key(&json!({"key": "sk-new"})),
        ),
        (
            "revoke ci",
            "POST /admin/v1/keys/ci/revoke",
            Value::Null,
            state("revoked"),
        ),
        ("delete ci", "DELETE /admin/v1/keys/ci", Value::Null, state("revoked")),
        ("show ci", "GET /admin/v1/keys/ci", Value::Null, state("exhausted")),
    ] {
        let server = Server::answers([(200, answer.clone()), (200, answer.clone())]).await;
        let words: Vec<&str> = ["key"].into_iter().chain(arguments.split_whitespace()).collect();
        assert_eq!(json(&server, &words).await, answer, "{arguments}");
        let shown = ok(&server, &words).await;
        assert!(
            shown.contains(&format!("status     {}\n", answer["status"].as_str().unwrap())),
            "{shown}"
        );
        assert_eq!(shown.starts_with("key  "), answer.get("key").is_some(), "{shown}");
        let asked = server.asked();
        assert_eq!((&*asked[0].line, &asked[0].body), (line, &body), "{arguments}");
    }
}

/// The caller's token goes into the body, as a proof that it is still at hand.
#[tokio::test]
async fn reveal_sends_the_token_again() {
    let server = Server::answers([(200, json!({"key": "sk-kept"}))]).await;
    assert_eq!(ok(&server, &["key", "reveal", "ci"]).await, "key  sk-kept\n");
    let expected = (
        "POST /admin/v1/keys/ci/reveal".to_owned(),
        json!({"token": super::TOKEN}),
    );
    assert_eq!(server.asked_once(), expected);
}

#[tokio::test]
async fn a_list_follows_its_cursor() {
    let named = |name: &str| key(&json!({"name": name}));
    let pages = || {
        [
            (200, json!({"data": [named("a"), named("b")], "next": "06b"})),
            (200, json!({"data": [named("c")], "next": "06c"})),
            (200, json!({"data": [named("d")], "next": null})),
        ]
    };
    let server = Server::answers(pages()).await;
    let all = json(&server, &["key", "list", "--account", "acme"]).await;
    assert_eq!(all, json!([named("a"), named("b"), named("c"), named("d")]));
    let lines: Vec<_> = server.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(
        lines,
        [
            "GET /admin/v1/keys?account=acme&limit=1000",
            "GET /admin/v1/keys?account=acme&limit=1000&before=06b",
            "GET /admin/v1/keys?account=acme&limit=1000&before=06c",
        ]
    );

    let server = Server::answers(pages()).await;
    let table = ok(&server, &["key", "list"]).await;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["NAME", "ACCOUNT", "STATUS"]);
    assert_eq!(rows.len(), 5, "one line a key, and titles once: {table}");
    assert_eq!(rows[4][..5], ["d", "acme", "enabled", "1,000", "499,000"]);
}

#[tokio::test]
async fn a_list_stops_at_its_limit_and_never_turns_in_a_circle() {
    let named = |name: &str| key(&json!({"name": name}));
    let [first, second] = [
        json!({"data": [named("a"), named("b")], "next": "06b"}),
        json!({"data": [named("c")], "next": "06b"}),
    ];
    let server = Server::answers([(200, first.clone()), (200, second.clone())]).await;
    let three = json(&server, &["key", "list", "--limit", "3"]).await;
    assert_eq!(three.as_array().unwrap().len(), 3);
    assert_eq!(server.asked()[1].line, "GET /admin/v1/keys?limit=1&before=06b");

    let server = Server::answers([(200, first), (200, second)]).await;
    let all = json(&server, &["key", "list"]).await;
    assert_eq!(
        all.as_array().unwrap().len(),
        3,
        "the same cursor again is not followed"
    );

    let server = Server::answers([
        (200, json!({"data": [], "next": null})),
        (200, json!({"data": [], "next": null})),
    ])
    .await;
    assert_eq!(json(&server, &["key", "list"]).await, json!([]));
    assert_eq!(ok(&server, &["key", "list"]).await, "");
}
