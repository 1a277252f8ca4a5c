//! Why a request was refused: one type that every layer returns as its error.
//!
//! A layer that refuses builds no body and logs nothing. It returns a [`Rejection`], and one place at the edge of the
//! stack turns it into an answer (see the `respond` feature). That keeps the layers generic over both body types and
//! the errors of a service uniform, whatever refused.

mod reason;

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

pub use reason::Reason;

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
}
