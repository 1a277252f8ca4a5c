//! `GET /models` and `GET /models/{id}`.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::answer::{Answer, Call, Problem};
use super::super::content::{CREATED, Usage};

/// The script's models, or one that stands for any.
pub(super) fn list(call: &Call) -> Answer {
    let models: Vec<_> = match call.script.models.as_slice() {
        [] => vec![model("scripted")],
        names => names.iter().map(|name| model(name)).collect(),
    };
    Answer::json(Usage::default(), &json!({"object": "list", "data": models}))
}

pub(super) fn one(call: &Call, id: &str) -> Result<Answer, Problem> {
    let known = &call.script.models;
    if !known.is_empty() && !known.iter().any(|name| name == id) {
        let message = format!("The model `{id}` does not exist.");
        return Err(Problem::new(StatusCode::NOT_FOUND, "invalid_request_error", message).param("model"));
    }
    Ok(Answer::json(Usage::default(), &model(id)))
}

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": CREATED, "owned_by": "scripted"})
}
