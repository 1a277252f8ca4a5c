//! Every answer is counted: by what the backend reports, or else by an estimate that is never nothing.

use serde_json::{Value, json};
use tollgate::backend::{Backend, Running, Script};

use crate::support::client::Ask;
use crate::support::gateway::{Gateway, Setup, chat, front, post};
use crate::support::raw::{RawBackend, Wire};

const MESSAGES: &str = r#""model":"scripted","messages":[{"role":"user","content":"How are you?"}]"#;

/// The access line of a request that was answered, and the answer's text.
async fn metered(gateway: &Gateway, ask: &Ask) -> (Value, String) {
    let answer = gateway.call(ask).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.head.status, 200, "{text}");
    (gateway.line(answer.id()).await, text)
}

/// prompt, cached, completion and reasoning tokens, where null is none, and whether they were estimated.
fn tokens(line: &Value) -> ([u64; 4], bool) {
    let count = |name: &str| line[name].as_u64().unwrap_or_default();
    (
        [
            "prompt_tokens",
            "cached_tokens",
            "completion_tokens",
            "reasoning_tokens",
        ]
        .map(count),
        line["estimated"] == true,
    )
}

async fn counted(gateway: &Gateway, kind: &str) -> u64 {
    let sample = format!("tollgate_tokens_total{{model=\"scripted\",kind=\"{kind}\"}}");
    gateway.metrics().await.get(&sample)
}

#[tokio::test]
async fn what_is_reported_is_counted_streamed_and_not() {
    let script = "prompt_tokens=100; completion_tokens=50; cached_tokens=30; reasoning_tokens=7";
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/responses"] {
        for stream in [false, true] {
            let (gateway, _backend) = front(|setup| setup).await;
            let body = format!(r#"{{{MESSAGES},"prompt":"Hi","input":"Hi","stream":{stream}}}"#);
            let (line, _) = metered(&gateway, &post(path, body).field("x-tollgate-script", script)).await;
            assert_eq!(tokens(&line), ([100, 30, 50, 7], false), "{path} {stream}");
            assert_eq!(line["streamed"], stream);
            assert_eq!(
                (counted(&gateway, "prompt").await, counted(&gateway, "cached").await),
                (100, 30)
            );
            assert_eq!(counted(&gateway, "completion").await, 50);
            assert_eq!(gateway.metrics().await.get("tollgate_estimated_total"), 0);
        }
    }
}

/// Each endpoint by the backend's own count.
#[tokio::test]
async fn no_endpoint_passes_unmetered() {
    let (gateway, backend) = front(|setup| setup).await;
    for (path, rest, reports) in [
        ("/v1/chat/completions", r#""messages":[{"role":"user"}],"n":3"#, true),
        (
            "/v1/chat/completions",
            r#""messages":[{"role":"user"}],"n":3,"stream":true"#,
            true,
        ),
        ("/v1/completions", r#""prompt":["a","b"],"best_of":2"#, true),
        ("/v1/completions", r#""prompt":["a","b"],"stream":true"#, true),
        ("/v1/embeddings", r#""input":"one two three""#, true),
        ("/v1/responses", r#""input":"Hi""#, true),
        ("/v1/responses", r#""input":"Hi","stream":true"#, true),
        ("/v1/images/generations", r#""prompt":"a cat","n":2"#, true),
        ("/v1/rerank", r#""query":"Hi","documents":["a","b"]"#, false),
        ("/v1/moderations", r#""input":"Hi""#, false),
        ("/v1/audio/speech", r#""input":"Hi""#, false),
    ] {
        let before = backend.stats().now();
        let body = format!(r#"{{"model":"scripted",{rest}}}"#);
        let (line, _) = metered(&gateway, &post(path, body)).await;
        let after = backend.stats().now();
        let ([prompt, _, completion, _], estimated) = tokens(&line);
        if reports {
            let expected = (
                after.prompt_tokens - before.prompt_tokens,
                after.completion_tokens - before.completion_tokens,
            );
            assert_eq!(((prompt, completion), estimated), (expected, false), "{path} {rest}");
        } else {
            assert!(prompt > 0, "{path}");
        }
    }
    let form = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nscripted\r\n--XX--\r\n";
    let ask = Ask::post("/v1/audio/transcriptions", form).by("ci");
    let (line, _) = metered(&gateway, &ask.field("content-type", "multipart/form-data; boundary=XX")).await;
    assert!(tokens(&line).0[0] > 0 && tokens(&line).0[2] > 0);
}

/// A client cannot switch the count off, and sees of it what it asked for.
#[tokio::test]
async fn usage_is_asked_for_and_taken_out_again() {
    for (options, sees) in [
        ("", false),
        (r#","stream_options":null"#, false),
        (r#","stream_options":{}"#, false),
        (r#","stream_options":{"include_usage":false}"#, false),
        (r#","stream_options":{"include_usage":null}"#, false),
        (r#","stream_options":{"include_obfuscation":false}"#, false),
        (r#","stream_options":{"include_usage":true}"#, true),
    ] {
        for chunks in ["", "; chunk_bytes=1", "; chunk_bytes=7"] {
            let (gateway, _backend) = front(|setup| setup).await;
            let body = format!(r#"{{{MESSAGES},"stream":true{options}}}"#);
            let script = format!("tokens=5; prompt_tokens=9{chunks}");
            let ask = post("/v1/chat/completions", body).field("x-tollgate-script", &script);
            let (line, text) = metered(&gateway, &ask).await;
            assert_eq!(tokens(&line), ([9, 0, 5, 0], false), "{options}");
            assert_eq!(text.contains(r#""choices":[]"#), sees, "{options} {text}");
            assert_eq!(text.contains("\"total_tokens\""), sees, "{options}");
            assert_eq!(text.matches("data: ").count(), 8 + usize::from(sees), "{text}");
            assert!(text.ends_with("data: [DONE]\n\n"));
        }
    }
}

/// A second reading of the same key is where a count would be lost.
#[tokio::test]
async fn a_key_that_stands_twice_is_refused() {
    let (gateway, backend) = front(|setup| setup).await;
    for twice in [
        r#""stream":true,"stream":false"#,
        r#""stream":false,"stre\u0061m":true"#,
        r#""model":"other""#,
        r#""stream":true,"stream_options":{},"stream_options":{"include_usage":true}"#,
        r#""stream":true,"stream_options":{"include_usage":true,"include_usage":false}"#,
        r#""stream":true,"stream_options":{"Include_Usage":false}"#,
        r#""n":1,"n":128"#,
        r#""max_tokens":1,"max_tokens":99999"#,
    ] {
        let answer = gateway
            .call(&post("/v1/chat/completions", format!("{{{MESSAGES},{twice}}}")))
            .await;
        answer.refused(400, "malformed_body");
    }
    assert_eq!(backend.stats().now().requests, 0);
}

// === no usage ===

#[tokio::test]
async fn what_is_not_reported_is_estimated() {
    for stream in [false, true] {
        for (script, least) in [
            ("fault=no_usage; tokens=40", 40),
            ("fault=no_usage; tokens=0", 1),
            ("usage={}", 16),
            (r#"usage={"prompt_tokens":"9","completion_tokens":-4}"#, 16),
        ] {
            let (gateway, _backend) = front(|setup| setup).await;
            let (line, _) = metered(&gateway, &chat(stream, script)).await;
            let ([prompt, _, completion, _], estimated) = tokens(&line);
            assert!(estimated, "{script}");
            // Words of some seven letters, at four bytes a token.
            assert!((least..=least * 3).contains(&completion), "{script}: {completion}");
            assert!((10..40).contains(&prompt), "{script}: {prompt}");
            assert_eq!(gateway.metrics().await.get("tollgate_estimated_total"), 1);
        }
    }
}

/// What a model was seen to use is what it is thought to use; it outlives a reload, and is its own.
#[tokio::test]
async fn an_estimate_follows_what_the_model_reports() {
    let both = |setup: Setup| {
        let route = "route = [{ backend = \"main\" }]";
        setup.model("scripted", route).model("unlearnt", route)
    };
    let (mut gateway, backend) = front(both).await;
    let estimate = async |gateway: &Gateway, model: &str, stream: bool| {
        let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hi"}}],"stream":{stream}}}"#);
        let ask = post("/v1/chat/completions", body).field("x-tollgate-script", "fault=no_usage; tokens=40");
        let (counts, estimated) = tokens(&metered(gateway, &ask).await.0);
        assert!(estimated);
        (counts[0], counts[2])
    };
    let (prompt, completion) = estimate(&gateway, "scripted", true).await;
    for stream in [false, true].into_iter().cycle().take(60) {
        // About twice as many tokens of the prompt as four bytes each make, and half as many of the answer.
        metered(
            &gateway,
            &chat(stream, "tokens=40; prompt_tokens=38; completion_tokens=36"),
        )
        .await;
    }
    gateway
        .inner
        .reload(both(Setup::over(backend.local_addr())).config())
        .await
        .unwrap();
    for stream in [false, true] {
        let (more, less) = estimate(&gateway, "scripted", stream).await;
        assert!(
            more * 2 > prompt * 3 && less * 3 < completion * 2,
            "{more} {prompt}, {less} {completion}"
        );
        let own = estimate(&gateway, "unlearnt", stream).await;
        assert!(
            own.0.abs_diff(prompt) <= 1 && own.1.abs_diff(completion) <= 1,
            "{own:?} {prompt} {completion}"
        );
    }
}

#[tokio::test]
async fn an_estimate_counts_every_choice() {
    for stream in [false, true] {
        let mut counts = Vec::new();
        for n in [1, 4] {
            // The second answer of one gateway would be counted.
            let (gateway, _backend) = front(|setup| setup).await;
            let body = format!(r#"{{{MESSAGES},"stream":{stream},"n":{n}}}"#);
            let ask = post("/v1/chat/completions", body).field("x-tollgate-script", "fault=no_usage; tokens=40");
            counts.push(tokens(&metered(&gateway, &ask).await.0).0[2]);
        }
        assert!(counts[1].abs_diff(counts[0] * 4) <= 4, "{counts:?}");
    }
}

#[tokio::test]
async fn a_backend_that_never_sends_usage_is_not_asked() {
    let backend = Backend::start(Script::default()).await.unwrap();
    for (lines, asked) in [
        ("stream_usage = \"none\"", false),
        ("stream_usage = \"native\"", false),
        ("", true),
    ] {
        let gateway = Setup::default().backend("main", backend.local_addr(), lines).start();
        let (line, _) = metered(&gateway, &chat(true, "")).await;
        assert_eq!(tokens(&line).1, !asked);
        let sent = String::from_utf8(backend.requests().pop().unwrap().body.into()).unwrap();
        assert_eq!(sent.contains("include_usage"), asked);
    }
}

#[tokio::test]
async fn an_error_uses_nothing() {
    let (gateway, _backend) = front(|setup| setup).await;
    for script in ["fault=status:400", "fault=status:500", "fault=status:429", "fault=cut"] {
        for stream in [false, true] {
            let answer = gateway.call(&chat(stream, script)).await;
            let line = gateway.line(answer.id()).await;
            assert!(line["prompt_tokens"].is_null(), "{script}: {line}");
        }
    }
    assert_eq!(counted(&gateway, "prompt").await, 0);
}

/// By then the backend has done the work.
#[tokio::test]
async fn an_answer_that_takes_too_long_counts() {
    let backend = Backend::start(Script::default()).await.unwrap();
    let timeouts = "timeout = { total = \"100ms\" }";
    let gateway = Setup::default().backend("main", backend.local_addr(), timeouts).start();
    let answer = gateway.call(&chat(false, "fault=stall")).await;
    answer.refused(504, "total_timeout");
    let (counts, estimated) = tokens(&gateway.line(answer.id()).await);
    assert!(counts[0] > 0 && estimated, "{counts:?}");
}

/// What cannot be read cannot be counted: it does not pass.
#[tokio::test]
async fn an_encoded_answer_does_not_pass_uncounted() {
    let (gateway, _backend) = front(|setup| setup).await;
    for stream in [false, true] {
        let answer = gateway
            .call(&chat(stream, "fault=gzip").field("accept-encoding", "gzip"))
            .await;
        answer.refused(502, "upstream_failed");
    }
}

// === a backend that knows no stream_options ===

/// How many requests came in, and how many of them asked for usage.
fn asked(backend: &Running) -> (usize, usize) {
    let seen = backend.requests();
    let asked = seen
        .iter()
        .filter(|seen| String::from_utf8_lossy(&seen.body).contains("include_usage"));
    (seen.len(), asked.count())
}

#[tokio::test]
async fn a_backend_that_rejects_the_field_is_asked_once() {
    let script = Script::default().with_header("fault=reject_stream_options").unwrap();
    let backend = Backend::start(script).await.unwrap();
    let mut gateway = Setup::over(backend.local_addr()).start();
    for expected in [(2, 1), (3, 1)] {
        let (line, text) = metered(&gateway, &chat(true, "")).await;
        assert!(tokens(&line).1 && text.ends_with("[DONE]\n\n"));
        assert_eq!(asked(&backend), expected);
    }
    gateway
        .inner
        .reload(Setup::over(backend.local_addr()).config())
        .await
        .unwrap();
    metered(&gateway, &chat(true, "")).await;
    assert_eq!(asked(&backend), (4, 1), "a reload forgets nothing");

    // A client that asks for itself is told itself.
    let body = format!(r#"{{{MESSAGES},"stream":true,"stream_options":{{"include_usage":true}}}}"#);
    let answer = gateway.call(&post("/v1/chat/completions", body)).await;
    assert_eq!((answer.head.status, asked(&backend)), (400, (5, 2)));
    assert_eq!(answer.json()["error"]["param"], "stream_options");
}

#[tokio::test]
async fn another_error_is_no_complaint_of_the_field() {
    let (gateway, backend) = front(|setup| setup).await;
    let answer = gateway.call(&chat(true, "fault=status:400")).await;
    assert_eq!((answer.head.status, asked(&backend)), (400, (1, 1)));
    metered(&gateway, &chat(true, "")).await;
    assert_eq!(asked(&backend), (2, 2));
}

/// Answers the next request, on whatever connection it comes, and says whether it asked for usage.
async fn answer(backend: &RawBackend, status: u16, body: &str) -> bool {
    let mut upstream: Wire = backend.accept().await;
    let (_, sent) = upstream.request().await.unwrap();
    let kind = if status == 200 {
        "text/event-stream"
    } else {
        "application/json"
    };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n");
    upstream
        .send(format!("{head}content-length: {}\r\n\r\n{body}", body.len()))
        .await;
    String::from_utf8_lossy(&sent).contains("include_usage")
}

/// A 400 that names the field for another reason must not end the count of a backend for good.
#[tokio::test]
async fn a_complaint_is_believed_when_the_retry_succeeds() {
    let backend = RawBackend::bind().await;
    let gateway = Setup::over(backend.address).start();
    let complaint = json!({"error": {"message": "stream_options: too many messages"}}).to_string();
    let ask = chat(true, "");
    let serving = async {
        assert!(answer(&backend, 400, &complaint).await);
        assert!(!answer(&backend, 400, &complaint).await);
        assert!(answer(&backend, 200, "data: [DONE]\n\n").await, "it is asked again");
    };
    let calling = async {
        assert_eq!(gateway.call(&ask).await.head.status, 400);
        assert_eq!(gateway.call(&ask).await.head.status, 200);
    };
    tokio::join!(serving, calling);
}

/// It comes unasked, and the client had not asked for it.
#[tokio::test]
async fn usage_that_comes_unasked_counts() {
    let backend = RawBackend::bind().await;
    let gateway = Setup::default()
        .backend("main", backend.address, "stream_usage = \"native\"")
        .start();
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let sent = format!("data: {{\"choices\":[{{}}]}}\r\n\r\ndata: {usage}\r\n\r\ndata: [DONE]\r\n\r\n");
    let ask = chat(true, "");
    let (asked, (line, text)) = tokio::join!(answer(&backend, 200, &sent), metered(&gateway, &ask));
    assert!(!asked);
    assert_eq!(tokens(&line), ([3, 0, 4, 0], false));
    assert!(!text.contains("usage"), "{text}");
}
