//! The fork in the stack: the list of models is answered here, everything else goes on to a backend.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tollgate_layers::{Reason, Rejection};
use tower::{Layer, Service};

use crate::dialect::openai::Endpoint;
use crate::wiring::{Caller, Catalogue};

/// The id in the path of a request for one model: an extension of the request.
#[derive(Clone, Debug)]
pub(super) struct ModelId(pub(super) String);

/// Answers requests for the list of models.
#[derive(Clone, Debug)]
pub(super) struct CatalogueLayer(pub(super) Catalogue);

#[derive(Clone, Debug)]
pub(super) struct Fork<S> {
    inner: S,
    catalogue: Catalogue,
}

pin_project! {
    #[project = AnswerProj]
    pub(super) enum Answer<F> {
        Here { answer: Option<Result<Response<Bytes>, Rejection>> },
        Further { #[pin] inner: F },
    }
}

pin_project! {
    #[project = ForkBodyProj]
    pub(super) enum ForkBody<B> {
        Here { bytes: Option<Bytes> },
        Further { #[pin] inner: B },
    }
}

impl<S> Layer<S> for CatalogueLayer {
    type Service = Fork<S>;

    fn layer(&self, inner: S) -> Fork<S> {
        Fork {
            inner,
            catalogue: self.0.clone(),
        }
    }
}

impl<S> Fork<S> {
    fn answer<Q>(&self, request: &Request<Q>) -> Option<Result<Response<Bytes>, Rejection>> {
        let facts = request.extensions();
        let endpoint = facts.get::<Endpoint>().filter(|endpoint| endpoint.is_catalogue())?;
        let Some(caller) = facts.get::<Caller>() else {
            return Some(Err(Reason::KeyMissing.into()));
        };
        let id = facts.get::<ModelId>().filter(|_| *endpoint == Endpoint::Model);
        Some(match id {
            Some(ModelId(id)) => self.catalogue.one(id, caller, request.headers()),
            None => self.catalogue.list(caller, request.headers()),
        })
    }
}

impl<S, Q, B> Service<Request<Q>> for Fork<S>
where
    S: Service<Request<Q>, Response = Response<B>, Error = Rejection>,
{
    type Response = Response<ForkBody<B>>;
    type Error = Rejection;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        match self.answer(&request) {
            Some(answer) => Answer::Here { answer: Some(answer) },
            None => Answer::Further {
                inner: self.inner.call(request),
            },
        }
    }
}

impl<F, B> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, Rejection>>,
{
    type Output = Result<Response<ForkBody<B>>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project() {
            AnswerProj::Here { answer } => {
                let answer = answer.take().unwrap_or_else(|| Err(Reason::Internal.into()));
                answer.map(|response| response.map(|bytes| ForkBody::Here { bytes: Some(bytes) }))
            }
            AnswerProj::Further { inner } => {
                ready!(inner.poll(cx)).map(|response| response.map(|inner| ForkBody::Further { inner }))
            }
        })
    }
}

impl<B> Body for ForkBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project() {
            ForkBodyProj::Here { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            ForkBodyProj::Further { inner } => inner.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Here { bytes } => bytes.is_none(),
            Self::Further { inner } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Here { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Further { inner } => inner.size_hint(),
        }
    }
}
