//! Usage: rows and sums, by names and by times.

use http::Method;
use serde_json::{Value, json};
use tollgate::money::Nanos;
use tollgate::store::{Id, Ids, Millis, Owner, Row, RowAttempt, RowTokens};

use crate::support::admin::Admin;
use crate::support::rows::SettleRows as _;

/// A row of a chat request at a time.
pub(super) fn row(id: Id, time: Millis, account: Id, key: Id, charge: i64) -> Row {
    let tokens = RowTokens {
        prompt: 1_000,
        cached: 200,
        completion: 50,
        reasoning: 10,
        ..RowTokens::default()
    };
    Row {
        id,
        time,
        request_id: format!("req-{id}"),
        account,
        key,
        group: "default".to_owned(),
        endpoint: "chat".to_owned(),
        model: "gpt-4o".to_owned(),
        served: Some("gpt-4o".to_owned()),
        attempts: vec![RowAttempt {
            backend: "main".to_owned(),
            status: Some(200),
            ms: 1_400,
        }],
        status: 200,
        reason: None,
        streamed: true,
        tokens,
        bytes_in: 4_000,
        bytes_out: 300,
        first_ms: Some(300),
        total_ms: 1_600,
        price: None,
        charge: Nanos::new(charge),
        written_off: Nanos::ZERO,
        period_start: None,
        cap_asked: None,
        cap_applied: Some(8_192),
        estimated: false,
        disconnected: false,
        cut_short: false,
        from_cache: false,
        ip: Some([192, 0, 2, 7].into()),
        tag: Some("nightly".to_owned()),
        user: None,
        backend_request_id: Some("b-1".to_owned()),
    }
}

/// An account with 5 USD and a key, and rows of these charges: the first now, each an hour before the one before it.
pub(super) async fn used(admin: &Admin, terms: Value, charges: &[i64]) -> (Value, Vec<Row>) {
    admin
        .post("/admin/v1/accounts", json!({"name": "acme", "topup": "5"}))
        .await;
    let mut body = json!({"name": "ci", "account": "acme"});
    body.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
    let key = admin.post("/admin/v1/keys", body).await;
    let id = |value: &Value| value.as_str().unwrap().parse::<Id>().unwrap();
    let (key_id, account) = (id(&key["id"]), id(&key["account"]["id"]));
    let now = Millis::now();
    let process = admin.store.register(Millis(now.0 + 60_000)).await.unwrap();
    let ids = Ids::new(process.node);
    let most = Nanos::MAX_TYPED;
    let taken = admin
        .store
        .take(process.id, Owner::Account(account), most, now)
        .await
        .unwrap();
    let mut period = None;
    if key["quota"].is_number() {
        period = admin
            .store
            .take(process.id, Owner::Key(key_id), most, now)
            .await
            .unwrap()
            .period_start;
    }
    assert_eq!(taken.amount, "5".parse().unwrap());
    let rows: Vec<_> = charges
        .iter()
        .zip(0..)
        .map(|(&charge, hours)| {
            let mut row = row(ids.next(), Millis(now.0 - hours * 3_600_000), account, key_id, charge);
            row.period_start = period;
            row
        })
        .collect();
    admin.store.settle_rows(process.id, &rows).await.unwrap();
    (key, rows)
}

#[tokio::test]
async fn sums_and_rows() {
    let admin = Admin::start().await;
    let (key, rows) = used(&admin, json!({}), &[1_000_000, 2_000_000, 4_000_000]).await;
    let account = key["account"]["id"].as_str().unwrap();
    let sums = |query: &str| {
        let path = format!("/admin/v1/usage?{query}");
        let admin = &admin;
        async move { admin.get(&path).await["data"].clone() }
    };
    for by in ["model", "key", "account", "group"] {
        let sum = sums(&format!("by={by}&since=30d")).await;
        let name = match by {
            "model" => "gpt-4o",
            "key" => key["id"].as_str().unwrap(),
            "account" => account,
            _ => "default",
        };
        let wanted = json!([{"by": name, "requests": 3, "failed": 0, "prompt_tokens": 3000, "cached_tokens": 600,
            "completion_tokens": 150, "reasoning_tokens": 30, "charge": "0.007", "charge_credits": 3500,
            "written_off": "0.00", "written_off_credits": 0}]);
        assert_eq!(sum, wanted, "by {by}");
    }
    let hours = sums("by=hour&key=ci").await;
    assert_eq!(hours.as_array().unwrap().len(), 3);
    assert!(hours[0]["by"].as_str().unwrap().ends_with(":00:00.000Z"), "{hours}");
    let days = sums("account=acme").await;
    assert_eq!(
        days[0]["by"].as_str().unwrap().len(),
        "2026-11-21".len(),
        "days, when nobody says"
    );
    assert_eq!(sums("by=model&until=2000-01-01").await, json!([]));
    assert_eq!(sums("by=model&model=other").await, json!([]));
    assert_eq!(sums("by=model&group=vip").await, json!([]));

    let listed = admin.get("/admin/v1/usage/rows?key=ci&account=acme&limit=2").await;
    let first = &listed["data"][0];
    assert_eq!(first["request_id"], rows[2].request_id, "newest id first");
    assert_eq!(
        (&first["charge"], &first["charge_credits"]),
        (&json!("0.004"), &json!(2_000))
    );
    assert_eq!(
        (&first["attempts"][0]["backend"], &first["ip"], &first["tag"]),
        (&json!("main"), &json!("192.0.2.7"), &json!("nightly"))
    );
    assert!(listed["next"].is_string());
    let one = admin
        .get(&format!("/admin/v1/usage/rows?request_id={}", rows[0].request_id))
        .await;
    assert_eq!(one["data"].as_array().unwrap().len(), 1);
    let recent = admin.get("/admin/v1/usage/rows?since=30m").await;
    assert_eq!(recent["data"].as_array().unwrap().len(), 1);
    for bad in [
        "by=year",
        "since=soon",
        "key=nobody",
        "account=nobody",
        "since=1h&until=2h",
        "colour=red",
    ] {
        let ask = admin.ops(Method::GET, &format!("/admin/v1/usage?{bad}")).send().await;
        ask.refused(400, "invalid");
    }
}

#[tokio::test]
async fn what_was_used_is_shown_everywhere() {
    let admin = Admin::start().await;
    let (_, rows) = used(&admin, json!({"quota": 1000}), &[1_000_000]).await;
    let key = admin.get("/admin/v1/keys/ci").await;
    assert_eq!(
        (&key["spent"], &key["remaining"], &key["used"]),
        (&json!(500), &json!(500), &json!("0.001"))
    );
    assert!(key["last_used"].is_string());
    let account = admin.get("/admin/v1/accounts/acme").await;
    assert_eq!(
        (&account["balance"], &account["used_credits"]),
        (&json!("4.999"), &json!(500))
    );
    let verified = admin.get("/admin/v1/accounts/acme/verify").await;
    assert_eq!(
        (&verified["ok"], &verified["allotted"]),
        (&json!(true), &json!("4.999"))
    );
    // What a process holds cannot be taken away.
    let ask = admin
        .ops(Method::POST, "/admin/v1/accounts/acme/adjust")
        .json(json!({"amount": "-1", "reason": "x"}));
    ask.send().await.refused(422, "refused");
    // A deleted key's usage is there under its id.
    let id = rows[0].key;
    admin.ops(Method::DELETE, "/admin/v1/keys/ci").send().await.is(200);
    let listed = admin.get(&format!("/admin/v1/usage/rows?key={id}")).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}
