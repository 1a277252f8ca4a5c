//! The table of what can be refused.

use std::fmt;

use http::StatusCode;

/// What was wrong, one variant for each row of the error table.
///
/// The variant fixes the status, the `type` and the `reason` string; a [`Rejection`](super::Rejection) adds the
/// message, the parameter and headers.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_each_reason_once() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
