//! What a request asks of a model, and the edits that change it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::path::{self, Named};
use super::scan::{Key, Scan, malformed};
use crate::json::{Members, quoted, unescape, whole_number};
use crate::splice::Edit;
use crate::{Reason, Rejection};

/// What a request says about its model, its stream and its size. An extension of the request, set by `ModelLayer`.
///
/// It also knows where in the body each of these stands, for the edits: they are offsets into the body that was
/// scanned, and hold for that body alone. Edits of one body go into one [`splice`](crate::splice::splice).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModelRequest {
    /// The model as the client wrote it, its escapes resolved.
    pub model: Arc<str>,
    /// Whether the answer is to be a stream.
    pub stream: bool,
    /// Whether the client itself asked for usage (`stream_options.include_usage` is true).
    pub asked_usage: bool,
    /// The largest of the client's caps on tokens of the answer, if it set one; not each endpoint obeys each
    /// ([`max_output_of`](Self::max_output_of)).
    pub max_output: Option<u64>,
    /// Whether it sets how the model reasons (`reasoning_effort`, `reasoning`), to something else than null or `"none"`.
    pub asks_reasoning: bool,
    /// How many answers are asked for; 1 when it is not said.
    pub n: u64,
    /// How many answers are made to choose from; 1 when it is not said.
    pub best_of: u64,
    /// The client's own name for its user.
    pub user: Option<Arc<str>>,
    /// Bytes of the body.
    pub body_len: usize,
    /// Bytes of it that are text, to estimate tokens from: those of a form's files are not.
    pub text_len: usize,
    /// How the body is written.
    pub form: Form,
    spans: Spans,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object.
    Json,
    /// A multipart form.
    Multipart,
}

/// The field that caps an answer's tokens, which differs from endpoint to endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputField {
    /// Completions, Anthropic's messages, and chat with most backends.
    MaxTokens,
    /// Chat completions, where `max_tokens` is deprecated.
    MaxCompletionTokens,
    /// Responses.
    MaxOutputTokens,
}

#[derive(Clone, Debug)]
struct Spans {
    /// `None` when only the path names it.
    model: Option<Range<usize>>,
    path: Option<Range<usize>>,
    close: usize,
    options: Options,
    caps: [Option<Cap>; 3],
}

/// `stream_options` as the client wrote it.
#[derive(Clone, Debug)]
enum Options {
    Absent,
    /// The value to be replaced: null.
    Null(Range<usize>),
    /// An object without `include_usage`, which opens here.
    Object {
        open: usize,
        empty: bool,
    },
    /// The value of `include_usage`.
    Usage(Range<usize>),
}

#[derive(Clone, Debug)]
struct Cap {
    value: Range<usize>,
    /// `None` for null.
    tokens: Option<u64>,
}

/// A scan and the body it was made of, to read values from.
struct Reader<'a> {
    scan: &'a Scan,
    body: &'a [u8],
    form: Form,
}

// === impl ModelRequest ===

impl ModelRequest {
    /// Reads what a scan found in `body`.
    ///
    /// # Errors
    /// `model_missing`; `malformed_body`, with the parameter, for a value of the wrong type.
    pub fn read(scan: &Scan, body: &[u8], form: Form) -> Result<Self, Rejection> {
        Self::read_named(scan, body, form, None)
    }

    /// The same where the path may name the model, too: then both must name one.
    pub(super) fn read_named(scan: &Scan, body: &[u8], form: Form, named: Option<Named>) -> Result<Self, Rejection> {
        let read = Reader { scan, body, form };
        let of_body = read.text(Key::Model)?;
        let at = of_body
            .as_ref()
            .and(scan.get(Key::Model))
            .map(|field| field.value.clone());
        let (of_path, path) = named.map_or((None, None), |named| (Some(named.model), named.at));
        let model = match (of_body, of_path) {
            (Some(body), Some(path)) if body != path => {
                return Err(malformed("The path and the body name different models.".to_owned()).with_param("model"));
            }
            (body, path) => path.or(body).filter(|model| !model.is_empty()),
        };
        let model = model.ok_or_else(|| Rejection::new(Reason::ModelMissing).with_param("model"))?;
        let (options, asked_usage) = read.options()?;
        let mut caps = [const { None }; 3];
        for (cap, field) in caps.iter_mut().zip(OutputField::ALL) {
            if let Some(found) = scan.get(field.key()) {
                *cap = Some(Cap {
                    value: found.value.clone(),
                    tokens: read.number(field.key())?,
                });
            }
        }
        let at_least_one = |key| match read.number(key)? {
            Some(0) => Err(read.wrong(key, "a number above 0")),
            number => Ok(number.unwrap_or(1)),
        };
        Ok(Self {
            model,
            stream: read.flag(Key::Stream)?,
            asked_usage,
            max_output: caps.iter().flatten().filter_map(|cap| cap.tokens).max(),
            asks_reasoning: read.asks(Key::ReasoningEffort) || read.asks(Key::Reasoning),
            n: at_least_one(Key::N)?,
            best_of: at_least_one(Key::BestOf)?,
            user: read.text(Key::User)?,
            body_len: body.len(),
            text_len: scan.text(),
            form,
            spans: Spans {
                model: at,
                path,
                close: scan.close(),
                options,
                caps,
            },
        })
    }

    /// The largest of the client's caps that an endpoint obeys which calls its cap `field`: chat obeys `max_tokens`, too.
    ///
    /// A field that the endpoint does not know caps nothing, whatever it says.
    pub fn max_output_of(&self, field: OutputField) -> Option<u64> {
        let caps = self.spans.caps.iter().zip(OutputField::ALL);
        let obeyed = caps.filter(|(_, name)| field.obeys(*name));
        obeyed.filter_map(|(cap, _)| cap.as_ref()?.tokens).max()
    }

    /// How many answers the backend makes: `best_of` candidates, of which `n` come back.
    pub fn answers(&self) -> u64 {
        self.n.max(self.best_of)
    }

    /// Names another model in the body; `None` when it is named so already, or only the path names one.
    pub fn with_model(&self, name: &str) -> Option<Edit> {
        if *name == *self.model {
            return None;
        }
        let span = self.spans.model.clone()?;
        let with = match self.form {
            Form::Json => quoted(name),
            Form::Multipart => name.to_owned(),
        };
        Some(Edit::new(span, with))
    }

    /// Names another model in `path`, which must be the one that this was read from; `None` when none is named there.
    pub fn path_with_model(&self, path: &str, name: &str) -> Option<String> {
        let at = self.spans.path.clone()?;
        Some([path.get(..at.start)?, &path::encoded(name), path.get(at.end..)?].concat())
    }

    /// Asks for usage at the end of the stream; `None` when it is asked for already, or there is nothing to ask: the
    /// answer is no stream, or the body a form.
    pub fn with_include_usage(&self) -> Option<Edit> {
        if !self.stream || self.asked_usage || self.form == Form::Multipart {
            return None;
        }
        let object = Bytes::from_static(br#"{"include_usage":true}"#);
        Some(match &self.spans.options {
            Options::Absent => Edit::insert(
                self.spans.close,
                Bytes::from_static(br#","stream_options":{"include_usage":true}"#),
            ),
            Options::Null(value) => Edit::new(value.clone(), object),
            Options::Object { open, empty: true } => Edit::insert(open + 1, object.slice(1..object.len() - 1)),
            Options::Object { open, empty: false } => {
                Edit::insert(open + 1, Bytes::from_static(br#""include_usage":true,"#))
            }
            Options::Usage(value) => Edit::new(value.clone(), Bytes::from_static(b"true")),
        })
    }

    /// Caps the answer at `cap` tokens: lowers each cap of the client's that is above it, and sets `field` where the
    /// client set none that the endpoint [obeys](Self::max_output_of). A form has no such field and stays as it is.
    pub fn with_max_output(&self, field: OutputField, cap: u64) -> Vec<Edit> {
        if self.form == Form::Multipart {
            return Vec::new();
        }
        let number = || cap.to_string();
        let caps = &self.spans.caps;
        let above = caps
            .iter()
            .flatten()
            .filter(|set| set.tokens.is_some_and(|tokens| tokens > cap));
        let mut edits: Vec<Edit> = above.map(|set| Edit::new(set.value.clone(), number())).collect();
        if self.max_output_of(field).is_none() {
            edits.push(match &caps[field as usize] {
                Some(null) => Edit::new(null.value.clone(), number()),
                None => Edit::insert(self.spans.close, format!(",\"{}\":{cap}", field.as_str())),
            });
        }
        edits
    }
}

// === impl OutputField ===

impl OutputField {
    const ALL: [Self; 3] = [Self::MaxTokens, Self::MaxCompletionTokens, Self::MaxOutputTokens];

    const fn key(self) -> Key {
        match self {
            Self::MaxTokens => Key::MaxTokens,
            Self::MaxCompletionTokens => Key::MaxCompletionTokens,
            Self::MaxOutputTokens => Key::MaxOutputTokens,
        }
    }

    /// The field as it is written.
    pub const fn as_str(self) -> &'static str {
        self.key().as_str()
    }

    /// Whether an endpoint that calls its cap so obeys `other`.
    fn obeys(self, other: Self) -> bool {
        self == other || (self, other) == (Self::MaxCompletionTokens, Self::MaxTokens)
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn raw(&self, key: Key) -> Option<&'a [u8]> {
        let raw = &self.body[self.scan.get(key)?.value.clone()];
        let absent = self.form == Form::Json && raw == b"null" || self.form == Form::Multipart && raw.is_empty();
        (!absent).then_some(raw)
    }

    #[expect(clippy::unused_self, reason = "reads like the others")]
    fn wrong(&self, key: Key, what: &str) -> Rejection {
        malformed(format!("`{}` must be {what}.", key.as_str())).with_param(key.as_str())
    }

    fn text(&self, key: Key) -> Result<Option<Arc<str>>, Rejection> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        let inner = match self.form {
            Form::Json => raw
                .strip_prefix(b"\"")
                .and_then(|raw| raw.strip_suffix(b"\""))
                .and_then(unescape),
            Form::Multipart => std::str::from_utf8(raw).ok().map(Into::into),
        };
        inner
            .map(|text| Some(text.into()))
            .ok_or_else(|| self.wrong(key, "a string"))
    }

    fn flag(&self, key: Key) -> Result<bool, Rejection> {
        match self.raw(key) {
            None | Some(b"false") => Ok(false),
            Some(b"true") => Ok(true),
            // What else a form's reader takes for true (1, True, on) differs from reader to reader.
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    fn number(&self, key: Key) -> Result<Option<u64>, Rejection> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        whole_number(raw)
            .map(Some)
            .ok_or_else(|| self.wrong(key, "a whole number, not negative"))
    }

    fn asks(&self, key: Key) -> bool {
        self.raw(key).is_some_and(|raw| !matches!(raw, b"\"none\"" | b"none"))
    }

    /// `stream_options`, and whether it asks for usage.
    fn options(&self) -> Result<(Options, bool), Rejection> {
        let key = Key::StreamOptions;
        let Some(field) = self.scan.get(key) else {
            return Ok((Options::Absent, false));
        };
        if self.raw(key).is_none() {
            return Ok((Options::Null(field.value.clone()), false));
        }
        let broken = || self.wrong(key, "an object with `include_usage` true or false in it once");
        let mut members = Members::open(self.body, field.value.start).map_err(|_| broken())?;
        let mut usage = None;
        let mut empty = true;
        while let Some(member) = members.step().map_err(|_| broken())? {
            empty = false;
            let name = unescape(&self.body[member.key]).ok_or_else(broken)?;
            if !name.eq_ignore_ascii_case("include_usage") {
                continue;
            }
            if name != "include_usage" || usage.replace(member.value).is_some() {
                return Err(broken());
            }
        }
        let Some(usage) = usage else {
            return Ok((
                Options::Object {
                    open: field.value.start,
                    empty,
                },
                false,
            ));
        };
        match &self.body[usage.clone()] {
            b"true" => Ok((Options::Usage(usage), true)),
            b"false" | b"null" => Ok((Options::Usage(usage), false)),
            _ => Err(broken()),
        }
    }
}

#[cfg(test)]
mod tests;
