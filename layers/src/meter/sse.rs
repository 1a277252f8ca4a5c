//! Reading a stream of events while it passes, and taking one event out of it.
//!
//! The splitter follows the event stream format of the HTML standard (section 9.2.6): lines end in CR, LF or CRLF, a
//! blank line ends an event, a byte order mark may come first. It works on bytes, so a character that is cut by a chunk
//! needs no care.

use std::collections::VecDeque;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder as Needle;
use memchr::{memchr2, memmem};

use super::json::Finder;
use super::usage::{Event, Reports};

/// Of a line that is cut by chunks, how much is gathered; what is longer is followed without being kept.
const LINE_MAX: usize = 64 * 1024;
/// How large the event that is stripped may be, and so how much is ever held back.
const HOLD_MAX: usize = 16 * 1024;

/// How a stream says that it is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Terminal {
    /// It just ends.
    #[default]
    None,
    /// `data: [DONE]`: OpenAI's chat and completions.
    Done,
    /// `response.completed`, `response.failed` or `response.incomplete`: OpenAI's responses.
    Responses,
    /// `message_stop`: Anthropic's messages.
    Messages,
}

/// What was seen in a stream so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) reports: Reports,
    /// The event that completes the stream.
    pub(super) terminal: bool,
    /// `[DONE]`, whatever completes the stream.
    pub(super) done: bool,
    pub(super) error: bool,
    pub(super) finish_reason: bool,
    /// Bytes of the answer's text, as they stand in the JSON.
    pub(super) content: u64,
}

/// The reader of one stream.
#[derive(Debug)]
pub(super) struct Sse {
    strip: bool,
    terminal: Terminal,
    seen: Seen,
    /// The line that began in an earlier chunk, as far as it came.
    line: Vec<u8>,
    /// Takes over from `line` when that is full.
    overlong: Option<Finder>,
    /// The chunks of that line, while it may still be the event to strip.
    held: Vec<Bytes>,
    /// That line, or its beginning, has gone out.
    passed: bool,
    first_line: bool,
    /// The last line ended in CR: an LF that follows belongs to it, and shares its fate.
    after_cr: Option<Fate>,
    event: EventState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    Stripped,
}

/// What the event at hand has had so far.
#[derive(Clone, Copy, Debug, Default)]
struct EventState {
    /// Any line, which went out.
    lines: bool,
    data: bool,
    /// Its only line was stripped: so is the blank one.
    stripped: bool,
}

struct Needles {
    usage: Needle<'static>,
    choices: Needle<'static>,
    error: Needle<'static>,
    finish: Needle<'static>,
    content: [Needle<'static>; 5],
    delta: [Needle<'static>; 1],
    blocks: [Needle<'static>; 3],
}

static NEEDLES: LazyLock<Needles> = LazyLock::new(|| Needles {
    usage: Needle::new("\"usage\""),
    choices: Needle::new("\"choices\""),
    error: Needle::new("\"error\""),
    finish: Needle::new("\"finish_reason\""),
    content: [
        "\"content\"",
        "\"text\"",
        "\"arguments\"",
        "\"reasoning_content\"",
        "\"reasoning\"",
    ]
    .map(Needle::new),
    delta: ["\"delta\""].map(Needle::new),
    blocks: ["\"text\"", "\"partial_json\"", "\"thinking\""].map(Needle::new),
});

// === impl Sse ===

impl Sse {
    /// `strip`: takes out the event that has no choices and a usage object.
    pub(super) fn new(strip: bool, terminal: Terminal) -> Self {
        Self {
            strip,
            terminal,
            seen: Seen::default(),
            line: Vec::new(),
            overlong: None,
            held: Vec::new(),
            passed: false,
            first_line: true,
            after_cr: None,
            event: EventState::default(),
        }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen
    }

    /// Reads a chunk and puts what may go out into `out`: the chunk itself, when nothing in it is to be kept back.
    pub(super) fn feed(&mut self, chunk: &Bytes, out: &mut VecDeque<Bytes>) {
        // What of the chunk has not gone out begins at `from`; the line at hand, at `at`.
        let (mut from, mut at) = (0, 0);
        while at < chunk.len() {
            if let Some(fate) = self.after_cr.take()
                && chunk[at] == b'\n'
            {
                at += 1;
                if fate == Fate::Stripped {
                    push(out, chunk, from, at - 1);
                    from = at;
                }
                continue;
            }
            let Some(length) = memchr2(b'\r', b'\n', &chunk[at..]) else {
                break;
            };
            let end = at + length + 1;
            let fate = self.end_line(&chunk[at..end - 1]);
            if fate == Fate::Stripped {
                self.held.clear();
                push(out, chunk, from, at);
                from = end;
            } else {
                out.extend(self.held.drain(..));
            }
            if chunk[end - 1] == b'\r' {
                self.after_cr = Some(fate);
            }
            at = end;
        }
        if at < chunk.len() && self.begin_line(&chunk[at..]) {
            push(out, chunk, from, at);
            self.held.push(chunk.slice(at..));
        } else {
            out.extend(self.held.drain(..));
            push(out, chunk, from, chunk.len());
        }
    }

    /// The stream ended: what was held back was not the event.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Bytes>) {
        out.extend(self.held.drain(..));
        if !self.line.is_empty() || self.overlong.is_some() {
            // A last line without an end is no line to a client either, but its usage counts.
            self.passed = true;
            self.end_line(&[]);
        }
    }

    /// Takes a part of a line whose end has not come; true when it is to be held back.
    fn begin_line(&mut self, part: &[u8]) -> bool {
        if let Some(finder) = &mut self.overlong {
            finder.feed(part);
            return false;
        }
        self.line.extend_from_slice(part);
        let held = self.strip && !self.passed && self.may_be_stripped(&self.line);
        self.passed = !held;
        if self.line.len() > LINE_MAX {
            let line = std::mem::take(&mut self.line);
            self.note_marks(data_of(&line).unwrap_or(&line));
            let mut finder = Finder::default();
            finder.feed(&line);
            self.overlong = Some(finder);
        }
        held
    }

    /// A line ended; `rest` is what had not come before.
    fn end_line(&mut self, rest: &[u8]) -> Fate {
        let passed = std::mem::take(&mut self.passed);
        if let Some(mut finder) = self.overlong.take() {
            finder.feed(rest);
            self.seen.reports.merge(finder.reports());
            self.seen.content += finder.content();
            self.event = EventState {
                lines: true,
                data: true,
                stripped: false,
            };
            self.first_line = false;
            return Fate::Passes;
        }
        if self.line.is_empty() {
            return self.whole_line(rest, passed);
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(rest);
        let fate = self.whole_line(&line, passed);
        line.clear();
        self.line = line;
        fate
    }

    fn whole_line(&mut self, line: &[u8], passed: bool) -> Fate {
        let first = std::mem::take(&mut self.first_line);
        let text = if first {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        } else {
            line
        };
        if text.is_empty() {
            let stripped = std::mem::take(&mut self.event).stripped;
            return if stripped { Fate::Stripped } else { Fate::Passes };
        }
        let event = data_of(text).and_then(|data| self.note_data(data));
        if let Some(name) = text.strip_prefix(b"event:") {
            self.note_name(name.trim_ascii());
        }
        let strip = self.strip && !passed && self.may_be_stripped(line);
        if strip && event.is_some_and(|event| event.is_usage_alone(data_of(line).unwrap_or_default())) {
            self.event.stripped = !self.event.lines;
            self.event.data = true;
            return Fate::Stripped;
        }
        self.event.lines = true;
        self.event.stripped = false;
        self.event.data |= text.starts_with(b"data");
        Fate::Passes
    }

    /// Whether a line, or the beginning of one, can be the event to strip. Once false it stays false, however the line
    /// goes on, so that what is stripped does not depend on how the stream was cut.
    fn may_be_stripped(&self, line: &[u8]) -> bool {
        if self.event.data || line.len() > HOLD_MAX {
            return false;
        }
        match line.strip_prefix(b"data:") {
            None => b"data:".starts_with(line),
            Some(data) => {
                let data = data.trim_ascii_start();
                (data.is_empty() || data[0] == b'{') && !has_choices(data)
            }
        }
    }

    fn note_name(&mut self, name: &[u8]) {
        self.seen.error |= matches!(name, b"error" | b"response.failed");
        self.seen.terminal |= match self.terminal {
            Terminal::Responses => matches!(
                name,
                b"response.completed" | b"response.failed" | b"response.incomplete"
            ),
            Terminal::Messages => name == b"message_stop",
            Terminal::None | Terminal::Done => false,
        };
    }

    /// Reads the data of an event. It is walked only where a search says that there may be something in it.
    fn note_data(&mut self, data: &[u8]) -> Option<Event> {
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.seen.done = true;
            self.seen.terminal |= self.terminal == Terminal::Done;
            return None;
        }
        self.note_marks(data);
        let needles = &*NEEDLES;
        let content: &[Needle<'_>] = match self.terminal {
            Terminal::Responses => &needles.delta,
            Terminal::Messages => &needles.blocks,
            Terminal::None | Terminal::Done => &needles.content,
        };
        self.seen.content += content
            .iter()
            .map(|needle| strings(data, needle))
            .find(|bytes| *bytes > 0)
            .unwrap_or(0);
        if !is_set(data, &needles.usage) && !may_be_error(data) {
            return None;
        }
        let event = Event::read(data)?;
        self.seen.error |= event.error;
        if let Some(usage) = &event.usage {
            self.seen.reports.add(&data[usage.clone()]);
        }
        Some(event)
    }

    /// What shows without a walk, in a whole event or in the beginning of one.
    fn note_marks(&mut self, data: &[u8]) {
        self.seen.finish_reason |= is_set(data, &NEEDLES.finish);
        // Not every backend names its events outside of them too.
        let kinds: &[&str] = match self.terminal {
            Terminal::Responses => &["response.completed", "response.failed", "response.incomplete"],
            Terminal::Messages => &["message_stop"],
            Terminal::None | Terminal::Done => return,
        };
        if let Some(kind) = kind(data).filter(|kind| kinds.iter().any(|one| one.as_bytes() == *kind)) {
            self.note_name(kind);
        }
    }
}

impl Event {
    fn is_usage_alone(&self, data: &[u8]) -> bool {
        let data = data.trim_ascii();
        let empty = |choices: &[u8]| {
            choices
                .strip_prefix(b"[")
                .and_then(|rest| rest.strip_suffix(b"]"))
                .is_some_and(|rest| rest.trim_ascii().is_empty())
        };
        self.usage.is_some() && self.choices.clone().is_some_and(|choices| empty(&data[choices]))
    }
}

/// Puts a part of a chunk out; the whole chunk as it is.
fn push(out: &mut VecDeque<Bytes>, chunk: &Bytes, from: usize, to: usize) {
    if from < to {
        out.push_back(chunk.slice(from..to));
    }
}

/// The value of a `data` line.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"data:")
}

/// What follows the colon after each place where a key stands. A quote within a string is escaped, so that a key in
/// its quotes is never found inside one.
fn values<'a>(text: &'a [u8], key: &Needle<'_>) -> impl Iterator<Item = &'a [u8]> {
    let length = key.needle().len();
    key.find_iter(text).filter_map(move |at| {
        Some(
            text[at + length..]
                .trim_ascii_start()
                .strip_prefix(b":")?
                .trim_ascii_start(),
        )
    })
}

/// The key stands there with a value, or what may become one, that is not null.
fn is_set(text: &[u8], key: &Needle<'_>) -> bool {
    values(text, key).any(|value| !value.starts_with(b"n"))
}

fn may_be_error(text: &[u8]) -> bool {
    // As a key, or as the value of `type`.
    let needle = &NEEDLES.error;
    needle.find(text).is_some() && (is_set(text, needle) || kind(text) == Some(b"error"))
}

/// The choices are seen to be something else than an empty list.
fn has_choices(data: &[u8]) -> bool {
    let Some(value) = values(data, &NEEDLES.choices).next() else {
        return false;
    };
    match value.split_first() {
        None => false,
        Some((b'[', inside)) => inside.trim_ascii_start().first().is_some_and(|byte| *byte != b']'),
        Some(_) => true,
    }
}

/// The first `type` of an event, by search.
fn kind(data: &[u8]) -> Option<&[u8]> {
    let at = memmem::find(data, b"\"type\"")? + b"\"type\"".len();
    let value = data[at..]
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start()
        .strip_prefix(b"\"")?;
    Some(&value[..memchr2(b'"', b'\\', value)?])
}

/// How long the strings under a key are.
fn strings(data: &[u8], key: &Needle<'_>) -> u64 {
    values(data, key)
        .filter_map(|value| value.strip_prefix(b"\""))
        .map(|value| string_length(value) as u64)
        .sum()
}

fn string_length(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(run) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += run;
        if text[at] == b'"' {
            return at;
        }
        at += 2;
    }
    text.len()
}

#[cfg(test)]
mod tests;
