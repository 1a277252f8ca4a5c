//! Codes, usage, announcements, and who changed what.

use serde_json::{Value, json};

use super::server::Server;
use super::{json, ok, program, run};

#[tokio::test]
async fn codes() {
    let batch = json!({"batch": "06b1", "codes": [{"id": "06c1", "code": "AAAA-1"}, {"id": "06c2", "code": "AAAA-2"}]});
    let server = Server::answers([(201, batch.clone()), (201, batch.clone())]).await;
    let line = ["code", "create", "--amount", "10", "--count", "2", "--note", "fair"];
    assert_eq!(json(&server, &line).await, batch);
    assert_eq!(ok(&server, &line).await, "AAAA-1\nAAAA-2\n", "codes alone, for a file");
    assert_eq!(
        server.asked()[0].body,
        json!({"count": 2, "amount": "10", "note": "fair"})
    );

    let server = Server::answers([(200, json!({"revoked": 2}))]).await;
    assert_eq!(ok(&server, &["code", "revoke", "06b1"]).await, "revoked  2\n");
    assert_eq!(
        server.asked_once(),
        ("POST /admin/v1/codes/06b1/revoke".to_owned(), Value::Null)
    );

    let list = json!({"data": [{
        "id": "06c1", "batch": "06b1", "prefix": "AAAA", "amount": "10.00", "amount_credits": 5_000_000, "expires": null,
        "note": "fair", "status": "open", "redeemed": null, "created": "2026-11-21T12:00:00.000Z",
    }], "next": null});
    let server = Server::answers([(200, list)]).await;
    let table = ok(&server, &["code", "list", "--batch", "06b1"]).await;
    assert!(table.contains("AAAA  10.00  open    never    fair"), "{table}");
    assert_eq!(server.asked_once().0, "GET /admin/v1/codes?batch=06b1&limit=1000");
}

/// A code on standard input is in nobody's list of processes.
#[tokio::test]
async fn a_code_is_redeemed_from_standard_input() {
    let answer =
        json!({"account": {"name": "acme", "balance": "10.00"}, "entry": {"kind": "redemption", "amount": "10.00"}});
    let server = Server::answers([(200, answer)]).await;
    let mut command = program(&["code", "redeem", "--account", "acme", "--json"]);
    command.env("TOLLGATE_ADMIN", server.url());
    let ran = run(command, "AAAA-1\n").await;
    assert_eq!((ran.code, &*ran.err), (Some(0), ""));
    let account: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&account["name"], &account["entry"]["kind"]),
        (&"acme".into(), &"redemption".into())
    );
    let expected = (
        "POST /admin/v1/accounts/acme/redeem".to_owned(),
        json!({"code": "AAAA-1"}),
    );
    assert_eq!(server.asked_once(), expected);
}

#[tokio::test]
async fn usage_in_sums() {
    let sum = |by: &str, requests: u32, charge: &str| {
        json!({
            "by": by, "requests": requests, "failed": 1, "prompt_tokens": 1_000, "cached_tokens": 0,
            "completion_tokens": 200, "reasoning_tokens": 0, "charge": charge, "charge_credits": 50_000,
            "written_off": "0.00", "written_off_credits": 0,
        })
    };
    let sums = json!([sum("2026-11-20", 1_200, "0.10"), sum("2026-11-21", 3, "0.000000001")]);
    let server = Server::answers([(200, json!({"data": sums})), (200, json!({"data": sums}))]).await;
    let line = ["usage", "--account", "acme", "--since", "7d"];
    assert_eq!(json(&server, &line).await, sums);
    let table = ok(&server, &line).await;
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let total = cells(table.lines().last().unwrap());
    assert_eq!(
        total,
        [
            "total",
            "1,203",
            "2",
            "2,000",
            "0",
            "400",
            "0",
            "0.100000001",
            "100,000",
            "0.00"
        ],
        "{table}"
    );
    assert_eq!(
        server.asked()[0].line,
        "GET /admin/v1/usage?by=day&account=acme&since=7d"
    );
}

/// A client's words reach an operator's terminal as text only.
#[tokio::test]
async fn usage_in_rows() {
    let row = json!({
        "time": "2026-11-21T12:00:00.123Z", "request_id": "r-1", "account": "06a1", "key": "06k1", "group": "default",
        "endpoint": "chat_completions", "model": "\u{1b}[2Jgpt\n", "status": 429, "reason": "rpm", "prompt_tokens": 5,
        "completion_tokens": 0, "charge_credits": 0, "total_ms": 12,
    });
    let server = Server::answers([(200, json!({"data": [row], "next": null}))]).await;
    let table = ok(&server, &["usage", "--rows", "--limit", "5", "--key", "ci"]).await;
    assert_eq!(table.lines().count(), 2, "{table:?}");
    assert!(
        table.contains("2026-11-21T12:00:00Z  06k1  \u{fffd}[2Jgpt   429 rpm       5"),
        "{table:?}"
    );
    assert_eq!(server.asked_once().0, "GET /admin/v1/usage/rows?key=ci&limit=5");
}

#[tokio::test]
async fn notices_and_audit() {
    let notice = json!({"id": "06n1", "text": "Maintenance at noon", "created": "2026-11-21T12:00:00.000Z"});
    let server = Server::answers([(201, notice.clone())]).await;
    assert_eq!(
        json(&server, &["notice", "create", "Maintenance at noon"]).await,
        notice
    );
    assert_eq!(server.asked_once().1, json!({"text": "Maintenance at noon"}));

    let server = Server::answers([(200, json!({"data": [notice], "next": null}))]).await;
    assert!(
        ok(&server, &["notice", "list"])
            .await
            .ends_with("06n1  Maintenance at noon\n")
    );

    let server = Server::answers_bytes(204, "").await;
    assert_eq!(
        json(&server, &["notice", "delete", "06n1"]).await,
        json!({"id": "06n1", "deleted": true})
    );
    assert_eq!(server.asked_once().0, "DELETE /admin/v1/notices/06n1");

    let change = json!({"id": "06d1", "time": "2026-11-21T12:00:00.000Z", "by": "ops", "action": "key.create", "target": "06k1"});
    let server = Server::answers([(200, json!({"data": [change], "next": null}))]).await;
    let table = ok(&server, &["audit", "--target", "06k1"]).await;
    assert!(
        table.ends_with("2026-11-21T12:00:00Z  ops  key.create  06k1    06d1\n"),
        "{table}"
    );
    assert_eq!(server.asked_once().0, "GET /admin/v1/audit?target=06k1&limit=1000");
}
