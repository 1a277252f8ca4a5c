//! One exchange with a backend, from the first byte of the request to the head of the answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use pingora_error::RetryType;
use tokio::io::AsyncWriteExt;

use super::super::body::{Body, BoxError};
use super::body::{Connection, UpstreamBody};
use super::error::UpstreamError;
use super::head::Head;
use super::origin::{Origin, Place, Ready};
use super::{Reused, Sent};
use crate::failpoint;

/// The largest body that is copied behind its head, to go out in one write. Pingora's own way takes two, which for
/// small requests is a system call, a packet and a wake-up of the backend too many.
const ONE_WRITE: u64 = 64 << 10;

/// One exchange, and one more on a fresh connection when a pooled one turns out to be dead before any answer.
pub(super) async fn exchange<B>(
    origin: &Arc<Origin>,
    head: Head,
    body: B,
    sent: &Sent,
) -> Result<Response<Body>, UpstreamError>
where
    B: http_body::Body<Data = Bytes> + Clone + Unpin,
    B::Error: Into<BoxError>,
{
    let (ready, place, reused) = origin.connect(false).await?;
    sent.begins();
    // A connection of HTTP/2 that is going away takes no more streams, so the pool is safe to ask again. To go around
    // the pool would also leave the new connection in it for ever, under a key that nobody asks for.
    let fresh = !matches!(&ready, Ready::Session(session) if session.as_http2().is_some());
    match send(ready, &place, &head, body.clone()).await {
        Ok(session) => return Ok(answer(session, place, reused).await),
        Err(error) if reused && error.retry_fresh => {
            tracing::debug!(%error, "a pooled connection was dead; one fresh attempt");
        }
        Err(error) => return Err(error),
    }
    // Boxed, because it is rare and its future as large again.
    Box::pin(async {
        let (ready, place, reused) = origin.connect(fresh).await?;
        let session = send(ready, &place, &head, body).await?;
        Ok(answer(session, place, reused).await)
    })
    .await
}

/// Sends the request and reads the head of the answer.
async fn send<B>(ready: Ready, place: &Place, head: &Head, body: B) -> Result<HttpSession, UpstreamError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    failpoint::at!(place.failpoints(), RequestWrite).map_err(UpstreamError::failpoint)?;
    let small = body.size_hint().exact().is_some_and(|length| length <= ONE_WRITE);
    let (mut session, written) = match ready {
        // Pingora must know of a HEAD that it has sent, to expect no body.
        Ready::Http1(stream) if small && head.method != Method::HEAD => {
            let (stream, written) = write_whole(stream, head, body).await?;
            (
                HttpSession::H1(Http1Session::new_with_options(stream, &*place.peer)),
                written,
            )
        }
        Ready::Http1(stream) => {
            let mut session = HttpSession::H1(Http1Session::new_with_options(stream, &*place.peer));
            let written = write(&mut session, head, body).await?;
            (session, written)
        }
        Ready::Session(mut session) => {
            let written = write(&mut session, head, body).await?;
            (session, written)
        }
    };
    failpoint::at!(place.failpoints(), ResponseHead).map_err(UpstreamError::failpoint)?;
    // A backend may answer and close before it has read the whole request: look for its answer all the same.
    match (written, read_head(&mut session).await) {
        (_, Ok(())) => Ok(session),
        (Err(error), Err(_)) | (Ok(()), Err(error)) => Err(error),
    }
}

/// Whether the request went out whole; the outer error is the body's own.
type Written<T> = Result<T, UpstreamError>;

async fn write_whole<B>(mut stream: Stream, head: &Head, body: B) -> Written<(Stream, Written<()>)>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let body = body
        .collect()
        .await
        .map_err(|error| UpstreamError::exchange(error, false))?
        .to_bytes();
    let wire = head.to_wire(&body);
    let written = async {
        stream.write_all(&wire).await?;
        stream.flush().await
    };
    let written = written.await.map_err(|error| UpstreamError::exchange(error, true));
    Ok((stream, written))
}

async fn write<B>(session: &mut HttpSession, head: &Head, mut body: B) -> Written<Written<()>>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let http2 = session.as_http2().is_some();
    let empty = body.is_end_stream();
    let mut written = session.write_request_header(head.to_pingora(http2)).await;
    while let (Ok(()), false) = (&written, body.is_end_stream()) {
        let frame = body
            .frame()
            .await
            .transpose()
            .map_err(|error| UpstreamError::exchange(error, false))?;
        let Some(frame) = frame else { break };
        if let Ok(chunk) = frame.into_data() {
            let end = body.is_end_stream();
            written = session.write_request_body(chunk, end).await;
        }
    }
    // HTTP/1 takes the end of a request only from here; on HTTP/2 it may have gone out with the last chunk.
    if written.is_ok() && (!empty || http2) {
        written = session.finish_request_body().await;
    }
    Ok(written.map_err(|error| UpstreamError::exchange_pingora(&error, true)))
}

/// Reads past interim answers to the final head.
async fn read_head(session: &mut HttpSession) -> Result<(), UpstreamError> {
    loop {
        session.read_response_header().await.map_err(|error| {
            // Pingora marks a dead pooled connection, but also one that died inside a head, and by then the backend
            // had begun to answer: only its text tells the two apart.
            let began = error
                .context
                .as_ref()
                .is_some_and(|text| !text.as_str().ends_with("read: 0"));
            let retry = match error.retry {
                RetryType::ReusedOnly => session.as_http2().is_some() || !began,
                // HTTP/2 says so itself: a stream refused, a connection that is going away.
                RetryType::Decided(retry) => retry,
            };
            UpstreamError::exchange_pingora(&error, retry)
        })?;
        let interim = session
            .response_header()
            .is_some_and(|head| head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS);
        if !interim {
            return Ok(());
        }
    }
}

async fn answer(mut session: HttpSession, place: Place, reused: bool) -> Response<Body> {
    let mut response = Response::new(());
    if let Some(head) = session.response_header() {
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers.clone();
    }
    response.extensions_mut().insert(Reused(reused));
    let chunked = response.headers().contains_key(TRANSFER_ENCODING);
    let length = response
        .headers()
        .get(CONTENT_LENGTH)
        .filter(|_| !chunked)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let body = if session.response_done() {
        // Now: nobody polls the body of an answer that has none.
        place.release(session).await;
        Body::empty()
    } else {
        Body::upstream(UpstreamBody::new(Connection { session, place }, length))
    };
    response.map(|()| body)
}
