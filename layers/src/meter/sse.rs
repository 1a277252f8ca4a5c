//! Reading a stream of events while it passes, and taking one event out of it.
//!
//! The splitter follows the event stream format of the HTML standard (section 9.2.6): lines end in CR, LF or CRLF, a
//! blank line ends an event, a byte order mark may come first. It works on bytes, so a character that is cut by a chunk
//! needs no care.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder as Needle;
use memchr::{memchr2, memmem};

use super::count::Count;
use super::cut::Shape;
use super::json::Finder;
use super::parts::Parts;
use super::usage::{Event, Reports, Usage};

/// Of a line that is cut by chunks, how much is gathered; what is longer is followed without being kept.
const LINE_MAX: usize = 64 * 1024;
/// How large the event that is stripped may be, and so how much is ever held back.
pub(super) const HOLD_MAX: usize = 16 * 1024;

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

impl Terminal {
    /// The names of the events that say it.
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Responses => &["response.completed", "response.failed", "response.incomplete"],
            Self::Messages => &["message_stop"],
            Self::None | Self::Done => &[],
        }
    }
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
    /// The event that completes the stream began, and is held; and its end came.
    ending: bool,
    complete: bool,
    /// What was seen up to there: what follows the end of a stream says nothing any more.
    at_end: Option<Seen>,
    /// What of this chunk's output is whole: up to its last line, up to its last event.
    whole_line: usize,
    whole_event: usize,
    /// What the end needs, when the stream may be cut.
    shape: Option<Box<Shape>>,
    /// Counts the answer's text.
    count: Option<Count>,
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
    /// `cuts`: it may be ended before its end.
    pub(super) fn new(strip: bool, terminal: Terminal, cuts: bool, count: Option<Count>) -> Self {
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
            ending: false,
            complete: false,
            at_end: None,
            whole_line: 0,
            whole_event: 0,
            shape: (cuts && terminal != Terminal::None).then(Box::default),
            count,
        }
    }

    /// What was seen up to the event that completes the stream, or so far.
    pub(super) fn seen(&self) -> Seen {
        self.at_end.unwrap_or(self.seen)
    }

    /// The count of the answer's text, which ends here.
    pub(super) fn take_count(&mut self) -> Option<Count> {
        self.count.take()
    }

    /// Reads a chunk and puts what may go out into `out`: the chunk itself, when nothing in it is to be kept back.
    pub(super) fn feed(&mut self, chunk: &Bytes, out: &mut Parts) {
        let before = out.total();
        (self.whole_line, self.whole_event) = (0, 0);
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
                } else {
                    self.mark(out, before, at - from);
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
                if self.begins_end() {
                    push(out, chunk, from, at);
                    out.hold(chunk.slice(from..));
                    from = at;
                }
                self.let_go(out);
                self.mark(out, before, end - from);
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
            self.let_go(out);
            push(out, chunk, from, chunk.len());
        }
        if self.ending && !self.complete && out.held() > HOLD_MAX {
            // An event that is no event before its last line has ended: that end is still to come.
            out.spill();
        }
    }

    /// The stream ended: what was held back was not the event.
    pub(super) fn finish(&mut self, out: &mut Parts) {
        if !self.line.is_empty() || self.overlong.is_some() {
            // A last line without an end is no line to a client either, but its usage counts.
            self.passed = true;
            self.end_line(&[]);
            if self.begins_end() {
                out.hold(Bytes::new());
            }
        }
        self.let_go(out);
    }

    /// Whether all has come that the stream says of itself: the event that completes it.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether there is something to cut, and nothing has said yet that it is complete.
    pub(super) fn can_cut(&self) -> bool {
        !self.seen.terminal && self.shape.as_ref().is_some_and(|shape| shape.is_open())
    }

    /// Ends the stream behind its last whole event; `out` is as the last chunk left it. What ends it is held.
    pub(super) fn cut(&mut self, usage: &Usage, tell: bool, out: &mut Parts) {
        let Some(shape) = self.shape.take() else { return };
        self.held.clear();
        self.line.clear();
        if self.event.data {
            // Its data is whole, if not its end. After a CR the first LF would be that line's.
            out.truncate(self.whole_line);
            let blank: &[u8] = if out.ends_with(b'\r') { b"\n\n" } else { b"\n" };
            out.push(Bytes::from_static(blank));
        } else {
            out.truncate(self.whole_event);
        }
        out.hold(Bytes::new());
        out.push(shape.end(self.terminal, usage, tell));
    }

    /// A line went out whole, up to `rest` bytes behind what was pushed since `before`.
    fn mark(&mut self, out: &Parts, before: u64, rest: usize) {
        let pushed = usize::try_from(out.total() - before).unwrap_or(usize::MAX);
        self.whole_line = pushed + rest;
        if !self.event.lines && !self.event.data {
            self.whole_event = self.whole_line;
        }
    }

    /// After a line: whether it is the first of the event that completes the stream.
    fn begins_end(&mut self) -> bool {
        let begins = self.seen.terminal && !self.ending;
        self.ending |= begins;
        // An event ends with its blank line; before it, more of its data may come, however the stream is cut.
        if self.ending && self.at_end.is_none() && !self.event.data && !self.event.lines {
            self.complete = true;
            self.at_end = Some(self.seen);
        }
        begins
    }

    fn let_go(&mut self, out: &mut Parts) {
        self.held.drain(..).for_each(|part| out.push(part));
    }

    /// Takes a part of a line whose end has not come; true when it is to be held back.
    fn begin_line(&mut self, part: &[u8]) -> bool {
        if let Some(finder) = &mut self.overlong {
            finder.feed(part, &mut self.count);
            return false;
        }
        self.line.extend_from_slice(part);
        let held = !self.passed && (self.strip && self.may_be_stripped(&self.line) || self.may_be_end(&self.line));
        self.passed = !held;
        if self.line.len() > LINE_MAX {
            let line = std::mem::take(&mut self.line);
            self.note_marks(data_of(&line).unwrap_or(&line));
            let mut finder = Finder::default();
            finder.feed(&line, &mut self.count);
            self.overlong = Some(finder);
        }
        held
    }

    /// A line ended; `rest` is what had not come before.
    fn end_line(&mut self, rest: &[u8]) -> Fate {
        let passed = std::mem::take(&mut self.passed);
        if let Some(mut finder) = self.overlong.take() {
            finder.feed(rest, &mut self.count);
            self.seen.reports.merge(finder.reports());
            self.seen.content += finder.content();
            self.seen.error |= finder.error();
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

    /// Whether the beginning of a line can be that of the event that completes the stream.
    fn may_be_end(&self, line: &[u8]) -> bool {
        /// Where the kind of an event stands when it stands first.
        const NEAR: usize = 256;
        if self.ending || self.terminal == Terminal::None || line.len() > HOLD_MAX {
            return false;
        }
        let begins = |whole: &[u8], part: &[u8]| whole.starts_with(part);
        let names = self.terminal.names();
        if begins(b"data:", line) || !names.is_empty() && begins(b"event:", line) {
            return true;
        }
        if let Some(name) = line.strip_prefix(b"event:") {
            return names.iter().any(|known| begins(known.as_bytes(), name.trim_ascii()));
        }
        let Some(data) = data_of(line).map(<[u8]>::trim_ascii) else {
            return false;
        };
        match self.terminal {
            Terminal::Done => begins(b"[DONE]", data),
            _ if data.first().is_some_and(|byte| *byte != b'{') => false,
            _ => kind(data).map_or(data.len() <= NEAR, |kind| {
                names.iter().any(|name| name.as_bytes() == kind)
            }),
        }
    }

    fn note_name(&mut self, name: &[u8]) {
        self.seen.error |= matches!(name, b"error" | b"response.failed");
        self.seen.terminal |= self.terminal.names().iter().any(|known| known.as_bytes() == name);
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
        for needle in content {
            let mut found = 0;
            for text in strings(data, needle) {
                found += text.len() as u64;
                if let Some(count) = &mut self.count {
                    count.text(text);
                }
            }
            self.seen.content += found;
            if found > 0 {
                break;
            }
        }
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
        if let Some(shape) = &mut self.shape {
            shape.note(self.terminal, data);
        }
        // Not every backend names its events outside of them too.
        let names = self.terminal.names();
        if !names.is_empty()
            && let Some(kind) = kind(data).filter(|kind| names.iter().any(|name| name.as_bytes() == *kind))
        {
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
fn push(out: &mut Parts, chunk: &Bytes, from: usize, to: usize) {
    if from < to {
        out.push(chunk.slice(from..to));
    }
}

/// The value of a `data` line.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"data:")
}

/// What follows the colon after each place where a key stands. A quote within a string is escaped, so that a key in
/// its quotes is never found inside one.
pub(super) fn values<'a>(text: &'a [u8], key: &Needle<'_>) -> impl Iterator<Item = &'a [u8]> {
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
pub(super) fn is_set(text: &[u8], key: &Needle<'_>) -> bool {
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
pub(super) fn kind(data: &[u8]) -> Option<&[u8]> {
    let at = memmem::find(data, b"\"type\"")? + b"\"type\"".len();
    let value = data[at..]
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start()
        .strip_prefix(b"\"")?;
    Some(&value[..memchr2(b'"', b'\\', value)?])
}

/// The strings under a key, as they stand in the JSON.
fn strings<'a>(data: &'a [u8], key: &Needle<'_>) -> impl Iterator<Item = &'a [u8]> {
    values(data, key)
        .filter_map(|value| value.strip_prefix(b"\""))
        .map(|value| &value[..string_length(value)])
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
