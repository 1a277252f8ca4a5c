//! Accounts and their money.

use serde_json::{Value, json};

use super::server::Server;
use super::{json, ok, program, run};

fn account() -> Value {
    json!({
        "id": "06a1", "name": "acme", "billing": "prepaid", "credit_limit": null, "disabled": false, "groups": null,
        "balance": "1234.99", "balance_credits": 617_495_000, "used": "0.01", "used_credits": 5_000,
        "created": "2026-11-21T12:00:00.000Z",
    })
}

fn entry(kind: &str, amount: &str) -> Value {
    json!({
        "id": "06e1", "account": "06a1", "kind": kind, "amount": amount, "amount_credits": 2_500_000,
        "time": "2026-11-21T12:00:00.000Z", "by": "ops", "note": null, "source": "manual",
    })
}

#[tokio::test]
async fn create_with_money_in_it() {
    let server = Server::answers([(201, account()), (201, account())]).await;
    let line = ["account", "create", "acme", "--topup", "5.00"];
    assert_eq!(json(&server, &line).await, account());
    let shown = ok(&server, &line).await;
    assert!(
        shown.contains("balance  1,234.99 USD (617,495,000 credits)\n"),
        "{shown}"
    );
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /admin/v1/accounts");
    assert_eq!(asked[0].body, json!({"name": "acme", "topup": "5.00"}));
}

/// What is printed is the account as it now is, with the entries beside it.
#[tokio::test]
async fn money_in_and_out() {
    let entries = json!([entry("topup", "20.00"), entry("bonus", "2.00")]);
    let mut expected = account();
    expected["entries"] = entries.clone();
    let answer = json!({"account": account(), "entries": entries});
    let server = Server::answers([(200, answer.clone()), (200, answer)]).await;
    let line = [
        "account",
        "topup",
        "acme",
        "20",
        "--external-ref",
        "INV-1",
        "--idempotency-key",
        "k-1",
    ];
    assert_eq!(json(&server, &line).await, expected);
    let shown = ok(&server, &line).await;
    assert!(
        shown
            .ends_with("entry    topup: 20.00 USD (2,500,000 credits)\nentry    bonus: 2.00 USD (2,500,000 credits)\n"),
        "{shown}"
    );
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /admin/v1/accounts/acme/topup");
    assert_eq!(asked[0].body, json!({"amount": "20", "external_ref": "INV-1"}));
    assert_eq!(asked[0].idempotency_key.as_deref(), Some("k-1"));

    let answer = json!({"account": account(), "entry": entry("adjustment", "-1.50")});
    let server = Server::answers([(200, answer)]).await;
    let line = ["account", "adjust", "acme", "-1.50", "--reason", "charged twice"];
    assert_eq!(json(&server, &line).await["entry"]["amount"], "-1.50");
    let (asked, body) = server.asked_once();
    assert_eq!(asked, "POST /admin/v1/accounts/acme/adjust");
    assert_eq!(body, json!({"amount": "-1.50", "reason": "charged twice"}));
}

#[tokio::test]
async fn show_edit_list_and_history() {
    let server = Server::answers([(200, account())]).await;
    json(
        &server,
        &["account", "edit", "acme", "--disable", "--groups", "default"],
    )
    .await;
    let (asked, body) = server.asked_once();
    assert_eq!(
        (&*asked, body),
        (
            "PATCH /admin/v1/accounts/acme",
            json!({"disabled": true, "groups": ["default"]})
        )
    );

    let server = Server::answers([(200, json!({"data": [account()], "next": null}))]).await;
    let table = ok(&server, &["account", "list"]).await;
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        row[..6],
        ["acme", "enabled", "prepaid", "1,234.99", "617,495,000", "0.01"]
    );

    // A pipe gets the whole history, not what fits a screen.
    let pages = [("06e2", 60), ("", 1)].map(|(next, count)| {
        let next = Some(next).filter(|next| !next.is_empty());
        (200, json!({"data": vec![entry("topup", "5.00"); count], "next": next}))
    });
    let server = Server::answers(pages).await;
    let table = ok(&server, &["account", "history", "acme"]).await;
    assert_eq!(table.lines().count(), 62);
    assert!(
        table.contains("2026-11-21T12:00:00Z  topup  5.00  2,500,000  ops  by manual  06e1\n"),
        "{table}"
    );
    assert_eq!(server.asked()[0].line, "GET /admin/v1/accounts/acme/entries?limit=1000");
}

/// A proof that fails is a failure.
#[tokio::test]
async fn verify_ends_as_its_proof_does() {
    let proof =
        |ok| json!({"ok": ok, "balance": "4.99", "sum": "5.00", "since": null, "entries": 3, "allotted": "4.99"});
    let server = Server::answers([(200, proof(true)), (200, proof(false)), (200, proof(false))]).await;
    let shown = ok(&server, &["account", "verify", "acme"]).await;
    assert!(
        shown.starts_with("verdict   the balance is the sum of its entries\n"),
        "{shown}"
    );
    for arguments in [
        &["account", "verify", "acme", "--full"][..],
        &["account", "verify", "acme", "--full", "--json"],
    ] {
        let mut command = program(arguments);
        command.env("TOLLGATE_ADMIN", server.url());
        let ran = run(command, "").await;
        assert_eq!((ran.code, &*ran.err), (Some(1), ""));
        assert!(
            ran.out.contains("NOT the sum") || ran.out.contains("\"ok\":false"),
            "{ran:?}"
        );
    }
    assert_eq!(server.asked()[2].line, "GET /admin/v1/accounts/acme/verify?full=true");
}
