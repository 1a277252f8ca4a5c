//! A Tower service behind Pingora's sessions: one request at a time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{Request, Response};
use pingora_core::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_error::ErrorType;
use pingora_timeout::fast_timeout::fast_timeout;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tower::Service;

use super::body::Body;
use super::lifecycle::{InFlight, Lifecycle, rises};
use super::session::Exchange;
use crate::failpoint;

/// How much of a head is read at first; Pingora's own figure.
const HEAD_BYTES: usize = 4096;

/// A Tower service that answers the requests of clients.
///
/// `S` answers everything; its error type proves that every failure became an answer. `R` renders the few answers
/// that are given before there is a request to hand to `S`.
pub struct Edge<S, R> {
    pub(super) service: S,
    pub(super) render: R,
    pub(super) settings: EdgeSettings,
    pub(super) lifecycle: Lifecycle,
}

/// How long the edge is patient with clients.
#[derive(Clone, Copy, Debug)]
pub struct EdgeSettings {
    /// How long a head, or a read or a write of a request under way, may take.
    pub client_timeout: Duration,
    /// How long an idle connection is kept for its next request.
    pub keepalive: Duration,
    /// At shutdown, how long an idle connection may still send a request, which is answered.
    pub linger: Duration,
}

/// A fault that the edge meets before there is a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The head of the request is not HTTP.
    BadHead,
    /// The head of the request did not arrive in time.
    HeadTimeout,
    /// The method asks for a tunnel.
    Connect,
}

/// Makes the answer to a [`Fault`].
pub trait RenderFault: Send + Sync + 'static {
    /// The whole answer; the edge frames it and closes the connection. `head` is the request's, where one was read.
    fn render(&self, fault: Fault, head: Option<&Parts>) -> Response<Bytes>;
}

impl<F> RenderFault for F
where
    F: Fn(Fault) -> Response<Bytes> + Send + Sync + 'static,
{
    fn render(&self, fault: Fault, _: Option<&Parts>) -> Response<Bytes> {
        self(fault)
    }
}

/// What is known of the connection a request came on: an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct ConnInfo {
    /// The address of the other end of the connection.
    pub peer: Option<SocketAddr>,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// What came of waiting for a request's head.
enum Head {
    Arrived,
    Closed,
    Fault(Fault),
}

// === impl Edge ===

impl<S, R> Edge<S, R>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    R: RenderFault,
{
    /// An edge in front of `service`. Its requests are counted in `lifecycle`.
    pub fn new(service: S, render: R, settings: EdgeSettings, lifecycle: Lifecycle) -> Self {
        Self {
            service,
            render,
            settings,
            lifecycle,
        }
    }

    /// One request, and its answer. Gives the connection back when it can carry another.
    pub(super) async fn process(
        &self,
        mut session: ServerSession,
        shutdown: &watch::Receiver<bool>,
    ) -> Option<ReusedHttpStream> {
        session.set_read_timeout(Some(self.settings.client_timeout));
        session.set_write_timeout(Some(self.settings.client_timeout));
        // Bytes behind a body are then the next request, as RFC 9112, section 9.3.2, has it, and not an error.
        session.set_pipelining_enabled(true);
        if !session.is_http2() {
            // With it Pingora would take a head that stops in its middle for a connection at rest.
            session.set_keepalive(None);
            match self.read_head(&mut session, shutdown).await {
                Head::Arrived => {}
                Head::Closed => return None,
                Head::Fault(fault) => {
                    Box::pin(self.refuse(session, fault)).await;
                    return None;
                }
            }
        }
        let in_flight = self.lifecycle.enter();
        if session.req_header().method == http::Method::CONNECT {
            Box::pin(self.refuse(session, Fault::Connect)).await;
            return None;
        }
        let going_down = *shutdown.borrow();
        let session = Exchange::new(session, self, going_down)
            .run(self.service.clone())
            .await?;
        self.rest(session, in_flight, shutdown).await
    }

    /// Reads a head whose first bytes are there, or on a connection that is new.
    async fn read_head(&self, session: &mut ServerSession, shutdown: &watch::Receiver<bool>) -> Head {
        let reading = async {
            if failpoint::at!(self.lifecycle.failpoints(), HeadArrival).is_err() {
                return Ok(false);
            }
            session.read_request().await
        };
        let Some(read) = patiently(reading, self.settings.client_timeout, &self.settings, shutdown).await else {
            return Head::Fault(Fault::HeadTimeout);
        };
        match read {
            Ok(true) => Head::Arrived,
            Ok(false) => Head::Closed,
            Err(error) => match error.etype() {
                ErrorType::ConnectionClosed | ErrorType::ReadError => Head::Closed,
                ErrorType::ReadTimedout => Head::Fault(Fault::HeadTimeout),
                _ => Head::Fault(Fault::BadHead),
            },
        }
    }

    /// Finishes the answer and waits for the next request to begin, if the connection can carry one.
    ///
    /// Pingora could wait for it in `read_request`, but there a rest between two requests and a head that stops in its
    /// middle are one and the same: the one would be let last as long as the other.
    async fn rest(
        &self,
        session: ServerSession,
        in_flight: InFlight,
        shutdown: &watch::Receiver<bool>,
    ) -> Option<ReusedHttpStream> {
        let mut settings = HttpPersistentSettings::for_session(&session);
        failpoint::at!(self.lifecycle.failpoints(), AnswerFinish).ok()?;
        let (mut stream, begun) = session.finish().await.ok()??.into_parts();
        drop(in_flight);
        let begun = match begun {
            Some(begun) => begun,
            None => first_bytes(&mut stream, self.settings.keepalive, &self.settings, shutdown).await?,
        };
        settings.set_pipelined_prefix(begun);
        Some(ReusedHttpStream::new(stream, Some(settings)))
    }

    /// Answers without the service, and closes.
    async fn refuse(&self, mut session: ServerSession, fault: Fault) {
        session.set_keepalive(None);
        let request: Option<&Parts> = match fault {
            Fault::Connect => Some(session.req_header()),
            Fault::BadHead | Fault::HeadTimeout => None,
        };
        let (mut head, body) = self.render.render(fault, request).into_parts();
        head.headers.insert(http::header::CONTENT_LENGTH, body.len().into());
        failpoint::pass!(self.lifecycle.failpoints(), FaultWrite);
        if session.write_response_header(Box::new(head.into())).await.is_ok() {
            // The client may be gone, and then nobody is left to tell.
            let _ = session.write_response_body(body, true).await;
            let _ = session.finish().await;
        }
    }
}

/// The first bytes of a request; none when the connection ends, or rests for too long.
pub(super) async fn first_bytes(
    stream: &mut Stream,
    patience: Duration,
    settings: &EdgeSettings,
    shutdown: &watch::Receiver<bool>,
) -> Option<BytesMut> {
    let mut begun = BytesMut::with_capacity(HEAD_BYTES);
    let read = patiently(stream.read_buf(&mut begun), patience, settings, shutdown).await?;
    read.is_ok_and(|length| length > 0).then_some(begun)
}

/// Waits so long for `future`, or from the moment that the process goes down for as long as a connection lingers.
///
/// The wait goes on into a shutdown because a request may be on the wire already: to close now would fail it.
pub(super) async fn patiently<F: Future>(
    future: F,
    patience: Duration,
    settings: &EdgeSettings,
    shutdown: &watch::Receiver<bool>,
) -> Option<F::Output> {
    let mut shutdown = shutdown.clone();
    let waiting = fast_timeout(patience, future);
    tokio::pin!(waiting);
    tokio::select! {
        biased;
        output = &mut waiting => output.ok(),
        () = rises(&mut shutdown) => fast_timeout(settings.linger, waiting).await.ok()?.ok(),
    }
}
