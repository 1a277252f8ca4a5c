//! What settles one request exactly once, whatever happens to it.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderMap, StatusCode};

use super::json::Finder;
use super::sse::{Seen, Sse};
use super::{End, Outcome, Plan, Sink, Terminal};
use crate::{Reason, Rejection};

/// Settles on drop, when nothing did before.
pub(super) struct Guard<K: Sink> {
    /// Gone once settled.
    sink: Option<K>,
    strip: bool,
    terminal: Terminal,
    started: Instant,
    first_byte: Option<Instant>,
    status: Option<StatusCode>,
    bytes_out: u64,
    reading: Reading,
    /// The service or its body is being polled: a drop in this state is that of a panic.
    watched: bool,
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
    pub(super) fn new(plan: Plan<K>) -> Self {
        Self {
            sink: Some(plan.sink),
            strip: plan.strip,
            terminal: plan.terminal,
            started: Instant::now(),
            first_byte: None,
            status: None,
            bytes_out: 0,
            reading: Reading::Nothing,
            watched: false,
        }
    }

    /// Looks at the answer's head and decides how to read what follows.
    pub(super) fn head(&mut self, head: &mut Parts) -> Result<(), Rejection> {
        self.status = Some(head.status);
        if !head.status.is_success() {
            return Ok(());
        }
        let identity = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
        if !head.headers.get_all(CONTENT_ENCODING).iter().all(identity) {
            return Err(Reason::UpstreamFailed.into());
        }
        self.reading = match essence(&head.headers) {
            Some(kind) if kind.eq_ignore_ascii_case("text/event-stream") => {
                if self.strip {
                    head.headers.remove(CONTENT_LENGTH);
                }
                Reading::Sse(Box::new(Sse::new(self.strip, self.terminal)))
            }
            Some(kind) if kind.to_ascii_lowercase().ends_with("json") => Reading::Json(Box::default()),
            _ => Reading::Nothing,
        };
        Ok(())
    }

    /// The body may come out shorter than it went in.
    pub(super) fn shortens(&self) -> bool {
        self.strip && matches!(self.reading, Reading::Sse(_))
    }

    /// Reads a chunk along and puts what goes on into `out`.
    pub(super) fn feed(&mut self, chunk: Bytes, out: &mut VecDeque<Bytes>) {
        self.first_byte.get_or_insert_with(Instant::now);
        match &mut self.reading {
            Reading::Nothing => out.push_back(chunk),
            Reading::Json(finder) => {
                finder.feed(&chunk);
                out.push_back(chunk);
            }
            Reading::Sse(sse) => sse.feed(&chunk, out),
        }
    }

    /// The body ended by itself: lets go of what was held back, and settles.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Bytes>) -> Result<(), Rejection> {
        if let Reading::Sse(sse) = &mut self.reading {
            sse.finish(out);
        }
        self.count(out);
        let seen = self.seen();
        let cut = match &self.reading {
            Reading::Nothing => false,
            Reading::Json(finder) => self.status != Some(StatusCode::NO_CONTENT) && !finder.whole(),
            Reading::Sse(_) => self.terminal != Terminal::None && !seen.terminal,
        };
        let failed = cut || seen.error;
        self.settle(if failed {
            End::Failed(Reason::UpstreamFailed)
        } else {
            End::Complete
        });
        match (cut, seen.error) {
            (false, _) => Ok(()),
            (true, false) => Err(Reason::UpstreamFailed.into()),
            (true, true) => Err(Rejection::new(Reason::UpstreamFailed).with_told()),
        }
    }

    /// The body failed: what was held back still goes on before the error does.
    pub(super) fn fail(&mut self, error: Rejection, out: &mut VecDeque<Bytes>) -> Rejection {
        let mut told = false;
        if let Reading::Sse(sse) = &mut self.reading {
            sse.finish(out);
            told = sse.seen().error;
        }
        self.count(out);
        self.settle(End::Failed(error.reason()));
        if told { error.with_told() } else { error }
    }

    /// Counts what is about to go on; called once for what is in `out`.
    pub(super) fn count(&mut self, out: &VecDeque<Bytes>) {
        self.bytes_out += out.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
    }

    pub(super) fn settle(&mut self, end: End) {
        let Some(sink) = self.sink.take() else { return };
        let seen = self.seen();
        sink.settle(Outcome {
            usage: seen.reports.usage(),
            end,
            status: self.status,
            bytes_out: self.bytes_out,
            first_byte: self.first_byte.map(|at| at - self.started),
            elapsed: self.started.elapsed(),
            saw_done: seen.done,
            saw_error_event: seen.error,
            saw_finish_reason: seen.finish_reason,
            content_bytes: seen.content,
        });
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
        } else if seen.terminal {
            // SDKs hang up at the terminal event, whatever bytes follow it.
            End::Complete
        } else {
            End::Disconnected
        });
    }
}

fn essence(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}
