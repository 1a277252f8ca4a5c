//! Reading bodies, queries and paths, with everything that is wrong told at once.
//!
//! A shape that is wrong somewhere is not wrong altogether: the field is told of, taken out, and reading begins anew
//! with the rest. So every field of such a shape may be absent, and whoever needs one says so with
//! [`Problems::required`].

use std::fmt;

use axum::body::{Body as Raw, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::failure::{Failure, Result};

/// The largest body, in bytes.
pub(super) const MOST_BODY: usize = 1 << 20;
/// More than so many problems are not told.
const MOST_PROBLEMS: usize = 20;

/// What is wrong with a request, field by field.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<(String, String)>);

/// A body in JSON, none being `{}`, and what is wrong with its shape.
pub(super) struct Body<T>(pub(super) T, pub(super) Problems);

/// The parameters after the `?`, and what is wrong with them.
pub(super) struct Query<T>(pub(super) T, pub(super) Problems);

/// The part of the path that names something.
pub(super) struct Named(pub(super) String);

// === impl Problems ===

impl Problems {
    /// The field is not what it must be.
    pub(super) fn add(&mut self, field: &str, what: impl fmt::Display) {
        if self.0.len() < MOST_PROBLEMS {
            self.0.push((field.to_owned(), what.to_string()));
        }
    }

    /// The value, or a problem of this field.
    pub(super) fn take<T, E: fmt::Display>(&mut self, field: &str, result: std::result::Result<T, E>) -> Option<T> {
        result.map_err(|what| self.add(field, what)).ok()
    }

    /// A value that must be there.
    pub(super) fn required<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.0.iter().any(|(told, _)| told == field) {
            self.add(field, "is missing");
        }
        value
    }

    /// All that was found, as one answer.
    pub(super) fn failure(&self) -> Failure {
        let each: Vec<_> = self.0.iter().map(|(field, what)| format!("{field}: {what}")).collect();
        Failure::invalid(self.0.first().map(|(field, _)| field.as_str()), each.join("; "))
    }

    /// Fails when anything was found.
    pub(super) fn none(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(self.failure()) }
    }

    /// `value`, when it is there and nothing was found.
    pub(super) fn or<T>(&self, value: Option<T>) -> Result<T> {
        self.none()?;
        value.ok_or_else(|| self.failure())
    }
}

// === extracting ===

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request<Raw>, _: &S) -> Result<Self> {
        let bytes = to_bytes(request.into_body(), MOST_BODY).await.map_err(|error| {
            // axum wraps the limit's error; nothing else is a source of its own here.
            if std::error::Error::source(&error)
                .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
            {
                Failure::too_large(MOST_BODY)
            } else {
                Failure::invalid(None, "The body broke off.")
            }
        })?;
        let text = if bytes.trim_ascii().is_empty() {
            b"{}"
        } else {
            &bytes[..]
        };
        let Fields(fields) = serde_json::from_slice(text)
            .map_err(|error| Failure::invalid(None, format!("The body is not a JSON object as it must be: {error}")))?;
        let (value, problems) = shape(fields)?;
        Ok(Self(value, problems))
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let mut fields = Map::new();
        for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            if let Some(_twice) = fields.insert(name.to_string(), Value::String(value.into_owned())) {
                return Err(Failure::invalid(
                    Some(&name),
                    format!("{name}: stands in the query twice"),
                ));
            }
        }
        let (value, problems) = shape(fields)?;
        Ok(Self(value, problems))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(_) => Err(Failure::invalid(
                Some("id"),
                "id: the path is not percent-encoded UTF-8",
            )),
        }
    }
}

// === shapes ===

/// Reads a shape, and takes the fields out that do not fit.
fn shape<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<(T, Problems)> {
    let mut problems = Problems::default();
    let mut value = Value::Object(fields);
    loop {
        let (field, what) = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(read) => return Ok((read, problems)),
            Err(error) => culprit(&error),
        };
        problems.add(&field, what);
        let removed = value.as_object_mut().and_then(|fields| fields.remove(&field));
        if removed.is_none() || problems.0.len() == MOST_PROBLEMS {
            return Err(problems.failure());
        }
    }
}

/// The field that an error is about, and the error.
fn culprit(error: &serde_path_to_error::Error<serde_json::Error>) -> (String, String) {
    let what = error.inner().to_string();
    let unknown = what
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next());
    let field = match unknown {
        Some(field) => field.to_owned(),
        None => match error.path().iter().next() {
            Some(serde_path_to_error::Segment::Map { key }) => key.clone(),
            _ => String::new(),
        },
    };
    (field, what)
}

/// The fields of an object: each once, since readers disagree on which of two counts.
struct Fields(Map<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Fields, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if fields.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("`{name}` stands in it twice")));
                    }
                    fields.insert(name, value);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Once)
    }
}

/// A field that may be absent, null, or a value: absent stays as it is, null clears.
#[expect(clippy::option_option, reason = "three states")]
pub(super) fn or_null<'de, D, T>(deserializer: D) -> std::result::Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(clippy::option_option, reason = "absent, null and a value")]
    struct Shape {
        name: Option<String>,
        count: Option<u32>,
        #[serde(default, deserialize_with = "or_null")]
        limit: Option<Option<u64>>,
        list: Option<Vec<String>>,
    }

    fn read(text: &str) -> (Option<Shape>, String) {
        let fields = match serde_json::from_str::<Fields>(text) {
            Ok(Fields(fields)) => fields,
            Err(error) => return (None, error.to_string()),
        };
        match shape::<Shape>(fields) {
            Ok((shape, problems)) => {
                let told = problems.0.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>();
                (Some(shape), told.join(" "))
            }
            Err(failure) => (None, format!("{failure:?}")),
        }
    }

    #[test]
    fn every_wrong_field_is_told() {
        let (shape, told) = read(r#"{"name":"a","count":-1,"limit":"x","list":["a",1],"nmae":1,"limti":{}}"#);
        let shape = shape.unwrap();
        assert_eq!(shape.name.as_deref(), Some("a"));
        assert!(shape.count.is_none() && shape.limit.is_none() && shape.list.is_none());
        let mut fields: Vec<_> = told.split(' ').collect();
        fields.sort_unstable();
        assert_eq!(fields, ["count", "limit", "limti", "list", "nmae"]);
    }

    #[test]
    fn absent_null_and_a_value() {
        let limit = |text: &str| read(text).0.unwrap().limit;
        assert_eq!(limit("{}"), None);
        assert_eq!(limit(r#"{"limit":null}"#), Some(None));
        assert_eq!(limit(r#"{"limit":3}"#), Some(Some(3)));
    }

    #[test]
    fn what_is_no_object_or_says_a_thing_twice() {
        assert!(
            read(r#"{"name":"a","name":"b"}"#)
                .1
                .contains("`name` stands in it twice")
        );
        for text in ["[]", "1", "null", "\"a\"", "{", "{}x"] {
            assert!(read(text).0.is_none(), "{text}");
        }
    }

    #[test]
    fn many_problems_end() {
        let many: Vec<_> = (0..1000).map(|i| format!("\"f{i}\":1")).collect();
        let (shape, told) = read(&format!("{{{}}}", many.join(",")));
        assert!(shape.is_none());
        assert!(told.len() < 10_000, "{told}");
    }
}
