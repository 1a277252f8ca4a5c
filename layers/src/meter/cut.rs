//! Ending a stream before its end, in its own dialect and its own name.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::{self, Finder as Needle};

use super::sse::{is_set, kind, values};
use super::{Terminal, Usage};
use crate::json::{Cursor, Members, whole_number};

/// How long a name may be that is remembered; a longer one is not repeated.
const NAME_MAX: usize = 256;
/// In how many events the names are looked for: some backends begin with one that has none.
const NAMED_BY: u8 = 4;

struct Needles {
    index: Needle<'static>,
    finish: Needle<'static>,
    sequence: Needle<'static>,
}

static NEEDLES: LazyLock<Needles> = LazyLock::new(|| Needles {
    index: Needle::new("\"index\""),
    finish: Needle::new("\"finish_reason\""),
    sequence: Needle::new("\"sequence_number\""),
});

/// What a stream has said of itself: all that its end must repeat. Of constant size, whatever the stream.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// How many events were read for the names.
    named: u8,
    /// JSON as it came; empty when not said.
    id: Box<[u8]>,
    created: Box<[u8]>,
    model: Box<[u8]>,
    /// Of the completions that came before chat.
    legacy: bool,
    /// One bit a choice by its index, up to 127: those that began, and those that have their `finish_reason`.
    began: u128,
    finished: u128,
    /// The last event's number, where events are numbered.
    sequence: Option<u64>,
    /// The block that is open, of an answer in blocks.
    block: Option<u64>,
    /// An answer in blocks has said why it stops.
    stopping: bool,
}

impl Shape {
    /// Reads an event, or the beginning of one that is too large to be kept.
    pub(super) fn note(&mut self, terminal: Terminal, data: &[u8]) {
        match terminal {
            Terminal::None => {}
            Terminal::Done => {
                self.name(data, 0, "created");
                self.choices(data);
            }
            Terminal::Responses => {
                if let Some(open) = memmem::find(data, b"\"response\":").filter(|_| self.named < NAMED_BY) {
                    self.name(data, open + b"\"response\":".len(), "created_at");
                }
                self.sequence = number(data, &NEEDLES.sequence).or(self.sequence);
            }
            Terminal::Messages => match kind(data) {
                Some(b"content_block_start") => self.block = number(data, &NEEDLES.index),
                Some(b"content_block_stop") => self.block = None,
                Some(b"message_delta") => self.stopping = true,
                _ => {}
            },
        }
    }

    /// Whether there is something left to cut: not all that was begun is finished.
    pub(super) fn is_open(&self) -> bool {
        !self.stopping && (self.finished == 0 || self.began & !self.finished != 0)
    }

    /// The events that end the stream here. `tell`: those of chat and completions name the usage.
    pub(super) fn end(&self, terminal: Terminal, usage: &Usage, tell: bool) -> Bytes {
        let mut out = Vec::with_capacity(1024);
        match terminal {
            Terminal::None => {}
            Terminal::Done => self.end_choices(&mut out, tell.then_some(usage)),
            Terminal::Responses => self.end_response(&mut out, usage),
            Terminal::Messages => {
                if let Some(index) = self.block {
                    let stop = format!(r#"{{"type":"content_block_stop","index":{index}}}"#);
                    event(&mut out, "content_block_stop", stop.as_bytes());
                }
                let delta = format!(
                    r#"{{"type":"message_delta","delta":{{"stop_reason":"max_tokens","stop_sequence":null}},"usage":{{"output_tokens":{}}}}}"#,
                    usage.completion
                );
                event(&mut out, "message_delta", delta.as_bytes());
                event(&mut out, "message_stop", br#"{"type":"message_stop"}"#);
            }
        }
        out.into()
    }

    fn end_choices(&self, out: &mut Vec<u8>, usage: Option<&Usage>) {
        // What names no index has one choice, and that is the first.
        let open = if self.began == 0 {
            1
        } else {
            self.began & !self.finished
        };
        for index in (0..u128::BITS).filter(|index| open >> index & 1 == 1) {
            let choice = if self.legacy {
                format!(r#""choices":[{{"text":"","index":{index},"logprobs":null,"finish_reason":"length"}}]"#)
            } else {
                format!(r#""choices":[{{"index":{index},"delta":{{}},"logprobs":null,"finish_reason":"length"}}]"#)
            };
            self.chunk(out, &choice);
        }
        if let Some(usage) = usage {
            let (details, output) = ("prompt_tokens_details", "completion_tokens_details");
            let usage = counts(usage, "prompt_tokens", details, "completion_tokens", output);
            self.chunk(out, &format!(r#""choices":[],"usage":{usage}"#));
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn chunk(&self, out: &mut Vec<u8>, rest: &str) {
        out.extend_from_slice(b"data: {");
        member(out, "id", &self.id);
        let object: &[u8] = if self.legacy {
            br#""text_completion""#
        } else {
            br#""chat.completion.chunk""#
        };
        member(out, "object", object);
        member(out, "created", &self.created);
        member(out, "model", &self.model);
        out.extend_from_slice(rest.as_bytes());
        out.extend_from_slice(b"}\n\n");
    }

    fn end_response(&self, out: &mut Vec<u8>, usage: &Usage) {
        let mut data = br#"{"type":"response.incomplete","#.to_vec();
        if let Some(last) = self.sequence {
            let next = last.saturating_add(1).to_string();
            member(&mut data, "sequence_number", next.as_bytes());
        }
        data.extend_from_slice(br#""response":{"#);
        member(&mut data, "id", &self.id);
        member(&mut data, "object", br#""response""#);
        member(&mut data, "created_at", &self.created);
        member(&mut data, "model", &self.model);
        let (details, output) = ("input_tokens_details", "output_tokens_details");
        let usage = counts(usage, "input_tokens", details, "output_tokens", output);
        let rest = format!(
            r#""status":"incomplete","error":null,"incomplete_details":{{"reason":"max_output_tokens"}},"output":[],"usage":{usage}}}}}"#
        );
        data.extend_from_slice(rest.as_bytes());
        event(out, "response.incomplete", &data);
    }

    /// Keeps the names of the object at `open`, once; as far as it came.
    fn name(&mut self, data: &[u8], open: usize, created: &str) {
        if self.named >= NAMED_BY {
            return;
        }
        let Ok(mut members) = Members::open(data, open) else {
            return;
        };
        self.named += 1;
        while let Ok(Some(member)) = members.step() {
            let value = &data[member.value];
            match &data[member.key] {
                _ if value.len() > NAME_MAX => {}
                b"id" if value != b"\"\"" => {
                    self.id = value.into();
                    self.named = NAMED_BY;
                }
                b"model" => self.model = value.into(),
                b"object" => self.legacy = value == br#""text_completion""#,
                key if key == created.as_bytes() => self.created = value.into(),
                _ => {}
            }
        }
    }

    /// Follows which choices began and which are finished. Walks an event only where a search shows something new in it.
    fn choices(&mut self, data: &[u8]) {
        let known = |value: &[u8]| bit(digits(value)).is_none_or(|bit| self.began & bit != 0);
        if !is_set(data, &NEEDLES.finish) && values(data, &NEEDLES.index).all(known) {
            return;
        }
        let Ok(mut members) = Members::open(data, 0) else {
            return;
        };
        while let Ok(Some(member)) = members.step() {
            if &data[member.key] == b"choices" && data[member.value.start] == b'[' {
                self.each_choice(data, member.value.start + 1);
            }
        }
    }

    fn each_choice(&mut self, text: &[u8], at: usize) {
        let mut at = Cursor { text, at };
        at.whitespace();
        while let Ok(mut members) = Members::open(text, at.at) {
            let (mut index, mut finished) = (Some(0), false);
            while let Ok(Some(member)) = members.step() {
                let value = &text[member.value];
                match &text[member.key] {
                    b"index" => index = whole_number(value),
                    b"finish_reason" => finished = value != b"null",
                    _ => {}
                }
            }
            if let Some(bit) = bit(index) {
                self.began |= bit;
                self.finished |= if finished { bit } else { 0 };
            }
            at.at = members.position();
            at.whitespace();
            if at.expect(b',').is_err() {
                return;
            }
        }
    }
}

fn bit(index: Option<u64>) -> Option<u128> {
    1u128.checked_shl(u32::try_from(index?).ok()?)
}

/// The number that a text begins with.
fn digits(text: &[u8]) -> Option<u64> {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

fn number(data: &[u8], key: &Needle<'_>) -> Option<u64> {
    digits(values(data, key).next()?)
}

fn event(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    for part in [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"] {
        out.extend_from_slice(part);
    }
}

/// A member with a comma behind it, when there is a value.
fn member(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(format!("\"{key}\":").as_bytes());
        out.extend_from_slice(value);
        out.push(b',');
    }
}

fn counts(usage: &Usage, prompt: &str, details: &str, completion: &str, output: &str) -> String {
    let total = usage.prompt.saturating_add(usage.completion);
    format!(
        r#"{{"{prompt}":{},"{details}":{{"cached_tokens":{}}},"{completion}":{},"{output}":{{"reasoning_tokens":{}}},"total_tokens":{total}}}"#,
        usage.prompt, usage.cached, usage.completion, usage.reasoning
    )
}
