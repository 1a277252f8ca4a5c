//! The whole gateway on its way down.

use tollgate::backend::{Backend, Running, Script};
use tollgate::serve::Gateway;

use crate::support::raw::Wire;
use crate::support::whole::{answer, config, get, routed, start, start_chat};
use crate::support::within;

async fn pair(server: &str, settings: &str) -> (Gateway, Running) {
    let backend = Backend::start(Script::default()).await.unwrap();
    let base_url = format!("http://{}/v1", backend.local_addr());
    (start(&routed(&base_url, server, settings)), backend)
}

fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// Who waits for its head gets an answer that says why, and who has it one last event.
#[tokio::test]
async fn who_is_left_at_the_end_of_a_drain_is_told() {
    let (gateway, backend) = pair("drain = \"9s\"", "").await;
    let address = gateway.addresses().http[0];
    let mut waiting = Wire::connect(address).await;
    start_chat(&mut waiting, false, "fault=stall").await;
    let mut reading = Wire::connect(address).await;
    start_chat(&mut reading, true, "tokens=5; fault=stall:2").await;
    assert_eq!(reading.head().await.unwrap().status(), 200);
    reading.until("data:").await.unwrap();
    within(backend.stats().wait_for(|counts| counts.in_flight == 2)).await;

    let lifecycle = gateway.lifecycle().clone();
    let ending = tokio::spawn(gateway.shut_down());
    lifecycle.stop();

    let (head, body) = answer(&mut waiting).await;
    assert_eq!((head.status(), head.field("connection")), (503, Some("close")));
    assert!(head.field("retry-after").is_some() && head.field("x-request-id").is_some());
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["reason"], "draining");
    assert!(waiting.is_at_end().await);

    let event = reading.until("\"draining\"").await.unwrap();
    assert!(
        event.windows(17).any(|part| part == b"data: {\"error\":{\""),
        "{event:?}"
    );
    reading.until("0\r\n\r\n").await.unwrap_err();

    assert!(!within(ending).await.unwrap());
    assert_eq!(
        within(backend.stats().wait_for(|c| c.in_flight == 0)).await.cancelled,
        2
    );
}

/// Whoever balances load must see that a process is going, and its operators what it still does.
#[tokio::test]
async fn the_admin_listener_is_the_last_to_go_and_counts_for_nobody() {
    let (gateway, backend) = pair("drain = \"9s\"\nmax_requests = 1", "").await;
    let (address, admin) = (gateway.addresses().http[0], gateway.addresses().admin.unwrap());
    assert_eq!(get(admin, "/readyz").await.0, 200);
    let mut reading = Wire::connect(address).await;
    start_chat(&mut reading, true, "tokens=5; fault=stall:2").await;
    reading.until("data:").await.unwrap();
    let count = metric(&get(admin, "/metrics").await.1, "tollgate_in_flight");
    assert_eq!(count, Some(1.0));

    let lifecycle = gateway.lifecycle().clone();
    // A connection of the admin listener at rest holds nobody up.
    let mut resting = Wire::connect(admin).await;
    resting.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    answer(&mut resting).await;
    let ending = tokio::spawn(gateway.shut_down());
    while !lifecycle.is_going_down() {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(admin, "/readyz").await, (503, "draining\n".to_owned()));
    assert_eq!(get(admin, "/healthz").await.0, 200);
    assert_eq!(metric(&get(admin, "/metrics").await.1, "tollgate_in_flight"), Some(1.0));
    assert!(!ending.is_finished());
    drop(reading);
    assert!(within(ending).await.unwrap());
    assert!(resting.is_at_end().await);
    assert!(tokio::net::TcpStream::connect(admin).await.is_err());
    within(backend.stats().wait_for(|counts| counts.in_flight == 0)).await;
}

/// The last step of a shutdown does not wait for a client that takes nothing.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let (gateway, _backend) = pair("drain = \"9s\"\nclient_timeout = \"60s\"", "").await;
    let mut silent = Wire::connect(gateway.addresses().http[0]).await;
    start_chat(&mut silent, true, "tokens=1000000").await;
    silent.until("data:").await.unwrap();
    let lifecycle = gateway.lifecycle().clone();
    let ending = tokio::spawn(gateway.shut_down());
    lifecycle.stop();
    assert!(!within(ending).await.unwrap());
    assert_eq!(lifecycle.in_flight(), 0);
}

/// What is read on for its usage, after its client has left, is waited for like a request.
#[tokio::test]
async fn an_answer_that_is_read_on_is_waited_for() {
    let (gateway, backend) = pair("drain = \"9s\"\nlinger = \"0s\"", "").await;
    let mut leaving = Wire::connect(gateway.addresses().http[0]).await;
    start_chat(&mut leaving, false, "ttft=300ms").await;
    within(backend.stats().wait_for(|counts| counts.in_flight == 1)).await;
    drop(leaving);
    assert!(within(gateway.shut_down()).await);
    let counts = backend.stats().now();
    assert_eq!((counts.completed, counts.cancelled), (1, 0));
}

/// What is refused before there is a request has an id and is counted, and a reload changes how it looks, too.
#[tokio::test]
async fn faults_are_answered_like_refusals() {
    let (mut gateway, _backend) = pair("client_timeout = \"100ms\"", "").await;
    let (address, admin) = (gateway.addresses().http[0], gateway.addresses().admin.unwrap());
    for (sent, status, reason) in [
        (
            "CONNECT a.test:1 HTTP/1.1\r\nhost: a.test:1\r\nx-request-id: mine\r\n\r\n",
            405,
            "method_not_allowed",
        ),
        ("nonsense\r\n\r\n", 400, "malformed_body"),
        ("GET / HTTP/1.1\r\nho", 408, "request_timeout"),
    ] {
        let mut wire = Wire::connect(address).await;
        wire.send(sent).await;
        let (head, body) = answer(&mut wire).await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((head.status(), &body["error"]["reason"]), (status, &reason.into()));
        assert_eq!(head.field("allow"), (status == 405).then_some("GET, POST"));
        let id = head.field("x-request-id").unwrap();
        assert_eq!(id == "mine", status == 405);
        let metrics = get(admin, "/metrics").await.1;
        let counted = metric(&metrics, &format!("tollgate_refusals_total{{reason=\"{reason}\"}}"));
        assert_eq!(counted, Some(1.0), "{metrics}");
    }
    let text = "[server]\nlisten = \"127.0.0.1:0\"\n[errors]\ncode = \"reason\"\n";
    gateway.reload(config(text)).unwrap();
    let mut wire = Wire::connect(address).await;
    wire.send("nonsense\r\n\r\n").await;
    let body: serde_json::Value = serde_json::from_slice(&answer(&mut wire).await.1).unwrap();
    assert_eq!(body["error"]["code"], "malformed_body");
}

/// No byte has gone to the backend, so no token of the prompt can have been used.
#[tokio::test]
async fn a_client_that_leaves_while_its_backend_is_connected_to_is_charged_nothing() {
    // It accepts, and never shakes hands.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let gateway = start(&routed(
        &format!("https://localhost:{port}/v1"),
        "",
        "on_disconnect = \"cancel\"",
    ));
    let mut leaving = Wire::connect(gateway.addresses().http[0]).await;
    start_chat(&mut leaving, true, "").await;
    let _held = within(silent.accept()).await.unwrap();
    drop(leaving);
    within(gateway.lifecycle().drained()).await;
    let metrics = get(gateway.addresses().admin.unwrap(), "/metrics").await.1;
    assert_eq!(metric(&metrics, "tollgate_tokens_total"), None, "{metrics}");
    assert!(metrics.contains("outcome=\"cancelled\""), "{metrics}");
}
