//! `POST /moderations`, which nobody bills: it has no usage.

use serde_json::{Value, json};

use super::super::answer::{Answer, Call, Problem};
use super::super::content::Usage;

pub(super) fn answer(call: &Call) -> Result<Answer, Problem> {
    let inputs = match &call.body["input"] {
        Value::Null => return Err(Problem::bad_request("You must provide an `input`.").param("input")),
        Value::Array(inputs) => inputs.len(),
        _ => 1,
    };
    let result = json!({
        "flagged": false,
        "categories": {"harassment": false, "hate": false, "violence": false},
        "category_scores": {"harassment": 0.0, "hate": 0.0, "violence": 0.0},
    });
    let body = json!({
        "id": format!("modr-{}", call.prompt.hex()),
        "model": call.model(),
        "results": vec![result; inputs],
    });
    Ok(Answer::json(Usage::prompt_only(&call.script, &call.prompt), &body))
}
