//! One attempt on one backend: the client's request made ready for it, and its answer made ready for the client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderMap};
use http::{Request, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use pin_project_lite::pin_project;
use tokio::sync::OwnedSemaphorePermit;
use tollgate_layers::buffer::Held;
use tollgate_layers::model::{ModelRequest, OutputField};
use tollgate_layers::rate_limit::TokenReservation;
use tollgate_layers::splice::{Edit, splice};
use tollgate_layers::{Reason, Rejection};
use tower::Service;

use super::state::Backend;
use crate::config::{self, StreamUsage};
use crate::dialect::openai::Endpoint;
use crate::proxy::{Body, Reused, Sent, Upstream, UpstreamError, headers};
use crate::telemetry::{Record, Telemetry};

/// How much of a backend's 400 is read to see whether it complains of `stream_options`.
const LONGEST_COMPLAINT: usize = 64 << 10;

/// What is known of a call once it may go out: an extension of the request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) endpoint: Endpoint,
    /// The model that the client asked for.
    pub(super) model: Arc<config::Model>,
    pub(super) record: Record,
    /// What was taken of the limits on tokens, to be corrected by what was used.
    pub(super) tokens: Option<TokenReservation>,
}

/// One way to answer a call: an extension of the attempt's request.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) backend: Arc<Backend>,
    /// What the backend calls the model.
    pub(super) upstream_model: Arc<str>,
    /// The model that answers: the one asked for, or a fallback of it.
    pub(super) model: Arc<config::Model>,
    pub(super) call: Call,
    /// Whether the backend has seen anything of it.
    pub(super) sent: Sent,
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    upstream: Upstream,
    telemetry: Telemetry,
}

impl Attempt {
    pub(super) fn new(telemetry: Telemetry) -> Self {
        Self {
            upstream: Upstream,
            telemetry,
        }
    }
}

impl Service<Request<Held>> for Attempt {
    type Response = Response<Body>;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Rejection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Held>) -> Self::Future {
        let mut this = self.clone();
        Box::pin(async move {
            let (parts, held) = request.into_parts();
            let facts = |what| move || internal(what);
            let candidate = parts.extensions.get::<Candidate>().ok_or_else(facts("candidate"))?;
            let call = &candidate.call;
            let asked = parts.extensions.get::<ModelRequest>().ok_or_else(facts("model"))?;
            let permit = candidate.backend.place()?;

            let ready = Prepared::new(call, candidate, asked, &parts.headers, held)?;
            let asks_usage = ready.asks_usage;
            let mut response = this.send(candidate, ready.request()).await?;
            if asks_usage && response.status() == StatusCode::BAD_REQUEST {
                response = match complains_of_usage(response).await? {
                    Complaint::Other(response) => response,
                    Complaint::Usage => {
                        candidate.backend.refuses_usage.store(true, Ordering::Relaxed);
                        this.send(candidate, ready.without_usage(candidate, asked)?.request())
                            .await?
                    }
                };
            }
            finish(response, candidate, call, permit)
        })
    }
}

impl Attempt {
    async fn send(&mut self, candidate: &Candidate, request: Request<Held>) -> Result<Response<Body>, Rejection> {
        let response = self.upstream.call(request).await.map_err(|error: UpstreamError| {
            tracing::warn!(backend = &*candidate.backend.config.name, %error, "an attempt failed");
            Rejection::from(error)
        })?;
        let reused = response.extensions().get::<Reused>().is_some_and(|reused| reused.0);
        self.telemetry.connected(&candidate.backend.config.name, reused);
        Ok(response)
    }
}

impl Backend {
    /// A place among the requests that the backend takes at once.
    fn place(&self) -> Result<Option<OwnedSemaphorePermit>, Rejection> {
        self.places
            .as_ref()
            .map(|places| {
                Arc::clone(places)
                    .try_acquire_owned()
                    .map_err(|_| Reason::Overloaded.into())
            })
            .transpose()
    }
}

/// A request as a backend gets it.
struct Prepared {
    uri: Uri,
    headers: HeaderMap,
    extension: Arc<crate::proxy::Origin>,
    original: Held,
    body: Held,
    asks_usage: bool,
    endpoint: Endpoint,
    sent: Sent,
}

impl Prepared {
    fn new(
        call: &Call,
        candidate: &Candidate,
        asked: &ModelRequest,
        client: &HeaderMap,
        held: Held,
    ) -> Result<Self, Rejection> {
        let backend = &candidate.backend;
        let mut sent = headers::to_backend(client, &backend.config.pass_headers);
        if let Some(credential) = backend.credential() {
            sent.insert(AUTHORIZATION, credential.clone());
        }
        let path = format!("{}{}", backend.config.base_url.path, call.endpoint.path());
        let uri = Uri::try_from(path).map_err(|_| internal("path"))?;
        let asks_usage = asked.stream
            && !asked.asked_usage
            && call.endpoint.takes_include_usage()
            && backend.config.stream_usage == StreamUsage::Ask
            && !backend.refuses_usage.load(Ordering::Relaxed);
        let mut prepared = Self {
            uri,
            headers: sent,
            extension: Arc::clone(&backend.endpoint),
            body: held.clone(),
            original: held,
            asks_usage,
            endpoint: call.endpoint,
            sent: candidate.sent.clone(),
        };
        prepared.edit(candidate, asked)?;
        Ok(prepared)
    }

    /// The same request with the client's own word on usage.
    fn without_usage(mut self, candidate: &Candidate, asked: &ModelRequest) -> Result<Self, Rejection> {
        self.asks_usage = false;
        self.edit(candidate, asked)?;
        Ok(self)
    }

    /// The client's bytes with what must differ spliced in: the backend's name of the model, the cap, usage.
    fn edit(&mut self, candidate: &Candidate, asked: &ModelRequest) -> Result<(), Rejection> {
        let mut edits: Vec<Edit> = Vec::new();
        if *candidate.upstream_model != *asked.model {
            edits.extend(asked.with_model(&candidate.upstream_model));
        }
        if self.asks_usage {
            edits.extend(asked.with_include_usage());
        }
        if let (Some(cap), Some(field)) = (candidate.model.max_output, output_field(self.endpoint))
            && asked.max_output.is_none_or(|wanted| wanted > cap.get())
        {
            edits.extend(asked.with_max_output(field, cap.get()));
        }
        self.body = self.original.clone();
        if !edits.is_empty() {
            self.body.replace(splice(self.original.bytes(), &mut edits))?;
        }
        Ok(())
    }

    fn request(&self) -> Request<Held> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request.extensions_mut().insert(Arc::clone(&self.extension));
        request.extensions_mut().insert(self.sent.clone());
        request
    }
}

/// The endpoint's own name for the cap on an answer.
fn output_field(endpoint: Endpoint) -> Option<OutputField> {
    match endpoint {
        Endpoint::ChatCompletions => Some(OutputField::MaxCompletionTokens),
        Endpoint::Completions => Some(OutputField::MaxTokens),
        Endpoint::Responses => Some(OutputField::MaxOutputTokens),
        _ => None,
    }
}

enum Complaint {
    Usage,
    Other(Response<Body>),
}

/// Whether a 400 names the field that we, not the client, have put into the request.
async fn complains_of_usage(response: Response<Body>) -> Result<Complaint, Rejection> {
    let (parts, body) = response.into_parts();
    let bytes = Limited::new(body, LONGEST_COMPLAINT).collect().await.map_err(|error| {
        tracing::warn!(%error, "a backend's error could not be read");
        Rejection::new(Reason::UpstreamFailed)
    })?;
    let bytes = bytes.to_bytes();
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("stream_options") || text.contains("include_usage") {
        return Ok(Complaint::Usage);
    }
    Ok(Complaint::Other(Response::from_parts(parts, Body::from(bytes))))
}

/// Leaves the backend's own affairs behind, and holds the backend's place to the end of the body.
fn finish(
    response: Response<Body>,
    candidate: &Candidate,
    call: &Call,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<Response<Body>, Rejection> {
    let (mut parts, body) = response.into_parts();
    let encoded = parts
        .headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value != "identity");
    if encoded {
        // It was asked not to: what is encoded cannot be metered as it passes.
        tracing::warn!(
            backend = &*candidate.backend.config.name,
            "a backend encoded its answer though asked not to"
        );
        return Err(Reason::UpstreamFailed.into());
    }
    if let Some(id) = headers::backend_request_id(&parts.headers).and_then(|id| id.to_str().ok()) {
        call.record.note(|facts| facts.backend_request_id = Some(id.to_owned()));
    }
    parts.headers = headers::to_client(&parts.headers);
    let body = match permit {
        None => body,
        Some(permit) => Body::boxed(Holding { inner: body, permit }),
    };
    Ok(Response::from_parts(parts, body))
}

pin_project! {
    /// A body that holds something until its end.
    struct Holding<P> {
        #[pin]
        inner: Body,
        permit: P,
    }
}

impl<P> http_body::Body for Holding<P> {
    type Data = Bytes;
    type Error = crate::proxy::BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A fact that an outer layer always sets is not there: a bug in the stack's order.
pub(super) fn internal(what: &'static str) -> Rejection {
    tracing::error!(what, "the stack is out of order");
    Reason::Internal.into()
}
