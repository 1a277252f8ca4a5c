//! Limits on requests, tokens and concurrency: whose they are, when they are given back, and what a client is told.

use crate::support::client::{Ask, Client};
use crate::support::gateway::{Answer, Gateway, KEY, Setup, chat, front, post, scripted};
use crate::support::raw::RawBackend;
use crate::support::within;

const SCRIPTED: &str = "route = [{ backend = \"main\" }]\n";

fn by(key: &str) -> Ask {
    Ask::chat(false, "").by(key)
}

fn other(key: &str) -> Ask {
    Ask::post(
        "/v1/chat/completions",
        r#"{"model":"other","messages":[{"role":"user"}]}"#,
    )
    .by(key)
}

/// limit, remaining and reset, of requests or of tokens.
fn shown<'a>(answer: &'a Answer, what: &str) -> [Option<&'a str>; 3] {
    ["limit", "remaining", "reset"].map(|part| answer.field(&format!("x-ratelimit-{part}-{what}")))
}

fn remaining(answer: &Answer, what: &str) -> u64 {
    shown(answer, what)[1].expect("a limit").parse().unwrap()
}

async fn passes(gateway: &Gateway, ask: &Ask) -> Answer {
    let answer = gateway.call(ask).await;
    assert_eq!(answer.head.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer
}

// === whose they are ===

/// A key without an account stands for itself: the group's limit counts for each.
#[tokio::test]
async fn a_group_s_limit_counts_per_account() {
    let (gateway, _backend) = front(|setup| setup.group("default", "rpm = 1").key("one", "").key("two", "")).await;
    for key in ["one", "two"] {
        passes(&gateway, &by(key)).await;
        gateway.call(&by(key)).await.refused(429, "rpm");
    }
}

#[tokio::test]
async fn groups_have_limits_of_their_own() {
    let (gateway, _backend) = front(|setup| {
        setup
            .group("slow", "rpm = 1")
            .group("fast", "rpm = 3")
            .key("one", "group = \"slow\"")
            .key("two", "group = \"fast\"")
    })
    .await;
    assert_eq!(shown(&passes(&gateway, &by("one")).await, "requests")[0], Some("1"));
    gateway.call(&by("one")).await.refused(429, "rpm");
    for _ in 0..3 {
        assert_eq!(shown(&passes(&gateway, &by("two")).await, "requests")[0], Some("3"));
    }
    gateway.call(&by("two")).await.refused(429, "rpm");
}

#[tokio::test]
async fn a_key_s_own_limit_and_its_group_s_must_both_pass() {
    let (gateway, _backend) = front(|setup| {
        setup
            .group("default", "rpm = 3")
            .key("tight", "rpm = 1")
            .key("wide", "rpm = 9")
    })
    .await;
    passes(&gateway, &by("tight")).await;
    let answer = gateway.call(&by("tight")).await;
    answer.refused(429, "rpm");
    assert_eq!(shown(&answer, "requests")[0], Some("1"));
    for _ in 0..3 {
        passes(&gateway, &by("wide")).await;
    }
    let answer = gateway.call(&by("wide")).await;
    answer.refused(429, "rpm");
    assert_eq!(shown(&answer, "requests")[0], Some("3"));
}

#[tokio::test]
async fn a_model_s_limit_counts_per_account() {
    for (limit, reason) in [("rpm", "rpm"), ("tpm", "tpm")] {
        let model = format!("{SCRIPTED}limit = {{ {limit} = 1 }}");
        let (gateway, _backend) = front(|setup| {
            setup
                .model("scripted", &model)
                .model("other", SCRIPTED)
                .key("one", "")
                .key("two", "")
        })
        .await;
        for key in ["one", "two"] {
            passes(&gateway, &by(key)).await;
            gateway.call(&by(key)).await.refused(429, reason);
            assert_eq!(gateway.call(&other(key)).await.head.status, 200);
        }
    }
}

// === concurrency ===

/// The head is out long before the place is free.
#[tokio::test]
async fn a_place_is_held_to_the_stream_s_end() {
    let backend = RawBackend::bind().await;
    for setup in [
        Setup::over(backend.address).group("default", "concurrency = 1"),
        Setup::over(backend.address).key(KEY, "concurrency = 1"),
        Setup::over(backend.address).model("scripted", &format!("{SCRIPTED}limit = {{ concurrency = 1 }}")),
    ] {
        let gateway = setup.start();
        let mut client = gateway.client().await;
        client.start(&chat(true, "")).await;
        let mut upstream = backend.accept().await;
        upstream.request().await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        upstream.send(head).await;
        upstream.send("data: {}\n\n").await;
        client.head().await.unwrap();
        client.until("data: {}").await;
        gateway.call(&chat(false, "")).await.refused(429, "concurrency");
        upstream.send("data: [DONE]\n\n").await;
        drop(upstream);
        client.rest().await.1.unwrap();
        gateway.is_quiet().await;

        client.start(&chat(false, "")).await;
        let mut upstream = backend.accept().await;
        upstream.request().await.unwrap();
        upstream
            .send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            .await;
        assert_eq!(client.head().await.unwrap().status, 200);
        client.rest().await.1.unwrap();
    }
}

/// Whatever becomes of a request, its place and its backend's are free again.
#[tokio::test]
async fn no_end_of_a_request_keeps_its_place() {
    let backend = scripted().await;
    let lines = "max_concurrency = 1\ntimeout = { first_byte = \"100ms\", idle = \"100ms\", total = \"100ms\" }";
    let gateway = Setup::default()
        .backend("main", backend.local_addr(), lines)
        .model("scripted", &format!("{SCRIPTED}limit = {{ concurrency = 1 }}"))
        .key(KEY, "concurrency = 1")
        .group("default", "concurrency = 1")
        .start();
    for stream in [true, false] {
        for script in [
            "",
            "fault=status:400",
            "fault=status:429",
            "fault=status:500",
            "fault=cut",
            "fault=cut:0",
            "fault=cut:1",
            "fault=stall",
            "fault=stall:1",
            "fault=error_event:1",
            "fault=no_done",
            "fault=wrong_length",
            "fault=gzip",
        ] {
            let mut client = gateway.client().await;
            client.start(&chat(stream, script)).await;
            let head = client.head().await.unwrap();
            assert_ne!(head.status, 503, "{script}");
            let _ = client.rest().await;
            gateway.is_quiet().await;
            passes(&gateway, &chat(stream, "")).await;
            gateway.is_quiet().await;
        }
        for body in ["broken", r#"{"model":"ghost"}"#] {
            let answer = gateway.call(&post("/v1/chat/completions", body)).await;
            assert!((400..405).contains(&answer.head.status));
            passes(&gateway, &chat(stream, "")).await;
        }
    }
}

#[tokio::test]
async fn a_backend_that_is_full_is_no_way_to_go() {
    let backend = scripted().await;
    let gateway = Setup::default()
        .backend("main", backend.local_addr(), "max_concurrency = 1")
        .start();
    let mut client: Client = gateway.client().await;
    client.start(&chat(true, "fault=stall")).await;
    within(backend.stats().wait_for(|counts| counts.in_flight == 1)).await;
    let answer = gateway.call(&chat(false, "")).await;
    answer.refused(503, "overloaded");
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert_eq!(backend.stats().now().requests, 1);
}

// === tokens ===

/// The estimate is some two dozen tokens; the limit refills one a second.
#[tokio::test]
async fn the_estimate_is_corrected_by_what_was_used() {
    for stream in [false, true] {
        let (gateway, _backend) = front(|setup| setup.group("default", "tpm = 60").key("one", "").key("two", "")).await;
        let used = |key: &str, prompt: u64, completion: u64| {
            let script = format!("prompt_tokens={prompt}; completion_tokens={completion}");
            Ask::chat(stream, &script).by(key)
        };
        let first = passes(&gateway, &used("one", 1, 1)).await;
        let taken = 60 - remaining(&first, "tokens");
        assert!((15..35).contains(&taken), "{taken}");
        gateway.is_quiet().await;
        let second = passes(&gateway, &used("one", 1, 1)).await;
        assert!(remaining(&second, "tokens") >= 60 - 2 - taken, "the first cost 2");

        passes(&gateway, &used("two", 30, 29)).await;
        gateway.is_quiet().await;
        gateway.call(&used("two", 1, 1)).await.refused(429, "tpm");
    }
}

#[tokio::test]
async fn a_debt_is_carried() {
    let (gateway, _backend) = front(|setup| setup.group("default", "tpm = 60")).await;
    passes(&gateway, &chat(false, "prompt_tokens=600; completion_tokens=600")).await;
    let answer = gateway.call(&chat(false, "")).await;
    answer.refused(429, "tpm");
    assert_eq!(shown(&answer, "tokens")[..2], [Some("60"), Some("0")]);
    let after: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    // 1,140 of debt and the estimate of this request, at one a second.
    assert!((1140..1200).contains(&after), "{after}");
}

#[tokio::test]
async fn a_request_larger_than_the_bucket_passes_when_it_is_full() {
    let (gateway, _backend) = front(|setup| setup.group("default", "tpm = 2")).await;
    let answer = passes(&gateway, &chat(false, "")).await;
    assert_eq!(shown(&answer, "tokens")[..2], [Some("2"), Some("0")]);
    gateway.call(&chat(false, "")).await.refused(429, "tpm");
}

/// What no token was used for costs none.
#[tokio::test]
async fn a_request_that_fails_gives_its_tokens_back() {
    let (gateway, _backend) = front(|setup| setup.group("default", "tpm = 60")).await;
    let taken = 60
        - remaining(
            &passes(&gateway, &chat(false, "prompt_tokens=0; completion_tokens=0")).await,
            "tokens",
        );
    for script in ["fault=status:400", "fault=status:500", "fault=status:429", "fault=cut"] {
        for stream in [false, true] {
            gateway.call(&chat(stream, script)).await;
            gateway.is_quiet().await;
        }
    }
    let last = passes(&gateway, &chat(false, "")).await;
    assert!(remaining(&last, "tokens") >= 60 - taken, "all was given back");
}

// === what a client is told ===

#[tokio::test]
async fn the_headers_show_the_tightest_limit() {
    let model = format!("{SCRIPTED}limit = {{ rpm = 2, tpm = 5000 }}");
    let (gateway, _backend) = front(|setup| {
        setup
            .group("default", "rpm = 9\ntpm = 100")
            .key(KEY, "rpm = 5")
            .model("scripted", &model)
            .model("other", SCRIPTED)
    })
    .await;
    let answer = passes(&gateway, &chat(false, "prompt_tokens=1; completion_tokens=1")).await;
    assert_eq!(shown(&answer, "requests")[..2], [Some("2"), Some("1")]);
    assert_eq!(shown(&answer, "tokens")[0], Some("100"));
    // 30 s for each request of two a minute, less what has passed.
    let reset = shown(&answer, "requests")[2].unwrap().strip_suffix('s').unwrap();
    let reset: f64 = reset.parse().unwrap();
    assert!(reset > 15.0 && reset <= 30.0, "{reset}");
    let answer = passes(&gateway, &other(KEY)).await;
    assert_eq!(shown(&answer, "requests")[..2], [Some("5"), Some("3")]);
}

#[tokio::test]
async fn without_a_limit_there_is_no_header() {
    let (gateway, _backend) = front(|setup| setup).await;
    for ask in [
        chat(false, ""),
        chat(false, "fault=status:400"),
        Ask::get("/v1/models").by(KEY),
    ] {
        let answer = gateway.call(&ask).await;
        let names: Vec<_> = answer
            .head
            .fields
            .keys()
            .filter(|name| name.as_str().contains("ratelimit"))
            .collect();
        assert!(names.is_empty(), "the backend's own stay here: {names:?}");
    }
}

/// Streams, errors and the gateway's own answers bear them as well.
#[tokio::test]
async fn every_answer_of_a_limited_key_shows_its_limits() {
    let (gateway, _backend) = front(|setup| setup.group("default", "rpm = 9\ntpm = 1000")).await;
    for (ask, status, tokens) in [
        (chat(true, ""), 200, true),
        (chat(false, "fault=status:400"), 400, true),
        (chat(false, "fault=status:500"), 502, true),
        (post("/v1/chat/completions", "broken"), 400, false),
        (Ask::get("/v1/models").by(KEY), 200, false),
    ] {
        let answer = gateway.call(&ask).await;
        assert_eq!(answer.head.status, status);
        assert_eq!(shown(&answer, "requests")[0], Some("9"));
        assert_eq!(shown(&answer, "tokens")[0].is_some(), tokens, "{answer:?}");
    }
}

/// A file is not read as text by anybody: its bytes are no tokens. (25 MB of audio were six million.)
#[tokio::test]
async fn a_file_in_a_form_counts_for_nothing() {
    let (gateway, _backend) = front(|setup| setup.key("ci", "tpm = 5000")).await;
    let form =
        |name: &str, value: &str| format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let upload = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n";
    let body = [
        form("model", "scripted"),
        form("prompt", &"word ".repeat(100)),
        format!("{upload}{}\r\n--XX--\r\n", "x".repeat(1 << 20)),
    ];
    let ask = Ask::post("/v1/audio/transcriptions", body.concat())
        .by("ci")
        .field("content-type", "multipart/form-data; boundary=XX")
        .field("x-tollgate-script", "fault=no_usage");
    for _ in 0..2 {
        let answer = gateway.call(&ask).await;
        assert_eq!(answer.head.status, 200);
        let line = gateway.line(answer.id()).await;
        assert!(line["bytes_in"].as_u64().unwrap() > 1 << 20);
        let prompt = line["prompt_tokens"].as_u64().unwrap();
        assert!((100..200).contains(&prompt), "{prompt}");
    }
}
