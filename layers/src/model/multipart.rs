//! A multipart form (RFC 7578) read where it lies: the parts' names and where their values are.
//!
//! As strict as the JSON scan, and for the same reason: a form that two readers could take differently is refused.
//! Lines end in CRLF; a delimiter at the start of a line is a delimiter; a name is plain text.

use std::ops::Range;

use memchr::memmem;

use super::scan::{Field, Keys, Scan, malformed};
use crate::Rejection;

/// Scans a form. A part with a file name is a file, not a value, and is stepped over.
pub(super) fn scan(body: &[u8], boundary: &str, keys: &Keys) -> Result<Scan, Rejection> {
    let delimiter = format!("--{boundary}");
    let mut scan = Scan::new(keys);
    for part in parts(body, delimiter.as_bytes())? {
        let content = &body[part.clone()];
        let Some(head) = memmem::find(content, b"\r\n\r\n") else {
            return Err(malformed("A part of the form has no end of its head.".to_owned()));
        };
        let Head { name, file } = Head::read(&content[..head])?;
        let value = part.start + head + 4..part.end;
        let text = &body[value.clone()];
        if !file {
            scan.text += text.len();
        }
        let nothing = matches!(text, b"" | b"false" | b"null" | b"auto" | b"default");
        let field = Field {
            key: part.start..part.start + head,
            value,
        };
        if scan.note(&name, field, nothing)? && file {
            return Err(malformed(format!("`{name}` must not be a file.")).with_param(name));
        }
    }
    Ok(scan)
}

/// Where the parts are, between their delimiters. Nothing but a line end may stand before the first and after the last.
fn parts(body: &[u8], delimiter: &[u8]) -> Result<Vec<Range<usize>>, Rejection> {
    let broken = |what: &str| malformed(format!("The form is malformed: {what}."));
    let mut parts = Vec::new();
    let mut open: Option<usize> = None;
    for at in memmem::find_iter(body, delimiter) {
        let before = &body[..at];
        let first = open.is_none();
        if !(before.ends_with(b"\r\n") || at == 0) {
            if before.ends_with(b"\n") || before.ends_with(b"\r") || first {
                return Err(broken("a delimiter does not stand on a line of its own"));
            }
            continue;
        }
        match open {
            None if at > 2 => return Err(broken("bytes before the first part")),
            // The CRLF before a delimiter belongs to the delimiter.
            Some(start) if at >= start + 2 => parts.push(start..at - 2),
            Some(_) => return Err(broken("a part without a head")),
            None => {}
        }
        let after = &body[at + delimiter.len()..];
        if after.starts_with(b"\r\n") {
            open = Some(at + delimiter.len() + 2);
        } else if matches!(after, b"--" | b"--\r\n") {
            return Ok(parts);
        } else {
            return Err(broken("bytes after a delimiter"));
        }
    }
    Err(broken("its end is missing"))
}

/// What the head of a part says.
struct Head {
    name: String,
    file: bool,
}

impl Head {
    fn read(head: &[u8]) -> Result<Self, Rejection> {
        let broken = |what: &str| malformed(format!("A part of the form has {what}."));
        let head = std::str::from_utf8(head).map_err(|_| broken("a head that is not UTF-8"))?;
        let mut disposition = None;
        for line in head.split("\r\n") {
            if line.starts_with([' ', '\t']) || line.contains(['\r', '\n']) {
                return Err(broken("a header over several lines"));
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(broken("a header without a colon"));
            };
            if name.eq_ignore_ascii_case("content-disposition") && disposition.replace(value).is_some() {
                return Err(broken("two Content-Disposition headers"));
            }
            if name.eq_ignore_ascii_case("content-transfer-encoding")
                && !["7bit", "8bit", "binary"]
                    .iter()
                    .any(|plain| value.trim().eq_ignore_ascii_case(plain))
            {
                return Err(broken("a Content-Transfer-Encoding"));
            }
        }
        let disposition = disposition.ok_or_else(|| broken("no Content-Disposition"))?;
        parameters(disposition).ok_or_else(|| broken("a Content-Disposition that cannot be read"))
    }
}

/// The parameters of `form-data; name="…"; filename="…"`.
fn parameters(disposition: &str) -> Option<Head> {
    let mut rest = disposition.trim().strip_prefix("form-data")?.trim_start();
    let (mut name, mut file) = (None, false);
    while !rest.is_empty() {
        rest = rest.strip_prefix(';')?.trim_start();
        let (key, after) = rest.split_once('=')?;
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            let end = closing_quote(quoted)?;
            (&quoted[..end], &quoted[end + 1..])
        } else {
            after.split_at(after.find([';', ' ', '\t']).unwrap_or(after.len()))
        };
        rest = after.trim_start();
        match key.trim().to_ascii_lowercase().as_str() {
            // What a reader makes of a backslash or a percent in a name differs from reader to reader.
            "name" if name.is_some() || value.contains(['\\', '%', '"']) => return None,
            "name" => name = Some(value.to_owned()),
            "filename" | "filename*" => file = true,
            _ => return None,
        }
    }
    Some(Head { name: name?, file })
}

/// Where a quoted string ends, stepping over what a backslash protects.
fn closing_quote(text: &str) -> Option<usize> {
    let mut protected = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !protected;
        protected = byte == b'\\' && !protected;
        ends
    })
}

/// The boundary in a Content-Type's parameters (RFC 2046, section 5.1.1).
pub(super) fn boundary(parameters: &str) -> Option<&str> {
    let mut found = None;
    for parameter in parameters.split(';') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !name.trim().eq_ignore_ascii_case("boundary") {
            continue;
        }
        let value = value.trim();
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        let plain = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(c);
        if value.is_empty() || value.len() > 70 || !value.chars().all(plain) || found.replace(value).is_some() {
            return None;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::super::scan::Key;
    use super::*;

    const FORM: &str = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a;\\\"b\\\".mp3\"\r\n\
        Content-Type: audio/mpeg\r\n\r\n\x01\n--\r\n -\r\n-- B --B mid-line\r\n\
        --B\r\ncontent-disposition: form-data; name=model\r\n\r\nwhisper-1\r\n\
        --B\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n--B--\r\n";

    fn run(form: &str) -> Result<Scan, Rejection> {
        scan(form.as_bytes(), "B", &Keys::default())
    }

    #[test]
    fn values_are_found_where_they_are() {
        let found = run(FORM).unwrap();
        assert_eq!(&FORM[found.get(Key::Model).unwrap().value.clone()], "whisper-1");
        assert_eq!(&FORM[found.get(Key::Stream).unwrap().value.clone()], "true");
        assert_eq!(found.text(), "whisper-1".len() + "true".len(), "a file is no text");
    }

    #[test]
    fn a_cut_form_is_refused_wherever_it_is_cut() {
        // The line end after the last delimiter may be missing.
        for cut in 0..FORM.len() - 2 {
            assert!(run(&FORM[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        let part = |head: &str, value: &str| format!("--B\r\n{head}\r\n\r\n{value}\r\n");
        let model = part("Content-Disposition: form-data; name=\"model\"", "a");
        for second in [
            model.clone(),
            part("Content-Disposition: form-data; name=\"Model\"", "b"),
            part("Content-Disposition: form-data; name=\"mod\\el\"", "b"),
            part("Content-Disposition: form-data; name=\"mod%65l\"", "b"),
            part("Content-Disposition: form-data; name=\"x\"; name=\"model\"", "b"),
            part("Content-Disposition: form-data; name*=UTF-8''model", "b"),
            part("Content-Disposition: form-data;\r\n name=\"model\"", "b"),
            part(
                "Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"",
                "b",
            ),
            part("Content-Type: text/plain", "b"),
            part(
                "Content-Disposition: form-data; name=\"user\"\r\nContent-Transfer-Encoding: base64",
                "b",
            ),
            part("Content-Disposition: form-data; name=\"user\"; filename=\"x\"", "b"),
            part(
                "Content-Disposition: form-data; name=\"x\"",
                "b\n--B\nContent-Disposition: form-data; name=\"model\"\n\nc",
            ),
            part("Content-Disposition: form-data; name=\"x\"", "b\r\n--Bother"),
        ] {
            assert!(run(&format!("{model}{second}--B--")).is_err(), "{second}");
        }
        assert!(run(&format!("{model}--B--")).is_ok());
        assert!(run(&format!("preamble\r\n{model}--B--")).is_err());
        assert!(run(&format!("{model}--B--\r\n{model}--B--")).is_err());
    }

    #[test]
    fn boundaries() {
        assert_eq!(boundary(" boundary=abc"), Some("abc"));
        assert_eq!(boundary("charset=utf-8; Boundary=\"a b\""), Some("a b"));
        for bad in ["", "boundary=", "boundary=a; boundary=b", "boundary=\"a\\b\""] {
            assert_eq!(boundary(bad), None, "{bad}");
        }
        assert_eq!(boundary(&format!("boundary={}", "x".repeat(71))), None);
    }
}
