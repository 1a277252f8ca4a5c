//! One attempt on one backend: the client's request made ready for it, and its answer made ready for the client.

use std::num::NonZeroU64;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderMap};
use http::{Request, Response, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use pin_project_lite::pin_project;
use tollgate_layers::buffer::Held;
use tollgate_layers::model::{ModelRequest, OutputField};
use tollgate_layers::rate_limit::TokenReservation;
use tollgate_layers::response_cache::DoNotKeep;
use tollgate_layers::splice::{Edit, splice};
use tollgate_layers::{Reason, Rejection};
use tower::Service;

use super::cache::Spent;
use super::credit::Bill;
use super::served::{Served, Way};
use super::state::{Backend, Place};
use crate::config::StreamUsage;
use crate::dialect::openai::Endpoint;
use crate::failpoint::{self, Failpoints};
use crate::proxy::{Body, Reused, Sent, Upstream, UpstreamError, headers};
use crate::telemetry::{Record, Telemetry};

/// How much of a backend's 400 is read to see whether it complains of `stream_options`.
const LONGEST_COMPLAINT: usize = 64 << 10;

/// What is known of a call once it may go out: an extension of the request. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Call(Arc<CallFacts>);

#[derive(Debug)]
pub(super) struct CallFacts {
    pub(super) endpoint: Endpoint,
    /// The model that the client asked for.
    pub(super) model: Arc<Served>,
    pub(super) record: Record,
    /// What was taken of the limits on tokens, to be corrected by what was used.
    pub(super) tokens: Option<TokenReservation>,
    /// What was set aside of the caller's credit; absent without a ledger.
    pub(super) bill: Option<Bill>,
}

/// One way to answer a call: an extension of the attempt's request.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// The model that answers: the one asked for, or a fallback of it.
    pub(super) served: Arc<Served>,
    /// Which of its ways.
    pub(super) way: usize,
    pub(super) call: Call,
    /// The most tokens of each answer that what was set aside pays for, at this model's price.
    pub(super) paid: Option<u64>,
    /// Whether the backend has seen anything of it.
    pub(super) sent: Sent,
    /// What it has used, for an answer that is kept.
    pub(super) spent: Spent,
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    telemetry: Telemetry,
    failpoints: Failpoints,
}

impl Attempt {
    pub(super) fn new(telemetry: Telemetry, failpoints: Failpoints) -> Self {
        Self { telemetry, failpoints }
    }
}

impl Call {
    pub(super) fn new(
        endpoint: Endpoint,
        model: Arc<Served>,
        record: Record,
        tokens: Option<TokenReservation>,
        bill: Option<Bill>,
    ) -> Self {
        Self(Arc::new(CallFacts {
            endpoint,
            model,
            record,
            tokens,
            bill,
        }))
    }
}

impl Deref for Call {
    type Target = CallFacts;

    fn deref(&self) -> &CallFacts {
        &self.0
    }
}

impl Candidate {
    pub(super) fn way(&self) -> &Way {
        &self.served.ways[self.way]
    }

    pub(super) fn backend(&self) -> &Arc<Backend> {
        &self.way().backend
    }

    /// The most tokens an answer may have: what the model allows, and what was set aside for it.
    fn cap(&self) -> Option<u64> {
        let allowed = self.served.config.max_output.map(NonZeroU64::get);
        allowed.into_iter().chain(self.paid).min()
    }
}

impl Service<Request<Held>> for Attempt {
    type Response = Response<Attempted>;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Attempted>, Rejection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Held>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (parts, held) = request.into_parts();
            let facts = |what| move || internal(what);
            let candidate = parts.extensions.get::<Candidate>().ok_or_else(facts("candidate"))?;
            let asked = parts.extensions.get::<ModelRequest>().ok_or_else(facts("model"))?;
            let place = candidate.backend().place()?;

            let ready = Prepared::new(candidate, asked, &parts.headers, held)?;
            let response = if ready.asks_usage {
                Box::pin(this.send_asking(candidate, asked, ready)).await?
            } else {
                this.send(candidate, ready.into_request()).await?
            };
            finish(response, candidate, place)
        })
    }
}

impl Attempt {
    async fn send(&self, candidate: &Candidate, request: Request<Held>) -> Result<Response<Body>, Rejection> {
        let backend = &candidate.backend().config.name;
        let response = Upstream::send(request).await.map_err(|error: UpstreamError| {
            tracing::warn!(backend = &**backend, %error, "an attempt failed");
            Rejection::from(error)
        })?;
        let reused = response.extensions().get::<Reused>().is_some_and(|reused| reused.0);
        self.telemetry.connected(backend, reused);
        Ok(response)
    }

    /// Sends a request that asks for usage; to a backend that refuses the question, once more without it.
    async fn send_asking(
        &self,
        candidate: &Candidate,
        asked: &ModelRequest,
        ready: Prepared,
    ) -> Result<Response<Body>, Rejection> {
        let response = self.send(candidate, ready.request()).await?;
        if response.status() != StatusCode::BAD_REQUEST {
            return Ok(response);
        }
        // Should the client leave before the rest is read.
        candidate.sent.is_refused();
        failpoint::at!(self.failpoints, ComplaintRead)?;
        let complaint = Box::pin(complaint(response)).await?;
        if !complaint.names_usage {
            return Ok(complaint.response);
        }
        drop(complaint);
        let response = self
            .send(candidate, ready.without_usage(candidate, asked)?.into_request())
            .await?;
        // Only now is it known that the question was what was wrong: a client can bring the words into any complaint.
        if response.status().is_success() {
            candidate.backend().refuses_usage.store(true, Ordering::Relaxed);
        }
        Ok(response)
    }
}

/// A request as a backend gets it.
struct Prepared {
    uri: Uri,
    headers: HeaderMap,
    target: Arc<crate::proxy::Origin>,
    original: Held,
    body: Held,
    asks_usage: bool,
    endpoint: Endpoint,
    sent: Sent,
}

impl Prepared {
    fn new(candidate: &Candidate, asked: &ModelRequest, client: &HeaderMap, held: Held) -> Result<Self, Rejection> {
        let backend = candidate.backend();
        let endpoint = candidate.call.endpoint;
        let mut sent = headers::to_backend(client, &backend.config.pass_headers);
        if let Some(credential) = backend.credential() {
            sent.insert(AUTHORIZATION, credential.clone());
        }
        let asks_usage = asked.stream
            && !asked.asked_usage
            && endpoint.takes_include_usage()
            && backend.config.stream_usage == StreamUsage::Ask
            && !backend.refuses_usage.load(Ordering::Relaxed);
        let mut prepared = Self {
            uri: backend.uri(endpoint).cloned().ok_or_else(|| internal("path"))?,
            headers: sent,
            target: Arc::clone(&backend.endpoint),
            body: held.clone(),
            original: held,
            asks_usage,
            endpoint,
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
        if *candidate.way().upstream_model != *asked.model {
            edits.extend(asked.with_model(&candidate.way().upstream_model));
        }
        if self.asks_usage {
            edits.extend(asked.with_include_usage());
        }
        if let (Some(cap), Some(field)) = (candidate.cap(), output_field(self.endpoint)) {
            edits.extend(asked.with_max_output(field, cap));
        }
        self.body = self.original.clone();
        if !edits.is_empty() {
            self.body.replace(splice(self.original.bytes(), &mut edits))?;
        }
        Ok(())
    }

    /// A copy of the request, for one that may have to be sent again.
    fn request(&self) -> Request<Held> {
        Self::assemble(
            self.uri.clone(),
            self.headers.clone(),
            Arc::clone(&self.target),
            self.sent.clone(),
            self.body.clone(),
        )
    }

    fn into_request(self) -> Request<Held> {
        Self::assemble(self.uri, self.headers, self.target, self.sent, self.body)
    }

    fn assemble(
        uri: Uri,
        headers: HeaderMap,
        target: Arc<crate::proxy::Origin>,
        sent: Sent,
        body: Held,
    ) -> Request<Held> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request.extensions_mut().insert(target);
        request.extensions_mut().insert(sent);
        request
    }
}

/// The endpoint's own name for the cap on an answer.
pub(super) fn output_field(endpoint: Endpoint) -> Option<OutputField> {
    match endpoint {
        Endpoint::ChatCompletions => Some(OutputField::MaxCompletionTokens),
        Endpoint::Completions => Some(OutputField::MaxTokens),
        Endpoint::Responses => Some(OutputField::MaxOutputTokens),
        _ => None,
    }
}

/// A backend's 400, looked into and put together again.
struct Complaint {
    response: Response<Body>,
    /// Whether it names the field that we, not the client, have put into the request.
    names_usage: bool,
}

async fn complaint(response: Response<Body>) -> Result<Complaint, Rejection> {
    let (parts, mut body) = response.into_parts();
    let mut read = BytesMut::new();
    while read.len() < LONGEST_COMPLAINT {
        let Some(frame) = body.frame().await else { break };
        if let Some(data) = frame?.data_ref() {
            read.extend_from_slice(data);
        }
    }
    let read = read.freeze();
    let named = |field| memchr::memmem::find(&read, field).is_some();
    let names_usage = named(b"stream_options") || named(b"include_usage");
    let body = if body.is_end_stream() {
        Body::from(read)
    } else {
        Body::boxed(Rejoined {
            first: Some(read),
            rest: body,
        })
    };
    Ok(Complaint {
        response: Response::from_parts(parts, body),
        names_usage,
    })
}

pin_project! {
    /// The rest of a body, behind what was read of it.
    struct Rejoined {
        first: Option<Bytes>,
        #[pin]
        rest: Body,
    }
}

impl http_body::Body for Rejoined {
    type Data = Bytes;
    type Error = crate::proxy::BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => this.rest.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}

/// Leaves the backend's own affairs behind, and holds the backend's place to the end of the body.
fn finish(response: Response<Body>, candidate: &Candidate, place: Place) -> Result<Response<Attempted>, Rejection> {
    let (mut parts, inner) = response.into_parts();
    let encoded = parts
        .headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value != "identity");
    if encoded {
        // It was asked not to: what is encoded cannot be metered as it passes.
        tracing::warn!(
            backend = &*candidate.backend().config.name,
            "a backend encoded its answer though asked not to"
        );
        return Err(Reason::UpstreamFailed.into());
    }
    if let Some(id) = headers::backend_request_id(&parts.headers).and_then(|id| id.to_str().ok()) {
        candidate
            .call
            .record
            .note(|facts| facts.backend_request_id = Some(id.to_owned()));
    }
    parts.headers = headers::to_client(&parts.headers);
    if candidate.spent.is_kept() {
        if Arc::ptr_eq(&candidate.served, &candidate.call.model) {
            parts.extensions.insert(candidate.spent.clone());
        } else {
            parts.extensions.insert(DoNotKeep);
        }
    }
    let place = Some(place);
    let record = candidate.call.record.clone();
    Ok(Response::from_parts(parts, Attempted { inner, place, record }))
}

pin_project! {
    /// The body of an attempt's answer, which holds the backend's place to its end.
    pub(super) struct Attempted {
        #[pin]
        inner: Body,
        place: Option<Place>,
        record: Record,
    }
}

impl http_body::Body for Attempted {
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx)).map(|frame| frame.map_err(Rejection::from));
        if let Some(Err(error)) = &frame {
            // The meter may be done with the answer, if what completes it has come before this.
            this.record.note(|facts| facts.reason = Some(error.reason().as_str()));
        }
        // Not left to the drop: a slow client may keep the body long after the backend is done with it.
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            *this.place = None;
        }
        Poll::Ready(frame)
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
