//! The access line of a request: one flat JSON object, written into the line's memory as it goes.
//!
//! Not by a serializer: there is one line for every request, and the keys are known.

use std::cell::RefCell;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::record::{Attempt, Facts, Tokens};

thread_local! {
    /// The last second that a line was written in, and its text.
    static SECOND: RefCell<(Option<u64>, String)> = const { RefCell::new((None, String::new())) };
}

/// One JSON object under way.
struct Object<'a> {
    line: &'a mut Vec<u8>,
    /// Whether a member has been written.
    begun: bool,
}

impl Facts {
    pub(super) fn write_json(&self, line: &mut Vec<u8>) {
        let mut object = Object::open(line);
        object.time("time", self.time);
        object.text("request_id", &self.request_id);
        object.text("method", self.method.as_str());
        object.text("path", &self.path);
        object.maybe("endpoint", self.endpoint);
        if let Some(ip) = self.ip {
            object.address("ip", ip);
        }
        object.maybe("key", self.key.as_deref());
        object.maybe("account", self.account.as_deref());
        object.maybe("group", self.group.as_deref());
        object.maybe("model", self.model.as_deref());
        object.maybe("unknown_model", self.unknown_model.as_deref());
        object.maybe("served_model", self.served.as_deref());
        object.attempts(&self.attempts);
        object.number("status", self.status.into());
        object.maybe("reason", self.reason);
        object.text("end", self.end.as_str());
        object.flag("streamed", self.streamed);
        if let Some(tokens) = &self.tokens {
            object.tokens(tokens);
        }
        if let Some(charge) = self.charge {
            object.number("charge_nanos", charge);
            if self.written_off > 0 {
                object.number("written_off_nanos", self.written_off);
            }
        }
        if self.cached {
            object.flag("cached", true);
        }
        object.number("bytes_in", self.bytes_in);
        object.number("bytes_out", self.bytes_out);
        if let Some(first) = self.first_byte {
            object.millis("first_byte_ms", first);
        }
        object.millis("ms", self.elapsed);
        object.maybe("tag", self.tag.as_deref());
        object.maybe("user", self.user.as_deref());
        object.maybe("backend_request_id", self.backend_request_id.as_deref());
        object.line.push(b'}');
    }
}

impl<'a> Object<'a> {
    fn open(line: &'a mut Vec<u8>) -> Self {
        line.push(b'{');
        Self { line, begun: false }
    }

    /// Keys are ours, and need no escape.
    fn key(&mut self, key: &str) {
        if std::mem::replace(&mut self.begun, true) {
            self.line.push(b',');
        }
        self.line.push(b'"');
        self.line.extend_from_slice(key.as_bytes());
        self.line.extend_from_slice(b"\":");
    }

    /// RFC 3339, in UTC, with milliseconds. All but these is the same for a whole second.
    fn time(&mut self, key: &str, time: SystemTime) {
        self.key(key);
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        SECOND.with_borrow_mut(|(second, text)| {
            if *second != Some(since.as_secs()) {
                *second = Some(since.as_secs());
                *text = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string();
            }
            self.line.push(b'"');
            self.line.extend_from_slice(text.trim_end_matches('Z').as_bytes());
            push_fraction(self.line, since.subsec_millis().into());
            self.line.extend_from_slice(b"Z\"");
        });
    }

    fn address(&mut self, key: &str, address: IpAddr) {
        self.key(key);
        self.line.push(b'"');
        match address {
            IpAddr::V4(address) => {
                let mut dot: &[u8] = b"";
                for octet in address.octets() {
                    self.line.extend_from_slice(dot);
                    push_number(self.line, octet.into());
                    dot = b".";
                }
            }
            // A Vec takes every byte.
            IpAddr::V6(address) => drop(write!(self.line, "{address}")),
        }
        self.line.push(b'"');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        push_text(self.line, value);
    }

    fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        push_number(self.line, value);
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        self.line.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn millis(&mut self, key: &str, value: Duration) {
        self.key(key);
        push_millis(self.line, value);
    }

    /// Each as `[backend, status or reason, milliseconds]`.
    fn attempts(&mut self, attempts: &[Attempt]) {
        if attempts.is_empty() {
            return;
        }
        self.key("attempts");
        let mut open = b'[';
        for attempt in attempts {
            self.line.extend_from_slice(&[open, b'[']);
            push_text(self.line, &attempt.backend);
            self.line.push(b',');
            match attempt.status {
                Some(status) => push_number(self.line, status.into()),
                None => push_text(self.line, attempt.reason.unwrap_or("failed")),
            }
            self.line.push(b',');
            push_millis(self.line, attempt.elapsed);
            self.line.push(b']');
            open = b',';
        }
        self.line.push(b']');
    }

    fn tokens(&mut self, tokens: &Tokens) {
        self.number("prompt_tokens", tokens.prompt);
        if tokens.cached > 0 {
            self.number("cached_tokens", tokens.cached);
        }
        self.number("completion_tokens", tokens.completion);
        if tokens.reasoning > 0 {
            self.number("reasoning_tokens", tokens.reasoning);
        }
        if tokens.estimated {
            self.flag("estimated", true);
        }
    }
}

/// A JSON string (RFC 8259, section 7). What a client chose may hold anything.
fn push_text(line: &mut Vec<u8>, text: &str) {
    let plain = text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if plain {
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
    } else {
        // A Vec takes every byte, and a string is a JSON value.
        let _ = serde_json::to_writer(line, text);
    }
}

fn push_number(line: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[at..]);
}

/// Milliseconds, with three digits behind the point.
fn push_millis(line: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from((duration.as_nanos() + 500) / 1000).unwrap_or(u64::MAX);
    push_number(line, micros / 1000);
    push_fraction(line, micros % 1000);
}

/// A point, and three digits.
fn push_fraction(line: &mut Vec<u8>, thousandths: u64) {
    let digit = |place: u64| b'0' + u8::try_from(thousandths / place % 10).unwrap_or(0);
    line.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        push(&mut line);
        String::from_utf8(line).expect("text")
    }

    #[test]
    fn numbers() {
        for number in [0, 7, 10, 4096, u64::MAX] {
            assert_eq!(written(|line| push_number(line, number)), number.to_string());
        }
        for (nanos, shown) in [
            (0, "0.000"),
            (499, "0.000"),
            (1_500, "0.002"),
            (1_234_567_890, "1234.568"),
        ] {
            assert_eq!(written(|line| push_millis(line, Duration::from_nanos(nanos))), shown);
        }
    }

    #[test]
    fn times_and_addresses() {
        let time = |millis| {
            written(|line| Object::open(line).time("t", SystemTime::UNIX_EPOCH + Duration::from_millis(millis)))
        };
        assert_eq!(time(1_700_000_000_007), r#"{"t":"2023-11-14T22:13:20.007Z""#);
        assert_eq!(time(1_700_000_000_999), r#"{"t":"2023-11-14T22:13:20.999Z""#);
        assert_eq!(time(1_700_000_001_000), r#"{"t":"2023-11-14T22:13:21.000Z""#);
        for address in ["10.0.0.255", "::1", "2001:db8::7"] {
            let shown = written(|line| Object::open(line).address("a", address.parse().expect("an address")));
            assert_eq!(shown, format!(r#"{{"a":"{address}""#));
        }
    }

    #[test]
    fn text_of_any_kind_stays_one_string_on_one_line() {
        for text in ["plain", "", "a \"quote\" \\ \n line \u{7f} \u{1} é 🦀"] {
            let line = written(|line| push_text(line, text));
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<String>(&line).expect("JSON"), text);
        }
    }
}
