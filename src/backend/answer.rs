//! What an endpoint hands back, before any fault is applied.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::content::{Length, Prompt, Usage};
use super::script::Script;

/// One request as an endpoint sees it.
pub(super) struct Call {
    /// The JSON body; null when it was of another type.
    pub(super) body: Value,
    /// The body as it came.
    pub(super) raw: Bytes,
    pub(super) headers: HeaderMap,
    pub(super) script: Script,
    pub(super) prompt: Prompt,
}

/// A refusal, answered as OpenAI's error object.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) message: String,
    pub(super) param: Option<&'static str>,
}

/// An answer of status 200.
pub(super) struct Answer {
    pub(super) content_type: &'static str,
    pub(super) usage: Usage,
    pub(super) body: Content,
}

pub(super) enum Content {
    /// One body of known length.
    Whole(Bytes),
    /// Events, sent as they come.
    Stream { events: Events, error: ErrorEvent },
}

pub(super) type Events = Box<dyn Iterator<Item = Event> + Send>;

/// Makes the event that reports an error of this code in mid-stream.
pub(super) type ErrorEvent = fn(u16) -> Bytes;

/// One event of a stream, ready for the wire.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) bytes: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Carries one token of content, and is paced.
    Content,
    /// Anything else, sent without a wait.
    Frame,
    /// The one that says that the stream is complete.
    Done,
}

// === impl Call ===

impl Call {
    pub(super) fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    pub(super) fn stream(&self) -> bool {
        self.body["stream"].as_bool().unwrap_or(false)
    }

    /// `n`, at least 1, at most OpenAI's 128.
    pub(super) fn choices(&self) -> u64 {
        self.body["n"].as_u64().unwrap_or(1).clamp(1, 128)
    }

    /// Whether the request asked for the usage event.
    pub(super) fn with_usage(&self) -> bool {
        self.body["stream_options"]["include_usage"].as_bool().unwrap_or(false)
    }

    /// The smallest cap that the request sets under one of these names.
    pub(super) fn length(&self, caps: &[&str]) -> Length {
        Length::new(
            &self.script,
            caps.iter().filter_map(|name| self.body[*name].as_u64()).min(),
        )
    }
}

// === impl Problem ===

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            param: None,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(super) fn param(self, param: &'static str) -> Self {
        Self {
            param: Some(param),
            ..self
        }
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        to_bytes(&json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.status.as_u16(),
        }}))
    }
}

// === impl Answer ===

impl Answer {
    pub(super) fn json(usage: Usage, body: &impl Serialize) -> Self {
        Self {
            content_type: "application/json",
            usage,
            body: Content::Whole(to_bytes(body)),
        }
    }

    pub(super) fn bytes(usage: Usage, content_type: &'static str, body: Bytes) -> Self {
        Self {
            content_type,
            usage,
            body: Content::Whole(body),
        }
    }

    pub(super) fn stream(
        usage: Usage,
        error: ErrorEvent,
        events: impl Iterator<Item = Event> + Send + 'static,
    ) -> Self {
        let body = Content::Stream {
            events: Box::new(events),
            error,
        };
        Self {
            content_type: "text/event-stream; charset=utf-8",
            usage,
            body,
        }
    }
}

// === impl Event ===

impl Event {
    /// `data: {…}`
    pub(super) fn data(kind: Kind, data: &impl Serialize) -> Self {
        let mut bytes = b"data: ".to_vec();
        write_json(&mut bytes, data);
        bytes.extend_from_slice(b"\n\n");
        Self {
            kind,
            bytes: bytes.into(),
        }
    }

    /// `event: name`, then `data: {…}`
    pub(super) fn named(kind: Kind, name: &str, data: &impl Serialize) -> Self {
        let mut bytes = format!("event: {name}\ndata: ").into_bytes();
        write_json(&mut bytes, data);
        bytes.extend_from_slice(b"\n\n");
        Self {
            kind,
            bytes: bytes.into(),
        }
    }

    /// `data: [DONE]`
    pub(super) fn done() -> Self {
        Self {
            kind: Kind::Done,
            bytes: Bytes::from_static(b"data: [DONE]\n\n"),
        }
    }
}

/// OpenAI's error in mid-stream: `data: {"error":{…}}`.
pub(super) fn openai_error(code: u16) -> Bytes {
    Event::data(Kind::Frame, &error_object(code)).bytes
}

pub(super) fn error_object(code: u16) -> Value {
    let kind = if code == 429 {
        "rate_limit_error"
    } else {
        "server_error"
    };
    json!({"error": {
        "message": "The scripted backend failed, as it was told to.", "type": kind, "param": null, "code": code,
    }})
}

pub(super) fn to_bytes(value: &impl Serialize) -> Bytes {
    let mut bytes = Vec::with_capacity(512);
    write_json(&mut bytes, value);
    bytes.into()
}

fn write_json(bytes: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(bytes, value).expect("what the backend says has string keys and no foreign Serialize");
}
