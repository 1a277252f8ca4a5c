//! Plays an answer to the wire: at the script's pace, in its pieces, with its faults.

use std::convert::Infallible;
use std::future::pending;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};

use super::answer::{Answer, Content, Event, Events, Kind, error_object, to_bytes};
use super::gzip;
use super::script::{Fault, Script};
use super::stats::InFlight;
use super::wire::Control;

/// What `wrong_length` announces for a stream, far more than comes.
const STREAM_LENGTH: u64 = 1 << 30;

/// The bytes that `wrong_length` announces and does not send.
const MISSING: u64 = 16;

pub(super) type Body = UnsyncBoxBody<Bytes, Broken>;

/// Ends a connection without a clean end.
#[derive(Debug)]
pub(super) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by the script")
    }
}

impl std::error::Error for Broken {}

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// An answer on its way out.
pub(super) struct Player {
    events: Peekable<Events>,
    error: Option<fn(u16) -> Bytes>,
    /// What is left of the event being sent.
    rest: Bytes,
    script: Script,
    pace: Duration,
    /// Content events sent.
    sent: u64,
    /// Tokens not yet counted, all of them at the end of an answer that is not streamed.
    uncounted: u64,
    /// Whether each piece is written by itself.
    flushes: bool,
    first: bool,
    ended: bool,
    request: InFlight,
    control: Arc<Control>,
}

/// What happens instead of the next event.
enum Strike {
    Stall,
    Cut,
    Reset,
    Error(u16),
    Break,
}

// === impl Player ===

impl Player {
    /// The body of `answer`, and the Content-Length to announce, if one.
    pub(super) fn play(
        answer: Answer,
        mut script: Script,
        request: InFlight,
        control: Arc<Control>,
    ) -> (Body, Option<u64>) {
        let uncounted = answer.usage.completion;
        let wrong_length = script.has(Fault::WrongLength);
        let flushes =
            matches!(answer.body, Content::Stream { .. }) || script.chunk_bytes.is_some() || !script.faults.is_empty();
        let (events, error, length, pace) = match answer.body {
            Content::Stream { events, error } => {
                let length = wrong_length.then_some(STREAM_LENGTH);
                (stream_events(events, &script), Some(error), length, script.pace())
            }
            Content::Whole(body) => {
                let body = whole(body, &script);
                let length = body.len() as u64 + if wrong_length { MISSING } else { 0 };
                // The halves stand for "before the body" and "within the body".
                for fault in &mut script.faults {
                    if let Fault::Cut(Some(n)) | Fault::Stall(Some(n)) | Fault::Reset(Some(n)) = fault {
                        *n = (*n).min(1);
                    }
                }
                (halves(&body, &script), None, Some(length), Duration::ZERO)
            }
        };
        let player = Self {
            events: events.peekable(),
            error,
            rest: Bytes::new(),
            script,
            pace,
            sent: 0,
            uncounted,
            flushes,
            first: true,
            ended: false,
            request,
            control,
        };
        let frames = stream::unfold(player, |mut player| async move {
            let frame = player.next().await?;
            Some((frame.map(Frame::data), player))
        });
        (StreamBody::new(frames).boxed_unsync(), length)
    }

    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        if self.first {
            self.first = false;
            if self.script.has(Fault::Close) {
                self.control.close.notify_one();
            }
        }
        if self.flushes {
            // Not being ready once lets the connection write what it holds: the head, or the piece before.
            tokio::task::yield_now().await;
        }
        if self.rest.is_empty() {
            if self.ended {
                return None;
            }
            match self.strike() {
                None => self.load().await?,
                Some(Strike::Stall) => pending().await,
                Some(Strike::Cut) => return Some(Err(self.broken())),
                Some(Strike::Reset) => {
                    self.control.reset();
                    return Some(Err(self.broken()));
                }
                Some(Strike::Error(code)) => {
                    self.rest = self.error.map(|error| error(code)).unwrap_or_default();
                    self.ended = true;
                }
                Some(Strike::Break) => {
                    self.load().await?;
                    self.rest.truncate(self.rest.len() / 2);
                    self.rest = [&self.rest, &b"\n\n"[..]].concat().into();
                }
            }
        }
        let size = self
            .script
            .chunk_bytes
            .map_or(self.rest.len(), |most| most.get().min(self.rest.len()));
        let piece = self.rest.split_to(size);
        if self.rest.is_empty() {
            self.after_event();
        }
        Some(Ok(piece))
    }

    /// Takes the next event, after its wait.
    async fn load(&mut self) -> Option<()> {
        let event = self.events.next()?;
        if event.kind == Kind::Content {
            if self.sent > 0 && !self.pace.is_zero() {
                tokio::time::sleep(self.pace).await;
            }
            self.sent += 1;
            if self.error.is_some() && self.uncounted > 0 {
                self.uncounted -= 1;
                self.request.wrote(1);
            }
        }
        self.rest = event.bytes;
        Some(())
    }

    /// A body of known length is not asked for more once it is complete, so the end is seen here.
    fn after_event(&mut self) {
        if self.ended || (self.strike().is_none() && self.events.peek().is_none()) {
            self.ended = true;
            self.request.wrote(std::mem::take(&mut self.uncounted));
            self.request.finish();
        }
    }

    /// The fault, if any, that is due before the next event.
    fn strike(&mut self) -> Option<Strike> {
        let content = self.events.peek().is_some_and(|event| event.kind == Kind::Content);
        let stream = self.error.is_some();
        self.script.faults.iter().find_map(|fault| match *fault {
            Fault::Stall(Some(n)) if n == self.sent => Some(Strike::Stall),
            Fault::Cut(Some(n)) if n == self.sent => Some(Strike::Cut),
            Fault::Reset(Some(n)) if n == self.sent => Some(Strike::Reset),
            Fault::ErrorEvent(n, code) if stream && n == self.sent => Some(Strike::Error(code)),
            Fault::BrokenJson(n) if stream && content && n == self.sent => Some(Strike::Break),
            _ => None,
        })
    }

    fn broken(&mut self) -> Broken {
        self.ended = true;
        self.request.finish();
        Broken
    }
}

/// The events of a stream with the faults that change all of it.
fn stream_events(events: Events, script: &Script) -> Events {
    let events: Events = if script.has(Fault::NoDone) {
        Box::new(events.filter(|event| event.kind != Kind::Done))
    } else {
        events
    };
    if script.has(Fault::Gzip) {
        gzip::encode(events)
    } else {
        events
    }
}

/// A whole body with the faults that change what it says.
fn whole(body: Bytes, script: &Script) -> Bytes {
    let body = script.faults.iter().fold(body, |body, fault| match *fault {
        Fault::BrokenJson(_) => body.slice(..body.len() / 2),
        Fault::ErrorEvent(_, code) => to_bytes(&error_object(code)),
        _ => body,
    });
    if script.has(Fault::Gzip) {
        gzip::encode_whole(body)
    } else {
        body
    }
}

fn halves(body: &Bytes, script: &Script) -> Events {
    let event = |bytes| Event {
        kind: Kind::Content,
        bytes,
    };
    let split = script.faults.iter().any(|fault| {
        matches!(
            fault,
            Fault::Cut(Some(1)) | Fault::Stall(Some(1)) | Fault::Reset(Some(1))
        )
    });
    let half = if split { body.len() / 2 } else { body.len() };
    let pieces = [body.slice(..half), body.slice(half..)];
    Box::new(pieces.into_iter().filter(|piece| !piece.is_empty()).map(event))
}
