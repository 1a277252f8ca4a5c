//! `POST /rerank`, in the form of Jina and vLLM.

use serde_json::json;

use super::super::answer::{Answer, Call, Problem};
use super::super::content::Usage;

pub(super) fn answer(call: &Call) -> Result<Answer, Problem> {
    let Some(documents) = call.body["documents"].as_array() else {
        return Err(Problem::bad_request("You must provide `documents`.").param("documents"));
    };
    if !call.body["query"].is_string() {
        return Err(Problem::bad_request("You must provide a `query`.").param("query"));
    }
    let most = call.body["top_n"]
        .as_u64()
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(documents.len());
    // The first document is the best one: an order that a test can foresee.
    let results: Vec<_> = documents
        .iter()
        .enumerate()
        .take(most)
        .zip(1_u32..)
        .map(|((index, document), place)| {
            let text = document["text"].as_str().or(document.as_str());
            json!({"index": index, "relevance_score": 1.0 / f64::from(place), "document": {"text": text}})
        })
        .collect();
    let usage = Usage::prompt_only(&call.script, &call.prompt);
    let mut body = json!({
        "id": format!("rerank-{}", call.prompt.hex()),
        "object": "list",
        "model": call.model(),
        "results": results,
    });
    if let Some(usage) = usage.embeddings(&call.script) {
        body["usage"] = usage;
    }
    Ok(Answer::json(usage, &body))
}
