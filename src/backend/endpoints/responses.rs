//! `POST /responses`: create, plain and streamed as typed events.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::answer::{Answer, Call, Event, Kind, Problem, error_object};
use super::super::content::{CREATED, Length, Prompt, Usage};

/// What every event of one stream needs.
struct Talk {
    id: String,
    item: String,
    model: String,
    prompt: Prompt,
    length: Length,
    usage: Option<Value>,
}

pub(super) fn answer(call: &Call) -> Result<Answer, Problem> {
    if call.body["input"].is_null() {
        return Err(Problem::bad_request("You must provide an `input`.").param("input"));
    }
    let length = call.length(&["max_output_tokens"]);
    let usage = Usage::new(&call.script, &call.prompt, length, 1);
    let talk = Talk {
        id: format!("resp_{}", call.prompt.hex()),
        item: format!("msg_{}", call.prompt.hex()),
        model: call.model().to_owned(),
        prompt: call.prompt,
        length,
        usage: usage.responses(&call.script),
    };
    if call.stream() {
        return Ok(Answer::stream(usage, error_event, stream(talk)));
    }
    Ok(Answer::json(
        usage,
        &talk.response(talk.status(), &talk.items(), talk.usage.as_ref()),
    ))
}

fn error_event(code: u16) -> Bytes {
    let error = &error_object(code)["error"];
    let data = json!({"type": "error", "code": error["type"], "message": error["message"], "param": null});
    Event::named(Kind::Frame, "error", &data).bytes
}

/// The events in the order in which OpenAI sends them, numbered from 0.
fn stream(talk: Talk) -> impl Iterator<Item = Event> + Send {
    let talk = Arc::new(talk);
    let deltas = {
        let talk = Arc::clone(&talk);
        (0..talk.length.visible).map(move |token| {
            let mut delta = talk.part("response.output_text.delta");
            delta.1["delta"] = talk.prompt.token(0, token).into();
            delta
        })
    };
    let events = talk.opening().into_iter().chain(deltas).chain(talk.closing());
    events.enumerate().map(|(number, (name, mut data))| {
        data["type"] = name.into();
        data["sequence_number"] = number.into();
        let kind = match name {
            "response.output_text.delta" => Kind::Content,
            "response.completed" | "response.incomplete" => Kind::Done,
            _ => Kind::Frame,
        };
        Event::named(kind, name, &data)
    })
}

type Named = (&'static str, Value);

// === impl Talk ===

impl Talk {
    fn status(&self) -> &'static str {
        if self.length.capped { "incomplete" } else { "completed" }
    }

    fn response(&self, status: &str, output: &Value, usage: Option<&Value>) -> Value {
        let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
        json!({
            "id": self.id,
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "error": null,
            "incomplete_details": incomplete,
            "instructions": null,
            "metadata": {},
            "model": self.model,
            "output": output,
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "store": false,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": usage,
        })
    }

    fn text(&self) -> Value {
        let text = self.prompt.text(0, self.length.visible);
        json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    }

    fn item(&self, status: &str, content: &Value) -> Value {
        let content = if content.is_null() { json!([]) } else { json!([content]) };
        json!({"id": self.item, "type": "message", "status": status, "role": "assistant", "content": content})
    }

    fn items(&self) -> Value {
        json!([self.item(self.status(), &self.text())])
    }

    fn part(&self, name: &'static str) -> Named {
        (
            name,
            json!({"item_id": self.item, "output_index": 0, "content_index": 0}),
        )
    }

    fn opening(&self) -> Vec<Named> {
        let response = json!({"response": self.response("in_progress", &json!([]), None)});
        let mut part = self.part("response.content_part.added");
        part.1["part"] = json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []});
        vec![
            ("response.created", response.clone()),
            ("response.in_progress", response),
            (
                "response.output_item.added",
                json!({
                    "output_index": 0, "item": self.item("in_progress", &Value::Null),
                }),
            ),
            part,
        ]
    }

    fn closing(&self) -> Vec<Named> {
        let mut text = self.part("response.output_text.done");
        text.1["text"] = self.prompt.text(0, self.length.visible).into();
        let mut part = self.part("response.content_part.done");
        part.1["part"] = self.text();
        let last = if self.length.capped {
            "response.incomplete"
        } else {
            "response.completed"
        };
        vec![
            text,
            part,
            (
                "response.output_item.done",
                json!({
                    "output_index": 0, "item": self.item(self.status(), &self.text()),
                }),
            ),
            (
                last,
                json!({"response": self.response(self.status(), &self.items(), self.usage.as_ref())}),
            ),
        ]
    }
}
