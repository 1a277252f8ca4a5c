//! Every change is on record; no secret is anywhere.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::admin::{Admin, OPS, WATCHER};

/// A log that is read again.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// One change of each kind, and the secrets that came of it.
async fn every_change(admin: &Admin) -> Vec<String> {
    admin
        .post("/admin/v1/accounts", json!({"name": "acme", "topup": "5"}))
        .await;
    admin.patch("/admin/v1/accounts/acme", json!({"disabled": true})).await;
    admin
        .post("/admin/v1/accounts/acme/topup", json!({"amount": "1"}))
        .await;
    admin
        .post("/admin/v1/accounts/acme/adjust", json!({"amount": "-1", "reason": "x"}))
        .await;
    let key = admin
        .post("/admin/v1/keys", json!({"name": "ci", "account": "acme"}))
        .await;
    let sha256 = "ab".repeat(32);
    admin
        .post(
            "/admin/v1/keys",
            json!({"name": "old", "account": "acme", "sha256": sha256}),
        )
        .await;
    admin.patch("/admin/v1/keys/ci", json!({"rpm": 7})).await;
    admin.post("/admin/v1/keys/ci/disable", json!({})).await;
    admin.post("/admin/v1/keys/ci/enable", json!({})).await;
    let rotated = admin.post("/admin/v1/keys/ci/rotate", json!({"overlap": "1h"})).await;
    admin.post("/admin/v1/keys/ci/reveal", json!({"token": OPS})).await;
    admin.post("/admin/v1/keys/ci/revoke", json!({})).await;
    admin.ops(Method::DELETE, "/admin/v1/keys/ci").send().await.is(200);
    let batch = admin.post("/admin/v1/codes", json!({"count": 2, "amount": "1"})).await;
    let codes: Vec<_> = (0..2)
        .map(|i| batch["codes"][i]["code"].as_str().unwrap().to_owned())
        .collect();
    admin
        .post("/admin/v1/accounts/acme/redeem", json!({"code": codes[0]}))
        .await;
    admin
        .post(
            &format!("/admin/v1/codes/{}/revoke", batch["batch"].as_str().unwrap()),
            json!({}),
        )
        .await;
    let notice = admin.post("/admin/v1/notices", json!({"text": "hello"})).await;
    let notice = format!("/admin/v1/notices/{}", notice["id"].as_str().unwrap());
    admin.ops(Method::DELETE, &notice).send().await.is(200);
    let text = |value: &Value| value["key"].as_str().unwrap().to_owned();
    [vec![text(&key), text(&rotated)], codes].concat()
}

#[tokio::test]
async fn every_change_is_on_record_and_no_secret_is_anywhere() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let admin = Admin::start_with("[keys]\nreveal = { key = { env = \"REVEAL\" } }").await;
    let secrets = every_change(&admin).await;
    let so_far = admin.answered().len();

    let audit = admin.get("/admin/v1/audit?limit=1000").await;
    let entries = audit["data"].as_array().unwrap();
    let mut actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    actions.reverse();
    let wanted = [
        "account.create",
        "account.topup",
        "account.edit",
        "account.topup",
        "account.adjust",
        "key.create",
        "key.import",
        "key.edit",
        "key.disable",
        "key.enable",
        "key.rotate",
        "key.reveal",
        "key.revoke",
        "key.delete",
        "code.create",
        "account.redeem",
        "code.revoke",
        "notice.create",
        "notice.delete",
    ];
    assert_eq!(actions, wanted);
    assert!(
        entries
            .iter()
            .all(|entry| entry["by"] == "ops" && entry["target"].is_string()),
        "{audit}"
    );
    let edit = entries.iter().find(|entry| entry["action"] == "key.edit").unwrap();
    assert_eq!(
        (&edit["before"]["rpm"], &edit["after"]["rpm"]),
        (&Value::Null, &json!(7))
    );
    assert_eq!(edit["after"]["name"], "ci");
    let of_one = admin
        .get(&format!("/admin/v1/audit?target={}", edit["target"].as_str().unwrap()))
        .await;
    assert_eq!(of_one["data"].as_array().unwrap().len(), 8);

    // A failed change is none.
    admin
        .ops(Method::POST, "/admin/v1/accounts")
        .json(json!({"name": "acme"}))
        .send()
        .await
        .is(409);
    admin
        .ask(Method::GET, "/admin/v1/accounts")
        .bearer(WATCHER)
        .send()
        .await
        .is(200);
    for path in [
        "accounts",
        "keys",
        "codes",
        "accounts/acme/entries",
        "usage",
        "usage/rows",
        "audit",
    ] {
        admin.get(&format!("/admin/v1/{path}")).await;
    }
    let later = &admin.answered()[so_far..];
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("key.rotate") && later.contains("key.rotate"));
    for secret in secrets
        .iter()
        .map(String::as_str)
        .chain([OPS, WATCHER, &"ab".repeat(32)])
    {
        assert!(!later.contains(secret), "{secret} in an answer");
        assert!(!logged.contains(secret), "{secret} in the log");
    }
}
