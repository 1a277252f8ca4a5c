//! Which calls are served: by their path, by what they ask for, and the list of models.

use serde_json::json;

use crate::support::client::Ask;
use crate::support::gateway::{KEY, Setup, front, post, scripted, secret};

#[tokio::test]
async fn a_path_is_served_with_and_without_the_prefix() {
    let backend = scripted().await;
    let url = format!("http://{}/deep/er/", backend.local_addr());
    let gateway = Setup::over(backend.local_addr())
        .backend_at("deep", &url, "")
        .model("scripted", "route = [{ backend = \"main\" }]")
        .model("deep", "route = [{ backend = \"deep\" }]")
        .start();
    for (path, model, expected) in [
        ("/v1/embeddings", "scripted", "/v1/embeddings"),
        ("/embeddings", "scripted", "/v1/embeddings"),
        ("/v1/embeddings", "deep", "/deep/er/embeddings"),
        ("/embeddings", "deep", "/deep/er/embeddings"),
    ] {
        let body = format!(r#"{{"model":"{model}","input":"Hi"}}"#);
        gateway.call(&post(path, body)).await;
        assert_eq!(backend.requests().pop().unwrap().path, expected);
    }
}

#[tokio::test]
async fn what_names_data_that_a_backend_keeps_is_refused() {
    let (gateway, backend) = front(|setup| setup).await;
    for (method, path) in [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files"),
        ("GET", "/v1/files/file-1/content"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/uploads"),
        ("POST", "/v1/threads"),
        ("POST", "/v1/assistants"),
        ("POST", "/v1/conversations"),
        ("POST", "/v1/fine_tuning/jobs"),
        ("GET", "/v1/vector_stores"),
        ("GET", "/v1/chat/completions/chatcmpl-1"),
    ] {
        let ask = Ask {
            method,
            ..Ask::get(path).by(KEY)
        };
        gateway.call(&ask).await.refused(404, "path_not_found");
    }
    for body in [
        r#"{"model":"scripted","input":"Hi","previous_response_id":"resp_1"}"#,
        r#"{"model":"scripted","input":"Hi","conversation":"conv_1"}"#,
        r#"{"model":"scripted","input":"Hi","conversation":{"id":"conv_1"}}"#,
    ] {
        let answer = gateway.call(&post("/v1/responses", body)).await;
        answer.refused(400, "unsupported_parameter");
    }
    assert_eq!(backend.stats().now().requests, 0);
}

#[tokio::test]
async fn parameters_that_change_our_cost_are_refused() {
    let plain = "route = [{ backend = \"main\" }]\n";
    let (gateway, _backend) = front(|setup| {
        setup
            .model("scripted", plain)
            .model("open", &format!("{plain}deny_params = []"))
            .model("strict", &format!("{plain}deny_params = [\"logprobs\"]"))
    })
    .await;
    for (model, param, passes) in [
        ("scripted", r#""service_tier":"priority""#, false),
        ("scripted", r#""service_tier":"auto""#, true),
        ("scripted", r#""service_tier":"default""#, true),
        ("scripted", r#""service_tier":null"#, true),
        ("scripted", r#""store":true"#, false),
        ("scripted", r#""store":false"#, true),
        ("scripted", r#""background":true"#, false),
        ("scripted", r#""service\u005ftier":"flex""#, false),
        ("scripted", r#""logprobs":true"#, true),
        ("open", r#""store":true"#, true),
        ("strict", r#""store":true"#, true),
        ("strict", r#""logprobs":true"#, false),
    ] {
        let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user"}}],{param}}}"#);
        let answer = gateway.call(&post("/v1/chat/completions", body)).await;
        if passes {
            assert_eq!(answer.head.status, 200, "{model} {param}");
        } else {
            answer.refused(400, "unsupported_parameter");
        }
    }
}

// === the list of models ===

#[tokio::test]
async fn the_list_of_models_is_what_the_key_may_call() {
    let route = "route = [{ backend = \"main\" }]";
    let (gateway, backend) = front(|setup| {
        setup
            .model("gpt-4o", route)
            .model("org/name", route)
            .model("secret", route)
            .group("default", "models = [\"gpt-*\", \"org/*\"]")
            .key(KEY, "")
            .key("less", "models = [\"gpt-4o\", \"secret\"]")
    })
    .await;
    let listed = async |path: &'static str, key: &str| {
        let list = gateway.call(&Ask::get(path).by(key)).await.json();
        assert_eq!(list["object"], "list");
        let ids: Vec<_> = list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].clone())
            .collect();
        ids
    };
    assert_eq!(listed("/v1/models", KEY).await, ["gpt-4o", "org/name"]);
    assert_eq!(listed("/models", "less").await, ["gpt-4o"]);

    for path in ["/v1/models/org/name", "/models/org%2Fname"] {
        let model = gateway.call(&Ask::get(path).by(KEY)).await.json();
        assert_eq!((&model["id"], &model["object"]), (&json!("org/name"), &json!("model")));
        gateway
            .call(&Ask::get(path).by("less"))
            .await
            .refused(404, "model_not_found");
    }
    gateway
        .call(&Ask::get("/v1/models/secret").by(KEY))
        .await
        .refused(404, "model_not_found");
    gateway.call(&Ask::get("/v1/models")).await.refused(401, "key_missing");

    let anthropic = Ask::get("/v1/models").field("x-api-key", &secret(KEY));
    let list = gateway
        .call(&anthropic.field("anthropic-version", "2023-06-01"))
        .await
        .json();
    assert_eq!(
        (&list["first_id"], &list["has_more"]),
        (&json!("gpt-4o"), &json!(false))
    );
    assert_eq!(list["data"][1]["type"], "model");
    assert_eq!(backend.stats().now().requests, 0);
}
