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
//! | the path and the body name two models ([`ModelLayer::named_by_path`]); the path's cannot be decoded | `malformed_body`; `path_not_found` |
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
mod path;
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

use self::path::{InPath, Named};
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
    path: InPath,
    denies: D,
}

/// The service made by [`ModelLayer`].
#[derive(Clone, Debug)]
pub struct Model<S, D = DenyAll> {
    inner: S,
    keys: Keys,
    path: InPath,
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
        Self {
            keys,
            path: InPath::default(),
            denies: DenyAll,
        }
    }

    /// Leaves it to `denies` which watched parameters are refused for which model.
    pub fn deny_when<D: Denies>(self, denies: D) -> ModelLayer<D> {
        ModelLayer {
            keys: self.keys,
            path: self.path,
            denies,
        }
    }
}

impl<D> ModelLayer<D> {
    /// Lets `pick` say which part of a path names the model, where one does: a segment of it as it stands there,
    /// percent-encoded. The body is read all the same, and need not name the model then; names both another, the request is
    /// `malformed_body`, since nobody knows which the backend obeys. What cannot be decoded is `path_not_found`.
    ///
    /// What asks about the model ([`model_allow`](crate::model_allow)) finds it in the [`ModelRequest`] whoever named it.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Extensions, Request, Response};
    /// use tollgate_layers::buffer::Held;
    /// use tollgate_layers::model::{Keys, ModelLayer, ModelRequest};
    /// use tollgate_layers::{Reason, Rejection};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Rejection> {
    /// // /deployments/{model}/chat/completions
    /// fn deployment(path: &str) -> Option<&str> {
    ///     path.strip_prefix("/deployments/")?.strip_suffix("/chat/completions")
    /// }
    /// let svc = ModelLayer::new(Keys::default()).named_by_path(deployment).layer(service_fn(
    ///     async |req: Request<Held>| {
    ///         let asked = req.extensions().get::<ModelRequest>().expect("set by the layer");
    ///         let path = asked.path_with_model(req.uri().path(), "other");
    ///         Ok::<_, Rejection>(Response::new((asked.model.to_string(), path)))
    ///     },
    /// ));
    /// let ask = |uri: &str, body: &'static str| {
    ///     let body = Held::from(Bytes::from_static(body.as_bytes()));
    ///     svc.clone().oneshot(Request::post(uri).body(body).expect("a request"))
    /// };
    ///
    /// let (model, path) = ask("/deployments/org%2Fgpt/chat/completions", "{}").await?.into_body();
    /// assert_eq!(model, "org/gpt");
    /// assert_eq!(path.as_deref(), Some("/deployments/other/chat/completions"));
    ///
    /// let refused = ask("/deployments/gpt/chat/completions", r#"{"model":"dearer"}"#).await.unwrap_err();
    /// assert_eq!(refused.reason(), Reason::MalformedBody);
    /// # Ok(()) }
    /// ```
    pub fn named_by_path(mut self, pick: impl for<'a> Fn(&'a str) -> Option<&'a str> + Send + Sync + 'static) -> Self {
        self.path = InPath::new(pick);
        self
    }
}

impl<S, D: Clone> Layer<S> for ModelLayer<D> {
    type Service = Model<S, D>;

    fn layer(&self, inner: S) -> Self::Service {
        Model {
            inner,
            keys: self.keys.clone(),
            path: self.path.clone(),
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
        let asked = self.path.read(req.uri().path()).and_then(|named| {
            let body = req.body().bytes();
            read(req.headers(), body, &self.keys, named, &self.denies)
        });
        let state = match asked {
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
fn read(
    headers: &HeaderMap,
    body: &[u8],
    keys: &Keys,
    named: Option<Named>,
    denies: &impl Denies,
) -> Result<ModelRequest, Rejection> {
    let (found, form) = match boundary(headers)? {
        Some(boundary) => (multipart::scan(body, boundary, keys)?, Form::Multipart),
        None => (scan(body, keys)?, Form::Json),
    };
    let asked = ModelRequest::read_named(&found, body, form, named)?;
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
                &*read(&typed(fine), json, &Keys::default(), None, &DenyAll)
                    .unwrap()
                    .model,
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
                read(&typed(bad), json, &Keys::default(), None, &DenyAll)
                    .unwrap_err()
                    .reason(),
                reason,
                "{bad}"
            );
        }
        let mut twice = typed("application/json");
        twice.append(CONTENT_TYPE, "multipart/form-data; boundary=a".parse().unwrap());
        assert!(read(&twice, json, &Keys::default(), None, &DenyAll).is_err());
    }

    #[test]
    fn a_form_s_model_can_be_renamed() {
        let form = "--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--B--\r\n";
        let asked = read(
            &typed("multipart/form-data; boundary=B"),
            form.as_bytes(),
            &Keys::default(),
            None,
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

    /// Whoever names it, there is one model; and who asks about it asks about that one.
    #[tokio::test]
    #[cfg(feature = "model_allow")]
    async fn a_model_of_the_path_is_asked_about_like_any_other() {
        use crate::model_allow::{ModelAllowLayer, ModelSet};
        use http::{Extensions, Response};
        use tower::{ServiceBuilder, ServiceExt, service_fn};

        let allowed: ModelSet = "gpt-*".parse().unwrap();
        let svc = ServiceBuilder::new()
            .layer(ModelLayer::new(Keys::default()).named_by_path(|path: &str| path.strip_prefix("/of/")))
            .layer(ModelAllowLayer::new(move |facts: &Extensions| {
                facts
                    .get::<ModelRequest>()
                    .is_some_and(|asked| allowed.contains(&asked.model))
            }))
            .service(service_fn(async |req: Request<Held>| {
                let asked = req.extensions().get::<ModelRequest>().unwrap();
                let edits = (
                    asked.with_model("b").is_some(),
                    asked.path_with_model(req.uri().path(), "a/b"),
                );
                Ok::<_, Rejection>(Response::new((asked.model.to_string(), edits)))
            }));
        let path = Some("/of/a%2Fb".to_owned());
        for (uri, body, expected) in [
            ("/of/gpt-4o", "{}", Ok(("gpt-4o", (false, path.clone())))),
            ("/of/gpt%2D4o", r#"{"model":"gpt-4o"}"#, Ok(("gpt-4o", (true, path)))),
            ("/chat", r#"{"model":"gpt-4o"}"#, Ok(("gpt-4o", (true, None)))),
            ("/of/o3", "{}", Err(Reason::ModelNotAllowed)),
            ("/of/gpt-4o", r#"{"model":"o3"}"#, Err(Reason::MalformedBody)),
            ("/of/o3", r#"{"model":"gpt-4o"}"#, Err(Reason::MalformedBody)),
            (
                "/of/gpt-4o",
                r#"{"model":null}"#,
                Ok(("gpt-4o", (false, Some("/of/a%2Fb".to_owned())))),
            ),
            ("/of/gpt-4o", "", Err(Reason::MalformedBody)),
            ("/of/", "{}", Err(Reason::ModelMissing)),
            ("/chat", "{}", Err(Reason::ModelMissing)),
        ] {
            let request = Request::post(uri).body(Held::from(Bytes::from(body))).unwrap();
            let answer = svc.clone().oneshot(request).await.map(Response::into_body);
            let answer = answer.as_ref().map(|(model, edits)| (&**model, edits.clone()));
            assert_eq!(answer.map_err(Rejection::reason), expected, "{uri} {body}");
        }
    }

    #[test]
    fn denying_may_depend_on_the_model() {
        let deny = |model: &str, param: &str| model == "a" && param == "store";
        let headers = HeaderMap::new();
        assert!(
            read(
                &headers,
                br#"{"store":true,"model":"a"}"#,
                &Keys::default(),
                None,
                &deny
            )
            .is_err()
        );
        assert!(
            read(
                &headers,
                br#"{"store":true,"model":"b"}"#,
                &Keys::default(),
                None,
                &deny
            )
            .is_ok()
        );
    }
}
