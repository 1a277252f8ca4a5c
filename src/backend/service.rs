//! One request: its script, its record, its endpoint, the faults before the head.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::answer::{Answer, Call, Content, Problem, to_bytes};
use super::content::Prompt;
use super::endpoints;
use super::player::{Body, Broken, Player};
use super::record::{Record, Seen};
use super::script::{Fault, Script};
use super::stats::{InFlight, Stats};
use super::wire::Control;

/// The largest request body that is read.
const MAX_BODY: usize = 256 << 20;

/// The header by which one request brings its own script.
const SCRIPT_HEADER: &str = "x-tollgate-script";

/// What all connections share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) script: Script,
    pub(super) stats: Stats,
    pub(super) record: Record,
    /// Requests so far that carried a fault.
    faulty: AtomicU64,
}

// === impl State ===

impl State {
    pub(super) fn new(script: Script) -> Self {
        Self {
            script,
            stats: Stats::new(),
            record: Record::default(),
            faulty: AtomicU64::new(0),
        }
    }

    /// The script of this request, its faults left out when it is not their turn.
    fn script(&self, headers: &HeaderMap) -> Result<Script, Problem> {
        let mut script = self.script.clone();
        for value in headers.get_all(SCRIPT_HEADER) {
            let text = value
                .to_str()
                .map_err(|_| Problem::bad_request(format!("{SCRIPT_HEADER} is not ASCII.")))?;
            script = script
                .with_header(text)
                .map_err(|error| Problem::bad_request(format!("{SCRIPT_HEADER}: {error}")))?;
        }
        if !script.faults.is_empty() {
            let turn = self.faulty.fetch_add(1, Ordering::Relaxed) + 1;
            if !turn.is_multiple_of(script.every.get()) {
                script.faults.clear();
            }
        }
        Ok(script)
    }
}

/// Answers one request; an error ends the connection.
pub(super) async fn serve(
    state: Arc<State>,
    control: Arc<Control>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Broken> {
    match request.uri().path() {
        "/_stats" => return Ok(whole(StatusCode::OK, to_bytes(&state.stats.now()))),
        "/_last" => {
            let last = state.record.last().map_or(Value::Null, |seen| seen.to_json());
            return Ok(whole(StatusCode::OK, to_bytes(&last)));
        }
        _ => {}
    }
    let mut in_flight = state.stats.begin();
    let (head, body) = request.into_parts();
    let script = state.script(&head.headers);
    // A client that leaves amid its upload drops this future, or ends the body early: both count as cancelled.
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Err(Broken),
    };
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let seen = Seen {
        method: head.method.clone(),
        path,
        headers: head.headers.clone(),
        body: body.clone(),
    };
    state.record.push(seen);
    let outcome = match script {
        Ok(script) => {
            before_head(&script, &control, &mut in_flight).await?;
            respond(&head, body, script, in_flight, control).await
        }
        Err(problem) => Err((problem, None, in_flight)),
    };
    Ok(outcome.unwrap_or_else(|(problem, retry_after, mut in_flight)| {
        in_flight.finish();
        refusal(&problem, retry_after)
    }))
}

/// The faults that strike before anything of the answer is out.
async fn before_head(script: &Script, control: &Control, in_flight: &mut InFlight) -> Result<(), Broken> {
    for fault in &script.faults {
        match fault {
            Fault::Stall(None) => pending().await,
            Fault::Cut(None) | Fault::Reset(None) => {
                if matches!(fault, Fault::Reset(None)) {
                    control.reset();
                }
                in_flight.finish();
                return Err(Broken);
            }
            Fault::EarlyHints => control.send_first(Bytes::from_static(
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n",
            )),
            _ => {}
        }
    }
    Ok(())
}

type Refused = (Problem, Option<u64>, InFlight);

async fn respond(
    head: &http::request::Parts,
    body: Bytes,
    script: Script,
    in_flight: InFlight,
    control: Arc<Control>,
) -> Result<Response<Body>, Refused> {
    let call = match call(head, body, script.clone()) {
        Ok(call) => call,
        Err(problem) => return Err((problem, None, in_flight)),
    };
    if let Some(problem) = scripted_refusal(&call) {
        return Err((problem, script.retry_after, in_flight));
    }
    let path = head.uri.path();
    let path = path
        .strip_prefix("/v1")
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path);
    let answer = match endpoints::route(&head.method, path, &call) {
        Ok(answer) => answer,
        Err(problem) => return Err((problem, None, in_flight)),
    };
    in_flight.read(answer.usage.prompt);
    let delay = delay(&answer, &script);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    Ok(play(answer, script, in_flight, control))
}

/// The time to the first visible token; an answer that is not streamed takes the time of all its tokens.
fn delay(answer: &Answer, script: &Script) -> Duration {
    let tokens = match answer.body {
        Content::Stream { .. } => answer.usage.reasoning,
        Content::Whole(_) => answer.usage.completion.saturating_sub(1),
    };
    let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
    script.ttft.saturating_add(script.pace().saturating_mul(tokens))
}

fn play(answer: Answer, script: Script, in_flight: InFlight, control: Arc<Control>) -> Response<Body> {
    let content_type = answer.content_type;
    let (close, encoded) = (script.has(Fault::Close), script.has(Fault::Gzip));
    let (body, length) = Player::play(answer, script, in_flight, control);
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if encoded {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if close {
        headers.insert("keep-alive", HeaderValue::from_static("timeout=5, max=100"));
    }
    vendor(headers);
    response
}

/// The fields that vendors add, which a gateway keeps to itself.
fn vendor(headers: &mut HeaderMap) {
    for (name, value) in [
        ("server", "scripted-backend"),
        ("x-request-id", "req_scripted"),
        ("openai-organization", "scripted-org"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("set-cookie", "scripted=1; Path=/; HttpOnly"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn call(head: &http::request::Parts, body: Bytes, script: Script) -> Result<Call, Problem> {
    if let Some(key) = &script.key
        && credential(&head.headers) != Some(key)
    {
        let message = "Incorrect API key provided.";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message));
    }
    let headers = head.headers.clone();
    let form = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/"));
    if form || head.method == http::Method::GET {
        return Ok(Call {
            body: Value::Null,
            prompt: Prompt::of_bytes(&body),
            raw: body,
            headers,
            script,
        });
    }
    let json: Value = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("The body is not JSON: {error}.")))?;
    let Some(model) = json["model"].as_str() else {
        return Err(Problem::bad_request("You must provide a `model`.").param("model"));
    };
    if !script.models.is_empty() && !script.models.iter().any(|known| known == model) {
        let message = format!("The model `{model}` does not exist.");
        return Err(Problem::new(StatusCode::NOT_FOUND, "invalid_request_error", message).param("model"));
    }
    Ok(Call {
        prompt: Prompt::of_json(&json),
        body: json,
        raw: body,
        headers,
        script,
    })
}

/// The bearer token, or what Anthropic's clients send.
fn credential(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text("authorization")
        .and_then(|value| value.strip_prefix("Bearer "))
        .or_else(|| text("x-api-key"))
}

fn scripted_refusal(call: &Call) -> Option<Problem> {
    call.script.faults.iter().find_map(|fault| match *fault {
        Fault::Status(status) => {
            let kind = if status == 429 {
                "rate_limit_error"
            } else {
                "server_error"
            };
            let status = StatusCode::from_u16(status).ok()?;
            Some(Problem::new(
                status,
                kind,
                "The scripted backend refused, as it was told to.",
            ))
        }
        Fault::RejectStreamOptions if !call.body["stream_options"].is_null() => {
            let message = "Unrecognized request argument supplied: stream_options";
            Some(Problem::bad_request(message).param("stream_options"))
        }
        _ => None,
    })
}

fn refusal(problem: &Problem, retry_after: Option<u64>) -> Response<Body> {
    let mut response = whole(problem.status, problem.to_bytes());
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    vendor(response.headers_mut());
    response
}

fn whole(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).map_err(Broken::from).boxed_unsync());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
