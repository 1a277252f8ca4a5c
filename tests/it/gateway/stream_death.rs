//! An answer that breaks never looks finished, wherever it breaks and however.

use serde_json::{Value, json};
use tollgate::backend::Running;

use crate::support::client::{Answered, Ask, Client, Speaks};
use crate::support::gateway::{Gateway, Setup, chat, post, scripted};
use crate::support::raw::RawBackend;

const TIMEOUTS: &str = "timeout = { first_byte = \"200ms\", idle = \"200ms\", total = \"200ms\" }";

/// What a client has of an answer when it is over.
struct Got {
    head: Answered,
    text: String,
    clean: bool,
}

async fn front() -> (Gateway, Running) {
    let backend = scripted().await;
    let setup = Setup::default().backend("main", backend.local_addr(), TIMEOUTS);
    (setup.server("h2c_listen = \"127.0.0.1:0\"").start(), backend)
}

async fn get(gateway: &Gateway, speaks: Speaks, ask: &Ask) -> Got {
    let address = match speaks {
        Speaks::H2c => gateway.inner.addresses().h2c[0],
        _ => gateway.address(),
    };
    let mut client = Client::at(address, speaks).await;
    client.start(ask).await;
    let head = client.head().await.unwrap();
    let (body, end) = client.rest().await;
    Got {
        head,
        text: String::from_utf8_lossy(&body).into_owned(),
        clean: end.is_ok(),
    }
}

impl Got {
    /// The data of its events, null where that is no JSON.
    fn events(&self) -> Vec<Value> {
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap_or(Value::Null))
            .collect()
    }

    /// Whether an SDK takes it for a whole answer.
    fn looks_finished(&self, stream: bool) -> bool {
        let sound = |value: &Value| value.is_object() && value["error"].is_null();
        let whole = if stream {
            self.text.ends_with("data: [DONE]\n\n") && self.events().iter().all(sound)
        } else {
            serde_json::from_str(&self.text).is_ok_and(|body: Value| sound(&body) && body["choices"].is_array())
        };
        self.clean && self.head.status == 200 && whole
    }

    /// The errors that it tells of.
    fn errors(&self) -> Vec<Value> {
        let error = |event: Value| Some(event["error"].clone()).filter(|error| !error.is_null());
        self.events().into_iter().filter_map(error).collect()
    }
}

const FAULTS: [&str; 8] = [
    "cut",
    "reset",
    "stall",
    "broken_json",
    "error_event",
    "error_event:N:429",
    "no_done",
    "wrong_length",
];

#[tokio::test]
async fn no_break_looks_like_an_end() {
    let (gateway, _backend) = front().await;
    for speaks in [Speaks::KeepAlive, Speaks::H2c] {
        for stream in [true, false] {
            let whole = get(&gateway, speaks, &chat(stream, "tokens=5")).await;
            assert!(whole.looks_finished(stream), "{}", whole.text);
            for fault in FAULTS {
                // Before the first content, after it, and before the last event.
                for after in [0, 1, 5] {
                    let fault = match fault {
                        "no_done" | "wrong_length" => fault.to_owned(),
                        "error_event:N:429" => format!("error_event:{after}:429"),
                        // What is written whole has its JSON broken wherever the number says.
                        "broken_json" if after == 5 => continue,
                        _ => format!("{fault}:{after}"),
                    };
                    if fault == "no_done" && !stream {
                        continue;
                    }
                    let got = get(&gateway, speaks, &chat(stream, &format!("tokens=5; fault={fault}"))).await;
                    let what = format!("{fault} {speaks:?} {stream}: {:?} {}", got.head, got.text);
                    assert!(!got.looks_finished(stream), "{what}");
                    gateway.is_quiet().await;
                }
            }
        }
    }
}

/// What the backend did not say itself, the gateway says, and then cuts.
#[tokio::test]
async fn a_stream_that_breaks_ends_with_one_error_and_a_cut() {
    let (gateway, _backend) = front().await;
    for (fault, code, reason) in [
        ("cut:2", 502, "upstream_failed"),
        ("reset:2", 502, "upstream_failed"),
        ("stall:2", 504, "idle_timeout"),
        ("no_done", 502, "upstream_failed"),
        ("wrong_length", 502, "upstream_failed"),
    ] {
        for speaks in [Speaks::KeepAlive, Speaks::H2c] {
            let got = get(&gateway, speaks, &chat(true, &format!("tokens=5; fault={fault}"))).await;
            assert_eq!((got.head.status, got.clean), (200, false), "{fault}");
            let errors = got.errors();
            assert_eq!(errors.len(), 1, "{fault}: {}", got.text);
            assert_eq!(
                (&errors[0]["code"], &errors[0]["reason"]),
                (&json!(code), &json!(reason))
            );
            assert!(got.events().pop().unwrap()["error"].is_object(), "it is the last word");
            if fault != "wrong_length" {
                assert!(!got.text.contains("[DONE]"), "{}", got.text);
            }
            let line = gateway.line(got.head.field("x-request-id").unwrap()).await;
            assert_eq!(
                (&line["end"], &line["reason"]),
                (&json!("failed"), &json!(reason)),
                "{line}"
            );
            assert!(
                line["completion_tokens"].as_u64().unwrap() > 0,
                "what was seen is counted: {line}"
            );
        }
    }
}

/// The client has the backend's own words, and the record has that it failed.
#[tokio::test]
async fn an_error_within_a_stream_is_passed_on_and_recorded() {
    let (gateway, _backend) = front().await;
    for after in [1, 2] {
        let script = format!("tokens=5; fault=error_event:{after}:429");
        let got = get(&gateway, Speaks::KeepAlive, &chat(true, &script)).await;
        assert_eq!(
            got.errors()[0]["message"],
            "The scripted backend failed, as it was told to."
        );
        assert_eq!(got.errors()[0]["code"], 429);
        assert!(!got.clean && !got.text.contains("[DONE]"));
        let line = gateway.line(got.head.field("x-request-id").unwrap()).await;
        assert_eq!(line["reason"], "upstream_failed", "{line}");
    }
}

/// Before anything has gone out it is an answer's head that tells of it.
#[tokio::test]
async fn an_error_in_place_of_an_answer_is_told_as_one() {
    let (gateway, _backend) = front().await;
    for stream in [true, false] {
        for (code, status, reason) in [(429, 429, "upstream_rate_limited"), (500, 502, "upstream_failed")] {
            let answer = gateway
                .call(&chat(stream, &format!("fault=error_event:0:{code}")))
                .await;
            answer.refused(status, reason);
            assert!(!String::from_utf8_lossy(&answer.body).contains("scripted"));
        }
    }
}

#[tokio::test]
async fn an_error_is_told_once() {
    let (gateway, _backend) = front().await;
    let got = get(&gateway, Speaks::KeepAlive, &chat(true, "fault=error_event:2:429")).await;
    assert_eq!(got.errors().len(), 1, "{}", got.text);
}

/// A whole answer that breaks off is cut: its length is known, and does not come.
#[tokio::test]
async fn a_whole_answer_that_breaks_off_is_cut() {
    let (gateway, _backend) = front().await;
    for (fault, reason) in [
        ("cut:1", "upstream_failed"),
        ("stall:1", "total_timeout"),
        ("wrong_length", "upstream_failed"),
    ] {
        let got = get(&gateway, Speaks::KeepAlive, &chat(false, &format!("fault={fault}"))).await;
        assert_eq!((got.head.status, got.clean), (200, false), "{fault}");
        let line = gateway.line(got.head.field("x-request-id").unwrap()).await;
        assert_eq!(
            (&line["end"], &line["reason"]),
            (&json!("failed"), &json!(reason)),
            "{line}"
        );
    }
}

/// An event that was cut in its middle must not swallow the error behind it.
#[tokio::test]
async fn the_error_is_an_event_of_its_own() {
    let backend = RawBackend::bind().await;
    for (sent, last) in [
        (
            "data: {\"choices\":[{}]}\n\ndata: {\"cho",
            "data: {\"cho\n\ndata: {\"error\"",
        ),
        ("data: {\"choices\":[{}]}\n", "}\n\n\ndata: {\"error\""),
        ("data: {\"choices\":[{}]}\r\n\r\n", "}\r\n\r\ndata: {\"error\""),
        (": waiting", ": waiting\n\ndata: {\"error\""),
    ] {
        let gateway = Setup::over(backend.address).start();
        let ask = chat(true, "");
        let breaking = async {
            let mut upstream = backend.accept().await;
            upstream.request().await.unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            upstream.send(format!("{head}{:x}\r\n{sent}\r\n", sent.len())).await;
        };
        let (got, ()) = tokio::join!(get(&gateway, Speaks::KeepAlive, &ask), breaking);
        assert!(!got.clean && got.text.contains(last), "{:?}", got.text);
    }
}

// === other dialects of a stream ===

#[tokio::test]
async fn other_streams_do_not_look_finished_either() {
    let (gateway, _backend) = front().await;
    for (path, body, end) in [
        ("/v1/completions", r#""prompt":"Hi""#, "[DONE]"),
        ("/v1/responses", r#""input":"Hi""#, "response.completed"),
    ] {
        let ask = |script: &str| {
            let body = format!(r#"{{"model":"scripted","stream":true,{body}}}"#);
            post(path, body).field("x-tollgate-script", script)
        };
        let whole = get(&gateway, Speaks::KeepAlive, &ask("")).await;
        assert!(whole.clean && whole.text.contains(end));
        for fault in ["cut:0", "cut:2", "stall:0", "stall:2", "no_done", "error_event:2"] {
            let got = get(&gateway, Speaks::KeepAlive, &ask(&format!("fault={fault}"))).await;
            assert!(!got.text.contains(end), "{path} {fault}: {}", got.text);
            assert!(!got.clean || got.head.status != 200, "{path} {fault}");
            assert!(got.text.contains("error"), "{path} {fault}: {}", got.text);
        }
    }
}

/// OpenAI's SDKs read the responses API's streams by `event:` and `type`.
#[tokio::test]
async fn an_error_within_a_responses_stream_has_its_form() {
    let (gateway, _backend) = front().await;
    let body = r#"{"model":"scripted","stream":true,"input":"Hi"}"#;
    let ask = post("/v1/responses", body).field("x-tollgate-script", "fault=stall:2");
    let got = get(&gateway, Speaks::KeepAlive, &ask).await;
    let last = got.text.trim_end().rsplit("\n\n").next().unwrap();
    let data = last.strip_prefix("event: error\ndata: ").expect("a named event");
    let event: Value = serde_json::from_str(data).unwrap();
    assert_eq!(event["type"], "error");
    assert_eq!(event["message"], "The model's backend stopped answering.");
}
