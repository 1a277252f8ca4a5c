//! The one body type between the edge, the stack and the upstream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::handoff::Consumer;
use super::upstream::{UpstreamBody, UpstreamError};

/// An error whose type no longer matters.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

type BoxBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>;

/// A request's or a response's body.
///
/// It is one of: nothing, bytes at hand, an upload still on the client's connection, an answer still on a backend's
/// connection, or any other body behind a pointer.
pub struct Body(Kind);

enum Kind {
    Full(Option<Bytes>),
    Upload { chunks: Consumer, length: Option<u64> },
    Upstream(UpstreamBody),
    Boxed(BoxBody),
}

/// Why a body broke off.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// The client closed or reset its connection.
    ClientGone,
    /// The client sent or took its bytes too slowly.
    ClientSlow,
    /// The framing of the client's upload is broken.
    Malformed,
    /// The backend's answer broke off.
    Upstream(UpstreamError),
    /// A body of another kind failed.
    Other(BoxError),
}

// === impl Body ===

impl Body {
    /// A body without a byte.
    pub const fn empty() -> Self {
        Self(Kind::Full(None))
    }

    /// Any other body, behind a pointer.
    pub fn boxed<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Kind::Boxed(Box::pin(http_body_util::BodyExt::map_err(
            body,
            Into::into,
        ))))
    }

    pub(super) const fn upload(chunks: Consumer, length: Option<u64>) -> Self {
        Self(Kind::Upload { chunks, length })
    }

    pub(super) const fn upstream(body: UpstreamBody) -> Self {
        Self(Kind::Upstream(body))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Full((!bytes.is_empty()).then_some(bytes)))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Full(_) => "full",
            Kind::Upload { .. } => "upload",
            Kind::Upstream(_) => "upstream",
            Kind::Boxed(_) => "boxed",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Upload { chunks, .. } => chunks
                .poll_chunk(cx)
                .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
            Kind::Upstream(body) => body
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(BodyError::Upstream))),
            Kind::Boxed(body) => body
                .as_mut()
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(BodyError::unboxed))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Upload { chunks, length } => *length == Some(0) || chunks.is_end(),
            Kind::Upstream(body) => body.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Upload {
                length: Some(length), ..
            } => SizeHint::with_exact(*length),
            Kind::Upload { length: None, .. } => SizeHint::default(),
            Kind::Upstream(body) => body.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

// === impl BodyError ===

impl BodyError {
    /// A body behind a pointer may wrap one of ours: its error is told as what it is.
    fn unboxed(error: BoxError) -> Self {
        error.downcast::<Self>().map_or_else(Self::Other, |own| *own)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientGone => f.write_str("the client went away"),
            Self::ClientSlow => f.write_str("the client was too slow"),
            Self::Malformed => f.write_str("the framing of the client's body is broken"),
            Self::Upstream(error) => error.fmt(f),
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Upstream(error) => Some(error),
            Self::Other(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}
