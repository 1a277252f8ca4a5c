//! Rows 1 to 7: keys, from their making to their end.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Shop, ask, posted, reporting};
use crate::support::client::Ask;
use crate::support::within;

#[tokio::test]
async fn row_1_a_key_as_bearer_or_as_x_api_key() {
    let shop = Shop::open().await;
    let (_, key) = shop.key("sdk", json!({})).await;
    let (start, rest) = key.split_at(3);
    assert!(start == "sk-" && rest.len() == 48 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let bearer = format!("Bearer {key}");
    for fields in [
        &[("authorization", &*bearer)][..],
        &[("x-api-key", &*key)],
        &[("authorization", &*bearer), ("x-api-key", &*key)],
    ] {
        let asked = fields
            .iter()
            .fold(ask("gpt-4o", false), |ask, (name, value)| ask.field(name, value));
        assert_eq!(shop.call(&asked).await.head.status, 200, "{fields:?}");
    }
    let both = ask("gpt-4o", false)
        .field("authorization", &bearer)
        .field("x-api-key", "sk-another");
    shop.call(&both).await.refused(401, "key_invalid");
}

#[tokio::test]
async fn row_2_the_base_url_with_or_without_v1() {
    let shop = Shop::open().await;
    let (_, key) = shop.key("sdk", json!({})).await;
    for base in ["/v1", ""] {
        let chat = |stream: bool| {
            let path = format!("{base}/chat/completions");
            Ask {
                path: path.into(),
                ..ask("gpt-4o", stream)
            }
        };
        let plain = shop.client(&key, chat(false)).await;
        assert!(plain.json()["choices"][0]["message"]["content"].is_string());
        let streamed = shop.client(&key, chat(true)).await;
        assert!(streamed.body.ends_with(b"data: [DONE]\n\n"), "{base}");
        let embedded = posted(
            format!("{base}/embeddings"),
            &json!({"model": "gpt-4o", "input": "a cat"}),
        );
        assert!(shop.client(&key, embedded).await.json()["data"][0]["embedding"].is_array());
        let painted = posted(
            format!("{base}/images/generations"),
            &json!({"model": "painter", "prompt": "a cat"}),
        );
        assert!(shop.client(&key, painted).await.json()["data"][0]["b64_json"].is_string());
        let models = shop.client(&key, Ask::get(format!("{base}/models"))).await.json();
        let names: Vec<_> = models["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| &model["id"])
            .collect();
        assert_eq!(names, ["gpt-4o", "painter"]);
    }
}

#[tokio::test]
async fn row_3_a_key_is_made_with_its_terms() {
    let shop = Shop::open().await;
    let terms = json!({
        "name": "limited", "account": "user", "group": "default", "expires": 1_893_456_000, "quota": 500_000,
        "models": ["gpt-4o"], "ips": "10.0.0.0/8, 192.168.1.7\n::1",
    });
    let made = shop.does("POST", "keys", &terms).await.is(201);
    assert_eq!(
        [
            &made["name"],
            &made["group"],
            &made["expires"],
            &made["quota"],
            &made["models"],
            &made["ips"]
        ],
        [
            &json!("limited"),
            &json!("default"),
            &json!("2030-01-01T00:00:00.000Z"),
            &json!(500_000),
            &json!(["gpt-4o"]),
            &json!(["10.0.0.0/8", "192.168.1.7/32", "::1/128"]),
        ]
    );
    let open = json!({
        "name": "open", "account": "user", "expires": -1, "quota": null, "models": null, "ips": "",
    });
    let made = shop.does("POST", "keys", &open).await.is(201);
    let nothing = json!(null);
    assert_eq!([&made["expires"], &made["quota"], &made["models"]], [&nothing; 3]);
    assert_eq!(made["ips"], json!([]));

    // What it says is what holds.
    let (_, elsewhere) = shop.key("elsewhere", json!({"ips": "10.0.0.0/8"})).await;
    shop.client(&elsewhere, ask("gpt-4o", false))
        .await
        .refused(403, "ip_not_allowed");
    let (_, here) = shop
        .key("here", json!({"ips": "10.0.0.0/8\n127.0.0.1", "models": ["gpt-*"]}))
        .await;
    assert_eq!(shop.client(&here, ask("gpt-4o", false)).await.head.status, 200);
    shop.client(&here, ask("painter", false))
        .await
        .refused(403, "model_not_allowed");
}

#[tokio::test]
async fn row_4_the_full_key_is_shown_once() {
    let shop = Shop::open().await;
    let (id, key) = shop.key("secret", json!({})).await;
    let masked = format!("{}**********{}", &key[..4], &key[key.len() - 4..]);
    for path in ["keys".to_owned(), format!("keys/{id}"), "audit".to_owned()] {
        let told = shop.does("GET", &path, &Value::Null).await;
        assert!(told.status == 200 && !told.text.contains(&key), "{}", told.text);
        assert!(told.text.contains(&masked), "{path}: {}", told.text);
    }
    let identity = json!({"token": super::OPERATOR});
    let reveal = format!("keys/{id}/reveal");
    shop.does("POST", &reveal, &identity).await.refused(422, "not_kept");

    // An operator who has turned it on sees it again, having proved who asks; only then is a copy kept, encrypted.
    let keeping = Shop::open_with(|setup| {
        setup
            .text("[keys]\nreveal = { key = { env = \"REVEAL\" } }")
            .variable("REVEAL", &"ab".repeat(32))
    })
    .await;
    let (id, key) = keeping.key("secret", json!({})).await;
    let reveal = format!("keys/{id}/reveal");
    let another = json!({"token": "ops-token-of-another"});
    keeping.does("POST", &reveal, &another).await.refused(403, "identity");
    assert_eq!(
        keeping.does("POST", &reveal, &identity).await.is(200)["key"],
        json!(key)
    );
    let files = files(keeping.books.folder.path());
    assert!(files.len() > 1, "the store, and what is beside it");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
        assert!(!found, "{}", file.display());
    }
}

/// All files in a folder and below.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, mut all): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    all.extend(folders.iter().flat_map(|folder| files(folder)));
    all.retain(|path| path.is_file());
    all
}

#[tokio::test]
async fn row_5_keys_are_listed_viewed_renamed_edited_switched_rotated_and_deleted() {
    let shop = Shop::open().await;
    let terms = json!({"quota": 500_000, "expires": "2030-01-31"});
    let (id, key) = shop.key("mine", terms).await;
    let one = format!("keys/{id}");
    let used = reporting(ask("gpt-4o", false), 1000, 500);
    assert_eq!(shop.client(&key, used).await.head.status, 200);
    let listed = within(async {
        loop {
            let listed = shop.sees("keys?account=user").await["data"][0].take();
            if !listed["last_used"].is_null() {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Name, status, used, remaining, expiry, last use.
    assert_eq!(
        (&listed["name"], &listed["status"]),
        (&json!("mine"), &json!("enabled"))
    );
    assert_eq!(
        (&listed["used_credits"], &listed["used"]),
        (&json!(3_750), &json!("0.0075"))
    );
    assert_eq!(listed["remaining"], 496_250);
    assert_eq!(listed["expires"], "2030-02-01T00:00:00.000Z");
    assert_eq!(shop.sees(&one).await, listed, "viewed as listed");

    let edit = json!({"name": "yours", "quota": 600_000});
    let edited = shop.does("PATCH", &one, &edit).await.is(200);
    assert_eq!(
        (&edited["name"], &edited["remaining"]),
        (&json!("yours"), &json!(596_250))
    );
    assert_eq!(
        shop.does("POST", &format!("{one}/disable"), &json!({})).await.is(200)["status"],
        "disabled"
    );
    assert_eq!(
        shop.does("POST", &format!("{one}/enable"), &json!({})).await.is(200)["status"],
        "enabled"
    );
    let rotated = shop.does("POST", &format!("{one}/rotate"), &json!({})).await.is(200);
    let new = rotated["key"].as_str().unwrap();
    assert_ne!(new, key);
    assert_eq!(rotated["used_credits"], 3_750, "the same key, with another text");
    assert_eq!(shop.client(new, ask("gpt-4o", false)).await.head.status, 200);
    shop.client(&key, ask("gpt-4o", false))
        .await
        .refused(401, "key_invalid");

    assert_eq!(shop.does("DELETE", &one, &json!({})).await.status, 200);
    assert_eq!(shop.sees("keys?account=user").await["data"], json!([]));
    shop.client(new, ask("gpt-4o", false)).await.refused(401, "key_invalid");
}

#[tokio::test]
async fn row_6_a_change_of_a_key_holds_for_the_next_request() {
    let shop = Shop::open().await;
    let (id, key) = shop.key("changed", json!({})).await;
    let one = format!("keys/{id}");
    let next = async || shop.client(&key, ask("gpt-4o", true)).await;
    assert_eq!(next().await.head.status, 200);
    for _ in 0..5 {
        shop.does("POST", &format!("{one}/disable"), &json!({})).await.is(200);
        next().await.refused(401, "key_disabled");
        shop.does("POST", &format!("{one}/enable"), &json!({})).await.is(200);
        assert_eq!(next().await.head.status, 200);
        shop.does("PATCH", &one, &json!({"models": ["painter"]})).await.is(200);
        next().await.refused(403, "model_not_allowed");
        shop.does("PATCH", &one, &json!({"models": null})).await.is(200);
        assert_eq!(next().await.head.status, 200);
    }
    shop.does("POST", &format!("{one}/revoke"), &json!({})).await.is(200);
    next().await.refused(401, "key_invalid");
}

#[tokio::test]
async fn row_7_a_quota_that_runs_out_and_an_expiry_that_passes_end_a_key() {
    let shop = Shop::open().await;
    // 0.04 USD are 20,000 credits: it has two of them.
    let (id, key) = shop.key("small", json!({"quota": 40_000})).await;
    let paint = || {
        posted(
            "/v1/images/generations",
            &json!({"model": "painter", "prompt": "a cat"}),
        )
    };
    for _ in 0..2 {
        assert_eq!(shop.client(&key, paint()).await.head.status, 200);
    }
    shop.client(&key, paint()).await.refused(403, "key_exhausted");
    let status = async |id: &str, wanted: &str| {
        let path = format!("keys/{id}");
        within(async {
            while shop.sees(&path).await["status"] != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    status(&id, "exhausted").await;
    // Its holder may still see why.
    assert_eq!(shop.own(&key, "/api/usage/token/").await["data"]["total_available"], 0);

    let soon = SystemTime::now() + Duration::from_millis(500);
    let soon = humantime::format_rfc3339_millis(soon).to_string();
    let (id, key) = shop.key("short", json!({"expires": soon})).await;
    within(async {
        while shop.client(&key, ask("gpt-4o", false)).await.head.status == 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    shop.client(&key, ask("gpt-4o", false))
        .await
        .refused(401, "key_expired");
    status(&id, "expired").await;
}
