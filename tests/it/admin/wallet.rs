//! Money that comes in, is set right, and is proved.

use http::Method;
use serde_json::{Value, json};
use tollgate::store::Owner;

use crate::support::admin::Admin;

async fn acme() -> Admin {
    let admin = Admin::start().await;
    admin.post("/admin/v1/accounts", json!({"name": "acme"})).await;
    admin
}

fn kinds(answer: &Value) -> Vec<(&str, &str)> {
    let entries = answer["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|e| (e["kind"].as_str().unwrap(), e["amount"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_topup_has_its_bonus_and_promotional_credit_has_none() {
    let admin = acme().await;
    let path = "/admin/v1/accounts/acme/topup";
    let plain = admin.post(path, json!({"amount": "19.999999999"})).await;
    assert_eq!(kinds(&plain), [("topup", "19.999999999")]);
    assert_eq!(plain["entries"][0]["source"], "manual");
    assert_eq!(plain["entries"][0]["by"], "ops");
    let card = json!({"amount": "50", "source": "card", "external_ref": "pi_1", "note": "thanks"});
    let with = admin.post(path, card).await;
    assert_eq!(kinds(&with), [("topup", "50.00"), ("bonus", "7.50")]);
    assert_eq!(with["entries"][1]["topup"], with["entries"][0]["id"]);
    assert_eq!(with["entries"][0]["external_ref"], "pi_1");
    assert_eq!(with["account"]["balance"], "77.499999999");
    assert_eq!(
        with["account"]["balance_credits"], 38_750_000,
        "rounded half away from zero"
    );
    for gift in [
        json!({"amount": "50", "promotional": true}),
        json!({"amount": "50", "source": "promotion"}),
    ] {
        let gift = admin.post(path, gift).await;
        assert_eq!(kinds(&gift), [("promotion", "50.00")]);
    }
    let entries = admin.get("/admin/v1/accounts/acme/entries").await;
    assert_eq!(entries["data"].as_array().unwrap().len(), 5);
    let verified = admin.get("/admin/v1/accounts/acme/verify?full=true").await;
    assert_eq!(
        (&verified["ok"], &verified["sum"], &verified["entries"]),
        (&json!(true), &json!("177.499999999"), &json!(5))
    );
    assert_eq!(
        (&verified["balance_credits"], &verified["since"]),
        (&json!(88_750_000), &Value::Null)
    );
}

#[tokio::test]
async fn a_payment_told_twice_counts_once() {
    let admin = acme().await;
    let path = "/admin/v1/accounts/acme/topup";
    let topup = |amount: &str, key: &str| {
        let body = json!({"amount": amount});
        admin
            .ops(Method::POST, path)
            .header("idempotency-key", key)
            .json(body)
            .send()
    };
    let first = topup("20", "a").await.is(200);
    let again = topup("20", "a").await.is(200);
    assert_eq!(first["entries"], again["entries"]);
    assert_eq!(again["account"]["balance"], "22.00", "once, with its bonus");
    topup("21", "a").await.refused(409, "conflict");
    topup("20", "b").await.is(200);
    let payment = json!({"amount": "1", "source": "card", "external_ref": "pi_9"});
    for _ in 0..2 {
        let paid = admin.post(path, payment.clone()).await;
        assert_eq!(paid["account"]["balance"], "45.00");
    }
    topup("1", &"x".repeat(256)).await.refused(400, "invalid");
    // Whoever does not hear the answer asks again, perhaps meanwhile.
    let (one, other) = tokio::join!(topup("5", "c"), topup("5", "c"));
    assert_eq!(one.is(200)["entries"], other.is(200)["entries"]);
    assert_eq!(admin.get("/admin/v1/accounts/acme").await["balance"], "50.00");
}

#[tokio::test]
async fn a_balance_is_set_right_as_far_as_it_goes() {
    let admin = acme().await;
    admin
        .post("/admin/v1/accounts/acme/topup", json!({"amount": "5"}))
        .await;
    let path = "/admin/v1/accounts/acme/adjust";
    let adjusted = admin
        .post(path, json!({"amount": "-1.50", "reason": "charged twice"}))
        .await;
    assert_eq!(adjusted["account"]["balance"], "3.50");
    assert_eq!(adjusted["entry"]["kind"], "adjustment");
    assert_eq!(adjusted["entry"]["note"], "charged twice");
    assert_eq!(adjusted["entry"]["amount_credits"], -750_000);
    let owner = Owner::Account(adjusted["account"]["id"].as_str().unwrap().parse().unwrap());
    assert_eq!(admin.live.recalls.lock().unwrap().as_slice(), [owner]);
    let more = admin
        .ops(Method::POST, path)
        .json(json!({"amount": "-3.500000001", "reason": "x"}))
        .send()
        .await;
    more.refused(422, "refused");
    for bad in [
        json!({"amount": "0", "reason": "x"}),
        json!({"amount": "1"}),
        json!({"reason": "x"}),
        json!({"amount": "1", "reason": " "}),
    ] {
        admin
            .ops(Method::POST, path)
            .json(bad)
            .send()
            .await
            .refused(400, "invalid");
    }
    let added = admin.post(path, json!({"amount": "0.5", "reason": "sorry"})).await;
    assert_eq!(added["account"]["balance"], "4.00");
}

#[tokio::test]
async fn a_code_is_redeemed_once_by_whoever_comes_first() {
    let admin = acme().await;
    admin.post("/admin/v1/accounts", json!({"name": "other"})).await;
    let batch = admin
        .post(
            "/admin/v1/codes",
            json!({"count": 3, "amount": "2.50", "note": "fair", "expires": "2099-01-01"}),
        )
        .await;
    let codes = batch["codes"].as_array().unwrap();
    let code = codes[0]["code"].as_str().unwrap();
    let redeem = |account: &str, code: &str| {
        let ask = admin.ops(Method::POST, &format!("/admin/v1/accounts/{account}/redeem"));
        ask.json(json!({"code": code})).send()
    };
    let typed = code.to_lowercase().replace('-', " ");
    let (one, other) = tokio::join!(redeem("acme", code), redeem("other", &typed));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 422], "{one:?} {other:?}");
    let won = if one.status == 200 { &one } else { &other }.json();
    assert_eq!(
        (&won["entry"]["kind"], &won["entry"]["code"]),
        (&json!("redemption"), &codes[0]["id"])
    );
    assert_eq!(won["account"]["balance"], "2.50");
    redeem("acme", "0000-0000-0000-0000-0000-0000")
        .await
        .refused(422, "refused");

    let batch_id = batch["batch"].as_str().unwrap();
    let second = codes[1]["id"].as_str().unwrap();
    assert_eq!(
        admin.post(&format!("/admin/v1/codes/{second}/revoke"), json!({})).await,
        json!({"revoked": 1})
    );
    redeem("acme", codes[1]["code"].as_str().unwrap())
        .await
        .refused(422, "refused");
    assert_eq!(
        admin
            .post(&format!("/admin/v1/codes/{batch_id}/revoke"), json!({}))
            .await,
        json!({"revoked": 1})
    );
    let listed = admin.get(&format!("/admin/v1/codes?batch={batch_id}")).await;
    let mut states: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["status"].as_str().unwrap())
        .collect();
    states.sort_unstable();
    assert_eq!(states, ["redeemed", "revoked", "revoked"]);
    assert!(!listed.to_string().contains(code) && listed["data"][0]["prefix"].as_str().unwrap().len() == 4);
    for bad in [
        json!({"count": 0, "amount": "1"}),
        json!({"count": 1001, "amount": "1"}),
        json!({"count": 1, "amount": "-1"}),
        json!({}),
    ] {
        admin
            .ops(Method::POST, "/admin/v1/codes")
            .json(bad)
            .send()
            .await
            .refused(400, "invalid");
    }
    for gone in ["none", "0000000000000"] {
        let ask = admin
            .ops(Method::POST, &format!("/admin/v1/codes/{gone}/revoke"))
            .send()
            .await;
        assert!(matches!(ask.status, 200 | 404), "{ask:?}");
    }
}
