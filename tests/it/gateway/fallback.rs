//! Where a request goes when a backend fails: to another route, to another model, and when it goes nowhere else.

use serde_json::json;
use tollgate::backend::{Backend, Running, Script};

use crate::support::bridge::Certs;
use crate::support::client::Ask;
use crate::support::gateway::{Gateway, KEY, Setup, chat, post};
use crate::support::raw::RawBackend;
use crate::support::within;

/// A backend that always does this.
async fn doing(script: &str) -> Running {
    let script = Script::default().with_header(script).unwrap();
    Backend::start(script).await.unwrap()
}

/// Two routes, tried in this order.
const ORDERED: &str = "route = [{ backend = \"second\", priority = 1 }, { backend = \"first\" }]";

/// A gateway whose request goes to `first`, and then to `second`.
fn pair(first: &Running, second: &Running) -> Gateway {
    pair_with(first, second, "")
}

fn pair_with(first: &Running, second: &Running, lines: &str) -> Gateway {
    Setup::default()
        .backend("first", first.local_addr(), lines)
        .backend("second", second.local_addr(), "")
        .model("scripted", ORDERED)
        .start()
}

fn requests(backends: [&Running; 2]) -> [u64; 2] {
    backends.map(|backend| backend.stats().now().requests)
}

fn named(model: &str) -> Ask {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hi"}}]}}"#);
    post("/v1/chat/completions", body)
}

// === routes ===

#[tokio::test]
async fn what_fails_goes_to_the_next_route() {
    for script in [
        "fault=status:401",
        "fault=status:402",
        "fault=status:403",
        "fault=status:408",
        "fault=status:429",
        "fault=status:500",
        "fault=status:503",
        "fault=cut",
        "fault=reset",
        "fault=gzip",
        "fault=cut:0",
        "fault=error_event:0",
        "fault=error_event:0:429",
    ] {
        for stream in [false, true] {
            let (first, second) = (doing(script).await, doing("").await);
            let gateway = pair(&first, &second);
            let ask = chat(stream, "");
            let answer = gateway.call(&ask).await;
            assert_eq!(answer.head.status, 200, "{script}");
            assert_eq!(requests([&first, &second]), [1, 1]);
            let bodies = [&first, &second].map(|backend| backend.requests().pop().unwrap().body);
            assert_eq!(bodies[0], bodies[1], "each gets the whole request");
            let line = gateway.line(answer.id()).await;
            let attempts: Vec<_> = line["attempts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one[0].clone())
                .collect();
            assert_eq!(attempts, ["first", "second"]);
            assert_eq!(
                (&line["status"], &line["reason"]),
                (&json!(200), &json!(null)),
                "{script}: {line}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_the_client_s_own_goes_nowhere_else() {
    for status in [400, 404, 409, 413, 415, 422] {
        let (first, second) = (doing(&format!("fault=status:{status}")).await, doing("").await);
        let gateway = pair(&first, &second);
        assert_eq!(gateway.call(&chat(false, "")).await.head.status, status);
        assert_eq!(requests([&first, &second]), [1, 0]);
    }
}

#[tokio::test]
async fn a_lower_priority_waits_for_the_higher() {
    let (first, second) = (doing("").await, doing("").await);
    let gateway = pair(&first, &second);
    for _ in 0..20 {
        gateway.call(&chat(false, "")).await;
    }
    assert_eq!(requests([&first, &second]), [20, 0]);
}

#[tokio::test]
async fn routes_of_one_priority_share() {
    let (first, second) = (doing("").await, doing("").await);
    let gateway = Setup::default()
        .backend("first", first.local_addr(), "")
        .backend("second", second.local_addr(), "")
        .model(
            "scripted",
            "route = [{ backend = \"first\", weight = 4 }, { backend = \"second\" }]",
        )
        .start();
    for _ in 0..100 {
        gateway.call(&chat(false, "")).await;
    }
    let [first, second] = requests([&first, &second]);
    assert_eq!(first + second, 100);
    // Four in five of a hundred: five standard deviations are 20.
    assert!((60..100).contains(&first), "{first}");
}

#[tokio::test]
async fn a_backend_that_is_not_there_or_full_is_passed_over() {
    let (gone, second) = (doing("").await, doing("").await);
    let gateway = pair(&gone, &second);
    let address = gone.local_addr();
    gone.stop().await;
    assert_eq!(gateway.call(&chat(false, "")).await.head.status, 200, "{address}");

    let (first, second) = (doing("fault=stall").await, doing("").await);
    let gateway = pair_with(&first, &second, "max_concurrency = 1");
    let mut held = gateway.client().await;
    held.start(&chat(true, "")).await;
    within(first.stats().wait_for(|counts| counts.in_flight == 1)).await;
    assert_eq!(gateway.call(&chat(false, "")).await.head.status, 200);
    assert_eq!(requests([&first, &second]), [1, 1]);
}

#[tokio::test]
async fn a_backend_that_cannot_be_connected_to_in_time_is_passed_over() {
    let (first, second) = (RawBackend::bind().await, doing("").await);
    let certs = Certs::new();
    let lines = format!("ca = {:?}\ntimeout = {{ connect = \"100ms\" }}", certs.ca());
    let gateway = Setup::default()
        .backend_at("first", &format!("https://{}/v1", first.address), &lines)
        .backend("second", second.local_addr(), "")
        .model("scripted", ORDERED)
        .start();
    let ask = chat(false, "");
    // It accepts, and never shakes hands.
    let (answer, _held) = tokio::join!(gateway.call(&ask), first.accept());
    assert_eq!(answer.head.status, 200);
    let line = gateway.line(answer.id()).await;
    assert_eq!(line["attempts"][0][1], "connect_timeout");
}

#[tokio::test]
async fn a_stream_that_does_not_begin_goes_to_the_next_route() {
    let (first, second) = (doing("fault=stall").await, doing("").await);
    let gateway = pair_with(&first, &second, "timeout = { first_byte = \"100ms\" }");
    let answer = gateway.call(&chat(true, "")).await;
    assert_eq!(answer.head.status, 200);
    assert!(answer.body.ends_with(b"[DONE]\n\n"));
    within(first.stats().wait_for(|counts| counts.cancelled == 1)).await;
    let metrics = gateway.metrics().await;
    for (backend, outcome) in [("first", "first_byte_timeout"), ("second", "ok")] {
        let sample = format!("tollgate_upstream_attempts_total{{backend=\"{backend}\",outcome=\"{outcome}\"}}");
        assert_eq!(metrics.get(&sample), 1);
    }
}

/// The work was done once, and would be paid for twice.
#[tokio::test]
async fn an_unstreamed_request_that_takes_too_long_goes_nowhere_else() {
    let (first, second) = (doing("fault=stall").await, doing("").await);
    let gateway = pair_with(&first, &second, "timeout = { total = \"100ms\" }");
    gateway.call(&chat(false, "")).await.refused(504, "total_timeout");
    assert_eq!(requests([&first, &second]), [1, 0]);
}

/// Nothing of it has reached the client, so another may still answer.
#[tokio::test]
async fn a_stream_that_fails_before_its_first_byte_goes_to_the_next_route() {
    let lines = "timeout = { first_byte = \"100ms\" }";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9\r\n\r\n";
    for cut in [true, false] {
        let (first, second) = (RawBackend::bind().await, doing("").await);
        let gateway = Setup::default()
            .backend("first", first.address, lines)
            .backend("second", second.local_addr(), "")
            .model("scripted", ORDERED)
            .start();
        let ask = chat(true, "");
        let failing = async {
            let mut upstream = first.accept().await;
            upstream.request().await.unwrap();
            upstream.send(head).await;
            (!cut).then_some(upstream)
        };
        let (answer, _held) = tokio::join!(gateway.call(&ask), failing);
        assert_eq!(answer.head.status, 200);
        assert!(answer.body.ends_with(b"[DONE]\n\n"));
    }
}

/// Text that the client has read cannot be taken back, nor said again.
#[tokio::test]
async fn a_stream_that_has_begun_goes_nowhere_else() {
    for script in [
        "fault=cut:1",
        "fault=reset:1",
        "fault=stall:1",
        "fault=error_event:1:429",
        "fault=no_done",
    ] {
        let (first, second) = (doing(script).await, doing("").await);
        let gateway = pair_with(&first, &second, "timeout = { idle = \"100ms\" }");
        let mut client = gateway.client().await;
        client.start(&chat(true, "")).await;
        assert_eq!(client.head().await.unwrap().status, 200);
        let (body, _) = client.rest().await;
        assert!(!String::from_utf8_lossy(&body).contains("[DONE]"), "{script}");
        gateway.is_quiet().await;
        assert_eq!(requests([&first, &second]), [1, 0], "{script}");
    }
}

// === every attempt failed ===

#[tokio::test]
async fn every_route_limits_us() {
    let (first, second) = (
        doing("fault=status:429; retry_after=5").await,
        doing("fault=status:429; retry_after=21").await,
    );
    let answer = pair(&first, &second).call(&chat(false, "")).await;
    answer.refused(429, "upstream_rate_limited");
    assert_eq!(answer.field("retry-after"), Some("21"));
    assert_eq!(requests([&first, &second]), [1, 1]);
}

#[tokio::test]
async fn routes_fail_in_different_ways() {
    for (scripts, status, reason) in [
        (
            ["fault=status:429; retry_after=5", "fault=status:500"],
            502,
            "upstream_failed",
        ),
        (["fault=status:401", "fault=status:429"], 502, "upstream_failed"),
        (["fault=status:403", "fault=status:402"], 502, "upstream_failed"),
        (["fault=cut", "fault=stall"], 504, "first_byte_timeout"),
    ] {
        let (first, second) = (doing(scripts[0]).await, doing(scripts[1]).await);
        let gateway = Setup::default()
            .backend("first", first.local_addr(), "")
            .backend("second", second.local_addr(), "timeout = { first_byte = \"100ms\" }")
            .model("scripted", ORDERED)
            .start();
        let answer = gateway.call(&chat(true, "")).await;
        answer.refused(status, reason);
        assert_eq!(requests([&first, &second]), [1, 1]);
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!said.contains("scripted") && !said.contains("127.0.0.1"), "{said}");
    }
}

// === other models ===

/// `big` has one route, to `first`; its fallbacks have one each, to `second`.
fn models(first: &Running, second: &Running, change: impl FnOnce(Setup) -> Setup) -> Gateway {
    let setup = Setup::default()
        .backend("first", first.local_addr(), "")
        .backend("second", second.local_addr(), "")
        .model(
            "big",
            "route = [{ backend = \"first\" }]\nfallback = [\"middle\", \"small\"]",
        )
        .model(
            "middle",
            "route = [{ backend = \"second\", model = \"theirs-m\" }]\nfallback = [\"last\"]",
        )
        .model("small", "route = [{ backend = \"second\", model = \"theirs-s\" }]")
        .model("last", "route = [{ backend = \"second\", model = \"theirs-l\" }]");
    change(setup).start()
}

fn asked(backend: &Running) -> Vec<String> {
    let model = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap()["model"].clone();
    let seen = backend.requests();
    seen.iter()
        .map(|seen| model(&seen.body).as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_fallbacks_of_a_model_come_in_order() {
    let (first, second) = (
        doing("fault=status:500").await,
        doing("models=theirs-s, theirs-m").await,
    );
    let gateway = models(&first, &second, |setup| setup);
    let answer = gateway.call(&named("big")).await;
    assert_eq!(answer.head.status, 200);
    assert_eq!(
        (asked(&first), asked(&second)),
        (vec!["big".to_owned()], vec!["theirs-m".to_owned()])
    );
    let line = gateway.line(answer.id()).await;
    assert_eq!(
        (&line["model"], &line["served_model"]),
        (&json!("big"), &json!("middle"))
    );

    let (first, second) = (doing("fault=status:500").await, doing("fault=status:503").await);
    let gateway = models(&first, &second, |setup| setup);
    gateway.call(&named("big")).await.refused(502, "upstream_failed");
    assert_eq!(
        asked(&second),
        ["theirs-m", "theirs-s"],
        "fallbacks of fallbacks are not followed"
    );
}

/// Who may not call a model does not get it by the back door.
#[tokio::test]
async fn a_fallback_that_the_key_may_not_call_is_passed_over() {
    for (key, group, expected) in [
        ("models = [\"big\", \"small\"]", "", vec!["theirs-s"]),
        ("", "models = [\"big\", \"middle\"]", vec!["theirs-m"]),
        (
            "models = [\"big\", \"small\"]",
            "models = [\"big\", \"middle\"]",
            vec![],
        ),
        ("models = [\"b*\"]", "", vec![]),
    ] {
        let (first, second) = (doing("fault=status:500").await, doing("").await);
        let gateway = models(&first, &second, |setup| setup.key(KEY, key).group("default", group));
        let answer = gateway.call(&named("big")).await;
        if expected.is_empty() {
            answer.refused(502, "upstream_failed");
        } else {
            assert_eq!(answer.head.status, 200);
        }
        assert_eq!(asked(&second), expected);
    }
}

#[tokio::test]
async fn a_request_is_tried_so_often_and_no_more() {
    let backend = doing("fault=status:500").await;
    let routes: Vec<_> = (0..20)
        .map(|n| format!("{{ backend = \"main\", model = \"m{n}\" }}"))
        .collect();
    let gateway = Setup::over(backend.local_addr())
        .model("scripted", &format!("route = [{}]", routes.join(", ")))
        .start();
    gateway.call(&chat(false, "")).await.refused(502, "upstream_failed");
    let mut tried = asked(&backend);
    assert_eq!(tried.len(), 8);
    tried.sort_unstable();
    tried.dedup();
    assert_eq!(tried.len(), 8, "never the same one twice");
}
