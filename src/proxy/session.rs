//! One request and its answer on a client's connection.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame};
use pingora_core::protocols::http::ServerSession;
use pingora_error::ErrorType;
use pingora_http::RequestHeader;
use pingora_timeout::fast_timeout::fast_timeout;
use tokio::sync::watch;
use tower::Service;

use super::body::{Body, BodyError};
use super::edge::{ConnInfo, Edge};
use super::handoff::{Producer, handoff};
use super::lifecycle::{Lifecycle, rises};
use crate::failpoint::{self, Failpoints};

/// How much of an upload that nobody reads is taken off the wire, so that the client sees its answer and not a reset.
const DISCARD_BYTES: usize = 16 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// An upload up to this size that nobody reads is taken off the wire for the sake of the connection: a refusal need
/// not cost its client a handshake.
const KEEP_BYTES: u64 = 64 << 10;

/// How long the connection's own task has to send what was written before the stream is reset.
const FLUSH_TIME: Duration = Duration::from_millis(20);

/// The least that an upload must average once it was waited for longer than one client timeout, in bytes a second.
const LEAST_RATE: f64 = 1024.0;

/// At the very end, how long a service may take for a last word, and a client to take it.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What the loop of an exchange stops for.
enum Stop {
    /// The client left.
    Gone,
    /// The process must end now.
    Deadline,
}

pub(super) struct Exchange {
    session: ServerSession,
    upload: Upload,
    lifecycle: Lifecycle,
    keepalive: Option<u64>,
    /// Whether the answer's end is the connection's.
    ends_by_close: bool,
}

/// The side of an exchange that comes from the client.
struct Upload {
    state: UploadState,
    producer: Producer,
    expects_continue: bool,
    /// Since when the stack waits for a chunk.
    asked: Option<Instant>,
    /// How long the stack has waited for chunks so far.
    waited: Duration,
    bytes: usize,
    patience: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum UploadState {
    /// Nothing has been asked for: the client's bytes stay in the socket.
    Unasked,
    /// The stack waits for a chunk.
    Wanted,
    /// All is read; the connection is watched for the client's leaving.
    Done,
    /// Broken in a way that the stack has been told of; nothing more is read.
    Broken,
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn new<S, R>(session: ServerSession, edge: &Edge<S, R>, going_down: bool) -> Self {
        let keepalive =
            (!going_down && asks_keepalive(session.req_header())).then_some(edge.settings.keepalive.as_secs().max(1));
        let upload = Upload {
            state: UploadState::Done,
            producer: handoff().0,
            expects_continue: false,
            asked: None,
            waited: Duration::ZERO,
            bytes: 0,
            patience: edge.settings.client_timeout,
        };
        Self {
            session,
            upload,
            lifecycle: edge.lifecycle.clone(),
            keepalive,
            ends_by_close: false,
        }
    }

    /// Runs the service and writes its answer. Gives the session back when its connection can carry another request.
    pub(super) async fn run<S>(mut self, mut service: S) -> Option<ServerSession>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        self.session.set_keepalive(self.keepalive);
        let request = self.take_request();
        let version = request.version();
        let mut stop = pin!(ending(self.lifecycle.stopped()));

        let Ok(()) = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
        let answer = {
            let answering = pin!(service.call(request));
            self.until(answering, stop.as_mut()).await
        };
        let (head, body) = match answer {
            Ok(Ok(response)) => response.into_parts(),
            Err(_) => {
                // Dropping the service's future has cancelled whatever it had under way.
                self.cut().await;
                return None;
            }
        };
        if self.write(head, body, version, stop).await.is_err() {
            return None;
        }
        if !self.session.is_body_done() && !self.session.is_http2() {
            self.discard_upload().await;
        }
        Some(self.session)
    }

    /// Takes the request out of the session, which keeps what it needs of it for framing.
    fn take_request(&mut self) -> Request<Body> {
        // This call fixes the framing of the upload while the session still has the headers.
        let empty = self.session.is_body_empty();
        let peer = self
            .session
            .client_addr()
            .and_then(|address| address.as_inet())
            .copied();
        let tls = self.session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let kept = RequestHeader::build_no_case(self.session.req_header().method.as_str(), b"/", Some(0));
        let header = match kept {
            Ok(kept) => std::mem::replace(self.session.req_header_mut(), kept),
            Err(_) => self.session.req_header().clone(),
        };
        let parts: http::request::Parts = header.into();
        let body = if empty {
            self.upload.state = UploadState::Done;
            Body::empty()
        } else {
            let (producer, consumer) = handoff();
            self.upload.state = UploadState::Unasked;
            self.upload.producer = producer;
            self.upload.expects_continue = parts.version == Version::HTTP_11 && expects_continue(&parts.headers);
            let length = parts
                .headers
                .get(CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            let keeps = !self.upload.expects_continue && length.is_some_and(|length| length <= KEEP_BYTES);
            self.session.set_close_on_response_before_downstream_finish(!keeps);
            Body::upload(consumer, length)
        };
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(ConnInfo { peer, tls });
        request
    }

    /// Drives `out`, feeding it the upload as it asks, until it is ready, the client leaves or the process must end.
    async fn until<F: Future>(
        &mut self,
        mut out: Pin<&mut F>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<F::Output, Stop> {
        loop {
            let Self {
                session,
                upload,
                lifecycle,
                ..
            } = self;
            let failpoints = lifecycle.failpoints();
            let reads = matches!(upload.state, UploadState::Wanted | UploadState::Done);
            let asks = upload.state == UploadState::Unasked;
            let left = upload.left();
            tokio::select! {
                biased;
                output = out.as_mut() => return Ok(output),
                read = read(session, left, failpoints), if reads => {
                    upload.took(read)?;
                    if upload.state == UploadState::Unasked && session.is_body_done() {
                        upload.finish();
                    }
                }
                () = std::future::poll_fn(|cx| upload.producer.poll_wanted(cx)), if asks => {
                    upload.ask();
                    if std::mem::take(&mut upload.expects_continue) {
                        failpoint::at!(failpoints, ContinueWrite).map_err(|_| Stop::Gone)?;
                        session.write_continue_response().await.map_err(|_| Stop::Gone)?;
                    }
                }
                () = stop.as_mut() => return Err(Stop::Deadline),
            }
        }
    }

    /// Writes the answer; `stop` cuts the wait for a client that does not take it.
    async fn write(
        &mut self,
        mut head: http::response::Parts,
        mut body: Body,
        version: Version,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), ()> {
        let bodiless = self.is_bodiless(head.status);
        self.frame(&mut head, &body, version);
        self.decide_keepalive(&head, version);
        let failpoints = self.lifecycle.failpoints().clone();
        let writing = async {
            failpoint::at!(failpoints, HeadWrite).map_err(drop)?;
            let writing = self.session.write_response_header(Box::new(head.into()));
            writing.await.map_err(drop)
        };
        written(writing, stop.as_mut()).await?;
        let mut ended = bodiless || body.is_end_stream();
        if ended {
            let patience = self.upload.patience;
            // Pingora's own limit on writes leaves this flush out.
            let flushing = fast_timeout(patience, async {
                failpoint::at!(failpoints, EndWrite).map_err(drop)?;
                self.session.finish_body().await.map(drop).map_err(drop)
            });
            return written(async { flushing.await.map_err(drop)? }, stop).await;
        }
        while !ended {
            let frame = {
                let next = pin!(std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)));
                self.until(next, stop.as_mut()).await
            };
            match frame {
                Ok(Some(Ok(frame))) => {
                    ended = body.is_end_stream();
                    self.write_frame(frame, ended, stop.as_mut()).await?;
                }
                Ok(None) => {
                    ended = true;
                    let writing = async {
                        failpoint::at!(failpoints, EndWrite).map_err(drop)?;
                        self.session.write_response_body(Bytes::new(), true).await.map_err(drop)
                    };
                    written(writing, stop.as_mut()).await?;
                }
                Ok(Some(Err(_))) | Err(_) => {
                    // A broken answer must not look finished: no last chunk, no clean end of the stream.
                    drop(body);
                    if self.session.is_http2() {
                        // A reset throws away what is still queued, be it the head itself.
                        tokio::time::sleep(FLUSH_TIME).await;
                    }
                    self.cut().await;
                    return Err(());
                }
            }
        }
        Ok(())
    }

    async fn write_frame(
        &mut self,
        frame: Frame<Bytes>,
        ended: bool,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), ()> {
        match frame.into_data() {
            Ok(data) => {
                let writing = async {
                    failpoint::at!(self.lifecycle.failpoints(), FrameWrite).map_err(drop)?;
                    self.session.write_response_body(data, ended).await.map_err(drop)
                };
                written(writing, stop).await
            }
            Err(frame) => match frame.into_trailers() {
                // HTTP/1 has no use for them here; Pingora drops them there.
                Ok(trailers) => written(self.session.write_response_trailers(trailers), stop).await,
                Err(_) => Ok(()),
            },
        }
    }

    fn decide_keepalive(&mut self, head: &http::response::Parts, version: Version) {
        self.ends_by_close =
            version == Version::HTTP_10 && !head.headers.contains_key(CONTENT_LENGTH) && !self.is_bodiless(head.status);
        if self.ends_by_close || self.upload.state == UploadState::Broken || self.lifecycle.is_going_down() {
            self.session.set_keepalive(None);
        } else if self.session.is_body_done() {
            // Pingora took back the keep-alive when it wrote an interim 100 in the middle of the upload.
            self.session.set_keepalive(self.keepalive);
        }
    }

    /// Says how long the answer is, or that it comes in chunks: without either HTTP/1 would close the connection.
    fn frame(&self, head: &mut http::response::Parts, body: &Body, version: Version) {
        head.headers.remove(TRANSFER_ENCODING);
        head.headers.remove(CONNECTION);
        if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            // RFC 9110, section 8.6, and RFC 9112, section 6.1: these never have a body, and must not speak of one.
            head.headers.remove(CONTENT_LENGTH);
            return;
        }
        if self.session.req_header().method == Method::HEAD && body.is_end_stream() {
            return;
        }
        if let Some(length) = body.size_hint().exact() {
            head.headers.insert(CONTENT_LENGTH, length.into());
            return;
        }
        head.headers.remove(CONTENT_LENGTH);
        if version == Version::HTTP_11 {
            head.headers
                .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }

    fn is_bodiless(&self, status: StatusCode) -> bool {
        matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || self.session.req_header().method == Method::HEAD
    }

    /// Ends the connection (HTTP/1) or the stream (HTTP/2) in a way that no client takes for an end.
    ///
    /// HTTP/1.0 without a length has no such end: there TLS alone shows the break, by a session without a farewell.
    async fn cut(&mut self) {
        failpoint::pass!(self.lifecycle.failpoints(), Cut);
        self.session.set_keepalive(None);
        if self.session.is_http2() {
            self.session.shutdown_with_reason(h2::Reason::INTERNAL_ERROR);
        } else if !self.ends_by_close {
            self.session.shutdown().await;
        }
    }

    /// Reads on for a moment when the client was answered in the middle of its upload: to close with bytes unread
    /// resets the connection, and a reset can overtake the answer. (HTTP/2 resets one stream, after its answer.)
    async fn discard_upload(&mut self) {
        failpoint::pass!(self.lifecycle.failpoints(), UploadDiscard);
        let session = &mut self.session;
        if session.get_keepalive().is_none() {
            // The client need not wait for the end of this, least of all one that was never told to go on.
            session.shutdown().await;
        }
        let discarding = async {
            let mut left = DISCARD_BYTES;
            while let Ok(Some(chunk)) = session.read_request_body().await {
                left = left.saturating_sub(chunk.len());
                if left == 0 {
                    break;
                }
            }
        };
        // What could not be read in time is reset after all.
        let _ = tokio::time::timeout(DISCARD_TIME, discarding).await;
        if !self.session.is_body_done() {
            self.session.set_keepalive(None);
        }
    }
}

/// Ready when an exchange must be cut. A moment before, when its service is told to stop, this wakes the task: the
/// service is polled again, and may have a last word.
async fn ending(mut stop: watch::Receiver<bool>) {
    rises(&mut stop).await;
    tokio::time::sleep(LAST_WORD).await;
}

/// A write, unless `stop` comes first. One that was begun and not finished leaves nothing to go on with.
async fn written<T, E>(
    writing: impl Future<Output = Result<T, E>>,
    stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), ()> {
    tokio::select! {
        biased;
        written = writing => written.map(drop).map_err(drop),
        () = stop => Err(()),
    }
}

/// The next chunk, for which the client has so much time left, or the client's leaving when none is wanted.
///
/// `read_body_or_idle(false)` would seem to do for both, but once the last byte is read it waits for the end of the
/// connection, and never comes back with the end of the body. And Pingora's own timeout leaves HTTP/2 out.
async fn read(
    session: &mut ServerSession,
    left: Option<Duration>,
    failpoints: &Failpoints,
) -> pingora_error::Result<Option<Bytes>> {
    let Some(left) = left else {
        return session.read_body_or_idle(true).await;
    };
    let reading = async {
        failpoint::at!(failpoints, UploadChunk)
            .or_else(|_| pingora_error::Error::e_explain(ErrorType::ReadError, "a failpoint"))?;
        session.read_request_body().await
    };
    match fast_timeout(left, reading).await {
        Ok(read) => read,
        Err(_) => pingora_error::Error::e_explain(ErrorType::ReadTimedout, "reading the upload"),
    }
}

// === impl Upload ===

impl Upload {
    fn ask(&mut self) {
        self.state = UploadState::Wanted;
        self.asked = Some(Instant::now());
    }

    /// How much longer the client may take over the chunk that is wanted, if one is.
    fn left(&self) -> Option<Duration> {
        (self.state == UploadState::Wanted).then(|| {
            self.patience
                .saturating_sub(self.asked.map_or(Duration::ZERO, |asked| asked.elapsed()))
        })
    }

    fn took(&mut self, read: pingora_error::Result<Option<Bytes>>) -> Result<(), Stop> {
        // The time that the stack takes over a chunk is not the client's.
        self.waited += self.asked.take().map_or(Duration::ZERO, |asked| asked.elapsed());
        match read {
            Ok(Some(chunk)) => {
                self.bytes += chunk.len();
                if self.is_too_slow() {
                    self.fail(BodyError::ClientSlow);
                } else {
                    self.state = UploadState::Unasked;
                    self.producer.push(Ok(chunk));
                }
            }
            Ok(None) => self.finish(),
            Err(error) => match (error.etype(), self.state) {
                (_, UploadState::Done) => return Err(Stop::Gone),
                (ErrorType::ReadTimedout, _) => self.fail(BodyError::ClientSlow),
                (ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::H2Error, _) => {
                    return Err(Stop::Gone);
                }
                _ => self.fail(BodyError::Malformed),
            },
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.state = UploadState::Done;
        self.producer.finish();
    }

    fn fail(&mut self, error: BodyError) {
        self.state = UploadState::Broken;
        self.producer.push(Err(error));
    }

    /// A read timeout alone lets a client hold a request open for days, a byte at a time.
    fn is_too_slow(&self) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        let bytes = self.bytes as f64;
        self.waited > self.patience && bytes < LEAST_RATE * self.waited.as_secs_f64()
    }
}

// === the request's head ===

/// RFC 9112, section 9.3: HTTP/1.1 keeps a connection unless told otherwise, HTTP/1.0 closes it unless told otherwise.
fn asks_keepalive(head: &RequestHeader) -> bool {
    let mut keep = head.version != Version::HTTP_10;
    for value in head.headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            if token.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keep |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keep
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
