//! How the bridge's failures become refusals. Their details stay here, in the log: they can hold a backend's address.

use tollgate_layers::{Reason, Rejection};

use crate::proxy::{BodyError, UpstreamError};

impl From<UpstreamError> for Rejection {
    fn from(error: UpstreamError) -> Self {
        if error.is_connect_timeout() {
            Reason::ConnectTimeout.into()
        } else {
            Reason::UpstreamFailed.into()
        }
    }
}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        match error {
            // Where the client is gone, nobody is left to read this.
            BodyError::ClientSlow | BodyError::ClientGone => Reason::RequestTimeout.into(),
            BodyError::Malformed => {
                Self::new(Reason::MalformedBody).with_message("The framing of the request's body is broken.")
            }
            BodyError::Upstream(error) => {
                tracing::warn!(%error, "a backend's answer broke off");
                error.into()
            }
            BodyError::Other(error) => {
                tracing::error!(%error, "a body failed");
                Reason::Internal.into()
            }
        }
    }
}
