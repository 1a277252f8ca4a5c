//! The OpenAPI document: of every route, and well-formed.

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;

use crate::support::admin::Admin;

/// Every call of the API, as its users know it.
const CALLS: &[&str] = &[
    "GET /admin/v1/accounts",
    "POST /admin/v1/accounts",
    "GET /admin/v1/accounts/{id}",
    "PATCH /admin/v1/accounts/{id}",
    "POST /admin/v1/accounts/{id}/topup",
    "POST /admin/v1/accounts/{id}/adjust",
    "GET /admin/v1/accounts/{id}/entries",
    "GET /admin/v1/accounts/{id}/verify",
    "POST /admin/v1/accounts/{id}/redeem",
    "GET /admin/v1/keys",
    "POST /admin/v1/keys",
    "GET /admin/v1/keys/{id}",
    "PATCH /admin/v1/keys/{id}",
    "DELETE /admin/v1/keys/{id}",
    "POST /admin/v1/keys/{id}/disable",
    "POST /admin/v1/keys/{id}/enable",
    "POST /admin/v1/keys/{id}/revoke",
    "POST /admin/v1/keys/{id}/rotate",
    "POST /admin/v1/keys/{id}/reveal",
    "GET /admin/v1/codes",
    "POST /admin/v1/codes",
    "POST /admin/v1/codes/{id}/revoke",
    "GET /admin/v1/usage",
    "GET /admin/v1/usage/rows",
    "GET /admin/v1/notices",
    "POST /admin/v1/notices",
    "DELETE /admin/v1/notices/{id}",
    "GET /admin/v1/audit",
];

const METHODS: &[&str] = &["get", "post", "patch", "put", "delete"];

async fn document(admin: &Admin) -> Value {
    let reply = admin.ask(Method::GET, "/admin/openapi.json").send().await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    reply.is(200)
}

#[tokio::test]
async fn every_route_is_in_the_document_and_answers() {
    let admin = Admin::start().await;
    let document = document(&admin).await;
    let mut told = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| METHODS.contains(&key.as_str()))
        {
            told.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let wanted: BTreeSet<_> = CALLS.iter().map(|&call| call.to_owned()).collect();
    assert_eq!(told, wanted);
    for call in CALLS {
        let (method, path) = call.split_once(' ').unwrap();
        let reply = admin
            .ops(method.parse().unwrap(), &path.replace("{id}", "none"))
            .send()
            .await;
        // What is not routed is told as a path that is not there.
        assert!(!reply.text.contains("no such path"), "{call}: {reply:?}");
        assert_ne!(reply.status, 405, "{call}");
    }
}

#[tokio::test]
async fn the_document_is_well_formed() {
    let admin = Admin::start().await;
    let document = document(&admin).await;
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3.1"),
        "{}",
        document["openapi"]
    );
    assert_eq!(document["info"]["title"], "Tollgate admin API");
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| METHODS.contains(&key.as_str()))
        {
            let id = operation["operationId"]
                .as_str()
                .unwrap_or_else(|| panic!("{method} {path}"));
            assert!(ids.insert(id), "{id} twice");
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.contains_key("default") && responses.keys().any(|status| status.starts_with('2')),
                "{path}"
            );
            let placeholders = path.matches('{').count();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            assert_eq!(
                parameters.iter().filter(|p| p["in"] == "path").count(),
                placeholders,
                "{method} {path}"
            );
            let body = operation.get("requestBody");
            assert!(
                body.is_none() || ["post", "patch"].contains(&method.as_str()),
                "{method} {path}"
            );
        }
    }
    // Every reference leads somewhere.
    let mut waiting = vec![&document];
    while let Some(value) = waiting.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        match value {
            Value::Object(fields) => waiting.extend(fields.values()),
            Value::Array(items) => waiting.extend(items),
            _ => {}
        }
    }
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["CreateAccount"]["required"], serde_json::json!(["name"]));
    assert_eq!(schemas["CreateAccount"]["additionalProperties"], false);
    assert!(
        schemas["KeyView"]["properties"]["masked"]["type"] == "string",
        "{}",
        schemas["KeyView"]
    );
}
