//! OpenAI's API, and what is compatible with it.
//!
//! Source of the paths and fields: OpenAI's API reference; `rerank` as Jina, Cohere and vLLM serve it.

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

/// A stateless call of the API. What names data kept at a backend is not among them: a backend's key is shared by all
/// tenants, and one could read what another stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the API's own names")]
pub enum Endpoint {
    ChatCompletions,
    Completions,
    Embeddings,
    Responses,
    ImagesGenerations,
    ImagesEdits,
    ImagesVariations,
    AudioSpeech,
    AudioTranscriptions,
    AudioTranslations,
    Moderations,
    Rerank,
    /// The list of models, which the gateway itself knows.
    Models,
    /// One model of that list.
    Model,
}

/// What a path and a method name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// A call; `rest` is the id in the path of [`Endpoint::Model`].
    Found {
        /// Which.
        endpoint: Endpoint,
        /// The id, still percent-encoded.
        rest: &'a str,
    },
    /// A path of the API, called with another method than this.
    WrongMethod(&'static str),
    /// No path of the API.
    Unknown,
}

/// How a stream of an endpoint ends when it ends well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// With `data: [DONE]`.
    Done,
    /// With an event `response.completed`, `response.incomplete` or `response.failed`.
    ResponseEvent,
    /// With the end of the body.
    Body,
}

/// Looks a request up. Paths are matched to the letter: another spelling of a path is another path, so that no check
/// can be walked around with a slash or a percent sign.
pub fn lookup<'a>(method: &Method, path: &'a str) -> Lookup<'a> {
    let path = path
        .strip_prefix("/v1")
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path);
    let (endpoint, rest) = match path {
        "/chat/completions" => (Endpoint::ChatCompletions, ""),
        "/completions" => (Endpoint::Completions, ""),
        "/embeddings" => (Endpoint::Embeddings, ""),
        "/responses" => (Endpoint::Responses, ""),
        "/images/generations" => (Endpoint::ImagesGenerations, ""),
        "/images/edits" => (Endpoint::ImagesEdits, ""),
        "/images/variations" => (Endpoint::ImagesVariations, ""),
        "/audio/speech" => (Endpoint::AudioSpeech, ""),
        "/audio/transcriptions" => (Endpoint::AudioTranscriptions, ""),
        "/audio/translations" => (Endpoint::AudioTranslations, ""),
        "/moderations" => (Endpoint::Moderations, ""),
        "/rerank" => (Endpoint::Rerank, ""),
        "/models" => (Endpoint::Models, ""),
        _ => match path.strip_prefix("/models/") {
            Some(id) if !id.is_empty() => (Endpoint::Model, id),
            _ => return Lookup::Unknown,
        },
    };
    let allowed = endpoint.method();
    if method == allowed {
        Lookup::Found { endpoint, rest }
    } else {
        Lookup::WrongMethod(allowed)
    }
}

impl Endpoint {
    /// Every call, in order.
    pub const ALL: [Self; 14] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::ImagesGenerations,
        Self::ImagesEdits,
        Self::ImagesVariations,
        Self::AudioSpeech,
        Self::AudioTranscriptions,
        Self::AudioTranslations,
        Self::Moderations,
        Self::Rerank,
        Self::Models,
        Self::Model,
    ];

    /// A short, fixed name for metrics and access lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat.completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::ImagesGenerations => "images.generations",
            Self::ImagesEdits => "images.edits",
            Self::ImagesVariations => "images.variations",
            Self::AudioSpeech => "audio.speech",
            Self::AudioTranscriptions => "audio.transcriptions",
            Self::AudioTranslations => "audio.translations",
            Self::Moderations => "moderations",
            Self::Rerank => "rerank",
            Self::Models => "models",
            Self::Model => "model",
        }
    }

    /// The one method it is called with.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Models | Self::Model => "GET",
            _ => "POST",
        }
    }

    /// The path that is appended to a backend's base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
            Self::ImagesGenerations => "/images/generations",
            Self::ImagesEdits => "/images/edits",
            Self::ImagesVariations => "/images/variations",
            Self::AudioSpeech => "/audio/speech",
            Self::AudioTranscriptions => "/audio/transcriptions",
            Self::AudioTranslations => "/audio/translations",
            Self::Moderations => "/moderations",
            Self::Rerank => "/rerank",
            Self::Models | Self::Model => "/models",
        }
    }

    /// Whether the gateway answers it itself.
    pub const fn is_catalogue(self) -> bool {
        matches!(self, Self::Models | Self::Model)
    }

    /// Whether a stream of it reports usage only when asked with `stream_options.include_usage`.
    pub const fn takes_include_usage(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }

    /// How a stream of it ends.
    pub const fn stream_end(self) -> StreamEnd {
        match self {
            Self::ChatCompletions | Self::Completions => StreamEnd::Done,
            Self::Responses => StreamEnd::ResponseEvent,
            _ => StreamEnd::Body,
        }
    }

    /// How many answers a request makes that asks for `answers` (the larger of its `n` and `best_of`): other endpoints know
    /// neither.
    pub const fn answers(self, answers: u64) -> u64 {
        match self {
            Self::ChatCompletions | Self::Completions => answers,
            _ => 1,
        }
    }

    /// Whether its answer writes text, so that an answer without usage has completion tokens to estimate.
    pub const fn completes(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions | Self::Responses)
    }
}

/// Whether a model reasons where nobody sees it: its stream is silent until it has spent the most of its tokens, and cannot
/// be watched as it grows.
///
/// By the name that the backend knows it under (OpenAI's o series, GPT-5 and what follows, with or without a vendor before
/// it), and for models of any other name when the request sets how to reason (`asks_reasoning`): whether such a one shows
/// its thoughts is not known beforehand.
pub fn hides_reasoning(upstream_model: &str, asks_reasoning: bool) -> bool {
    let name = upstream_model.rsplit('/').next().unwrap_or(upstream_model);
    let lower = name.to_ascii_lowercase();
    // The number of a generation, and what follows it: `o3-mini`, not `o3x`.
    let generation = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, rest) = rest.split_at(end);
        let whole = rest.is_empty() || rest.starts_with(['-', '.', ':', '@', '_']);
        number
            .parse::<u32>()
            .ok()
            .filter(|_| whole)
            .map(|number| (number, rest.to_owned()))
    };
    let o_series = lower.strip_prefix('o').and_then(generation).is_some();
    let gpt = lower.strip_prefix("gpt-").and_then(generation);
    // The one that chats is the same without the thoughts.
    let gpt = gpt.is_some_and(|(number, rest)| number >= 5 && !rest.starts_with("-chat"));
    o_series || gpt || asks_reasoning
}

/// What the first bytes of a backend's answer say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The answer, or an error that is the client's own and goes to it as written.
    Content,
    /// Not enough to tell.
    Undecided,
    /// An error in place of the answer: too many requests.
    RateLimited,
    /// An error in place of the answer that another backend may not have.
    Failed,
}

/// The longest error in an answer's first bytes that is read.
const LONGEST_ERROR: usize = 8 << 10;

/// Whether an answer is of a kind whose first bytes can be an error all the same.
pub fn may_fail_in_band(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    [&b"text/event-stream"[..], b"application/json"].iter().any(|known| {
        kind.get(..known.len())
            .is_some_and(|kind| kind.eq_ignore_ascii_case(known))
    })
}

/// Reads the first bytes of an answer, JSON or a stream of events. Some backends send an error under a 200: as an
/// object with `error` first in it, or an event of that name.
pub fn start(bytes: &[u8]) -> Start {
    let mut named = false;
    let mut rest = bytes.trim_ascii_start();
    // The lines of an event before its data. A comment is content: it is sent to keep the client waiting.
    let (object, whole) = loop {
        let (line, after) = match memchr::memchr2(b'\n', b'\r', rest) {
            Some(end) => (&rest[..end], Some(rest[end + 1..].trim_ascii_start())),
            None => (rest, None),
        };
        if let Some(data) = line.strip_prefix(b"data:") {
            break (data.trim_ascii_start(), after.is_some());
        }
        let field = [&b"event:"[..], b"id:", b"retry:"]
            .into_iter()
            .find(|field| line.starts_with(field));
        match (field, after) {
            (Some(b"event:"), Some(_)) => named = line[6..].trim_ascii() == b"error",
            (Some(_), Some(_)) => {}
            (_, None) if b"data:".starts_with(line) || field.is_some() => return Start::Undecided,
            // No event at all: JSON as it is.
            _ => break (rest, false),
        }
        rest = after.unwrap_or_default();
    };
    if !named && !may_be_error(object) {
        return Start::Content;
    }
    match serde_json::from_slice::<InBand>(if whole { until_line_end(object) } else { object }) {
        Ok(InBand { error }) if named || error.is_some() => classify(error.as_ref()),
        Err(error) if error.is_eof() && !whole && bytes.len() < LONGEST_ERROR => Start::Undecided,
        Err(_) if named => Start::Failed,
        _ => Start::Content,
    }
}

#[derive(serde::Deserialize)]
struct InBand {
    error: Option<serde_json::Value>,
}

/// Whether a JSON object's first key is `error`, or may still become it.
fn may_be_error(object: &[u8]) -> bool {
    let Some(inside) = object.strip_prefix(b"{") else {
        return object.is_empty();
    };
    let inside = inside.trim_ascii_start();
    let key = b"\"error\"";
    inside.starts_with(key) || key.starts_with(inside)
}

fn until_line_end(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr2(b'\n', b'\r', text).unwrap_or(text.len())]
}

/// By the status that servers put into `code` or `status`; an error that does not say is the backend's.
fn classify(error: Option<&serde_json::Value>) -> Start {
    let status = error.and_then(|error| {
        ["code", "status", "status_code"]
            .iter()
            .find_map(|key| status(error.get(*key)?))
    });
    match status {
        Some(429) => Start::RateLimited,
        Some(401 | 402 | 403 | 408) => Start::Failed,
        Some(400..=499) => Start::Content,
        _ => Start::Failed,
    }
}

fn status(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| match value.as_str()? {
        "rate_limit_exceeded" => Some(429),
        text => text.parse().ok(),
    })
}

/// Parameters that name data kept at a backend, which all tenants of the gateway share.
pub const STORED_DATA: [&str; 2] = ["previous_response_id", "conversation"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_with_and_without_the_prefix() {
        for path in ["/v1/chat/completions", "/chat/completions"] {
            let found = Lookup::Found {
                endpoint: Endpoint::ChatCompletions,
                rest: "",
            };
            assert_eq!(lookup(&Method::POST, path), found);
        }
        let found = Lookup::Found {
            endpoint: Endpoint::Model,
            rest: "org%2Fname",
        };
        assert_eq!(lookup(&Method::GET, "/v1/models/org%2Fname"), found);
    }

    #[test]
    fn an_error_in_place_of_the_answer_is_seen() {
        for (text, expected) in [
            (r#"data: {"id":"x","choices":[]}"#, Start::Content),
            ("data: {\"id", Start::Content),
            (": ping\n\n", Start::Content),
            (r#"{"id":"x"}"#, Start::Content),
            ("[1]", Start::Content),
            ("plain text", Start::Content),
            ("data: [DONE]\n\n", Start::Content),
            ("dat", Start::Undecided),
            ("data:", Start::Undecided),
            ("data: {\"err", Start::Undecided),
            ("event: err", Start::Undecided),
            ("event: error\n", Start::Undecided),
            (r#"{ "error" : {"message":"#, Start::Undecided),
            (r#"{"error":null,"id":"x"}"#, Start::Content),
            (r#"{"error":{"message":"too long","code":400}}"#, Start::Content),
            (r#"{"error":{"message":"slow down","code":429}}"#, Start::RateLimited),
            (
                r#"{"error":{"message":"no","code":"rate_limit_exceeded"}}"#,
                Start::RateLimited,
            ),
            (r#"{"error":{"message":"our key","code":401}}"#, Start::Failed),
            (r#"{"error":{"message":"no"}}"#, Start::Failed),
            (r#"{"error":"no"}"#, Start::Failed),
            (
                "data: {\"error\":{\"message\":\"no\",\"code\":\"429\"}}\n\n",
                Start::RateLimited,
            ),
            ("event: error\ndata: {\"message\":\"no\"}\n\n", Start::Failed),
            ("event: error\r\ndata: not json\r\n\r\n", Start::Failed),
            (
                "event: message_start\ndata: {\"type\":\"message_start\"}\n\n",
                Start::Content,
            ),
            ("data: {\"error\": broken\n\n", Start::Content),
        ] {
            assert_eq!(start(text.as_bytes()), expected, "{text}");
        }
        let endless = format!("{{\"error\":\"{}", "x".repeat(LONGEST_ERROR));
        assert_eq!(start(endless.as_bytes()), Start::Content);
    }

    #[test]
    fn models_that_reason_unseen_are_known_by_name() {
        for name in [
            "o1",
            "o3-mini",
            "O4-mini-2025-04-16",
            "openai/o3",
            "gpt-5",
            "gpt-5.1",
            "gpt-5-nano",
            "GPT-5-codex",
            "azure/gpt-6",
            "gpt-10",
        ] {
            assert!(hides_reasoning(name, false), "{name}");
        }
        for name in [
            "gpt-4o",
            "gpt-4.1",
            "gpt-5-chat-latest",
            "gpt-50x",
            "gpt-oss-120b",
            "o",
            "olmo-2",
            "o3x",
            "omni",
            "qwen3",
            "",
        ] {
            assert!(!hides_reasoning(name, false), "{name}");
            assert!(hides_reasoning(name, true), "{name}");
        }
        assert_eq!(
            (Endpoint::Completions.answers(3), Endpoint::Embeddings.answers(3)),
            (3, 1)
        );
    }

    #[test]
    fn calls_stand_in_order() {
        for (index, endpoint) in Endpoint::ALL.into_iter().enumerate() {
            assert_eq!(endpoint as usize, index);
        }
    }

    #[test]
    fn another_spelling_of_a_path_is_unknown() {
        for path in [
            "/v1/chat/completions/",
            "/v1//chat/completions",
            "/V1/chat/completions",
            "/v1/chat%2Fcompletions",
            "/v1/v1/chat/completions",
            "/v1chat/completions",
            "/v1/models/",
            "/v1/responses/resp_1",
            "/v1/files",
            "/",
            "",
        ] {
            assert_eq!(lookup(&Method::POST, path), Lookup::Unknown, "{path}");
        }
    }

    #[test]
    fn another_method_is_told_the_right_one() {
        assert_eq!(lookup(&Method::GET, "/v1/embeddings"), Lookup::WrongMethod("POST"));
        assert_eq!(lookup(&Method::POST, "/models"), Lookup::WrongMethod("GET"));
        assert_eq!(lookup(&Method::HEAD, "/models"), Lookup::WrongMethod("GET"));
    }
}
