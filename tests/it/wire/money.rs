//! Rows 9 to 11: the wallet, what was used, and what it costs.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Shop, ask, reporting};
use crate::support::client::Ask;
use crate::support::within;

#[tokio::test]
async fn row_9_the_wallet() {
    let shop = Shop::open().await;
    // The bonus table, and the amounts between its steps.
    for (paid, got) in [
        ("10", "10.00"),
        ("19.99", "19.99"),
        ("20", "22.00"),
        ("50", "57.50"),
        ("100", "120.00"),
        ("200", "240.00"),
        ("500", "600.00"),
    ] {
        let name = format!("payer-{paid}");
        shop.does("POST", "accounts", &json!({"name": name})).await.is(201);
        let path = format!("accounts/{name}/topup");
        let topped = shop.does("POST", &path, &json!({"amount": paid})).await.is(200);
        assert_eq!(topped["account"]["balance"], got, "{paid}");
    }

    // Funds count at once: nothing is there, it is paid, the next request is answered.
    shop.does("POST", "accounts", &json!({"name": "poor"})).await.is(201);
    let made = shop
        .does("POST", "keys", &json!({"account": "poor", "name": "k"}))
        .await
        .is(201);
    let key = made["key"].as_str().unwrap();
    shop.client(key, ask("gpt-4o", false))
        .await
        .refused(403, "insufficient_credit");
    let paid = json!({"amount": "20", "source": "card", "external_ref": "payment-1"});
    shop.does("POST", "accounts/poor/topup", &paid).await.is(200);
    assert_eq!(
        shop.client(key, reporting(ask("gpt-4o", false), 1000, 500))
            .await
            .head
            .status,
        200
    );
    // The channel tells of the same payment again.
    let again = shop.does("POST", "accounts/poor/topup", &paid).await;
    assert!(again.status == 200 || again.status == 409, "{}", again.text);

    let gift = json!({"amount": "20", "promotional": true, "note": "welcome"});
    shop.does("POST", "accounts/poor/topup", &gift).await.is(200);
    let codes = shop
        .does("POST", "codes", &json!({"count": 1, "amount": "5"}))
        .await
        .is(201);
    let code = json!({"code": codes["codes"][0]["code"]});
    shop.does("POST", "accounts/poor/redeem", &code).await.is(200);
    assert_eq!(
        shop.does("POST", "accounts/user/redeem", &code).await.status,
        422,
        "it is spent"
    );

    let history = shop.sees("accounts/poor/entries").await;
    let kinds: Vec<_> = history["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["kind"].as_str().unwrap(), entry["amount"].as_str().unwrap()))
        .collect();
    assert_eq!(
        kinds,
        [
            ("redemption", "5.00"),
            ("promotion", "20.00"),
            ("bonus", "2.00"),
            ("topup", "20.00")
        ]
    );
    let balance = async || shop.sees("accounts/poor").await["balance"].as_str().unwrap().to_owned();
    within(async {
        while balance().await != "46.9925" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(shop.sees("accounts/poor/verify?full=true").await["ok"], true);
}

#[tokio::test]
async fn row_10_usage_by_key_by_call_and_by_hour_and_day() {
    let shop = Shop::open().await;
    let (id, key) = shop.key("used", json!({"quota": 100_000, "models": ["gpt-4o"]})).await;
    for stream in [false, true] {
        let answer = shop.client(&key, reporting(ask("gpt-4o", stream), 1000, 500)).await;
        shop.row(answer.id()).await;
    }
    assert_eq!(
        shop.own(&key, "/api/usage/token/").await,
        json!({"code": true, "message": "ok", "data": {
            "object": "token_usage", "name": "used", "total_granted": 100_000, "total_used": 7_500,
            "total_available": 92_500, "unlimited_quota": false, "model_limits": {"gpt-4o": true},
            "model_limits_enabled": true, "expires_at": 0,
        }})
    );
    let log = shop.own(&key, "/api/log/token").await;
    let calls: Vec<_> = log["data"].as_array().unwrap().iter().collect();
    assert_eq!(calls.len(), 2);
    for call in calls {
        let tokens = (&call["prompt_tokens"], &call["completion_tokens"]);
        assert_eq!(
            (&call["model_name"], tokens),
            (&json!("gpt-4o"), (&json!(1000), &json!(500)))
        );
        assert_eq!(call["quota"], 3_750);
    }
    let cents = shop
        .own(
            &key,
            "/v1/dashboard/billing/usage?start_date=2025-1-2&end_date=2099-1-2",
        )
        .await;
    assert_eq!(cents["total_usage"], 1.5);

    for by in ["hour", "day", "model", "key"] {
        let sums = shop.sees(&format!("usage?by={by}&key={id}&since=24h")).await;
        let sums = sums["data"].as_array().unwrap();
        // Both in one hour, or in two.
        let sum = |field: &str| sums.iter().map(|sum| sum[field].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("requests"), sum("charge_credits")), (2, 7_500), "{by}");
        assert_eq!((sum("prompt_tokens"), sum("completion_tokens")), (2_000, 1_000), "{by}");
    }
}

#[tokio::test]
async fn row_11_the_catalogue_has_prices_and_explains_multipliers() {
    let shop = Shop::open_with(|setup| setup.group("vip", "models = [\"gpt-*\"]\nmultiplier = 0.8")).await;
    // Anyone may read it, from any web page.
    let answer = shop.call(&Ask::get("/api/pricing")).await;
    assert_eq!(answer.field("access-control-allow-origin"), Some("*"));
    let catalogue = answer.json();
    let of = |name: &str| {
        let models = catalogue["data"].as_array().unwrap();
        models.iter().find(|model| model["model_name"] == name).unwrap().clone()
    };
    let chat = of("gpt-4o");
    // 2.5 USD a million: a ratio of 1.25, as 1 is 2 USD; 10 is four times that, 1.25 half of it.
    assert_eq!(
        [
            &chat["quota_type"],
            &chat["model_ratio"],
            &chat["completion_ratio"],
            &chat["cache_ratio"]
        ],
        [&json!(0), &json!(1.25), &json!(4), &json!(0.5)]
    );
    assert_eq!(
        chat["price"],
        json!({"input": "2.5", "cached_input": "1.25", "output": "10"})
    );
    assert_eq!(chat["enable_groups"], json!(["default", "vip"]));
    let painter = of("painter");
    assert_eq!(
        (&painter["quota_type"], &painter["model_price"]),
        (&json!(1), &json!(0.04))
    );
    assert_eq!(painter["enable_groups"], json!(["default"]));
    assert_eq!(catalogue["group_ratio"], json!({"default": 1, "vip": 0.8}));
    assert_eq!(
        catalogue["usable_group"],
        json!({"default": "Prices as listed.", "vip": "Prices as listed × 0.8."})
    );
    assert!(
        catalogue["explained"]
            .as_str()
            .is_some_and(|text| text.contains("group_ratio"))
    );
    let status: Value = shop.call(&Ask::get("/api/status")).await.json();
    assert_eq!(status["data"]["quota_per_unit"], 500_000);
}
