//! OpenAI's API, and what is compatible with it.
//!
//! Source of the paths and fields: OpenAI's API reference; `rerank` as Jina, Cohere and vLLM serve it.

use http::Method;

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

    /// Whether its answer writes text, so that an answer without usage has completion tokens to estimate.
    pub const fn completes(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions | Self::Responses)
    }
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
