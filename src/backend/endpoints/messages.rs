//! `POST /messages`, Anthropic's form, plain and streamed.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::answer::{Answer, Call, Event, Kind, Problem, error_object};
use super::super::content::Usage;

pub(super) fn answer(call: &Call) -> Result<Answer, Problem> {
    if call.body["messages"].as_array().is_none_or(Vec::is_empty) {
        return Err(Problem::bad_request("`messages` must be a list that is not empty.").param("messages"));
    }
    if call.body["max_tokens"].as_u64().is_none() {
        return Err(Problem::bad_request("You must provide `max_tokens`.").param("max_tokens"));
    }
    let length = call.length(&["max_tokens"]);
    let usage = Usage::new(&call.script, &call.prompt, length, 1);
    let reason = if length.capped { "max_tokens" } else { "end_turn" };
    let message = |content: Value, reason: Option<&str>, usage: Option<Value>| {
        json!({
            "id": format!("msg_{}", call.prompt.hex()),
            "type": "message",
            "role": "assistant",
            "model": call.model(),
            "content": content,
            "stop_reason": reason,
            "stop_sequence": null,
            "usage": usage,
        })
    };
    let all = usage.messages(&call.script, usage.completion);
    if !call.stream() {
        let content = json!([{"type": "text", "text": call.prompt.text(0, length.visible)}]);
        return Ok(Answer::json(usage, &message(content, Some(reason), all)));
    }
    let first = usage.messages(&call.script, length.visible.min(1));
    let start = json!({"message": message(json!([]), None, first)});
    let end = json!({"delta": {"stop_reason": reason, "stop_sequence": null}, "usage": all});
    let prompt = call.prompt;
    let deltas = (0..length.visible).map(move |token| {
        let delta = json!({"type": "text_delta", "text": prompt.token(0, token)});
        event(
            Kind::Content,
            "content_block_delta",
            json!({"index": 0, "delta": delta}),
        )
    });
    let opening = [
        event(Kind::Frame, "message_start", start),
        event(
            Kind::Frame,
            "content_block_start",
            json!({"index": 0, "content_block": {"type": "text", "text": ""}}),
        ),
        event(Kind::Frame, "ping", json!({})),
    ];
    let closing = [
        event(Kind::Frame, "content_block_stop", json!({"index": 0})),
        event(Kind::Frame, "message_delta", end),
        event(Kind::Done, "message_stop", json!({})),
    ];
    Ok(Answer::stream(
        usage,
        error_event,
        opening.into_iter().chain(deltas).chain(closing),
    ))
}

fn event(kind: Kind, name: &str, mut data: Value) -> Event {
    data["type"] = name.into();
    Event::named(kind, name, &data)
}

fn error_event(code: u16) -> Bytes {
    event(Kind::Frame, "error", error_object(code)).bytes
}
