//! Why a request was refused: one type that every layer returns as its error.
//!
//! A layer that refuses builds no body and logs nothing. It returns a [`Rejection`], and one place at the edge of the
//! stack turns it into an answer (see the `respond` feature). That keeps the layers generic over both body types and
//! the errors of a service uniform, whatever refused.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

/// What was wrong, one variant for each row of the error table.
///
/// The variant fixes the status, the `type` and the `reason` string; a [`Rejection`] adds the message, the parameter
/// and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No credential was sent.
    KeyMissing,
    /// The credential is unknown or revoked.
    KeyInvalid,
    /// The key exists and is switched off.
    KeyDisabled,
    /// The key's expiry has passed.
    KeyExpired,
    /// The account behind the key is switched off.
    AccountDisabled,
    /// The key names a group that no longer exists.
    GroupUnknown,
    /// The client's address is not on the list.
    IpNotAllowed,
    /// The account cannot pay for the request.
    InsufficientCredit,
    /// The key's own quota is used up.
    KeyExhausted,
    /// The key or its group may not call this model.
    ModelNotAllowed,
    /// No such model is configured.
    ModelNotFound,
    /// No such path is served.
    PathNotFound,
    /// The path exists, with another method.
    MethodNotAllowed,
    /// The client was too slow to send its request.
    RequestTimeout,
    /// The request's body is encoded in a way that is not read here.
    UnsupportedEncoding,
    /// The request's body is not what its type says.
    MalformedBody,
    /// The request names no model.
    ModelMissing,
    /// The request sets a parameter that this service does not pass on.
    UnsupportedParameter,
    /// The model has no price in the unit of this request.
    NotPriced,
    /// The request's body is larger than the cap.
    BodyTooLarge,
    /// Too many requests a minute.
    Rpm,
    /// Too many tokens a minute.
    Tpm,
    /// Too many requests at once.
    Concurrency,
    /// Every attempt was answered 429 by its backend.
    UpstreamRateLimited,
    /// The service is full.
    Overloaded,
    /// The service is going down.
    Draining,
    /// No route to a backend is usable.
    NoRoute,
    /// Charges cannot be made durable at present.
    LedgerFull,
    /// Every attempt failed.
    UpstreamFailed,
    /// The backend did not accept a connection in time.
    ConnectTimeout,
    /// The backend did not begin its answer in time.
    FirstByteTimeout,
    /// The backend stopped sending.
    IdleTimeout,
    /// The answer as a whole took too long.
    TotalTimeout,
    /// A bug of ours.
    Internal,
}

impl Reason {
    /// The HTTP status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::KeyMissing | Self::KeyInvalid | Self::KeyDisabled | Self::KeyExpired => StatusCode::UNAUTHORIZED,
            Self::AccountDisabled
            | Self::GroupUnknown
            | Self::IpNotAllowed
            | Self::InsufficientCredit
            | Self::KeyExhausted
            | Self::ModelNotAllowed => StatusCode::FORBIDDEN,
            Self::ModelNotFound | Self::PathNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::MalformedBody | Self::ModelMissing | Self::UnsupportedParameter | Self::NotPriced => {
                StatusCode::BAD_REQUEST
            }
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Rpm | Self::Tpm | Self::Concurrency | Self::UpstreamRateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::Draining | Self::NoRoute | Self::LedgerFull => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamFailed => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::FirstByteTimeout | Self::IdleTimeout | Self::TotalTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The `type` of the error object.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::KeyMissing | Self::KeyInvalid | Self::KeyDisabled | Self::KeyExpired => "authentication_error",
            Self::AccountDisabled
            | Self::GroupUnknown
            | Self::IpNotAllowed
            | Self::InsufficientCredit
            | Self::KeyExhausted
            | Self::ModelNotAllowed => "authorization_error",
            Self::ModelNotFound
            | Self::PathNotFound
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::UnsupportedEncoding
            | Self::MalformedBody
            | Self::ModelMissing
            | Self::UnsupportedParameter
            | Self::NotPriced
            | Self::BodyTooLarge => "invalid_request_error",
            Self::Rpm | Self::Tpm | Self::Concurrency | Self::UpstreamRateLimited => "rate_limit_error",
            Self::Overloaded | Self::Draining | Self::NoRoute | Self::LedgerFull => "overloaded_error",
            Self::UpstreamFailed => "upstream_error",
            Self::ConnectTimeout | Self::FirstByteTimeout | Self::IdleTimeout | Self::TotalTimeout => "timeout_error",
            Self::Internal => "internal_error",
        }
    }

    /// The stable `reason` string that programs match on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyMissing => "key_missing",
            Self::KeyInvalid => "key_invalid",
            Self::KeyDisabled => "key_disabled",
            Self::KeyExpired => "key_expired",
            Self::AccountDisabled => "account_disabled",
            Self::GroupUnknown => "group_unknown",
            Self::IpNotAllowed => "ip_not_allowed",
            Self::InsufficientCredit => "insufficient_credit",
            Self::KeyExhausted => "key_exhausted",
            Self::ModelNotAllowed => "model_not_allowed",
            Self::ModelNotFound => "model_not_found",
            Self::PathNotFound => "path_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::MalformedBody => "malformed_body",
            Self::ModelMissing => "model_missing",
            Self::UnsupportedParameter => "unsupported_parameter",
            Self::NotPriced => "not_priced",
            Self::BodyTooLarge => "body_too_large",
            Self::Rpm => "rpm",
            Self::Tpm => "tpm",
            Self::Concurrency => "concurrency",
            Self::UpstreamRateLimited => "upstream_rate_limited",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::NoRoute => "no_route",
            Self::LedgerFull => "ledger_full",
            Self::UpstreamFailed => "upstream_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::Internal => "internal",
        }
    }

    /// What a person is told when the layer that refused said no more.
    ///
    /// `key_missing` and `key_invalid` share one text, as do the two that mean "no credit": which of the two it was
    /// is in the reason, and clients of such services match on these sentences.
    pub const fn message(self) -> &'static str {
        match self {
            Self::KeyMissing | Self::KeyInvalid => "Invalid or missing API key.",
            Self::KeyDisabled => "This API key is disabled.",
            Self::KeyExpired => "This API key has expired.",
            Self::AccountDisabled => "This account is disabled.",
            Self::GroupUnknown => "The group of this API key no longer exists.",
            Self::IpNotAllowed => "This API key may not be used from your address.",
            Self::InsufficientCredit | Self::KeyExhausted => {
                "Insufficient credits. Please top up your account balance."
            }
            Self::ModelNotAllowed => "This API key may not use the requested model.",
            Self::ModelNotFound => "The requested model does not exist.",
            Self::PathNotFound => "Unknown path.",
            Self::MethodNotAllowed => "This path does not accept this method.",
            Self::RequestTimeout => "The request was not received in time.",
            Self::UnsupportedEncoding => "The encoding of the request's body is not supported.",
            Self::MalformedBody => "The request's body could not be read.",
            Self::ModelMissing => "The request names no model.",
            Self::UnsupportedParameter => "A parameter of the request is not supported.",
            Self::NotPriced => "The requested model has no price for this kind of request.",
            Self::BodyTooLarge => "The request's body is too large.",
            Self::Rpm => "Too many requests. Please slow down.",
            Self::Tpm => "Too many tokens. Please slow down.",
            Self::Concurrency => "Too many requests at once.",
            Self::UpstreamRateLimited => "The model is rate limited at present. Please try again later.",
            Self::Overloaded => "The service is overloaded. Please try again later.",
            Self::Draining => "The service is restarting. Please try again.",
            Self::NoRoute => "The model is not available at present. Please try again later.",
            Self::LedgerFull => "Usage cannot be recorded at present. Please try again later.",
            Self::UpstreamFailed => "The model's backend failed.",
            Self::ConnectTimeout => "The model's backend could not be reached in time.",
            Self::FirstByteTimeout => "The model's backend did not begin to answer in time.",
            Self::IdleTimeout => "The model's backend stopped answering.",
            Self::TotalTimeout => "The model's backend did not finish its answer in time.",
            Self::Internal => "Internal error.",
        }
    }

    /// Every reason, in the order of the error table.
    pub const ALL: &'static [Self] = &[
        Self::KeyMissing,
        Self::KeyInvalid,
        Self::KeyDisabled,
        Self::KeyExpired,
        Self::AccountDisabled,
        Self::GroupUnknown,
        Self::InsufficientCredit,
        Self::KeyExhausted,
        Self::IpNotAllowed,
        Self::ModelNotAllowed,
        Self::ModelNotFound,
        Self::PathNotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::UnsupportedEncoding,
        Self::MalformedBody,
        Self::ModelMissing,
        Self::UnsupportedParameter,
        Self::NotPriced,
        Self::BodyTooLarge,
        Self::Rpm,
        Self::Tpm,
        Self::Concurrency,
        Self::UpstreamRateLimited,
        Self::Overloaded,
        Self::Draining,
        Self::NoRoute,
        Self::LedgerFull,
        Self::UpstreamFailed,
        Self::ConnectTimeout,
        Self::FirstByteTimeout,
        Self::IdleTimeout,
        Self::TotalTimeout,
        Self::Internal,
    ];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: a [`Reason`] and what the layer that refused knows about it.
///
/// It is the error type of every layer in this crate. One word wide, so that `Result<Response<B>, Rejection>` is no
/// larger than the response; a request that passes never builds one.
///
/// ```
/// use std::time::Duration;
/// use tollgate_layers::{Reason, Rejection};
///
/// let refused = Rejection::new(Reason::Rpm).with_retry_after(Duration::from_millis(1200));
/// assert_eq!(refused.status(), 429);
/// assert_eq!(refused.reason().as_str(), "rpm");
/// assert_eq!(refused.retry_after(), Some(Duration::from_millis(1200)));
/// ```
#[derive(Clone, Debug)]
pub struct Rejection(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    reason: Reason,
    message: Option<Cow<'static, str>>,
    param: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    should_retry: Option<bool>,
    told: bool,
    headers: HeaderMap,
}

impl Rejection {
    /// A refusal with the reason's own message.
    pub fn new(reason: Reason) -> Self {
        Self(Box::new(Inner {
            reason,
            message: None,
            param: None,
            retry_after: None,
            should_retry: None,
            told: false,
            headers: HeaderMap::new(),
        }))
    }

    /// The refusal that `error` is or was caused by; another error is a refusal for `otherwise`, its text kept back.
    ///
    /// Bodies of other crates fail with errors of their own. This is what they are mapped with:
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::{BodyExt, Full};
    /// use tollgate_layers::{Reason, Rejection};
    ///
    /// // As a server hands it over.
    /// let body = Full::new(Bytes::from("{}")).map_err(std::io::Error::other).boxed();
    /// let body = body.map_err(|error| Rejection::from_error(error, Reason::MalformedBody));
    /// # drop(body);
    /// let wrapped = std::io::Error::other(Rejection::new(Reason::IdleTimeout));
    /// assert_eq!(Rejection::from_error(wrapped, Reason::UpstreamFailed).reason(), Reason::IdleTimeout);
    /// ```
    pub fn from_error(error: impl Into<Box<dyn Error + Send + Sync>>, otherwise: Reason) -> Self {
        let error = error.into();
        let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
        while let Some(error) = cause {
            if let Some(rejection) = error.downcast_ref::<Self>() {
                return rejection.clone();
            }
            cause = match error.downcast_ref::<std::io::Error>() {
                // Its `source` is that of the error within, which is left out.
                Some(io) => io.get_ref().map(|inner| inner as _),
                None => error.source(),
            };
        }
        Self::new(otherwise)
    }

    /// Says more than the reason's own message. Never put a secret or a backend's host here: the client reads it.
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// Names the parameter of the request that was at fault.
    pub fn with_param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    /// When it may be worth trying again. Sent rounded up to whole seconds (RFC 9110, section 10.2.3).
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Tells SDKs whether to try again by themselves (`x-should-retry`).
    pub fn with_should_retry(mut self, retry: bool) -> Self {
        self.0.should_retry = Some(retry);
        self
    }

    /// Says that the client has read of the failure already, as when a stream carried its backend's own error event: it
    /// is not told a second time.
    pub fn with_told(mut self) -> Self {
        self.0.told = true;
        self
    }

    /// Headers for the answer, such as the state of a limit or `allow`.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.0.headers
    }

    /// The headers set by [`headers_mut`](Self::headers_mut).
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Which row of the error table this is.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.reason.status()
    }

    /// What a person is told.
    pub fn message(&self) -> &str {
        self.0.message.as_deref().unwrap_or_else(|| self.0.reason.message())
    }

    /// The parameter at fault.
    pub fn param(&self) -> Option<&str> {
        self.0.param.as_deref()
    }

    /// When it may be worth trying again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the client has read of the failure already.
    pub fn is_told(&self) -> bool {
        self.0.told
    }

    /// What SDKs are told about trying again by themselves.
    pub fn should_retry(&self) -> Option<bool> {
        self.0.should_retry
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason, self.message())
    }
}

impl Error for Rejection {}

impl From<Reason> for Rejection {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

impl From<Infallible> for Rejection {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_one_word() {
        assert_eq!(size_of::<Rejection>(), size_of::<usize>());
    }

    #[test]
    fn all_lists_each_reason_once() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
