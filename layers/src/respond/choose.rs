use bytes::Bytes;
use http::Response;

use super::{Context, Render};
use crate::Rejection;

/// Renders with one renderer or another, by what the request is: a shape for each path.
///
/// ```
/// use http::{Method, Uri};
/// use tollgate_layers::respond::{Anthropic, Choose, Context, OpenAi, Render};
/// use tollgate_layers::{Reason, Rejection};
///
/// let messages = |request: &Context| request.path().ends_with("/messages");
/// let renderer = Choose::new(messages, Anthropic, OpenAi::default());
/// let body = |path| {
///     let request = Context::new(Method::POST, Uri::from_static(path));
///     renderer.render(&Rejection::new(Reason::Rpm), &request).into_body()
/// };
/// assert!(body("/v1/messages").starts_with(br#"{"type":"error","error":{"type":"rate_limit_error""#));
/// assert!(body("/v1/chat/completions").starts_with(br#"{"error":{"message":"Too many requests."#));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Choose<P, A, B> {
    first: P,
    one: A,
    other: B,
}

impl<P, A, B> Choose<P, A, B>
where
    P: Fn(&Context) -> bool + Clone,
    A: Render,
    B: Render,
{
    /// Renders with `one` where `first` says so, else with `other`.
    pub fn new(first: P, one: A, other: B) -> Self {
        Self { first, one, other }
    }
}

impl<P, A, B> Render for Choose<P, A, B>
where
    P: Fn(&Context) -> bool + Clone,
    A: Render,
    B: Render,
{
    fn render(&self, rejection: &Rejection, request: &Context) -> Response<Bytes> {
        if (self.first)(request) {
            self.one.render(rejection, request)
        } else {
            self.other.render(rejection, request)
        }
    }

    fn event(&self, rejection: &Rejection, request: &Context) -> Bytes {
        if (self.first)(request) {
            self.one.event(rejection, request)
        } else {
            self.other.event(rejection, request)
        }
    }
}
