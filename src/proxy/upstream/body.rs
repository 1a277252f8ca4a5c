//! The body of a backend's answer, read as it is asked for.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pingora_core::protocols::http::client::HttpSession;
use tokio_util::sync::ReusableBoxFuture;

use super::error::UpstreamError;
use super::origin::Place;
use crate::failpoint;

/// The body of a backend's answer, still on its connection.
pub(in crate::proxy) struct UpstreamBody {
    state: State,
    remaining: Option<u64>,
}

enum State {
    Reading(ReusableBoxFuture<'static, Read>),
    Done,
}

pub(super) struct Connection {
    pub(super) session: HttpSession,
    pub(super) place: Place,
}

struct Read {
    frame: Option<Result<Frame<Bytes>, UpstreamError>>,
    connection: Option<Box<Connection>>,
}

async fn read(mut connection: Box<Connection>) -> Read {
    if let Err(failed) = failpoint::at!(connection.place.failpoints(), ResponseFrame) {
        return Read {
            frame: Some(Err(UpstreamError::failpoint(failed))),
            connection: None,
        };
    }
    let frame = match connection.session.read_response_body().await {
        Ok(Some(chunk)) => {
            if !connection.session.response_done() {
                return Read {
                    frame: Some(Ok(Frame::data(chunk))),
                    connection: Some(connection),
                };
            }
            Some(Ok(Frame::data(chunk)))
        }
        Ok(None) => connection.trailers().await,
        Err(error) => {
            let error = UpstreamError::exchange_pingora(&error, false);
            return Read {
                frame: Some(Err(error)),
                connection: None,
            };
        }
    };
    // Back to the pool before the last bytes go on: a client's next request then finds the connection there.
    connection.release().await;
    Read {
        frame,
        connection: None,
    }
}

// === impl Connection ===

impl Connection {
    async fn release(self: Box<Self>) {
        let Self { session, place } = *self;
        place.release(session).await;
    }

    async fn trailers(&mut self) -> Option<Result<Frame<Bytes>, UpstreamError>> {
        let HttpSession::H2(session) = &mut self.session else {
            return None;
        };
        match session.read_trailers().await {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(UpstreamError::exchange_pingora(&error, false))),
        }
    }
}

// === impl UpstreamBody ===

impl UpstreamBody {
    /// The body behind a head that was just read; `length` as its Content-Length says.
    pub(super) fn new(connection: Connection, length: Option<u64>) -> Self {
        let reading = ReusableBoxFuture::new(read(Box::new(connection)));
        Self {
            state: State::Reading(reading),
            remaining: length,
        }
    }

    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let State::Reading(reading) = &mut self.state else {
            return Poll::Ready(None);
        };
        let Read { frame, connection } = ready!(reading.poll(cx));
        match connection {
            Some(connection) => reading.set(read(connection)),
            None => self.state = State::Done,
        }
        if let (Some(remaining), Some(Ok(frame))) = (&mut self.remaining, &frame) {
            *remaining = remaining.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(frame)
    }

    pub(in crate::proxy) fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done)
    }

    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        match (&self.state, self.remaining) {
            (State::Done, _) => SizeHint::with_exact(0),
            (_, Some(remaining)) => SizeHint::with_exact(remaining),
            _ => SizeHint::default(),
        }
    }
}
