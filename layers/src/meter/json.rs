//! Finding the usage in a JSON answer while it passes, however it is cut into chunks, in constant memory.

use memchr::memchr2;

use super::count::Count;
use super::usage::Reports;

/// How large a `usage` object may be; a larger one counts as not sent.
const CAPTURE_MAX: usize = 64 * 1024;
/// Longer than the longest key that is looked for.
const HEAD: usize = 20;

/// A scanner that follows strings and braces, and keeps nothing but the usage it is in.
///
/// It does not check the text: the backend's answer reaches the client as it is, right or wrong.
#[derive(Debug, Default)]
pub(super) struct Finder {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The string being read, or the last one: its first bytes and its length.
    head: [u8; HEAD],
    length: usize,
    /// What the next value is.
    next: Next,
    /// Inside an object in which usage may stand one level down.
    inside: bool,
    /// The depth at which the captured object stands.
    capturing: Option<u32>,
    captured: Vec<u8>,
    reports: Reports,
    content: u64,
    /// The first byte of it all was seen, and opens an object or a list.
    begun: bool,
    structured: bool,
    /// Its top level has an `error` that is not null.
    error: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Other,
    Usage,
    /// `message` or `response`.
    Outer,
    Content,
    /// The top level's `error`.
    Error,
}

impl Finder {
    /// Reads on; the answer's text goes to `count`, if there is one.
    pub(super) fn feed(&mut self, chunk: &[u8], count: &mut Option<Count>) {
        if !self.begun
            && let Some(first) = chunk.trim_ascii_start().first()
        {
            (self.begun, self.structured) = (true, matches!(first, b'{' | b'['));
        }
        let mut at = 0;
        let mut from = 0;
        // The last string, where it stands in this chunk: a key is compared where it is, and copied only for the next.
        let mut last = None;
        while at < chunk.len() {
            if self.in_string {
                at = self.string(chunk, at, count);
                last = None;
                continue;
            }
            match chunk[at] {
                b'"' => {
                    if let Some(end) = closing_quote(chunk, at + 1) {
                        if let Some(count) = self.counted(count) {
                            count.text(&chunk[at + 1..end]);
                        }
                        self.ended_string(end - at - 1, count);
                        last = Some(at + 1..end);
                        at = end;
                    } else {
                        (self.in_string, self.length) = (true, 0);
                        last = None;
                    }
                }
                b':' => {
                    self.next = self.name(last.take().map(|range| &chunk[range]));
                    // A key has one colon, wherever it stood.
                    self.length = 0;
                }
                b',' => self.next = Next::Other,
                b'{' => {
                    self.error |= self.next == Next::Error;
                    if self.open_object() {
                        from = at;
                    }
                    self.depth += 1;
                }
                b'[' => {
                    self.error |= self.next == Next::Error;
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.next = Next::Other;
                    self.inside &= self.depth > 1;
                    if self.capturing == Some(self.depth) {
                        self.capture(&chunk[from..=at]);
                        self.reports.add(&std::mem::take(&mut self.captured));
                        self.capturing = None;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        if let Some(range) = last {
            self.length = 0;
            self.text(&chunk[range]);
        }
        if self.capturing.is_some() {
            self.capture(&chunk[from..]);
        }
    }

    /// What was found.
    pub(super) fn reports(&self) -> Reports {
        self.reports
    }

    /// Whether what came is all there is of it: each brace has its other. What is no object, whatever its type says, is
    /// not judged; nothing at all is no answer.
    pub(super) fn whole(&self) -> bool {
        self.begun && (!self.structured || self.depth == 0 && !self.in_string)
    }

    /// Whether it is an object or a list, and has come to its last brace.
    pub(super) fn closed(&self) -> bool {
        self.structured && self.whole()
    }

    /// Whether it is an error under the name of an answer: its top level has an `error`, an object or a string.
    pub(super) fn error(&self) -> bool {
        self.error
    }

    /// Bytes of the answer's text, as they stand in the JSON.
    pub(super) fn content(&self) -> u64 {
        self.content
    }

    /// Steps over an object's brace; true when the object is to be captured.
    fn open_object(&mut self) -> bool {
        let captures = self.next == Next::Usage && self.capturing.is_none();
        if captures {
            self.capturing = Some(self.depth);
        }
        self.inside |= self.next == Next::Outer;
        self.next = Next::Other;
        captures
    }

    fn capture(&mut self, bytes: &[u8]) {
        if self.captured.len() + bytes.len() > CAPTURE_MAX {
            self.captured = Vec::new();
            self.capturing = None;
        } else {
            self.captured.extend_from_slice(bytes);
        }
    }

    /// Reads on in a string; yields where it ended, or the chunk's end.
    fn string(&mut self, chunk: &[u8], mut at: usize, count: &mut Option<Count>) -> usize {
        let from = at;
        let text = |this: &Self, count: &mut Option<Count>, to: usize| {
            if let Some(count) = this.counted(count) {
                count.text(&chunk[from..to]);
            }
        };
        while at < chunk.len() {
            if self.escaped {
                self.escaped = false;
                self.text(&chunk[at..=at]);
                at += 1;
                continue;
            }
            let Some(run) = memchr2(b'"', b'\\', &chunk[at..]) else {
                self.text(&chunk[at..]);
                at = chunk.len();
                break;
            };
            self.text(&chunk[at..at + run]);
            at += run + 1;
            if chunk[at - 1] == b'"' {
                self.in_string = false;
                text(self, count, at - 1);
                self.ended_string(self.length, count);
                return at;
            }
            self.escaped = true;
            self.text(b"\\");
        }
        text(self, count, at);
        at
    }

    /// Who counts the string at hand, if it is the answer's text.
    fn counted<'a>(&self, count: &'a mut Option<Count>) -> Option<&'a mut Count> {
        count.as_mut().filter(|_| self.next == Next::Content)
    }

    fn ended_string(&mut self, length: usize, count: &mut Option<Count>) {
        match self.next {
            Next::Content => {
                self.content += length as u64;
                if let Some(count) = count {
                    count.boundary();
                }
            }
            Next::Error => self.error = true,
            _ => {}
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        if self.length < HEAD {
            let room = HEAD - self.length;
            let bytes = &bytes[..bytes.len().min(room)];
            self.head[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        }
        self.length += bytes.len();
    }

    /// What a value is, by the key before its colon: `here` when it stands in the same chunk.
    fn name(&self, here: Option<&[u8]>) -> Next {
        let key = here.unwrap_or(&self.head[..self.length.min(HEAD)]);
        let usage_here = self.depth == 1 || self.depth == 2 && self.inside;
        match key {
            b"usage" if usage_here => Next::Usage,
            b"message" | b"response" if self.depth == 1 => Next::Outer,
            b"error" if self.depth == 1 => Next::Error,
            b"content" | b"text" | b"arguments" | b"reasoning_content" | b"reasoning" | b"thinking" => Next::Content,
            _ => Next::Other,
        }
    }
}

/// Where a string that goes on at `at` ends, if it ends in this chunk.
fn closing_quote(chunk: &[u8], mut at: usize) -> Option<usize> {
    /// Keys, and most values, are shorter: for them a search costs more than it saves.
    const SHORT: usize = 24;
    loop {
        let near = &chunk[at..chunk.len().min(at + SHORT)];
        at += match near.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            Some(run) => run,
            None => near.len() + memchr2(b'"', b'\\', &chunk[at + near.len()..])?,
        };
        if chunk[at] == b'"' {
            return Some(at);
        }
        // What is escaped may be in the next chunk.
        at = (at + 2 <= chunk.len()).then_some(at + 2)?;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::super::usage::Usage;
    use super::*;

    const ANSWER: &str = r#"{"id":"x","choices":[{"message":{"role":"assistant","content":"a \"usage\": {\\" ,
        "tool_calls":[{"function":{"arguments":"{\"usage\":1}"}}]}}],"extra":{"usage":{"prompt_tokens":1}},
        "usage" : {"prompt_tokens":12,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}},"z":[{}]}"#;

    fn found(chunks: &[&[u8]]) -> (Option<Usage>, u64) {
        let mut finder = Finder::default();
        for chunk in chunks {
            finder.feed(chunk, &mut None);
        }
        (finder.reports().usage(), finder.content())
    }

    #[test]
    fn finds_the_same_wherever_the_answer_is_cut() {
        let text = ANSWER.as_bytes();
        let whole = found(&[text]);
        let usage = whole.0.unwrap();
        assert_eq!((usage.prompt, usage.completion, usage.cached), (12, 3, 4));
        let content = r#"a \"usage\": {\\"#.len() + r#"{\"usage\":1}"#.len();
        assert_eq!(whole.1, content as u64);
        for one in 0..text.len() {
            assert_eq!(found(&[&text[..one], &text[one..]]), whole, "cut at {one}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(found(&bytes), whole);
    }

    /// Found by fuzzing: a colon without a key took the key before it where that one had been cut.
    #[test]
    fn a_key_has_one_colon() {
        let text = br#"{"choices":[{"message":{"content":ken8s,33:""total_tokens":2987}}]}"#;
        let whole = found(&[text]);
        for one in 0..text.len() {
            assert_eq!(found(&[&text[..one], &text[one..]]), whole, "cut at {one}");
        }
        assert_eq!(found(&text.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn finds_usage_one_level_down_where_it_may_be() {
        let start = br#"{"type":"message_start","message":{"usage":{"input_tokens":5}}}"#;
        assert_eq!(found(&[start]).0.unwrap().prompt, 5);
        let nested = br#"{"response":{"output":[{"usage":{"input_tokens":9}}],"a":{"usage":{"input_tokens":9}}}}"#;
        assert_eq!(found(&[nested]).0, None);
        let elsewhere = br#"{"other":{"usage":{"input_tokens":9}},"usage":null}"#;
        assert_eq!(found(&[elsewhere]).0, None);
    }

    #[test]
    fn tells_a_whole_answer_from_one_that_was_cut_and_from_an_error() {
        let judged = |text: &str| {
            let judge = |chunks: &[&[u8]]| {
                let mut finder = Finder::default();
                for chunk in chunks {
                    finder.feed(chunk, &mut None);
                }
                (finder.whole(), finder.error())
            };
            let whole = judge(&[text.as_bytes()]);
            for one in 0..text.len() {
                let (left, right) = text.as_bytes().split_at(one);
                assert_eq!(judge(&[left, right]), whole, "{text} cut at {one}");
            }
            whole
        };
        assert_eq!(judged(ANSWER), (true, false));
        for cut in 1..ANSWER.len() {
            assert!(!judged(&ANSWER[..cut]).0, "cut at {cut}");
        }
        for (text, expected) in [
            ("", (false, false)),
            (" \r\n", (false, false)),
            ("[1,2]\n", (true, false)),
            ("{}\n{}\n", (true, false)),
            ("say \"so", (true, false)),
            (r#"{"error":null,"data":[]}"#, (true, false)),
            (r#"{"data":{"error":{"code":1}},"a":"error"}"#, (true, false)),
            (r#"{"a":["error",{"error":"x"}]}"#, (true, false)),
            (r#"{"error":{"message":"no"}}"#, (true, true)),
            (r#"{"id":"x","error" : "no"}"#, (true, true)),
        ] {
            assert_eq!(judged(text), expected, "{text}");
        }
    }

    #[test]
    fn a_usage_object_without_end_is_given_up() {
        let mut finder = Finder::default();
        finder.feed(br#"{"usage":{"a":""#, &mut None);
        for _ in 0..100 {
            finder.feed(&[b'x'; 1024], &mut None);
        }
        assert!(finder.captured.capacity() <= 2 * CAPTURE_MAX);
        assert_eq!(finder.capturing, None);
    }
}
