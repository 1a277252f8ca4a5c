use bytes::Bytes;
use http::{Response, StatusCode};

use super::answer::{answer, push_string};
use super::{Context, Render};
use crate::Rejection;

/// Answers in the shape of Anthropic's API:
/// `{"type":"error","error":{"type":"rate_limit_error","message":"…","reason":"rpm"}}`; in a stream as an event of the
/// name `error`.
///
/// The types are those that Anthropic's page on errors lists, by status; `reason` is more than that API says. Headers
/// are as with [`OpenAi`](super::OpenAi).
#[derive(Clone, Copy, Debug, Default)]
pub struct Anthropic;

impl Render for Anthropic {
    fn render(&self, rejection: &Rejection, _: &Context) -> Response<Bytes> {
        answer(rejection, object(rejection))
    }

    fn event(&self, rejection: &Rejection, _: &Context) -> Bytes {
        format!("event: error\ndata: {}\n\n", object(rejection)).into()
    }
}

/// The error object, on one line.
fn object(rejection: &Rejection) -> String {
    let mut json = String::with_capacity(160);
    json.push_str(r#"{"type":"error","error":{"type":"#);
    push_string(&mut json, kind(rejection.status()));
    json.push_str(r#","message":"#);
    push_string(&mut json, rejection.message());
    json.push_str(r#","reason":"#);
    push_string(&mut json, rejection.reason().as_str());
    json.push_str("}}");
    json
}

fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    #[test]
    fn answers_and_events_have_the_shape_of_the_api() {
        let rejection = Rejection::new(Reason::Overloaded).with_message("\"full\"");
        let response = Anthropic.render(&rejection, &Context::default());
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &"1".parse().expect("a value"))
        );
        let object =
            r#"{"type":"error","error":{"type":"overloaded_error","message":"\"full\"","reason":"overloaded"}}"#;
        assert_eq!(response.body(), object);
        let event = Anthropic.event(&rejection, &Context::default());
        assert_eq!(event, format!("event: error\ndata: {object}\n\n"));
    }

    #[test]
    fn types_are_those_the_api_has() {
        for (reason, expected) in [
            (Reason::KeyMissing, "authentication_error"),
            (Reason::InsufficientCredit, "permission_error"),
            (Reason::ModelNotFound, "not_found_error"),
            (Reason::MalformedBody, "invalid_request_error"),
            (Reason::MethodNotAllowed, "invalid_request_error"),
            (Reason::BodyTooLarge, "request_too_large"),
            (Reason::Tpm, "rate_limit_error"),
            (Reason::UpstreamFailed, "api_error"),
            (Reason::IdleTimeout, "timeout_error"),
            (Reason::Internal, "api_error"),
        ] {
            assert_eq!(kind(reason.status()), expected, "{reason}");
        }
    }
}
