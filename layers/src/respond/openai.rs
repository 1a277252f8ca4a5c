use bytes::Bytes;
use http::Response;

use super::answer::{answer, push_string};
use super::{Context, Render};
use crate::Rejection;

/// Answers in the shape of OpenAI's API:
/// `{"error":{"message":"…","type":"…","param":null,"code":401,"reason":"key_expired"}}`.
///
/// An event of a stream is `data:` and that object; for a path that ends with `/responses` it is of the name `error`,
/// with a `type` as the Responses API's events have.
///
/// With it go `retry-after` in whole seconds, at least 1 (also where the layer that refused named none but the status
/// is 429 or 503 for a reason of the service's own), `x-should-retry` where it is known, and the rejection's headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenAi {
    /// What `code` holds.
    pub code: CodeStyle,
}

/// What an error's `code` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CodeStyle {
    /// The status, as a number.
    #[default]
    Status,
    /// The reason, as a string: for clients that type `code` as one, as OpenAI's own do.
    Reason,
}

impl Render for OpenAi {
    fn render(&self, rejection: &Rejection, _: &Context) -> Response<Bytes> {
        answer(rejection, self.object(rejection))
    }

    fn event(&self, rejection: &Rejection, request: &Context) -> Bytes {
        if request.path().ends_with("/responses") {
            return format!("event: error\ndata: {}\n\n", self.typed_event(rejection)).into();
        }
        format!("data: {}\n\n", self.object(rejection)).into()
    }
}

impl OpenAi {
    /// The error object, on one line.
    fn object(self, rejection: &Rejection) -> String {
        let mut json = String::with_capacity(192);
        json.push_str(r#"{"error":{"message":"#);
        push_string(&mut json, rejection.message());
        json.push_str(r#","type":"#);
        push_string(&mut json, rejection.reason().kind());
        self.finish(&mut json, rejection);
        json.push_str("}}");
        json
    }

    /// The event of the Responses API's streams, whose events bear their type (OpenAI's API reference, "Streaming
    /// events", `error`).
    fn typed_event(self, rejection: &Rejection) -> String {
        let mut json = String::with_capacity(192);
        json.push_str(r#"{"type":"error","message":"#);
        push_string(&mut json, rejection.message());
        self.finish(&mut json, rejection);
        json.push('}');
        json
    }

    /// The members that both shapes have.
    fn finish(self, json: &mut String, rejection: &Rejection) {
        json.push_str(r#","param":"#);
        match rejection.param() {
            Some(param) => push_string(json, param),
            None => json.push_str("null"),
        }
        json.push_str(r#","code":"#);
        match self.code {
            CodeStyle::Status => json.push_str(rejection.status().as_str()),
            CodeStyle::Reason => push_string(json, rejection.reason().as_str()),
        }
        json.push_str(r#","reason":"#);
        push_string(json, rejection.reason().as_str());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;
    use crate::Reason;

    fn rendered(code: CodeStyle, rejection: &Rejection) -> Response<Bytes> {
        OpenAi { code }.render(rejection, &Context::default())
    }

    #[test]
    fn code_is_the_status_or_the_reason() {
        let expired = Rejection::new(Reason::KeyExpired);
        let response = rendered(CodeStyle::Status, &expired);
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(
            response.body(),
            r#"{"error":{"message":"This API key has expired.","type":"authentication_error","param":null,"code":401,"reason":"key_expired"}}"#
        );
        assert_eq!(
            rendered(CodeStyle::Reason, &expired).body(),
            r#"{"error":{"message":"This API key has expired.","type":"authentication_error","param":null,"code":"key_expired","reason":"key_expired"}}"#
        );
    }

    #[test]
    fn strings_are_escaped() {
        let odd = Rejection::new(Reason::MalformedBody)
            .with_message("\"a\\b\"\r\n\t\u{1}\u{1f} ü€😀")
            .with_param("x\"y");
        let response = rendered(CodeStyle::Status, &odd);
        let body = std::str::from_utf8(response.body()).expect("UTF-8");
        assert!(
            body.contains(r#""message":"\"a\\b\"\r\n\t\u0001\u001f ü€😀""#),
            "{body}"
        );
        assert!(body.contains(r#""param":"x\"y""#), "{body}");
    }

    #[test]
    fn headers_say_when_and_whether_to_retry() {
        let retry_after = |rejection: &Rejection| {
            rendered(CodeStyle::Status, rejection)
                .headers()
                .get("retry-after")
                .cloned()
        };
        let rpm = Rejection::new(Reason::Rpm);
        for (millis, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (59_999, "60")] {
            let after = rpm.clone().with_retry_after(Duration::from_millis(millis));
            assert_eq!(
                retry_after(&after),
                Some(HeaderValue::from_static(seconds)),
                "{millis} ms"
            );
        }
        assert_eq!(retry_after(&rpm), Some(HeaderValue::from_static("1")), "none named");
        assert_eq!(retry_after(&Rejection::new(Reason::KeyInvalid)), None);

        let mut last = Rejection::new(Reason::TotalTimeout).with_should_retry(false);
        last.headers_mut().insert("x-more", HeaderValue::from_static("1"));
        let response = rendered(CodeStyle::Status, &last);
        assert_eq!(response.headers()["x-should-retry"], "false");
        assert_eq!(response.headers()["x-more"], "1");
        assert!(
            rendered(CodeStyle::Status, &rpm)
                .headers()
                .get("x-should-retry")
                .is_none()
        );
    }

    #[test]
    fn an_event_has_the_form_of_its_stream() {
        let rejection = Rejection::new(Reason::IdleTimeout).with_message("late");
        let event = |path: &'static str| {
            let context = Context::new(http::Method::POST, http::Uri::from_static(path));
            OpenAi::default().event(&rejection, &context)
        };
        let rest = r#""param":null,"code":504,"reason":"idle_timeout""#;
        assert_eq!(
            event("/v1/chat/completions"),
            format!("data: {{\"error\":{{\"message\":\"late\",\"type\":\"timeout_error\",{rest}}}}}\n\n")
        );
        assert_eq!(
            event("/responses"),
            format!("event: error\ndata: {{\"type\":\"error\",\"message\":\"late\",{rest}}}\n\n")
        );
    }
}
