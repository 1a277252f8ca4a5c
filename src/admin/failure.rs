//! What a request that is not done is answered with.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store;

/// The answer of a handler.
pub(super) type Result<T> = std::result::Result<T, Failure>;

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    reason: &'static str,
    message: String,
    param: Option<String>,
}

/// The body of every answer that is no success.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
struct ErrorDetail {
    /// For people: everything that is wrong with the request.
    message: String,
    #[schema(example = "invalid_request_error")]
    r#type: &'static str,
    /// For programs.
    #[schema(example = "not_found")]
    reason: &'static str,
    /// The first field that is wrong.
    param: Option<String>,
    /// The HTTP status.
    code: u16,
}

// === impl Failure ===

impl Failure {
    fn new(status: StatusCode, kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            reason,
            message: message.into(),
            param: None,
        }
    }

    /// 400: one field, or the whole, is not what it must be.
    pub(super) fn invalid(param: Option<&str>, message: impl Into<String>) -> Self {
        let mut failure = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid", message);
        failure.param = param.map(str::to_owned);
        failure
    }

    /// 401.
    pub(super) fn unauthenticated() -> Self {
        let message = "Invalid or missing admin token.";
        Self::new(
            StatusCode::UNAUTHORIZED,
            "authentication_error",
            "token_invalid",
            message,
        )
    }

    /// 403.
    pub(super) fn forbidden(reason: &'static str, message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "authorization_error", reason, message)
    }

    /// 404.
    pub(super) fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "not_found",
            format!("There is no such {what}."),
        )
    }

    /// 405. Which methods there are, axum tells in `Allow` afterwards.
    pub(super) fn wrong_method() -> Self {
        let message = "This path does not take this method.";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "invalid_request_error",
            "method_not_allowed",
            message,
        )
    }

    /// 409: a name that several things have.
    pub(super) fn ambiguous(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "ambiguous", message)
    }

    /// 413.
    pub(super) fn too_large(most: usize) -> Self {
        let message = format!("The body is larger than {most} bytes.");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            "body_too_large",
            message,
        )
    }

    /// 422: well said, and not to be done.
    pub(super) fn refused(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_request_error",
            reason,
            message,
        )
    }

    /// 500: a fault of ours, which the log tells about.
    pub(super) fn internal() -> Self {
        let message = "Something went wrong here; the log says what.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "internal", message)
    }

    /// With these words instead.
    pub(super) fn saying(mut self, message: &str) -> Self {
        message.clone_into(&mut self.message);
        self
    }

    /// Whether something is not there.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    fn unavailable() -> Self {
        let message = "The store cannot be reached; the same request may work later.";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "store_unavailable",
            message,
        )
    }
}

/// What the store tells about itself goes to the log: it names hosts and files.
impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NotFound(what) => Self::not_found(what),
            store::Error::Conflict(why) => Self::new(StatusCode::CONFLICT, "conflict", "conflict", why),
            store::Error::Refused(why) => Self::refused("refused", why),
            store::Error::Unavailable(_) => {
                tracing::warn!(%error, "a request of the admin API could not be done");
                Self::unavailable()
            }
            store::Error::Corrupt(_) => {
                tracing::error!(%error, "a request of the admin API could not be done");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = self.status.as_u16();
        let error = ErrorDetail {
            message: self.message,
            r#type: self.kind,
            reason: self.reason,
            param: self.param,
            code,
        };
        let mut response = Answer(self.status, ErrorBody { error }).into_response();
        let header = match self.status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "2")),
            _ => None,
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// An answer in JSON. It may hold a key in clear: nobody on the way is to keep it.
pub(super) struct Answer<T>(pub(super) StatusCode, pub(super) T);

/// 200 and this.
#[expect(clippy::unnecessary_wraps, reason = "what handlers end with, which may also fail")]
pub(super) fn ok<T>(body: T) -> Result<Answer<T>> {
    Ok(Answer(StatusCode::OK, body))
}

/// 201 and this.
#[expect(clippy::unnecessary_wraps, reason = "what handlers end with, which may also fail")]
pub(super) fn created<T>(body: T) -> Result<Answer<T>> {
    Ok(Answer(StatusCode::CREATED, body))
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        const HEADERS: [(HeaderName, &str); 2] = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
        match serde_json::to_vec(&self.1) {
            Ok(body) => (self.0, HEADERS, body).into_response(),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use axum::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn what_a_store_answers_is_told_without_what_it_is() {
        use store::Error;
        let why = || "host db-7 said no".to_owned();
        for (error, status, kind, reason) in [
            (Error::NotFound("account"), 404, "not_found", "not_found"),
            (Error::Conflict(why()), 409, "conflict", "conflict"),
            (Error::Refused(why()), 422, "invalid_request_error", "refused"),
            (Error::Unavailable(why()), 503, "unavailable", "store_unavailable"),
            (Error::Corrupt(why()), 500, "internal_error", "internal"),
        ] {
            let response = Failure::from(error).into_response();
            assert_eq!(response.status(), status);
            let later = response.headers().contains_key(RETRY_AFTER);
            assert_eq!(later, status == 503);
            let body = to_bytes(response.into_body(), 1_000).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let error = &body["error"];
            assert_eq!(
                (&error["type"], &error["reason"], &error["code"]),
                (&json!(kind), &json!(reason), &json!(status))
            );
            assert_eq!(error["param"], Value::Null);
            let repeats = error["message"].as_str().unwrap().contains("db-7");
            assert_eq!(repeats, status == 409 || status == 422, "{body}");
        }
    }
}
