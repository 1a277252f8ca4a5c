//! The API, one file an endpoint.

mod audio;
mod chat;
mod completions;
mod embeddings;
mod images;
mod messages;
mod models;
mod moderations;
mod rerank;
mod responses;

use http::{Method, StatusCode};

use super::answer::{Answer, Call, Problem};

/// Answers a request for this path, given without its `/v1`.
pub(super) fn route(method: &Method, path: &str, call: &Call) -> Result<Answer, Problem> {
    if let Some(id) = path.strip_prefix("/models/") {
        return only(&Method::GET, method, path, || models::one(call, id));
    }
    if path == "/models" {
        return only(&Method::GET, method, path, || Ok(models::list(call)));
    }
    let endpoint: fn(&Call) -> Result<Answer, Problem> = match path {
        "/chat/completions" => chat::answer,
        "/completions" => completions::answer,
        "/embeddings" => embeddings::answer,
        "/responses" => responses::answer,
        "/messages" => messages::answer,
        "/images/generations" | "/images/edits" | "/images/variations" => images::answer,
        "/moderations" => moderations::answer,
        "/rerank" => rerank::answer,
        "/audio/speech" => audio::speech,
        "/audio/transcriptions" | "/audio/translations" => audio::transcription,
        _ => {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "invalid_request_error",
                format!("No path `{path}`."),
            ));
        }
    };
    only(&Method::POST, method, path, || endpoint(call))
}

fn only(
    wanted: &Method,
    method: &Method,
    path: &str,
    answer: impl FnOnce() -> Result<Answer, Problem>,
) -> Result<Answer, Problem> {
    if method == wanted {
        return answer();
    }
    let message = format!("`{path}` is for {wanted}.");
    Err(Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_request_error",
        message,
    ))
}
