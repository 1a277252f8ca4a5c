//! `POST /images/generations`, `/images/edits` and `/images/variations`.

use serde_json::json;

use super::super::answer::{Answer, Call, Problem};
use super::super::content::{CREATED, Usage, base64};

/// The smallest PNG head; nobody here looks at the picture.
const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n";

#[expect(clippy::unnecessary_wraps, reason = "the form of every endpoint")]
pub(super) fn answer(call: &Call) -> Result<Answer, Problem> {
    let images = call.choices();
    let by_url = call.body["response_format"] == "url";
    let data: Vec<_> = (0..images)
        .map(|index| {
            if by_url {
                json!({"url": format!("http://images.invalid/{}/{index}.png", call.prompt.hex())})
            } else {
                let bytes = [PICTURE, call.prompt.hex().as_bytes(), &[0x30 + (index % 10) as u8]].concat();
                json!({"b64_json": base64(&bytes)})
            }
        })
        .collect();
    let usage = Usage::new(&call.script, &call.prompt, call.length(&[]), images);
    let mut body = json!({"created": CREATED, "data": data});
    if let Some(usage) = usage.responses(&call.script) {
        body["usage"] = usage;
    }
    Ok(Answer::json(usage, &body))
}
