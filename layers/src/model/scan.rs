//! The scan of a body's top level, and what it refuses.

use std::ops::Range;
use std::sync::Arc;

use crate::json::{Malformed, Members, unescape};
use crate::{Reason, Rejection};

/// A key of the body that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `model`
    Model,
    /// `stream`
    Stream,
    /// `stream_options`
    StreamOptions,
    /// `max_tokens`
    MaxTokens,
    /// `max_completion_tokens`
    MaxCompletionTokens,
    /// `max_output_tokens`
    MaxOutputTokens,
    /// `n`
    N,
    /// `best_of`
    BestOf,
    /// `user`
    User,
    /// `reasoning_effort`
    ReasoningEffort,
    /// `reasoning`
    Reasoning,
}

/// Which keys a scan reads: those of [`Key`], those that are refused always, and a watched list of one's own.
///
/// Refused always, unless they are null, are `previous_response_id` and `conversation`: they name data stored at a
/// backend, which belongs to whoever stored it and not to everybody who shares the backend's key.
#[derive(Clone, Debug)]
pub struct Keys {
    watched: Arc<[Box<str>]>,
}

/// Where a member of the body is, in byte offsets. Strings are with their quotes in JSON, bare in a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The key, without quotes.
    pub key: Range<usize>,
    /// The value.
    pub value: Range<usize>,
}

/// What a scan found.
#[derive(Clone, Debug)]
pub struct Scan {
    fields: [Option<Field>; Key::ALL.len()],
    close: usize,
    keys: Keys,
    /// Indices into the watched list: every one seen, and whether its value does more than nothing.
    seen: Vec<(usize, bool)>,
    stored: [bool; STORED.len()],
    pub(super) text: usize,
}

const STORED: [&str; 2] = ["previous_response_id", "conversation"];

enum Name {
    Read(Key),
    Stored(usize),
    Watched(usize),
}

// === impl Key ===

impl Key {
    const ALL: [Self; 11] = [
        Self::Model,
        Self::Stream,
        Self::StreamOptions,
        Self::MaxTokens,
        Self::MaxCompletionTokens,
        Self::MaxOutputTokens,
        Self::N,
        Self::BestOf,
        Self::User,
        Self::ReasoningEffort,
        Self::Reasoning,
    ];

    /// The key as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::StreamOptions => "stream_options",
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::N => "n",
            Self::BestOf => "best_of",
            Self::User => "user",
            Self::ReasoningEffort => "reasoning_effort",
            Self::Reasoning => "reasoning",
        }
    }
}

// === impl Keys ===

impl Default for Keys {
    /// Watches `service_tier`, `background` and `store`: they change what a request costs, or keep it at the backend.
    fn default() -> Self {
        Self::watching(["service_tier", "background", "store"])
    }
}

impl Keys {
    /// Watches `names` beside the keys that are always read.
    pub fn watching<I>(names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Box<str>>,
    {
        Self {
            watched: names.into_iter().map(Into::into).collect(),
        }
    }

    /// The name that `key` is, if it is one.
    ///
    /// A key that differs from a name in case alone is refused: Go's encoding/json folds case (with the two letters
    /// of Unicode that fold into ASCII), so that a backend written in Go would read it as the name.
    fn find(&self, key: &str) -> Result<Option<Name>, Rejection> {
        let read = || Key::ALL.into_iter().find(|name| name.as_str() == key).map(Name::Read);
        let stored = || STORED.iter().position(|name| *name == key).map(Name::Stored);
        let watched = || self.watched.iter().position(|name| **name == *key).map(Name::Watched);
        if let Some(name) = read().or_else(stored).or_else(watched) {
            return Ok(Some(name));
        }
        let folded;
        let like = if key.is_ascii() {
            key
        } else {
            folded = key.replace('\u{17f}', "s").replace('\u{212a}', "k");
            &folded
        };
        match self.names().find(|name| name.eq_ignore_ascii_case(like)) {
            None => Ok(None),
            Some(name) => {
                Err(malformed(format!("`{key}` is not a parameter; `{name}` is.")).with_param(name.to_owned()))
            }
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let known = Key::ALL.iter().map(|key| key.as_str()).chain(STORED);
        known.chain(self.watched.iter().map(|name| &**name))
    }
}

// === impl Scan ===

impl Scan {
    pub(super) fn new(keys: &Keys) -> Self {
        Self {
            fields: Default::default(),
            close: 0,
            keys: keys.clone(),
            seen: Vec::new(),
            stored: [false; STORED.len()],
            text: 0,
        }
    }

    /// Where `key` is.
    pub fn get(&self, key: Key) -> Option<&Field> {
        self.fields[key as usize].as_ref()
    }

    /// The offset of the brace that closes the body, before which members can be added. 0 in a form.
    pub fn close(&self) -> usize {
        self.close
    }

    /// Bytes of what is text: the whole of a JSON body, the values of a form without its files.
    pub fn text(&self) -> usize {
        self.text
    }

    /// The watched parameters that were set to something other than `false`, `null`, `"auto"` or `"default"`.
    pub fn set(&self) -> impl Iterator<Item = &str> {
        self.seen
            .iter()
            .filter(|(_, set)| *set)
            .map(|(at, _)| &*self.keys.watched[*at])
    }

    /// Takes note of one member; true when it is one that is read. `nothing`: the value asks for nothing.
    pub(super) fn note(&mut self, key: &str, field: Field, nothing: bool) -> Result<bool, Rejection> {
        let Some(name) = self.keys.find(key)? else {
            return Ok(false);
        };
        let first = match name {
            Name::Read(name) => self.fields[name as usize].replace(field).is_none(),
            Name::Stored(at) if nothing => !std::mem::replace(&mut self.stored[at], true),
            Name::Stored(_) => {
                return Err(Rejection::new(Reason::UnsupportedParameter)
                    .with_message(format!(
                        "`{key}` names data stored at a backend, which is not supported."
                    ))
                    .with_param(key.to_owned()));
            }
            Name::Watched(at) => {
                let first = self.seen.iter().all(|(seen, _)| *seen != at);
                self.seen.push((at, !nothing));
                first
            }
        };
        if first {
            return Ok(true);
        }
        Err(malformed(format!("`{key}` is given more than once.")).with_param(key.to_owned()))
    }
}

/// Scans a JSON object: the whole top level to its closing brace, and all that is in it, checked.
///
/// A body that two readers could take differently is refused as `malformed_body`: truncated or followed by other
/// bytes, not an object, not UTF-8, or with a key that is read in it twice (however it is spelled: `"mod\u0065l"`).
///
/// ```
/// use tollgate_layers::model::{Key, Keys, scan};
///
/// let body = br#"{"messages":[{"model":"no"}],"model":"gpt-4o"}"#;
/// let found = scan(body, &Keys::default()).unwrap();
/// let model = found.get(Key::Model).unwrap();
/// assert_eq!(&body[model.value.clone()], br#""gpt-4o""#);
///
/// let twice = br#"{"model":"cheap","mod\u0065l":"dear"}"#;
/// assert_eq!(scan(twice, &Keys::default()).unwrap_err().reason().as_str(), "malformed_body");
/// ```
pub fn scan(bytes: &[u8], keys: &Keys) -> Result<Scan, Rejection> {
    if simdutf8::basic::from_utf8(bytes).is_err() {
        return Err(malformed("The request's body is not UTF-8.".to_owned()));
    }
    let mut scan = Scan::new(keys);
    let mut members = Members::open(bytes, 0).map_err(not_json)?;
    while let Some(member) = members.step().map_err(not_json)? {
        let raw = &bytes[member.key.clone()];
        let key = unescape(raw).ok_or_else(|| not_json(Malformed(member.key.start)))?;
        let nothing = matches!(
            &bytes[member.value.clone()],
            b"false" | b"null" | b"\"auto\"" | b"\"default\""
        );
        scan.note(
            &key,
            Field {
                key: member.key,
                value: member.value,
            },
            nothing,
        )?;
    }
    scan.close = members.position() - 1;
    scan.text = bytes.len();
    members.finish().map_err(not_json)?;
    Ok(scan)
}

pub(super) fn malformed(message: String) -> Rejection {
    Rejection::new(Reason::MalformedBody).with_message(message)
}

fn not_json(at: Malformed) -> Rejection {
    malformed(format!("The request's body is not a JSON object (byte {}).", at.0))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn refused(body: &str) -> Rejection {
        scan(body.as_bytes(), &Keys::default()).unwrap_err()
    }

    #[test]
    fn a_cut_body_is_refused_wherever_it_is_cut() {
        let body = r#"{"model":"a","stream":true,"messages":[{"content":"né\n{}"}]}"#;
        for cut in 0..body.len() {
            assert!(scan(&body.as_bytes()[..cut], &Keys::default()).is_err(), "cut at {cut}");
        }
        assert_eq!(scan(body.as_bytes(), &Keys::default()).unwrap().close(), body.len() - 1);
    }

    #[test]
    fn a_key_twice_is_refused_however_it_is_spelled() {
        for second in ["model", r"\u006dodel", r"m\u006Fdel", "Model", "MODEL"] {
            let refused = refused(&format!(r#"{{"model":"a","{second}":"b"}}"#));
            assert_eq!(refused.reason(), Reason::MalformedBody, "{second}");
            assert_eq!(refused.param(), Some("model"));
        }
        for odd in ["\u{17f}tream", r"\u017ftream"] {
            assert_eq!(
                refused(&format!(r#"{{"model":"a","{odd}":true}}"#)).param(),
                Some("stream")
            );
        }
        let fine = r#"{"model":"a","extra":1,"extra":2,"x":{"model":"b"},"straße":1}"#;
        assert!(
            scan(fine.as_bytes(), &Keys::default()).is_ok(),
            "keys that are not read are not ours to judge"
        );
    }

    #[test]
    fn watched_parameters_that_ask_for_nothing_pass() {
        for value in ["false", "null", "\"auto\"", "\"default\""] {
            let body = format!(r#"{{"model":"a","service_tier":{value},"store":{value}}}"#);
            assert_eq!(scan(body.as_bytes(), &Keys::default()).unwrap().set().count(), 0);
        }
        let found = scan(
            br#"{"service_tier":"flex","background":true,"store":false}"#,
            &Keys::default(),
        )
        .unwrap();
        assert_eq!(found.set().collect::<Vec<_>>(), ["service_tier", "background"]);
        assert_eq!(
            refused(r#"{"store":false,"store":true}"#).reason(),
            Reason::MalformedBody
        );
    }

    #[test]
    fn names_of_stored_data_are_refused() {
        for key in STORED {
            let refused = refused(&format!(r#"{{"model":"a","{key}":"resp_1"}}"#));
            assert_eq!(
                (refused.reason(), refused.param()),
                (Reason::UnsupportedParameter, Some(key))
            );
            assert!(scan(format!(r#"{{"{key}":null}}"#).as_bytes(), &Keys::default()).is_ok());
        }
    }
}
