//! One request, and what is read off its answer.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::json;

use super::LoadArgs;
use super::connection::Connection;
use super::report::Tally;
use super::target::Target;

/// The most of one event, or of one answer that is no stream, that is kept to be read.
const MAX_KEPT: usize = 16 << 20;

/// Sends copies of one request.
pub(super) struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
    address: SocketAddr,
    headers: HeaderMap,
    body: Bytes,
    stream: bool,
    timeout: Duration,
}

/// What became of one request.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) status: Option<StatusCode>,
    pub(super) error: Option<&'static str>,
    /// From the time at which it was due to the end of its answer.
    pub(super) latency: Duration,
    /// From the time at which it was due to the first content event.
    pub(super) first_token: Option<Duration>,
    /// From each content event to the next.
    pub(super) gaps: Vec<Duration>,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
}

/// The events of a stream, as they come in.
#[derive(Debug, Default)]
struct Reader {
    kept: BytesMut,
    done: bool,
    last_content: Option<Instant>,
    /// Content events; each stands for a token until a usage says otherwise.
    contents: u64,
}

/// What is looked for in a chunk or in an answer.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
    tool_calls: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

// === impl Sender ===

impl Sender {
    pub(super) fn new(args: &LoadArgs, target: Target, key: Option<&str>) -> io::Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, target.host);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("tollgate-load/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(key) = key {
            let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                .map_err(|_| io::Error::other("the key is not one line of text"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        for (name, value) in &args.header {
            headers.append(name, value.clone());
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(args.timeout));
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            uri: target.uri,
            address: target.address,
            headers,
            body: body(args).into(),
            stream: args.stream,
            timeout: args.timeout,
        })
    }

    /// A connection for one who sends one request at a time.
    pub(super) fn connection(&self) -> Connection {
        Connection::new(self.address)
    }

    /// Sends one request that was due at `due`, on its sender's `own` connection or on one of a pool, and notes what came
    /// of it.
    pub(super) async fn send(&self, due: Instant, tally: &Tally, own: Option<&mut Connection>) {
        tally.sent();
        let mut outcome = Outcome::default();
        match tokio::time::timeout(self.timeout, self.exchange(due, &mut outcome, own)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => outcome.error = Some(error),
            Err(_) => outcome.error = Some("timeout"),
        }
        outcome.latency = due.elapsed();
        tally.note(outcome);
    }

    async fn exchange(
        &self,
        due: Instant,
        outcome: &mut Outcome,
        own: Option<&mut Connection>,
    ) -> Result<(), &'static str> {
        let mut request = Request::post(self.uri.clone())
            .body(Full::new(self.body.clone()))
            .map_err(|_| "request")?;
        request.headers_mut().clone_from(&self.headers);
        let response = match own {
            Some(own) => {
                // A pool does so itself: on the wire stands the path alone.
                let path = self.uri.path_and_query().cloned();
                *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
                own.request(request).await?
            }
            None => self.client.request(request).await.map_err(|error| {
                if error.is_connect() {
                    "connect failed"
                } else {
                    "connection broke"
                }
            })?,
        };
        let status = response.status();
        outcome.status = Some(status);
        if self.stream && status.is_success() {
            return read_stream(response.into_body(), due, outcome).await;
        }
        let body = collect(response.into_body()).await?;
        if !status.is_success() {
            return Ok(());
        }
        let said: Said = serde_json::from_slice(&body).map_err(|_| "answer is not JSON")?;
        outcome.count(said.usage.as_ref());
        if said.error.is_some() {
            Err("error in answer")
        } else {
            Ok(())
        }
    }
}

async fn collect(mut body: Incoming) -> Result<BytesMut, &'static str> {
    let mut kept = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| "connection broke")?.into_data() {
            kept.extend_from_slice(&data);
        }
        if kept.len() > MAX_KEPT {
            return Err("answer too large");
        }
    }
    Ok(kept)
}

async fn read_stream(mut body: Incoming, due: Instant, outcome: &mut Outcome) -> Result<(), &'static str> {
    let mut reader = Reader::default();
    let read = async {
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(|_| "connection broke")?.into_data() {
                reader.read(&data, Instant::now(), due, outcome)?;
            }
        }
        Ok(())
    };
    let read: Result<(), &'static str> = read.await;
    if outcome.completion_tokens == 0 {
        outcome.completion_tokens = reader.contents;
    }
    read?;
    if reader.done { Ok(()) } else { Err("no end of stream") }
}

// === impl Outcome ===

impl Outcome {
    pub(super) fn is_ok(&self) -> bool {
        self.error.is_none() && self.status.is_some_and(|status| status.is_success())
    }

    fn count(&mut self, usage: Option<&Usage>) {
        if let Some(usage) = usage {
            self.prompt_tokens = usage.prompt_tokens;
            self.completion_tokens = usage.completion_tokens;
        }
    }
}

// === impl Reader ===

impl Reader {
    /// Takes what came at `now` off the wire.
    fn read(&mut self, data: &[u8], now: Instant, due: Instant, outcome: &mut Outcome) -> Result<(), &'static str> {
        self.kept.extend_from_slice(data);
        while let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
            let line = self.kept.split_to(end + 1);
            let line = line.trim_ascii();
            let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii_start) else {
                continue;
            };
            self.event(data, now, due, outcome)?;
        }
        if self.kept.len() > MAX_KEPT {
            Err("event too large")
        } else {
            Ok(())
        }
    }

    fn event(&mut self, data: &[u8], now: Instant, due: Instant, outcome: &mut Outcome) -> Result<(), &'static str> {
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let said: Said = serde_json::from_slice(data).map_err(|_| "event is not JSON")?;
        if said.error.is_some() {
            return Err("error in stream");
        }
        outcome.count(said.usage.as_ref());
        if said.choices.iter().any(Choice::has_content) {
            self.contents += 1;
            match self.last_content.replace(now) {
                None => outcome.first_token = Some(now.saturating_duration_since(due)),
                Some(last) => outcome.gaps.push(now.saturating_duration_since(last)),
            }
        }
        Ok(())
    }
}

// === impl Choice ===

impl Choice {
    fn has_content(&self) -> bool {
        self.delta.as_ref().is_some_and(|delta| {
            let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
            said(&delta.content) || said(&delta.reasoning_content) || delta.tool_calls.is_some()
        })
    }
}

/// The chat request: a prompt of about four characters a token.
fn body(args: &LoadArgs) -> String {
    let size = args.prompt_tokens as usize * 4;
    let prompt: String = "Say again what was said. ".chars().cycle().take(size).collect();
    let mut body = json!({"model": args.model, "messages": [{"role": "user", "content": prompt}]});
    if args.stream {
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
    }
    if let Some(most) = args.max_tokens {
        body["max_tokens"] = most.into();
    }
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_split_anywhere_are_read_as_one() {
        let stream = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n: ping\n\n\
                      data: {\"choices\":[{\"delta\":{\"content\":\"🙂\"}}]}\n\ndata:{\"choices\":[{\"delta\":\
                      {\"content\":\"b\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\
                      \"completion_tokens\":9}}\n\ndata: [DONE]\n\n";
        let due = Instant::now();
        let mut reader = Reader::default();
        let mut outcome = Outcome::default();
        for (offset, byte) in (0..).zip(stream.bytes()) {
            let now = due + Duration::from_millis(offset);
            reader.read(&[byte], now, due, &mut outcome).expect("a sound stream");
        }
        assert!(reader.done);
        assert_eq!(
            (reader.contents, outcome.prompt_tokens, outcome.completion_tokens),
            (2, 3, 9)
        );
        let at = |text: &str| Duration::from_millis(stream.find(text).map_or(0, |at| at as u64));
        let (first, second) = (at("\n\ndata:{"), at("\n\ndata: {\"choices\":[],"));
        assert_eq!(
            (outcome.first_token, outcome.gaps),
            (Some(first), vec![second.saturating_sub(first)])
        );
    }
}
