//! What the backend is told to do: a TOML file for every request, a header for one.
//!
//! Both speak the same keys, and both go through [`Script::set`], so that they cannot drift apart.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

/// The largest number of tokens one answer may be asked for.
const MAX_TOKENS: u64 = 1_000_000;

/// The longest wait a script may ask for.
const MAX_WAIT: Duration = Duration::from_hours(1);

/// How the backend answers.
///
/// ```
/// use tollgate::backend::Script;
///
/// let script = Script::default().with_header("ttft=300ms; tps=50; tokens=64; fault=cut:3")?;
/// assert_eq!(script.tokens, 64);
///
/// let refused = Script::default().with_header("tokns=64").unwrap_err();
/// assert!(refused.to_string().contains("tokns"));
/// # Ok::<(), tollgate::backend::ScriptError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Script {
    /// `ttft`: from the end of the request to the answer's head; the time of hidden tokens comes on top.
    pub ttft: Duration,
    /// `tps`: tokens a second of one answer, its choices together; 0 is as fast as can be.
    pub tps: f64,
    /// `tokens`: completion tokens of one choice, before the request's own cap.
    pub tokens: u64,
    /// `chunk_delay`: the wait between two events of a stream, in place of what `tps` says.
    pub chunk_delay: Option<Duration>,
    /// `chunk_bytes`: each write to the socket carries at most so many bytes of the body.
    pub chunk_bytes: Option<NonZeroUsize>,
    /// `tool_calls`: so many calls when the request offers `tools`.
    pub tool_calls: u64,
    /// `prompt_tokens`: reported in place of what the request's text comes to.
    pub prompt_tokens: Option<u64>,
    /// `completion_tokens`: reported in place of what was written.
    pub completion_tokens: Option<u64>,
    /// `cached_tokens`: the part of the prompt that a cache held.
    pub cached_tokens: u64,
    /// `cache_write_tokens`: the part of the prompt that was put into a cache (Anthropic's form reports it).
    pub cache_write_tokens: u64,
    /// `reasoning_tokens`: hidden tokens, reported within the completion's.
    pub reasoning_tokens: u64,
    /// `audio_tokens`: the part of the prompt that was audio.
    pub audio_tokens: u64,
    /// `usage`: a JSON value reported in place of any usage of our own.
    pub usage: Option<Value>,
    /// `fault`: what goes wrong, none or several, comma-separated.
    pub faults: Vec<Fault>,
    /// `every`: faults strike every n-th of the requests that carry one.
    pub every: NonZeroU64,
    /// `retry_after`: seconds, sent with a scripted status.
    pub retry_after: Option<u64>,
    /// `key`: the bearer key demanded.
    pub key: Option<String>,
    /// `models`: the names served, comma-separated; empty serves any name.
    pub models: Vec<String>,
}

/// Something that goes wrong with an answer.
///
/// `N` counts content events of a stream. An answer that is not streamed has no events: there 0 means between head and
/// body, and any other number means in the middle of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// `status:429`: answers with this status and an error body.
    Status(u16),
    /// `stall` or `stall:N`: never answers, or stops for good after N events with the connection open.
    Stall(Option<u64>),
    /// `cut` or `cut:N`: the connection ends before the head, or after N events, without a clean end.
    Cut(Option<u64>),
    /// `reset` or `reset:N`: as `cut`, with a TCP reset (cleartext only; over TLS it is a cut).
    Reset(Option<u64>),
    /// `broken_json[:N]`: the event after N others is cut off in its middle, and the stream goes on.
    BrokenJson(u64),
    /// `error_event[:N[:CODE]]`: after N events an error object, code 500 unless given, and a clean end.
    ErrorEvent(u64, u16),
    /// `no_done`: the terminal event is missing, the end is clean.
    NoDone,
    /// `no_usage`: no usage anywhere.
    NoUsage,
    /// `wrong_length`: Content-Length says more than comes.
    WrongLength,
    /// `gzip`: the body is encoded, whatever the request accepts.
    Gzip,
    /// `reject_stream_options`: a request that carries the field is answered 400, naming it.
    RejectStreamOptions,
    /// `early_hints`: interim 100 and 103 answers before the head (HTTP/1.1 only).
    EarlyHints,
    /// `close`: keep-alive is announced and the connection closed after the answer all the same.
    Close,
}

/// A key or value of a script that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError(String);

impl Default for Script {
    fn default() -> Self {
        Self {
            ttft: Duration::ZERO,
            tps: 0.0,
            tokens: 16,
            chunk_delay: None,
            chunk_bytes: None,
            tool_calls: 0,
            prompt_tokens: None,
            completion_tokens: None,
            cached_tokens: 0,
            cache_write_tokens: 0,
            reasoning_tokens: 0,
            audio_tokens: 0,
            usage: None,
            faults: Vec::new(),
            every: NonZeroU64::MIN,
            retry_after: None,
            key: None,
            models: Vec::new(),
        }
    }
}

// === impl Script ===

impl Script {
    /// Reads a script file.
    pub fn from_toml(text: &str) -> Result<Self, ScriptError> {
        let table: toml::Table =
            toml::from_str(text).map_err(|error| ScriptError(format!("not TOML: {}", error.message())))?;
        let mut script = Self::default();
        for (key, value) in table {
            script.set(&key, &plain(value))?;
        }
        Ok(script)
    }

    /// This script with what a request's `x-tollgate-script` changes.
    pub fn with_header(mut self, header: &str) -> Result<Self, ScriptError> {
        for pair in split(header, ';') {
            let pair = pair.trim();
            if pair.is_empty() {
                continue;
            }
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| ScriptError(format!("`{pair}` is not of the form key=value")))?;
            self.set(key.trim(), value.trim())?;
        }
        Ok(self)
    }

    /// Sets one key from its text.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ScriptError> {
        match key {
            "ttft" => self.ttft = wait(key, value)?,
            "tps" => {
                self.tps = number::<f64>(key, value)?;
                if !(0.0..=1e6).contains(&self.tps) {
                    return Err(refused(key, value, "a number from 0 to 1000000"));
                }
            }
            "tokens" => self.tokens = count(key, value)?,
            "chunk_delay" => self.chunk_delay = Some(wait(key, value)?),
            "chunk_bytes" => self.chunk_bytes = Some(number(key, value)?),
            "tool_calls" => self.tool_calls = count(key, value)?,
            "prompt_tokens" => self.prompt_tokens = Some(number(key, value)?),
            "completion_tokens" => self.completion_tokens = Some(number(key, value)?),
            "cached_tokens" => self.cached_tokens = number(key, value)?,
            "cache_write_tokens" => self.cache_write_tokens = number(key, value)?,
            "reasoning_tokens" => self.reasoning_tokens = number(key, value)?,
            "audio_tokens" => self.audio_tokens = number(key, value)?,
            "usage" => self.usage = Some(serde_json::from_str(value).map_err(|_| refused(key, value, "JSON"))?),
            "fault" => {
                self.faults = split(value, ',')
                    .map(|one| one.trim().parse())
                    .collect::<Result<_, _>>()?;
            }
            "every" => self.every = number(key, value)?,
            "retry_after" => self.retry_after = Some(number(key, value)?),
            "key" => self.key = Some(value.to_owned()),
            "models" => self.models = value.split(',').map(|name| name.trim().to_owned()).collect(),
            _ => return Err(ScriptError(format!("unknown key `{key}` (value `{value}`)"))),
        }
        Ok(())
    }

    /// The wait between two content events.
    pub(super) fn pace(&self) -> Duration {
        match self.chunk_delay {
            Some(delay) => delay,
            None if self.tps > 0.0 => Duration::from_secs_f64(1.0 / self.tps),
            None => Duration::ZERO,
        }
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

// === impl Fault ===

impl FromStr for Fault {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let first = parts.next().map(|part| number::<u64>("fault", part)).transpose()?;
        let second = parts.next().map(|part| number::<u16>("fault", part)).transpose()?;
        let takes = match name {
            "error_event" => 2,
            "status" | "stall" | "cut" | "reset" | "broken_json" => 1,
            _ => 0,
        };
        if usize::from(first.is_some()) + usize::from(second.is_some()) > takes || parts.next().is_some() {
            return Err(refused("fault", text, "fewer numbers after it"));
        }
        Ok(match name {
            "status" => match first.and_then(|status| u16::try_from(status).ok()) {
                Some(status) if (200..=599).contains(&status) => Self::Status(status),
                _ => return Err(refused("fault", text, "status:N with N from 200 to 599")),
            },
            "stall" => Self::Stall(first),
            "cut" => Self::Cut(first),
            "reset" => Self::Reset(first),
            "broken_json" => Self::BrokenJson(first.unwrap_or(0)),
            "error_event" => Self::ErrorEvent(first.unwrap_or(0), second.unwrap_or(500)),
            "no_done" => Self::NoDone,
            "no_usage" => Self::NoUsage,
            "wrong_length" => Self::WrongLength,
            "gzip" => Self::Gzip,
            "reject_stream_options" => Self::RejectStreamOptions,
            "early_hints" => Self::EarlyHints,
            "close" => Self::Close,
            _ => return Err(ScriptError(format!("unknown value `{text}` of `fault`"))),
        })
    }
}

// === impl ScriptError ===

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScriptError {}

fn refused(key: &str, value: &str, wanted: &str) -> ScriptError {
    ScriptError(format!("`{key}` is `{value}`, it must be {wanted}"))
}

fn number<T: FromStr>(key: &str, value: &str) -> Result<T, ScriptError> {
    value
        .parse()
        .map_err(|_| refused(key, value, "a number (whole and above 0 where 0 has no sense)"))
}

fn count(key: &str, value: &str) -> Result<u64, ScriptError> {
    match number(key, value)? {
        many if many > MAX_TOKENS => Err(refused(key, value, "at most 1000000")),
        many => Ok(many),
    }
}

/// `300ms`, `1.5s`, `250us`, `2m` or `0`.
fn wait(key: &str, value: &str) -> Result<Duration, ScriptError> {
    let wrong = || refused(key, value, "a time up to an hour, such as 300ms or 1.5s");
    let unit = value.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(value.len());
    let number: f64 = value[..unit].trim().parse().map_err(|_| wrong())?;
    let seconds = match &value[unit..] {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "" if number == 0.0 => 0.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|wait| *wait <= MAX_WAIT)
        .ok_or_else(wrong)
}

/// Splits at `separator`, but not within a JSON string, object or list, so that `usage` can hold any JSON.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut depth, mut quoted, mut escaped) = (0_i32, false, false);
    text.split(move |c| {
        if escaped {
            escaped = false;
        } else if quoted {
            escaped = c == '\\';
            quoted = c != '"';
        } else {
            match c {
                '"' => quoted = true,
                '{' | '[' => depth += 1,
                '}' | ']' => depth -= 1,
                _ => return depth <= 0 && c == separator,
            }
        }
        false
    })
}

/// The text of a TOML value as the header would have it.
fn plain(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        toml::Value::Array(values) => values.into_iter().map(plain).collect::<Vec<_>>().join(","),
        table @ toml::Value::Table(_) => serde_json::to_string(&table).unwrap_or_default(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn header(text: &str) -> Result<Script, ScriptError> {
        Script::default().with_header(text)
    }

    #[test]
    fn file_and_header_say_the_same() {
        let file = "ttft = '300ms'\ntps = 50\ntokens = 64\nfault = ['cut:3', 'no_usage']\nmodels = ['a', 'b']\n\
                    every = 2\n[usage]\nprompt_tokens = 7\n";
        let line =
            r#"ttft=300ms; tps=50; tokens=64; fault=cut:3,no_usage; models=a,b; every=2; usage={"prompt_tokens":7}"#;
        assert_eq!(Script::from_toml(file).unwrap(), header(line).unwrap());
    }

    #[test]
    fn a_separator_within_json_does_not_split() {
        let script = header(r#"usage={"a":"x;y\";","b":[1,2]}; tokens=3"#).unwrap();
        assert_eq!(script.usage, Some(serde_json::json!({"a": "x;y\";", "b": [1, 2]})));
        assert_eq!(script.tokens, 3);
    }

    #[test]
    fn times_are_read_in_their_units() {
        for (text, wanted) in [
            ("250us", 250),
            ("2ms", 2_000),
            ("1.5s", 1_500_000),
            ("1m", 60_000_000),
            ("0", 0),
        ] {
            assert_eq!(
                header(&format!("ttft={text}")).unwrap().ttft,
                Duration::from_micros(wanted),
                "{text}"
            );
        }
    }

    #[test]
    fn faults_are_read_with_their_numbers() {
        for (text, wanted) in [
            ("status:429", Fault::Status(429)),
            ("stall", Fault::Stall(None)),
            ("cut:0", Fault::Cut(Some(0))),
            ("reset:2", Fault::Reset(Some(2))),
            ("broken_json", Fault::BrokenJson(0)),
            ("error_event:2:429", Fault::ErrorEvent(2, 429)),
            ("close", Fault::Close),
        ] {
            assert_eq!(text.parse(), Ok(wanted));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("tokns=1", "tokns"),
            ("tokens=-1", "-1"),
            ("tokens=9999999", "9999999"),
            ("ttft=300", "300"),
            ("ttft=5h", "5h"),
            ("tps=-2", "-2"),
            ("every=0", "`0`"),
            ("chunk_bytes=0", "`0`"),
            ("fault=explode", "explode"),
            ("fault=status:99", "status:99"),
            ("fault=close:3", "close:3"),
            ("fault=cut:1:2", "cut:1:2"),
            ("usage={", "usage"),
            ("tokens", "tokens"),
        ] {
            let error = header(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        assert!(
            Script::from_toml("colour = 'red'")
                .unwrap_err()
                .to_string()
                .contains("colour")
        );
    }
}
