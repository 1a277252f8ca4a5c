//! A walk over JSON text that checks all of it and builds nothing.
//!
//! It yields where the members of one object are, as byte ranges, and steps over their values without recursion. It
//! is as strict as RFC 8259 in everything but two points that cannot change how a reader takes the text: a lone
//! surrogate in a value's `\u` escape passes, and numbers may be of any size.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

/// The text is not JSON; the byte at which that showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) usize);

/// Where one member of an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// The key between its quotes, escapes and all.
    pub(crate) key: Range<usize>,
    /// The value; a string with its quotes.
    pub(crate) value: Range<usize>,
}

/// The members of the object that opens at a given byte, one after another.
pub(crate) struct Members<'a> {
    at: Cursor<'a>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    First,
    Later,
    Closed,
}

/// A place in a text, moved over what the text should have there.
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) at: usize,
}

/// How deep a value may nest, which is what serde_json and others allow too: one bit a level.
pub(crate) const MAX_DEPTH: u32 = 127;

/// Where a string ends, or has an escape or a control byte; `None` where it does neither.
///
/// Most strings, and most runs between two escapes, are too short for a search to pay for its call: the first words are
/// looked at eight bytes at a time.
fn run(text: &[u8]) -> Option<usize> {
    const NEAR: usize = 64;
    let near = &text[..text.len().min(NEAR)];
    let (words, rest) = near.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let special = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
    if let Some(at) = rest.iter().position(special) {
        return Some(words.len() * 8 + at);
    }
    let far = &text[near.len()..];
    let end = memchr2(b'"', b'\\', far)?;
    // A fold and no search: it compiles to vector code, and a control byte is never there.
    if far[..end].iter().fold(0, |bad, byte| bad | u8::from(*byte < 0x20)) != 0 {
        return None;
    }
    Some(near.len() + end)
}

/// The high bit of each byte of `word` that is a quote, a backslash or a control byte. Above the lowest of them there
/// may be bits too many (a borrow runs on), never below.
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xFF;
    let quote = word ^ (ONES * u64::from(b'"'));
    let backslash = word ^ (ONES * u64::from(b'\\'));
    let zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zero(quote) | zero(backslash) | control) & (ONES * 0x80)
}

// === impl Members ===

impl<'a> Members<'a> {
    /// Begins at the object's brace; whitespace may stand before it.
    pub(crate) fn open(text: &'a [u8], at: usize) -> Result<Self, Malformed> {
        let mut at = Cursor { text, at };
        at.whitespace();
        at.expect(b'{')?;
        Ok(Self {
            at,
            state: State::First,
        })
    }

    /// The next member; `None` after the closing brace.
    pub(crate) fn step(&mut self) -> Result<Option<Member>, Malformed> {
        let at = &mut self.at;
        at.whitespace();
        match (self.state, at.peek()) {
            (State::Closed, _) => return Ok(None),
            (_, Some(b'}')) => {
                at.at += 1;
                self.state = State::Closed;
                return Ok(None);
            }
            (State::First, _) => self.state = State::Later,
            (State::Later, _) => {
                at.expect(b',')?;
                at.whitespace();
            }
        }
        // After a comma a brace is no end: `string` refuses it.
        let key = at.string()?;
        at.colon()?;
        let start = at.at;
        at.value()?;
        Ok(Some(Member {
            key,
            value: start..at.at,
        }))
    }

    /// The byte after what was read so far: after the closing brace, once [`step`](Self::step) said `None`.
    #[cfg(any(feature = "meter", feature = "model", test))]
    pub(crate) fn position(&self) -> usize {
        self.at.at
    }

    /// Only whitespace follows.
    pub(crate) fn finish(mut self) -> Result<(), Malformed> {
        self.at.whitespace();
        if self.at.at == self.at.text.len() {
            Ok(())
        } else {
            Err(Malformed(self.at.at))
        }
    }
}

// === impl Cursor ===

impl Cursor<'_> {
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(crate) fn whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed(self.at));
        }
        self.at += 1;
        Ok(())
    }

    pub(crate) fn colon(&mut self) -> Result<(), Malformed> {
        self.whitespace();
        self.expect(b':')?;
        self.whitespace();
        Ok(())
    }

    /// Steps over a string; yields what is between its quotes.
    pub(crate) fn string(&mut self) -> Result<Range<usize>, Malformed> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            let rest = &self.text[self.at..];
            let run = run(rest).ok_or(Malformed(self.at))?;
            self.at += run;
            match rest[run] {
                b'"' => {
                    self.at += 1;
                    return Ok(start..self.at - 1);
                }
                b'\\' => self.escape()?,
                _ => return Err(Malformed(self.at)),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        let rest = &self.text[self.at + 1..];
        let length = match rest.first() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if rest.len() >= 5 && rest[1..5].iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return Err(Malformed(self.at)),
        };
        self.at += length;
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(Malformed(start))
        } else {
            Ok(())
        }
    }

    fn number(&mut self) -> Result<(), Malformed> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Malformed(self.at));
        }
        self.at += word.len();
        Ok(())
    }

    pub(crate) fn scalar(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => self.number(),
        }
    }

    /// Steps over one value. The open containers are bits of `objects`: 1 for an object, 0 for an array.
    pub(crate) fn value(&mut self) -> Result<(), Malformed> {
        let mut objects: u128 = 0;
        let mut depth = 0;
        loop {
            let opened = self.peek();
            if let Some(b'{' | b'[') = opened {
                if depth == MAX_DEPTH {
                    return Err(Malformed(self.at));
                }
                depth += 1;
                objects = objects << 1 | u128::from(opened == Some(b'{'));
                self.at += 1;
                self.whitespace();
                let closes = if opened == Some(b'{') { b'}' } else { b']' };
                if self.peek() != Some(closes) {
                    if opened == Some(b'{') {
                        self.string()?;
                        self.colon()?;
                    }
                    continue;
                }
            } else {
                self.scalar()?;
            }
            if !self.unwind(&mut objects, &mut depth)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what closes; true when another value follows at this depth.
    fn unwind(&mut self, objects: &mut u128, depth: &mut u32) -> Result<bool, Malformed> {
        while *depth > 0 {
            self.whitespace();
            let object = *objects & 1 == 1;
            match self.peek() {
                Some(b'}') if object => {}
                Some(b']') if !object => {}
                Some(b',') => {
                    self.at += 1;
                    self.whitespace();
                    if object {
                        self.string()?;
                        self.colon()?;
                    }
                    return Ok(true);
                }
                _ => return Err(Malformed(self.at)),
            }
            self.at += 1;
            *objects >>= 1;
            *depth -= 1;
        }
        Ok(false)
    }
}

/// The text of a string that was stepped over, its escapes resolved.
///
/// `None` for invalid UTF-8 and for a lone surrogate, which no text can hold.
pub(crate) fn unescape(raw: &[u8]) -> Option<Cow<'_, str>> {
    let raw = std::str::from_utf8(raw).ok()?;
    if !raw.contains('\\') {
        return Some(Cow::Borrowed(raw));
    }
    let mut out = String::with_capacity(raw.len());
    let mut parts = raw.split('\\');
    out.push_str(parts.next()?);
    while let Some(part) = parts.next() {
        let Some(code) = part.chars().next() else {
            // Two backslashes in a row: the split left nothing between them, and what follows is plain.
            out.push('\\');
            out.push_str(parts.next()?);
            continue;
        };
        let plain = match code {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = u32::from_str_radix(part.get(1..5)?, 16).ok()?;
                let (code, rest) = if (0xD800..0xDC00).contains(&high) {
                    let low = parts.next()?.strip_prefix('u').filter(|_| part.len() == 5)?;
                    let unit = u32::from_str_radix(low.get(..4)?, 16).ok()?;
                    let unit = unit.checked_sub(0xDC00).filter(|unit| *unit < 0x400)?;
                    (0x10000 + ((high - 0xD800) << 10) + unit, &low[4..])
                } else {
                    (high, &part[5..])
                };
                out.push(char::from_u32(code)?);
                out.push_str(rest);
                continue;
            }
            other => other,
        };
        out.push(plain);
        out.push_str(&part[1..]);
    }
    Some(Cow::Owned(out))
}

/// `text` as a JSON string, quotes included (RFC 8259, section 7).
#[cfg(any(feature = "model", test))]
pub(crate) fn quoted(text: &str) -> String {
    use std::fmt::Write as _;

    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Writing to a String does not fail.
            c if c < ' ' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A number that is whole and not negative, however it is written (`8`, `8.0`, `8e0`).
#[cfg(any(feature = "meter", feature = "model", test))]
pub(crate) fn whole_number(raw: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(raw).ok()?;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    // Up to 2^53 a float holds each whole number exactly.
    let exact = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked in the line above"
    )]
    exact.then_some(number as u64)
}

#[cfg(test)]
mod tests;
