//! Whether an answer that came to its end is one to keep.

use http::header::CONTENT_TYPE;
use memchr::memmem;

use super::Answer;
use crate::json::{Cursor, Members};

/// What says within a stream that it is complete: OpenAI's chat and completions, its responses, Anthropic's messages.
const TERMINALS: [&[u8]; 3] = [b"[DONE]", b"response.completed", b"message_stop"];

/// An event stream must have said that it is complete and not that it failed; a JSON answer must be JSON without an
/// `error` in it. Of another type, whatever came to its end is whole.
pub(super) fn is_whole(answer: &Answer<'_>) -> bool {
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or(kind).trim().to_ascii_lowercase());
    match kind.as_deref() {
        Some("text/event-stream") => is_complete_stream(answer.body),
        Some(kind) if kind.ends_with("json") => is_good_json(answer.body),
        _ => true,
    }
}

fn is_complete_stream(body: &[u8]) -> bool {
    let text = body.trim_ascii_end();
    // The last event must have its blank line, or a client would not have taken it.
    let ended = [&b"\n\n"[..], b"\r\n\r\n", b"\r\r"]
        .iter()
        .any(|end| body.ends_with(end));
    let lines = || text.split(|byte| matches!(byte, b'\n' | b'\r'));
    let last = lines().next_back().unwrap_or_default();
    let data = last.strip_prefix(b"data:").unwrap_or_default();
    let complete = TERMINALS.iter().any(|mark| memmem::find(data, mark).is_some());
    ended && complete && !lines().any(is_error)
}

fn is_error(line: &[u8]) -> bool {
    if let Some(name) = line.strip_prefix(b"event:") {
        return matches!(
            name.trim_ascii(),
            b"error" | b"response.failed" | b"response.incomplete"
        );
    }
    let data = line.strip_prefix(b"data:").unwrap_or_default().trim_ascii();
    // A search first: nearly no event speaks of errors.
    memmem::find(data, b"\"error\"").is_some() && !is_good_json(data)
}

/// JSON throughout, and no object that says in band that it failed.
fn is_good_json(text: &[u8]) -> bool {
    if text.trim_ascii_start().first() != Some(&b'{') {
        let mut at = Cursor {
            text: text.trim_ascii(),
            at: 0,
        };
        return at.value().is_ok() && at.at == at.text.len();
    }
    let failed = || -> Option<bool> {
        let mut members = Members::open(text, 0).ok()?;
        let mut failed = false;
        while let Some(member) = members.step().ok()? {
            let value = &text[member.value];
            failed |= match &text[member.key] {
                b"error" => value != b"null",
                b"type" => value == b"\"error\"",
                _ => false,
            };
        }
        members.finish().ok()?;
        Some(failed)
    };
    failed() == Some(false)
}

#[cfg(test)]
mod tests {
    use http::{Extensions, HeaderMap, HeaderValue, StatusCode};

    use super::*;

    fn whole(kind: &'static str, body: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        is_whole(&Answer {
            status: StatusCode::OK,
            headers: &headers,
            body: body.as_bytes(),
            extensions: &Extensions::new(),
        })
    }

    #[test]
    fn a_stream_must_have_said_that_it_is_complete() {
        let sse = |body| whole("text/event-stream; charset=utf-8", body);
        assert!(sse("data: {\"error\":null}\n\ndata: [DONE]\n\n"));
        assert!(sse("data: {\"text\":\"an \\\"error\\\"\"}\r\n\r\ndata: [DONE]\r\n\r\n"));
        assert!(sse("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
        assert!(sse(
            "event: response.completed\ndata: {\"type\":\"response.completed\"}\n\n"
        ));
        for broken in [
            "",
            "data: {}\n\n",
            "data: [DONE]",
            "data: [DONE]\n",
            "data: [DONE]\n\ndata: {\"a\":",
            "data: {\"error\":{}}\n\ndata: [DONE]\n\n",
            "event: error\ndata: {}\n\ndata: [DONE]\n\n",
            "data: {\"type\":\"error\",\"error\":{}}\n\n",
            ": [DONE]\n\n",
        ] {
            assert!(!sse(broken), "{broken:?}");
        }
    }

    #[test]
    fn json_must_be_whole_and_no_error() {
        let json = |body| whole("application/json", body);
        assert!(json(" {\"choices\":[{\"error\":1}],\"error\":null}\n") && json("[]"));
        for broken in [
            "{",
            "{\"a\":1",
            "{\"a\":1}}",
            "{\"error\":{\"message\":\"no\"}}",
            "{\"type\":\"error\"}",
        ] {
            assert!(!json(broken), "{broken}");
        }
        assert!(whole("text/plain", "{") && whole("audio/mpeg", ""));
    }
}
