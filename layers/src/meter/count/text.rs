//! From strings as they stand in JSON to the text that they mean, however they are cut.

use memchr::memchr2;

use super::CountTokens;

/// Ends a text among the bytes of many: within a JSON string a quote never stands by itself.
pub(super) const BOUNDARY: u8 = b'"';

/// What a byte that is no text, or half of a pair of surrogates, counts as.
const REPLACEMENT: char = '\u{FFFD}';

/// The end that may yet mean something else: a character or an escape that is cut, or the first of two surrogates.
#[derive(Debug, Default)]
pub(super) struct Text {
    held: Vec<u8>,
    /// Resolved text on its way to the counter.
    out: String,
}

/// What the bytes at hand begin with.
enum Escape {
    /// A character, and how many bytes it is written in.
    Is(char, usize),
    Cut,
}

impl Text {
    /// Feeds what `raw` means to `counter`; yields the tokens of the texts that ended.
    pub(super) fn feed(&mut self, raw: &[u8], counter: &mut dyn CountTokens) -> u64 {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(raw);
        let (mut rest, mut tokens) = (&all[..], 0);
        while let Some(first) = rest.first() {
            match *first {
                BOUNDARY => {
                    tokens += self.end(counter);
                    rest = &rest[1..];
                }
                b'\\' => match escape(rest) {
                    Escape::Is(character, length) => {
                        self.out.push(character);
                        rest = &rest[length..];
                    }
                    Escape::Cut => break,
                },
                _ => {
                    let run = memchr2(BOUNDARY, b'\\', rest).unwrap_or(rest.len());
                    let read = self.plain(&rest[..run], run == rest.len());
                    rest = &rest[read..];
                    if read < run {
                        break;
                    }
                }
            }
        }
        self.held = rest.to_vec();
        counter.feed(&self.out);
        self.out.clear();
        tokens
    }

    /// Nothing comes any more.
    pub(super) fn finish(&mut self, counter: &mut dyn CountTokens) -> u64 {
        if !std::mem::take(&mut self.held).is_empty() {
            self.out.push(REPLACEMENT);
        }
        self.end(counter)
    }

    fn end(&mut self, counter: &mut dyn CountTokens) -> u64 {
        counter.feed(&self.out);
        self.out.clear();
        counter.finish()
    }

    /// Bytes without quote or backslash. Of those that `may_go_on`, a character that is cut at the end is left unread.
    fn plain(&mut self, bytes: &[u8], may_go_on: bool) -> usize {
        let mut read = 0;
        for chunk in bytes.utf8_chunks() {
            self.out.push_str(chunk.valid());
            read += chunk.valid().len() + chunk.invalid().len();
            if chunk.invalid().is_empty() {
                continue;
            }
            let cut = std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            if cut && may_go_on && read == bytes.len() {
                return read - chunk.invalid().len();
            }
            self.out.push(REPLACEMENT);
        }
        read
    }
}

/// Reads the escape that `text` begins with (RFC 8259, section 7).
fn escape(text: &[u8]) -> Escape {
    let plain = match text.get(1) {
        None => return Escape::Cut,
        Some(b'u') => return unicode(text),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(other) if other.is_ascii() => char::from(*other),
        // Not JSON: the backslash alone is stepped over.
        Some(_) => return Escape::Is(REPLACEMENT, 1),
    };
    Escape::Is(plain, 2)
}

/// `\u` with four digits, or two of those that are a pair of surrogates.
fn unicode(text: &[u8]) -> Escape {
    let unit = |at: usize| {
        let digits = std::str::from_utf8(text.get(at + 2..at + 6)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    if text.len() < 6 {
        // Without four digits in it, it will never be one.
        let hopeful = text[2..].iter().all(u8::is_ascii_hexdigit);
        return if hopeful {
            Escape::Cut
        } else {
            Escape::Is(REPLACEMENT, 2)
        };
    }
    let Some(high) = unit(0) else {
        return Escape::Is(REPLACEMENT, 2);
    };
    if !(0xD800..0xDC00).contains(&high) {
        return Escape::Is(char::from_u32(high).unwrap_or(REPLACEMENT), 6);
    }
    let second = &text[6..text.len().min(12)];
    if second.len() < 6 && (b"\\u".starts_with(second) || second.starts_with(b"\\u")) {
        return Escape::Cut;
    }
    let low = second.starts_with(b"\\u").then(|| unit(6)).flatten();
    let low = low.and_then(|low| low.checked_sub(0xDC00).filter(|low| *low < 0x400));
    match low {
        Some(low) => Escape::Is(
            char::from_u32(0x10000 + ((high - 0xD800) << 10) + low).unwrap_or(REPLACEMENT),
            12,
        ),
        None => Escape::Is(REPLACEMENT, 6),
    }
}
