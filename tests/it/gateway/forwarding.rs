//! What reaches a backend of a request, and a client of an answer: all of it, and nothing else.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;
use tollgate::backend::{Running, Seen};

use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::{Answer, KEY, Setup, chat, front, post, scripted, secret};
use crate::support::raw::RawBackend;

/// Bytes that a rewrite of the JSON would not bring back.
const ODD: &str = "{ \"model\" :\t\"scripted\",\r\n \"temperature\": 1.50e-00, \"seed\": 18446744073709551616, \
                   \"messages\": [ {\"role\":\"user\", \"content\":\"\\u00e9 \u{1f980} \\/ {\\\"model\\\":\\\"x\\\"}\"} ] , \
                   \"x\": {\"model\": \"scripted\"} }\n";

fn last(backend: &Running) -> Seen {
    backend.requests().pop().unwrap()
}

/// The same request straight to the backend.
async fn direct(backend: &Running, ask: &Ask) -> Answer {
    let (head, body) = Client::at(backend.local_addr(), Speaks::Close).await.call(ask).await;
    Answer { head, body }
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

// === bodies ===

#[tokio::test]
async fn a_client_s_bytes_arrive_as_they_were_sent() {
    let (gateway, backend) = front(|setup| setup).await;
    let answer = gateway.call(&post("/v1/chat/completions", ODD)).await;
    assert_eq!(answer.head.status, 200);
    assert_eq!(last(&backend).body, ODD);
}

#[tokio::test]
async fn another_name_of_the_model_is_spliced_in() {
    let model = "route = [{ backend = \"main\", model = \"vendor/large \\\"2\\\"\" }]";
    let (gateway, backend) = front(|setup| setup.model("scripted", model)).await;
    gateway.call(&post("/v1/chat/completions", ODD)).await;
    let expected = ODD.replacen("\"scripted\"", r#""vendor/large \"2\"""#, 1);
    assert_eq!(last(&backend).body, expected);
}

#[tokio::test]
async fn the_wish_for_usage_is_spliced_in() {
    let (gateway, backend) = front(|setup| setup).await;
    for (options, expected) in [
        ("", r#","stream_options":{"include_usage":true}"#),
        (
            r#","stream_options":null"#,
            r#","stream_options":{"include_usage":true}"#,
        ),
        (r#","stream_options":{}"#, r#","stream_options":{"include_usage":true}"#),
        (
            r#","stream_options":{ "x":1}"#,
            r#","stream_options":{"include_usage":true, "x":1}"#,
        ),
        (
            r#","stream_options":{"include_usage": false }"#,
            r#","stream_options":{"include_usage": true }"#,
        ),
        (
            r#","stream_options":{"include_usage":true}"#,
            r#","stream_options":{"include_usage":true}"#,
        ),
    ] {
        let body = |options: &str| {
            let rest = r#""messages":[{"role":"user","content":"Hi"}]"#;
            format!(r#"{{"model":"scripted", "stream" : true,{rest}{options}}}"#)
        };
        gateway.call(&post("/v1/chat/completions", body(options))).await;
        assert_eq!(last(&backend).body, body(expected));
    }
}

#[tokio::test]
async fn the_model_s_cap_is_spliced_in() {
    let model = "route = [{ backend = \"main\" }]\nmax_output = 10";
    let (gateway, backend) = front(|setup| setup.model("scripted", model)).await;
    let body = |cap: &str| format!(r#"{{"model":"scripted","messages":[{{"role":"user"}}]{cap}}}"#);
    for (cap, expected) in [
        ("", r#","max_completion_tokens":10"#),
        (r#","max_tokens":99"#, r#","max_tokens":10"#),
        (r#","max_tokens":9"#, r#","max_tokens":9"#),
        (
            r#","max_completion_tokens":11,"max_tokens":3"#,
            r#","max_completion_tokens":10,"max_tokens":3"#,
        ),
    ] {
        gateway.call(&post("/v1/chat/completions", body(cap))).await;
        assert_eq!(last(&backend).body, body(expected));
    }
}

/// Every endpoint, streamed where it can be, in one piece and byte by byte.
#[tokio::test]
async fn a_backend_s_bytes_arrive_as_they_were_sent() {
    let (gateway, backend) = front(|setup| setup).await;
    for (path, body) in [
        ("/v1/chat/completions", r#""messages":[{"role":"user","content":"Hi"}]"#),
        ("/v1/chat/completions", r#""messages":[{"role":"user"}],"n":3"#),
        (
            "/v1/chat/completions",
            r#""messages":[{"role":"user"}],"stream":true,"stream_options":{"include_usage":true}"#,
        ),
        ("/v1/completions", r#""prompt":"Hi""#),
        (
            "/v1/completions",
            r#""prompt":"Hi","stream":true,"stream_options":{"include_usage":true}"#,
        ),
        ("/v1/embeddings", r#""input":["one","two"]"#),
        ("/v1/responses", r#""input":"Hi""#),
        ("/v1/responses", r#""input":"Hi","stream":true"#),
        ("/v1/images/generations", r#""prompt":"a cat""#),
        ("/v1/audio/speech", r#""input":"Hi","voice":"alloy""#),
        ("/v1/moderations", r#""input":"Hi""#),
        ("/v1/rerank", r#""query":"Hi","documents":["a","b"]"#),
    ] {
        for script in ["tokens=30", "tokens=30; chunk_bytes=1"] {
            let ask = post(path, format!(r#"{{"model":"scripted",{body}}}"#)).field("x-tollgate-script", script);
            let (expected, answer) = (direct(&backend, &ask).await, gateway.call(&ask).await);
            assert_eq!(answer.head.status, 200, "{path}");
            assert_eq!(answer.body, expected.body, "{path} {body}");
            assert_eq!(answer.field("content-type"), expected.field("content-type"));
        }
    }
}

#[tokio::test]
async fn a_form_is_forwarded_with_the_model_s_name_changed() {
    let model = "route = [{ backend = \"main\", model = \"whisper-1\" }]";
    let (gateway, backend) = front(|setup| setup.model("ears", model)).await;
    let form = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n\
                RIFF\u{0}\u{1}\r\n--XY\r\n\r\n--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nears\r\n--XX--\r\n";
    for path in ["/v1/audio/transcriptions", "/audio/translations", "/v1/images/edits"] {
        let ask = Ask::post(path, form).by(KEY);
        let answer = gateway
            .call(&ask.field("content-type", "multipart/form-data; boundary=XX"))
            .await;
        assert_eq!(last(&backend).body, form.replace("\nears", "\nwhisper-1"));
        assert_eq!(
            last(&backend).headers["content-type"],
            "multipart/form-data; boundary=XX"
        );
        assert_eq!(answer.head.status, 200, "{path}");
    }
}

// === headers ===

#[tokio::test]
async fn a_backend_gets_what_the_list_names() {
    let backend = scripted().await;
    let lines = "api_key = [{ env = \"ONE\" }, { env = \"TWO\" }]\npass_headers = [\"x-tenant\"]";
    let gateway = Setup::default()
        .backend("main", backend.local_addr(), lines)
        .variable("ONE", "sk-theirs-1")
        .variable("TWO", "sk-theirs-2")
        .start();
    let mut ask = chat(false, "").field("accept-encoding", "gzip, br");
    for name in [
        "accept",
        "user-agent",
        "openai-beta",
        "idempotency-key",
        "traceparent",
        "x-tenant",
        "cookie",
        "x-forwarded-for",
        "x-stainless-lang",
        "forwarded",
        "via",
        "openai-organization",
        "x-request-id",
        "te",
        "x-secret",
    ] {
        ask = ask.field(name, "some");
    }
    let ask = ask.field("x-api-key", &secret(KEY));
    let mut keys = Vec::new();
    for _ in 0..4 {
        gateway.call(&ask).await;
        let seen = last(&backend).headers;
        assert_eq!(
            names(&seen),
            [
                "accept",
                "accept-encoding",
                "authorization",
                "content-length",
                "content-type",
                "host",
                "idempotency-key",
                "openai-beta",
                "traceparent",
                "user-agent",
                "x-tenant",
            ]
        );
        assert_eq!(seen["accept-encoding"], "identity");
        assert_eq!(seen["host"], backend.local_addr().to_string());
        assert_eq!(seen["x-tenant"], "some");
        keys.push(seen["authorization"].to_str().unwrap().to_owned());
    }
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "Bearer sk-theirs-1",
            "Bearer sk-theirs-1",
            "Bearer sk-theirs-2",
            "Bearer sk-theirs-2"
        ],
        "each in turn"
    );
}

/// A backend without a credential of its own must not get the client's.
#[tokio::test]
async fn a_client_s_key_goes_nowhere() {
    let (gateway, backend) = front(|setup| setup).await;
    gateway.call(&chat(false, "").field("x-api-key", &secret(KEY))).await;
    let seen = format!("{:?}", last(&backend));
    assert!(!seen.contains(&secret(KEY)), "{seen}");
}

#[tokio::test]
async fn a_client_gets_what_the_list_names() {
    let (gateway, _backend) = front(|setup| setup).await;
    for (stream, framing) in [(false, "content-length"), (true, "transfer-encoding")] {
        let answer = gateway.call(&chat(stream, "")).await;
        let mut expected = vec!["connection", "content-type", framing, "x-request-id"];
        expected.extend(answer.head.fields.contains_key("date").then_some("date"));
        expected.sort_unstable();
        assert_eq!(names(&answer.head.fields), expected);
        assert_ne!(answer.id(), "req_scripted");
        assert_eq!(gateway.line(answer.id()).await["backend_request_id"], "req_scripted");
    }
}

#[tokio::test]
async fn an_answer_that_is_encoded_all_the_same_is_no_answer() {
    let (gateway, _backend) = front(|setup| setup).await;
    for stream in [true, false] {
        let answer = gateway.call(&chat(stream, "fault=gzip")).await;
        answer.refused(502, "upstream_failed");
    }
}

// === errors of the backend ===

#[tokio::test]
async fn an_error_of_the_client_s_making_arrives_as_the_backend_wrote_it() {
    let (gateway, backend) = front(|setup| setup).await;
    for status in [400, 404, 405, 409, 413, 415, 422, 451] {
        for stream in [true, false] {
            let ask = chat(stream, &format!("fault=status:{status}; retry_after=3"));
            let (expected, answer) = (direct(&backend, &ask).await, gateway.call(&ask).await);
            assert_eq!(answer.head.status, status);
            assert_eq!(answer.body, expected.body);
            assert_eq!(answer.field("retry-after"), Some("3"));
            assert!(answer.field("set-cookie").is_none() && answer.field("server").is_none());
        }
    }
}

/// What a raw backend answers with, whole.
async fn long_error(stream: bool) {
    let backend = RawBackend::bind().await;
    let gateway = Setup::over(backend.address).start();
    let text = Bytes::from(json!({"error": {"message": "x".repeat(100 << 10), "type": "t"}}).to_string());
    let ask = chat(stream, "");
    let serving = async {
        let mut upstream = backend.accept().await;
        upstream.request().await.unwrap();
        let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n";
        upstream
            .send(format!("{head}content-length: {}\r\n\r\n", text.len()))
            .await;
        // Who has read enough of it may have hung up.
        let _ = upstream.try_send(&text).await;
        upstream
    };
    let (answer, _upstream) = tokio::join!(gateway.call(&ask), serving);
    assert_eq!((answer.head.status, answer.body == text), (400, true));
}

#[tokio::test]
async fn a_long_error_arrives_whole() {
    long_error(false).await;
}

#[tokio::test]
async fn a_long_error_of_a_stream_arrives_whole() {
    long_error(true).await;
}
