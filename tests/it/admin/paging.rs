//! Lists, page by page.

use http::Method;
use serde_json::{Value, json};

use crate::support::admin::Admin;

/// Every name of a list, a page of `limit` at a time, and how many pages it took.
async fn walk(admin: &Admin, path: &str, limit: usize) -> (Vec<String>, usize) {
    let (mut names, mut pages, mut cursor) = (Vec::new(), 0, Value::Null);
    loop {
        let before = cursor.as_str().map(|id| format!("&before={id}")).unwrap_or_default();
        let page = admin.get(&format!("{path}?limit={limit}{before}")).await;
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= limit && (pages == 0 || !data.is_empty()), "{page}");
        names.extend(data.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        pages += 1;
        cursor = page["next"].clone();
        if cursor.is_null() {
            return (names, pages);
        }
    }
}

#[tokio::test]
async fn every_item_comes_once_newest_first() {
    let admin = Admin::start().await;
    let mut made = Vec::new();
    for i in 0..7 {
        let name = format!("account {i}");
        admin.post("/admin/v1/accounts", json!({"name": name})).await;
        made.insert(0, name);
    }
    for (limit, pages) in [(1, 7), (2, 4), (3, 3), (6, 2), (7, 1), (1000, 1)] {
        assert_eq!(
            walk(&admin, "/admin/v1/accounts", limit).await,
            (made.clone(), pages),
            "by {limit}"
        );
    }
    let first = admin.get("/admin/v1/accounts?limit=2").await;
    admin.post("/admin/v1/accounts", json!({"name": "later"})).await;
    let next = first["next"].as_str().unwrap();
    let second = admin.get(&format!("/admin/v1/accounts?limit=2&before={next}")).await;
    assert_eq!(second["data"][0]["name"], made[2], "what came meanwhile shifts nothing");
    let past = admin.get("/admin/v1/accounts?before=0000000000000").await;
    assert_eq!(past, json!({"data": [], "next": null}));
}

#[tokio::test]
async fn keys_of_an_account_and_entries_are_pages_too() {
    let admin = Admin::start().await;
    for account in ["a", "b"] {
        admin.post("/admin/v1/accounts", json!({"name": account})).await;
        for key in ["one", "two", "three"] {
            admin
                .post("/admin/v1/keys", json!({"name": key, "account": account}))
                .await;
            admin
                .post(&format!("/admin/v1/accounts/{account}/topup"), json!({"amount": "1"}))
                .await;
        }
    }
    let page = admin.get("/admin/v1/keys?account=a&limit=2").await;
    let names: Vec<_> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["name"])
        .collect();
    assert_eq!(names, ["three", "two"]);
    let rest = admin
        .get(&format!(
            "/admin/v1/keys?account=a&before={}",
            page["next"].as_str().unwrap()
        ))
        .await;
    assert_eq!((&rest["data"][0]["name"], &rest["next"]), (&json!("one"), &Value::Null));
    assert_eq!(walk(&admin, "/admin/v1/keys", 4).await.0.len(), 6);
    let entries = admin.get("/admin/v1/accounts/b/entries?limit=2").await;
    assert!(entries["next"].is_string());
    let nobody = admin.ops(Method::GET, "/admin/v1/keys?account=nobody").send().await;
    assert!(nobody.refused(400, "invalid").contains("no such account"));
}
