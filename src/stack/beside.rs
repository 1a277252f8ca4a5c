//! What the listener answers beside the API: other paths, of which the stack knows no more than that.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tollgate_layers::Rejection;
use tower::{Layer, Service};

use super::catalogue::ForkBody;
use crate::failpoint::{self, Failpoints};
use crate::telemetry::Record;

/// An answer under way.
pub type Answering = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;

/// Answers for paths that are none of the API's. Clones share it.
#[derive(Clone)]
pub struct Beside {
    name: &'static str,
    is_here: fn(&str) -> bool,
    answer: Arc<dyn Fn(Request<()>) -> Answering + Send + Sync>,
}

/// Lets a [`Beside`] answer what is its.
#[derive(Clone, Debug)]
pub(super) struct BesideLayer {
    pub(super) beside: Option<Beside>,
    pub(super) failpoints: Failpoints,
}

#[derive(Clone, Debug)]
pub(super) struct Besides<S> {
    inner: S,
    beside: Option<Beside>,
    failpoints: Failpoints,
}

pin_project! {
    #[project = AnswerProj]
    pub(super) enum Answer<F> {
        Here { answering: Answering },
        Further { #[pin] inner: F },
    }
}

impl Beside {
    /// Answers the paths for which `is_here` says so; `name` is the endpoint's in metrics and access lines.
    pub fn new(
        name: &'static str,
        is_here: fn(&str) -> bool,
        answer: impl Fn(Request<()>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            is_here,
            answer: Arc::new(answer),
        }
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for BesideLayer {
    type Service = Besides<S>;

    fn layer(&self, inner: S) -> Besides<S> {
        Besides {
            inner,
            beside: self.beside.clone(),
            failpoints: self.failpoints.clone(),
        }
    }
}

impl<S, Q, B> Service<Request<Q>> for Besides<S>
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
        match &self.beside {
            Some(beside) if (beside.is_here)(request.uri().path()) => {
                if let Some(record) = request.extensions().get::<Record>() {
                    record.note(|facts| facts.endpoint = Some(beside.name));
                }
                // They are read with GET: a body is nothing to them.
                let answering = (beside.answer)(request.map(drop));
                let answering = broken(answering, self.failpoints.clone());
                Answer::Here { answering }
            }
            _ => Answer::Further {
                inner: self.inner.call(request),
            },
        }
    }
}

/// The same, where a test can break it. In any other build it is the same.
fn broken(answering: Answering, failpoints: Failpoints) -> Answering {
    if cfg!(not(feature = "failpoints")) {
        return answering;
    }
    Box::pin(async move {
        failpoint::pass!(failpoints, Beside);
        answering.await
    })
}

impl<F, B> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, Rejection>>,
{
    type Output = Result<Response<ForkBody<B>>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project() {
            AnswerProj::Here { answering } => {
                let response = ready!(answering.as_mut().poll(cx));
                Ok(response.map(|bytes| ForkBody::Here { bytes: Some(bytes) }))
            }
            AnswerProj::Further { inner } => {
                ready!(inner.poll(cx)).map(|response| response.map(|inner| ForkBody::Further { inner }))
            }
        })
    }
}
