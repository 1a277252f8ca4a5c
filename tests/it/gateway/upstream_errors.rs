//! The table of errors, continued: what becomes of a request that its backend fails.

use crate::support::bridge::Certs;
use crate::support::gateway::{Setup, chat, front, scripted};
use crate::support::raw::RawBackend;

#[tokio::test]
async fn a_backend_that_limits_us() {
    let (gateway, _backend) = front(|setup| setup).await;
    let answer = gateway.call(&chat(false, "fault=status:429; retry_after=17")).await;
    answer.refused(429, "upstream_rate_limited");
    let message = "The model is rate limited at present. Please try again later.";
    answer.says("rate_limit_error", message, None);
    assert_eq!(answer.retry(), (Some("17"), None));
}

#[tokio::test]
async fn a_backend_that_fails_or_refuses_us_is_never_quoted() {
    const CREDENTIAL: &str = "sk-of-the-backend";
    for script in [
        "fault=status:401",
        "fault=status:402",
        "fault=status:403",
        "fault=status:500",
        "fault=status:503",
        "fault=cut",
        "fault=reset",
    ] {
        let backend = scripted().await;
        let gateway = Setup::default()
            .backend("main", backend.local_addr(), "api_key = { env = \"THEIRS\" }")
            .variable("THEIRS", CREDENTIAL)
            .start();
        let answer = gateway.call(&chat(false, script)).await;
        answer.refused(502, "upstream_failed");
        answer.says("upstream_error", "The model's backend failed.", None);
        assert_eq!(answer.retry(), (None, None));
        let said = format!("{:?} {:?}", answer.head.fields, answer.body);
        for secret in [
            CREDENTIAL,
            "scripted",
            "127.0.0.1",
            &backend.local_addr().port().to_string(),
        ] {
            assert!(!said.contains(secret), "{script}: {secret} in {said}");
        }
    }
}

#[tokio::test]
async fn a_backend_that_is_not_there() {
    let gone = scripted().await;
    let address = gone.local_addr();
    gone.stop().await;
    let answer = Setup::over(address).start().call(&chat(false, "")).await;
    answer.refused(502, "upstream_failed");
}

#[tokio::test]
async fn a_backend_that_cannot_be_connected_to_in_time() {
    // It accepts, and never shakes hands.
    let backend = RawBackend::bind().await;
    let certs = Certs::new();
    let lines = format!("ca = {:?}\ntimeout = {{ connect = \"100ms\" }}", certs.ca());
    let gateway = Setup::default()
        .backend_at("main", &format!("https://{}/v1", backend.address), &lines)
        .start();
    let ask = chat(false, "");
    let (answer, _held) = tokio::join!(gateway.call(&ask), backend.accept());
    answer.refused(504, "connect_timeout");
    let message = "The model's backend could not be reached in time.";
    answer.says("timeout_error", message, None);
    assert_eq!(answer.retry(), (None, None));
}

#[tokio::test]
async fn a_backend_that_takes_too_long() {
    let timeouts = "timeout = { total = \"100ms\" }";
    let backend = scripted().await;
    let gateway = Setup::default().backend("main", backend.local_addr(), timeouts).start();
    let answer = gateway.call(&chat(false, "fault=stall")).await;
    answer.refused(504, "total_timeout");
    let message = "The model's backend did not finish its answer in time.";
    answer.says("timeout_error", message, None);
    assert_eq!(answer.retry(), (None, Some("false")));
}

#[tokio::test]
async fn a_stream_that_does_not_begin() {
    let timeouts = "timeout = { first_byte = \"100ms\" }";
    let backend = scripted().await;
    let gateway = Setup::default().backend("main", backend.local_addr(), timeouts).start();
    let answer = gateway.call(&chat(true, "fault=stall")).await;
    answer.refused(504, "first_byte_timeout");
    let message = "The model's backend did not begin to answer in time.";
    answer.says("timeout_error", message, None);
    assert_eq!(answer.retry(), (None, None));
}

/// After the head an error is an event, and the connection is cut.
#[tokio::test]
async fn a_stream_that_stops() {
    let timeouts = "timeout = { idle = \"100ms\" }";
    let backend = scripted().await;
    let gateway = Setup::default().backend("main", backend.local_addr(), timeouts).start();
    let mut client = gateway.client().await;
    client.start(&chat(true, "fault=stall:2")).await;
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.field("x-should-retry")), (200, None));
    let (body, end) = client.rest().await;
    end.unwrap_err();
    let text = std::str::from_utf8(&body).unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    let event: serde_json::Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(
        event["error"],
        serde_json::json!({
            "message": "The model's backend stopped answering.", "type": "timeout_error", "param": null, "code": 504,
            "reason": "idle_timeout",
        })
    );
}
