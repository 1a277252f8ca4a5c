//! What settles one request exactly once, whatever happens to it.

use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::response::Parts as Head;
use http::{HeaderMap, StatusCode};

use super::count::Count;
use super::json::Finder;
use super::parts::Parts;
use super::sse::{HOLD_MAX, Seen, Sse};
use super::{End, More, Outcome, Plan, Settled, Sink, Terminal, Usage};
use crate::{Reason, Rejection};

/// Settles on drop, when nothing did before.
pub(super) struct Guard<K: Sink> {
    /// Gone once settled.
    sink: Option<K>,
    strip: bool,
    grow: Option<Grow>,
    terminal: Terminal,
    /// The answer has no body, whatever its head says.
    bodiless: bool,
    /// Counts the answer's text; where that is read along, the reader has it.
    count: Option<Count>,
    started: Instant,
    first_byte: Option<Instant>,
    status: Option<StatusCode>,
    /// What is on its way to the client.
    pub(super) parts: Parts,
    reading: Reading,
    /// The service or its body is being polled: a drop in this state is that of a panic.
    watched: bool,
}

/// What is asked of the sink while a stream grows.
struct Grow {
    /// The client is told the usage when the stream is cut.
    tell: bool,
    /// Bytes of text that the sink knows of.
    known: u64,
    /// What was used up to the cut.
    cut: Option<Usage>,
}

/// How an answer is read along.
enum Reading {
    /// Not at all.
    Nothing,
    Json(Box<Finder>),
    Sse(Box<Sse>),
}

/// Calls `inner`, marking the guard so that it can tell a panic from a client that has gone.
pub(super) fn watched<K: Sink, T>(guard: &mut Option<Guard<K>>, inner: impl FnOnce() -> T) -> T {
    let mark = |guard: &mut Option<Guard<K>>, watched| {
        if let Some(guard) = guard {
            guard.watched = watched;
        }
    };
    mark(guard, true);
    let out = inner();
    mark(guard, false);
    out
}

impl<K: Sink> Guard<K> {
    /// `bodiless`: what answers the request has no body (HEAD).
    pub(super) fn new(plan: Plan<K>, bodiless: bool) -> Self {
        Self {
            sink: Some(plan.sink),
            strip: plan.strip,
            grow: plan.grow.filter(|_| plan.terminal != Terminal::None).map(|tell| Grow {
                tell,
                known: 0,
                cut: None,
            }),
            terminal: plan.terminal,
            bodiless,
            count: plan.count,
            started: Instant::now(),
            first_byte: None,
            status: None,
            parts: Parts::default(),
            reading: Reading::Nothing,
            watched: false,
        }
    }

    /// Looks at the answer's head and decides how to read what follows.
    pub(super) fn head(&mut self, head: &mut Head) -> Result<(), Rejection> {
        self.status = Some(head.status);
        if !head.status.is_success() {
            return Ok(());
        }
        let identity = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
        if !head.headers.get_all(CONTENT_ENCODING).iter().all(identity) {
            return Err(Reason::UpstreamFailed.into());
        }
        self.reading = match essence(&head.headers) {
            _ if self.bodiless => Reading::Nothing,
            Some(kind) if kind.eq_ignore_ascii_case("text/event-stream") => {
                if self.strip || self.grow.is_some() {
                    head.headers.remove(CONTENT_LENGTH);
                }
                Reading::Sse(Box::new(Sse::new(
                    self.strip,
                    self.terminal,
                    self.grow.is_some(),
                    self.count.take(),
                )))
            }
            Some(kind) if kind.to_ascii_lowercase().ends_with("json") => Reading::Json(Box::default()),
            _ => Reading::Nothing,
        };
        Ok(())
    }

    /// The body may come out with another length than it went in.
    pub(super) fn changes_length(&self) -> bool {
        (self.strip || self.grow.is_some()) && matches!(self.reading, Reading::Sse(_))
    }

    /// Reads a chunk along.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        self.first_byte.get_or_insert_with(Instant::now);
        match &mut self.reading {
            Reading::Nothing => self.parts.push(chunk),
            Reading::Json(finder) => {
                finder.feed(&chunk, &mut self.count);
                self.parts.push(chunk);
            }
            Reading::Sse(sse) => sse.feed(&chunk, &mut self.parts),
        }
    }

    /// More may come after the chunk that was fed: settles all the same where it has completed the answer, and where the
    /// answer is to end with it. What makes it complete is held until the charge is done.
    pub(super) fn fed(&mut self) -> Settled {
        let over = match &mut self.reading {
            Reading::Nothing => return Settled::done(),
            // What follows the last brace should be nothing. If it is too much of that, it is not waited for.
            Reading::Json(finder) if finder.closed() => self.parts.hold_brace() && self.parts.held() > HOLD_MAX,
            Reading::Json(_) => {
                self.parts.release();
                return Settled::done();
            }
            Reading::Sse(sse) => {
                sse.is_complete() || may_cut(sse, self.sink.as_mut(), self.grow.as_mut(), &mut self.parts)
            }
        };
        if !over {
            return Settled::done();
        }
        let settled = self.settle(self.end());
        if settled.is_done() {
            self.parts.release();
        }
        settled
    }

    /// Whether the answer ends here because its sink wants it so.
    pub(super) fn is_cut(&self) -> bool {
        self.grow.as_ref().is_some_and(|grow| grow.cut.is_some())
    }

    /// The body ended by itself: lets go of what was held back, and settles. What completes the answer is held until the
    /// charge is done.
    pub(super) fn finish(&mut self) -> Result<Settled, Rejection> {
        if let Reading::Sse(sse) = &mut self.reading {
            sse.finish(&mut self.parts);
        }
        let seen = self.seen();
        let cut = match &self.reading {
            Reading::Nothing => false,
            Reading::Json(finder) => self.status != Some(StatusCode::NO_CONTENT) && !finder.whole(),
            Reading::Sse(_) => self.terminal != Terminal::None && !seen.terminal,
        };
        let settled = self.settle(if cut {
            End::Failed(Reason::UpstreamFailed)
        } else {
            self.end()
        });
        if cut || settled.is_done() {
            self.parts.release();
        } else {
            self.parts.hold_all();
        }
        match (cut, seen.error) {
            (false, _) => Ok(settled),
            (true, false) => Err(Reason::UpstreamFailed.into()),
            (true, true) => Err(Rejection::new(Reason::UpstreamFailed).with_told()),
        }
    }

    /// The body failed: what is no end of it still goes on before the error does.
    pub(super) fn fail(&mut self, error: Rejection) -> Rejection {
        let mut told = false;
        if let Reading::Sse(sse) = &mut self.reading {
            sse.finish(&mut self.parts);
            told = sse.seen().error;
        }
        self.parts.discard();
        self.settle(End::Failed(error.reason()));
        if told { error.with_told() } else { error }
    }

    /// Tells the sink, once. It has the charge in hand when this returns: what is to be waited for may be let go.
    pub(super) fn settle(&mut self, end: End) -> Settled {
        let Some(sink) = self.sink.take() else {
            return Settled::done();
        };
        let seen = self.seen();
        let cut = self.grow.as_ref().and_then(|grow| grow.cut);
        let usage = cut.or_else(|| seen.reports.usage());
        let count = match &mut self.reading {
            Reading::Sse(sse) => sse.take_count(),
            Reading::Nothing | Reading::Json(_) => self.count.take(),
        };
        let read = !matches!(self.reading, Reading::Nothing);
        sink.settle(Outcome {
            usage,
            counted: count.filter(|_| usage.is_none() && read).map(Count::end),
            end,
            status: self.status,
            bytes_out: self.parts.total(),
            first_byte: self.first_byte.map(|at| at - self.started),
            elapsed: self.started.elapsed(),
            saw_done: seen.done,
            saw_error_event: seen.error,
            saw_finish_reason: seen.finish_reason,
            content_bytes: seen.content,
            cut_short: cut.is_some(),
        })
    }

    /// How an answer ended that is complete.
    fn end(&self) -> End {
        if self.seen().error {
            End::Failed(Reason::UpstreamFailed)
        } else {
            End::Complete
        }
    }

    fn seen(&self) -> Seen {
        match &self.reading {
            Reading::Nothing => Seen::default(),
            Reading::Json(finder) => Seen {
                reports: finder.reports(),
                content: finder.content(),
                error: finder.error(),
                ..Seen::default()
            },
            Reading::Sse(sse) => sse.seen(),
        }
    }
}

impl<K: Sink> Drop for Guard<K> {
    fn drop(&mut self) {
        if self.sink.is_none() {
            return;
        }
        let seen = self.seen();
        self.settle(if self.watched {
            End::Failed(Reason::Internal)
        } else if seen.error {
            End::Failed(Reason::UpstreamFailed)
        } else {
            End::Disconnected
        });
    }
}

/// Asks the sink about text that is new, and cuts the stream when it must not go on and there is something to cut.
fn may_cut(sse: &mut Sse, sink: Option<&mut impl Sink>, grow: Option<&mut Grow>, parts: &mut Parts) -> bool {
    let (Some(sink), Some(grow)) = (sink, grow) else {
        return false;
    };
    let content = sse.seen().content;
    if content <= grow.known {
        return false;
    }
    grow.known = content;
    let More::Stop(usage) = sink.more(content) else {
        return false;
    };
    if !sse.can_cut() {
        return false;
    }
    sse.cut(&usage, grow.tell, parts);
    grow.cut = Some(usage);
    true
}

fn essence(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}
