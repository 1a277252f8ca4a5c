//! `POST /audio/speech`, `/audio/transcriptions` and `/audio/translations`.

use bytes::Bytes;
use http::header;
use serde_json::json;

use super::super::answer::{Answer, Call, Problem};
use super::super::content::Usage;

/// Bytes of sound for one token.
const BYTES_A_TOKEN: usize = 256;

/// Bytes that stand for sound, `tokens` × 256 of them.
pub(super) fn speech(call: &Call) -> Result<Answer, Problem> {
    if !call.body["input"].is_string() {
        return Err(Problem::bad_request("You must provide an `input`.").param("input"));
    }
    let length = call.length(&[]);
    let usage = Usage::new(&call.script, &call.prompt, length, 1);
    let size = usize::try_from(length.visible)
        .unwrap_or_default()
        .saturating_mul(BYTES_A_TOKEN);
    let sound: Bytes = call
        .prompt
        .digest
        .to_le_bytes()
        .into_iter()
        .cycle()
        .take(size)
        .collect();
    Ok(Answer::bytes(usage, "audio/mpeg", sound))
}

/// Takes any form with a body; which model it names is not looked at.
pub(super) fn transcription(call: &Call) -> Result<Answer, Problem> {
    let kind = call
        .headers
        .get(header::CONTENT_TYPE)
        .map(http::HeaderValue::as_bytes)
        .unwrap_or_default();
    if !kind.starts_with(b"multipart/form-data") || call.raw.is_empty() {
        return Err(Problem::bad_request("The body must be multipart/form-data.").param("file"));
    }
    let length = call.length(&[]);
    let usage = Usage::new(&call.script, &call.prompt, length, 1);
    let mut body = json!({"text": call.prompt.text(0, length.visible)});
    if let Some(mut reported) = usage.responses(&call.script) {
        reported["type"] = "tokens".into();
        body["usage"] = reported;
    }
    Ok(Answer::json(usage, &body))
}
