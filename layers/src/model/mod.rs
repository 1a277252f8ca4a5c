//! Reading from a request's body which model it asks for, whether it streams, and how much it may cost.
//!
//! The body is scanned, never parsed into a tree and never written out again. The scan is honest: it walks all of the
//! body, and refuses what this service and a backend could read differently. What it found goes into the request's
//! extensions as a [`ModelRequest`], which also makes the [edits](crate::splice) a gateway needs.
//!
//! It needs the body [held](crate::buffer), and stands just inside of what holds it.
//!
//! | when | refusal |
//! | --- | --- |
//! | not a JSON object or a multipart form; truncated, followed by other bytes; a key that is read in it twice; a value of the wrong type | `malformed_body` |
//! | no model, or an empty one | `model_missing` |
//! | a watched parameter set to more than `false`, `null`, `"auto"`, `"default"`; a name of data stored at a backend | `unsupported_parameter` |
//! | a charset other than UTF-8 | `unsupported_encoding` |
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use tollgate_layers::{Reason, buffer::Held, model::{Keys, ModelLayer, ModelRequest}};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let svc = ModelLayer::new(Keys::default()).layer(service_fn(async |req: Request<Held>| {
//!     let asked = req.extensions().get::<ModelRequest>().expect("set by the layer");
//!     Ok::<_, Infallible>(Response::new(asked.model.to_string()))
//! }));
//! let held = |text: &'static str| Request::new(Held::from(Bytes::from_static(text.as_bytes())));
//!
//! let ok = svc.clone().oneshot(held(r#"{"model":"gpt-4o","stream":true}"#)).await.unwrap();
//! assert_eq!(ok.into_body(), "gpt-4o");
//!
//! let refused = svc.oneshot(held(r#"{"model":"gpt-4o","service_tier":"priority"}"#)).await.unwrap_err();
//! assert_eq!(refused.reason(), Reason::UnsupportedParameter);
//! assert_eq!(refused.param(), Some("service_tier"));
//! # }
//! ```

mod multipart;
mod request;
mod scan;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use self::request::{Form, ModelRequest, OutputField};
use self::scan::malformed;
pub use self::scan::{Field, Key, Keys, Scan, scan};
use crate::buffer::Held;
use crate::{Reason, Rejection};

/// Whether a model refuses a watched parameter that is set. Implemented for closures.
pub trait Denies {
    /// True when `param` is refused for `model`.
    fn denies(&self, model: &str, param: &str) -> bool;
}

/// Refuses every watched parameter, whatever the model.
#[derive(Clone, Copy, Debug, Default)]
pub struct DenyAll;

/// Reads the body of a request into a [`ModelRequest`]. See the [module](self).
#[derive(Clone, Debug)]
pub struct ModelLayer<D = DenyAll> {
    keys: Keys,
    denies: D,
}

/// The service made by [`ModelLayer`].
#[derive(Clone, Debug)]
pub struct Model<S, D = DenyAll> {
    inner: S,
    keys: Keys,
    denies: D,
}

pin_project! {
    /// The future of [`Model`].
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<F> {
        Refused { rejection: Option<Rejection> },
        Called { #[pin] inner: F },
    }
}

// === impl Denies ===

impl<F: Fn(&str, &str) -> bool> Denies for F {
    fn denies(&self, model: &str, param: &str) -> bool {
        self(model, param)
    }
}

impl Denies for DenyAll {
    fn denies(&self, _: &str, _: &str) -> bool {
        true
    }
}

// === impl ModelLayer, Model ===

impl ModelLayer {
    /// Reads `keys`, and refuses each watched one that is set.
    pub fn new(keys: Keys) -> Self {
        Self { keys, denies: DenyAll }
    }

    /// Leaves it to `denies` which watched parameters are refused for which model.
    pub fn deny_when<D: Denies>(self, denies: D) -> ModelLayer<D> {
        ModelLayer {
            keys: self.keys,
            denies,
        }
    }
}

impl<S, D: Clone> Layer<S> for ModelLayer<D> {
    type Service = Model<S, D>;

    fn layer(&self, inner: S) -> Self::Service {
        Model {
            inner,
            keys: self.keys.clone(),
            denies: self.denies.clone(),
        }
    }
}

impl<S, D> Service<Request<Held>> for Model<S, D>
where
    S: Service<Request<Held>>,
    S::Error: Into<Rejection>,
    D: Denies,
{
    type Response = S::Response;
    type Error = Rejection;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<Held>) -> Self::Future {
        let state = match read(req.headers(), req.body().bytes(), &self.keys, &self.denies) {
            Ok(asked) => {
                req.extensions_mut().insert(asked);
                State::Called {
                    inner: self.inner.call(req),
                }
            }
            Err(rejection) => State::Refused {
                rejection: Some(rejection),
            },
        };
        ResponseFuture { state }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: Into<Rejection>,
{
    type Output = Result<R, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Refused { rejection } => Poll::Ready(Err(rejection.take().expect("polled after it was ready"))),
            Projected::Called { inner } => Poll::Ready(ready!(inner.poll(cx)).map_err(Into::into)),
        }
    }
}

/// What the layer does, for those who hold a body without a request.
fn read(headers: &HeaderMap, body: &[u8], keys: &Keys, denies: &impl Denies) -> Result<ModelRequest, Rejection> {
    let (found, form) = match boundary(headers)? {
        Some(boundary) => (multipart::scan(body, boundary, keys)?, Form::Multipart),
        None => (scan(body, keys)?, Form::Json),
    };
    let asked = ModelRequest::read(&found, body, form)?;
    match found.set().find(|param| denies.denies(&asked.model, param)) {
        None => Ok(asked),
        Some(param) => Err(Rejection::new(Reason::UnsupportedParameter)
            .with_message(format!("`{param}` is not supported."))
            .with_param(param.to_owned())),
    }
}

/// The boundary when the body is a form; `None` when it is to be read as JSON, which is also what a missing or an
/// unknown type means: those who forget the header send JSON.
fn boundary(headers: &HeaderMap) -> Result<Option<&str>, Rejection> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = types.next() else { return Ok(None) };
    let value = value.to_str().ok().filter(|_| types.next().is_none());
    let value = value.ok_or_else(|| malformed("Content-Type cannot be read.".to_owned()))?;
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let essence = essence.trim();
    if essence.eq_ignore_ascii_case("multipart/form-data") {
        let boundary = multipart::boundary(parameters);
        return boundary
            .map(Some)
            .ok_or_else(|| malformed("The form's boundary cannot be read.".to_owned()));
    }
    // A backend would take these apart by rules of their own, and see other members than the JSON in them.
    let other = essence
        .get(..10)
        .is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
    if other || essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(malformed("The body must be JSON or a multipart form.".to_owned()));
    }
    let charset = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let mut charset = charset.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    let utf8 = |value: &str| {
        ["utf-8", "utf8", "us-ascii"]
            .iter()
            .any(|name| value.eq_ignore_ascii_case(name))
    };
    if charset.any(|(_, value)| !utf8(value.trim().trim_matches('"'))) {
        return Err(Rejection::new(Reason::UnsupportedEncoding).with_message("The body must be UTF-8."));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::splice::splice;
    use bytes::Bytes;

    fn typed(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, value.parse().unwrap());
        headers
    }

    #[test]
    fn the_type_decides_how_a_body_is_read() {
        let json = br#"{"model":"a"}"#;
        for fine in [
            "application/json",
            "application/json; charset=UTF-8",
            "text/plain",
            "application/vnd.x+json",
        ] {
            assert_eq!(
                &*read(&typed(fine), json, &Keys::default(), &DenyAll).unwrap().model,
                "a"
            );
        }
        for (bad, reason) in [
            ("application/x-www-form-urlencoded", Reason::MalformedBody),
            ("Multipart/Mixed; boundary=a", Reason::MalformedBody),
            ("multipart/form-data", Reason::MalformedBody),
            ("application/json; charset=utf-16", Reason::UnsupportedEncoding),
        ] {
            assert_eq!(
                read(&typed(bad), json, &Keys::default(), &DenyAll)
                    .unwrap_err()
                    .reason(),
                reason,
                "{bad}"
            );
        }
        let mut twice = typed("application/json");
        twice.append(CONTENT_TYPE, "multipart/form-data; boundary=a".parse().unwrap());
        assert!(read(&twice, json, &Keys::default(), &DenyAll).is_err());
    }

    #[test]
    fn a_form_s_model_can_be_renamed() {
        let form = "--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--B--\r\n";
        let asked = read(
            &typed("multipart/form-data; boundary=B"),
            form.as_bytes(),
            &Keys::default(),
            &DenyAll,
        )
        .unwrap();
        assert_eq!((&*asked.model, asked.form), ("whisper", Form::Multipart));
        let mut edits: Vec<_> = asked.with_model("w-large").into_iter().collect();
        assert_eq!(
            splice(&Bytes::from(form), &mut edits),
            form.replace("whisper", "w-large")
        );
    }

    #[test]
    fn denying_may_depend_on_the_model() {
        let deny = |model: &str, param: &str| model == "a" && param == "store";
        let headers = HeaderMap::new();
        assert!(read(&headers, br#"{"store":true,"model":"a"}"#, &Keys::default(), &deny).is_err());
        assert!(read(&headers, br#"{"store":true,"model":"b"}"#, &Keys::default(), &deny).is_ok());
    }
}
