//! An account and its key from their making to their end.

use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tollgate::store::{Id, KeyChange, KeyStatus, Owner};

use crate::support::admin::{Admin, OPS, WATCHER};

async fn acme(admin: &Admin) -> Value {
    admin
        .post("/admin/v1/accounts", json!({"name": "acme", "topup": "5.00"}))
        .await
}

#[tokio::test]
async fn an_account_is_made_shown_and_changed() {
    let admin = Admin::start().await;
    let made = acme(&admin).await;
    assert_eq!(made["name"], "acme");
    assert_eq!(made["billing"], "prepaid");
    assert_eq!(
        (&made["balance"], &made["balance_credits"]),
        (&json!("5.00"), &json!(2_500_000))
    );
    assert_eq!((&made["used"], &made["used_credits"]), (&json!("0.00"), &json!(0)));
    assert_eq!((&made["credit_limit"], &made["groups"]), (&Value::Null, &Value::Null));
    assert!(made["created"].as_str().unwrap().ends_with('Z'));
    let id = made["id"].as_str().unwrap();
    assert_eq!(admin.get(&format!("/admin/v1/accounts/{id}")).await, made);
    assert_eq!(admin.get("/admin/v1/accounts/acme").await, made);
    assert_eq!(
        admin.get("/admin/v1/accounts").await,
        json!({"data": [made], "next": null})
    );

    let change = json!({"name": "acme & söhne/eu", "billing": "postpaid", "credit_limit": "100", "groups": ["vip"], "disabled": true});
    let changed = admin.patch("/admin/v1/accounts/acme", change).await;
    assert_eq!(changed["credit_limit"], "100.00");
    assert_eq!(changed["groups"], json!(["vip"]));
    assert_eq!(changed["disabled"], true);
    let again = admin.get("/admin/v1/accounts/acme%20%26%20s%C3%B6hne%2Feu").await;
    assert_eq!(again, changed);
    assert!(
        admin.live.recalls.lock().unwrap().is_empty(),
        "more may be spent than before"
    );

    let cleared = admin
        .patch(
            &format!("/admin/v1/accounts/{id}"),
            json!({"credit_limit": null, "groups": null}),
        )
        .await;
    assert_eq!(
        (&cleared["credit_limit"], &cleared["groups"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(cleared["billing"], "postpaid");
    let lowered = admin
        .patch(&format!("/admin/v1/accounts/{id}"), json!({"credit_limit": "1"}))
        .await;
    assert_eq!(lowered["credit_limit"], "1.00");
    let account = Owner::Account(id.parse().unwrap());
    assert_eq!(
        admin.live.recalls.lock().unwrap().as_slice(),
        [account],
        "less may be spent"
    );
    let told = admin.live.accounts.lock().unwrap().last().unwrap().clone();
    assert_eq!(
        told,
        admin.store.account(told.id).await.unwrap(),
        "who serves was told of it as it is"
    );
}

#[tokio::test]
async fn a_key_lives_and_ends() {
    let admin = Admin::start().await;
    acme(&admin).await;
    let terms = json!({"name": "ci", "account": "acme", "group": "vip", "models": ["gpt-*"], "ips": "10.1.2.3/8,\n::1",
        "rpm": 60, "tpm": 1000, "concurrency": 4, "quota": 500_000, "period": "month", "expires": "2099-01-31"});
    let made = admin.post("/admin/v1/keys", terms).await;
    let text = made["key"].as_str().unwrap().to_owned();
    assert!(text.starts_with("sk-") && text.len() == 51 && text[3..].bytes().all(|b| b.is_ascii_alphanumeric()));
    assert_eq!(made["masked"], format!("{}**********{}", &text[..4], &text[47..]));
    assert_eq!(made["ips"], json!(["10.0.0.0/8", "::1/128"]));
    assert_eq!(made["expires"], "2099-02-01T00:00:00.000Z", "the end of the day");
    assert_eq!(
        (&made["quota"], &made["remaining"], &made["spent"]),
        (&json!(500_000), &json!(500_000), &json!(0))
    );
    assert_eq!(
        (&made["status"], &made["last_used"], &made["account"]["name"]),
        (&json!("enabled"), &Value::Null, &json!("acme"))
    );
    let id = made["id"].as_str().unwrap().to_owned();
    let stored = admin.store.key(id.parse().unwrap()).await.unwrap();
    let hash: [u8; 32] = Sha256::digest(&text).into();
    assert_eq!((stored.hash, stored.sealed), (hash, None), "only the hash is kept");
    assert_eq!(admin.live.keys.lock().unwrap().last().unwrap().hash, hash);

    let shown = admin.get("/admin/v1/keys/ci").await;
    assert!(shown.get("key").is_none(), "shown once");
    assert_eq!(admin.get("/admin/v1/keys?account=acme").await["data"], json!([shown]));
    for (verb, status) in [("disable", "disabled"), ("enable", "enabled")] {
        let key = admin.post(&format!("/admin/v1/keys/ci/{verb}"), json!({})).await;
        assert_eq!(key["status"], status);
    }
    let edited = admin
        .patch(
            "/admin/v1/keys/ci",
            json!({"name": "build", "models": null, "ips": null, "rpm": null, "quota": null}),
        )
        .await;
    assert_eq!(
        (&edited["name"], &edited["models"], &edited["ips"]),
        (&json!("build"), &Value::Null, &json!([]))
    );
    assert_eq!(
        (&edited["rpm"], &edited["tpm"], &edited["quota"], &edited["period"]),
        (&Value::Null, &json!(1000), &Value::Null, &Value::Null)
    );
    assert_eq!((&edited["remaining"], &edited["id"]), (&Value::Null, &json!(id)));
    let limited = admin
        .patch("/admin/v1/keys/build", json!({"quota": 0, "expires": -1}))
        .await;
    assert_eq!(
        (&limited["status"], &limited["remaining"], &limited["expires"]),
        (&json!("exhausted"), &json!(0), &Value::Null)
    );
    let key = Owner::Key(id.parse().unwrap());
    assert_eq!(
        admin.live.recalls.lock().unwrap().last(),
        Some(&key),
        "a lower quota calls back what is held of it"
    );
    let expired = admin.patch("/admin/v1/keys/build", json!({"expires": 1})).await;
    assert_eq!(expired["status"], "expired", "before exhausted");

    let revoked = admin.post("/admin/v1/keys/build/revoke", json!({})).await;
    assert_eq!(revoked["status"], "revoked");
    let enable = admin
        .ops(Method::POST, &format!("/admin/v1/keys/{id}/enable"))
        .send()
        .await;
    enable.refused(422, "refused");
    let deleted = admin
        .ops(Method::DELETE, &format!("/admin/v1/keys/{id}"))
        .send()
        .await
        .is(200);
    assert_eq!(deleted["status"], "deleted");
    for gone in ["build", &id] {
        admin
            .ops(Method::GET, &format!("/admin/v1/keys/{gone}"))
            .send()
            .await
            .refused(404, "not_found");
    }
    assert_eq!(admin.get("/admin/v1/keys").await["data"], json!([]));
    let told = admin.live.keys.lock().unwrap().last().unwrap().status;
    assert_eq!(told, KeyStatus::Deleted);
}

#[tokio::test]
async fn a_key_is_rotated_with_an_overlap() {
    let admin = Admin::start().await;
    acme(&admin).await;
    let old = admin
        .post("/admin/v1/keys", json!({"name": "ci", "account": "acme"}))
        .await;
    let new = admin.post("/admin/v1/keys/ci/rotate", json!({"overlap": "24h"})).await;
    assert_eq!(new["id"], old["id"]);
    assert_ne!(new["key"], old["key"]);
    assert_ne!(new["masked"], old["masked"]);
    for key in [&old, &new] {
        let ask = admin
            .ask(Method::GET, "/api/usage/token")
            .bearer(key["key"].as_str().unwrap());
        ask.send().await.is(200);
    }
    let last = admin.ops(Method::POST, "/admin/v1/keys/ci/rotate").send().await.is(200);
    for (key, status) in [(&old, 401), (&new, 401), (&last, 200)] {
        let ask = admin
            .ask(Method::GET, "/api/usage/token")
            .bearer(key["key"].as_str().unwrap());
        ask.send().await.is(status);
    }
    for overlap in ["", "1", "91d", "-1h", "soon"] {
        let ask = admin
            .ops(Method::POST, "/admin/v1/keys/ci/rotate")
            .json(json!({"overlap": overlap}));
        assert!(ask.send().await.refused(400, "invalid").starts_with("overlap: "));
    }
}

/// A hash as people may write it.
fn u256(hash: [u8; 32]) -> String {
    let (high, low) = hash.split_at(16);
    let half = |bytes: &[u8]| u128::from_be_bytes(bytes.try_into().unwrap());
    format!("{:032X}{:032x}", half(high), half(low))
}

#[tokio::test]
async fn a_key_made_elsewhere_is_imported() {
    let admin = Admin::start().await;
    acme(&admin).await;
    let text = format!("sk-{}", "Ab1".repeat(16));
    let hash = u256(Sha256::digest(&text).into());
    let import = json!({"name": "old", "account": "acme", "sha256": hash, "prefix": "sk-A", "last4": "1Ab1"});
    let made = admin.post("/admin/v1/keys", import.clone()).await;
    assert!(made.get("key").is_none());
    assert_eq!(made["masked"], "sk-A**********1Ab1");
    admin
        .ask(Method::GET, "/api/usage/token")
        .bearer(&text)
        .send()
        .await
        .is(200);
    let mut twice = import;
    twice["name"] = json!("other");
    admin
        .ops(Method::POST, "/admin/v1/keys")
        .json(twice)
        .send()
        .await
        .refused(409, "conflict");
}

#[tokio::test]
async fn names_that_several_keys_have() {
    let admin = Admin::start().await;
    acme(&admin).await;
    admin.post("/admin/v1/accounts", json!({"name": "other"})).await;
    for account in ["acme", "other"] {
        admin
            .post("/admin/v1/keys", json!({"name": "ci", "account": account}))
            .await;
    }
    admin
        .ops(Method::GET, "/admin/v1/keys/ci")
        .send()
        .await
        .refused(409, "ambiguous");
    let one = admin.get("/admin/v1/keys/ci?account=other").await;
    assert_eq!(one["account"]["name"], "other");
    let again = json!({"name": "ci", "account": "acme"});
    admin
        .ops(Method::POST, "/admin/v1/keys")
        .json(again)
        .send()
        .await
        .refused(409, "conflict");
    let account = json!({"name": "acme"});
    admin
        .ops(Method::POST, "/admin/v1/accounts")
        .json(account)
        .send()
        .await
        .refused(409, "conflict");
    let id = one["id"].as_str().unwrap();
    admin
        .ops(Method::GET, &format!("/admin/v1/keys/{id}?account=acme"))
        .send()
        .await
        .refused(404, "not_found");
}

#[tokio::test]
async fn an_edit_of_what_has_changed_meanwhile_is_a_conflict() {
    let admin = Admin::start().await;
    acme(&admin).await;
    let made = admin
        .post("/admin/v1/keys", json!({"name": "ci", "account": "acme"}))
        .await;
    let id: Id = made["id"].as_str().unwrap().parse().unwrap();
    let key = admin.store.key(id).await.unwrap();
    admin.patch("/admin/v1/keys/ci", json!({"rpm": 5})).await;
    let change = KeyChange::Terms {
        terms: Box::new(key.terms),
        revision: key.revision,
    };
    let late = admin.store.change_key(id, change).await.unwrap_err();
    assert!(matches!(late, tollgate::store::Error::Conflict(_)), "{late}");
}

#[tokio::test]
async fn a_key_is_shown_again_only_where_copies_are_kept_and_to_who_proves_it() {
    let without = Admin::start().await;
    acme(&without).await;
    without
        .post("/admin/v1/keys", json!({"name": "ci", "account": "acme"}))
        .await;
    let ask = without
        .ops(Method::POST, "/admin/v1/keys/ci/reveal")
        .json(json!({"token": OPS}));
    ask.send().await.refused(422, "not_kept");

    let admin = Admin::start_with("[keys]\nreveal = { key = { env = \"REVEAL\" } }").await;
    acme(&admin).await;
    let made = admin
        .post("/admin/v1/keys", json!({"name": "ci", "account": "acme"}))
        .await;
    let sealed = admin
        .store
        .key(made["id"].as_str().unwrap().parse().unwrap())
        .await
        .unwrap()
        .sealed
        .unwrap();
    let text = made["key"].as_str().unwrap();
    assert!(
        !sealed
            .windows(8)
            .any(|part| text.as_bytes().windows(8).any(|of| of == part)),
        "it is encrypted"
    );
    let reveal = |token: &str| {
        admin
            .ops(Method::POST, "/admin/v1/keys/ci/reveal")
            .json(json!({"token": token}))
    };
    reveal("").send().await.refused(403, "identity");
    reveal(WATCHER).send().await.refused(403, "identity");
    assert_eq!(reveal(OPS).send().await.is(200), json!({"key": text}));
    let rotated = admin.post("/admin/v1/keys/ci/rotate", json!({})).await;
    assert_eq!(reveal(OPS).send().await.is(200)["key"], rotated["key"]);
    let actions: Vec<_> = admin.get("/admin/v1/audit?limit=5").await["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        actions,
        [
            "key.reveal",
            "key.rotate",
            "key.reveal",
            "key.reveal_refused",
            "key.reveal_refused"
        ]
    );
}
