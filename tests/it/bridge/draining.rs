//! The whole gateway on its way down.

use std::net::SocketAddr;

use tollgate::backend::Running;

use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::{Answer, Gateway, Metrics, Setup, chat, front};
use crate::support::within;

async fn pair(server: &str) -> (Gateway, Running) {
    front(|setup| setup.server(server)).await
}

/// A client whose chat request is sent.
async fn asking(gateway: &Gateway, stream: bool, script: &str) -> Client {
    let mut client = gateway.client().await;
    client.start(&chat(stream, script)).await;
    client
}

/// A client that has the beginning of its stream.
async fn reading(gateway: &Gateway, script: &str) -> Client {
    let mut client = asking(gateway, true, script).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    client.until("data:").await;
    client
}

/// What the admin listener says, on a connection of its own.
async fn admin_says(admin: SocketAddr, path: &'static str) -> (u16, String) {
    let mut client = Client::at(admin, Speaks::Close).await;
    let (head, body) = client.call(&Ask::get(path)).await;
    (head.status, String::from_utf8(body.into()).unwrap())
}

/// Who waits for its head gets an answer that says why, and who has it one last event.
#[tokio::test]
async fn who_is_left_at_the_end_of_a_drain_is_told() {
    let (gateway, backend) = pair("drain = \"9s\"").await;
    let mut waiting = asking(&gateway, false, "fault=stall").await;
    let mut reading = reading(&gateway, "tokens=5; fault=stall:2").await;
    within(backend.stats().wait_for(|counts| counts.in_flight == 2)).await;

    let lifecycle = gateway.inner.lifecycle().clone();
    let lines = gateway.sink();
    let ending = tokio::spawn(gateway.inner.shut_down());
    lifecycle.stop();

    let head = waiting.head().await.unwrap();
    let answer = Answer {
        head,
        body: waiting.rest().await.0,
    };
    answer.refused(503, "draining");
    assert_eq!(answer.field("connection"), Some("close"));
    answer.says("overloaded_error", "The service is restarting. Please try again.", None);
    assert_eq!(answer.retry(), (Some("1"), None));
    assert!(waiting.is_closed().await);

    let (body, end) = reading.rest().await;
    let body = String::from_utf8(body.into()).unwrap();
    let (_, event) = body.split_once("data: {\"error\":{\"").expect("one last event");
    assert!(event.contains("\"draining\"") && event.ends_with("\n\n"), "{body}");
    end.unwrap_err();

    assert!(!within(ending).await.unwrap());
    assert_eq!(
        within(backend.stats().wait_for(|c| c.in_flight == 0)).await.cancelled,
        2
    );
    let lines = String::from_utf8(lines.borrow().clone()).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (streamed, status, end) in [(false, 503, "complete"), (true, 200, "failed")] {
        let line = lines
            .iter()
            .find(|line| line["streamed"] == streamed)
            .expect("its line");
        assert_eq!((&line["status"], &line["end"]), (&status.into(), &end.into()));
        assert_eq!(line["reason"], "draining", "{line}");
    }
}

/// Whoever balances load must see that a process is going, and its operators what it still does.
#[tokio::test]
async fn the_admin_listener_is_the_last_to_go_and_counts_for_nobody() {
    let (gateway, backend) = pair("drain = \"9s\"\nmax_requests = 1").await;
    let admin = gateway.admin();
    assert_eq!(admin_says(admin, "/readyz").await.0, 200);
    let reading = reading(&gateway, "tokens=5; fault=stall:2").await;
    assert_eq!(gateway.metrics().await.get("tollgate_in_flight"), 1);

    let lifecycle = gateway.inner.lifecycle().clone();
    // A connection of the admin listener at rest holds nobody up.
    let mut resting = Client::at(admin, Speaks::KeepAlive).await;
    resting.call(&Ask::get("/healthz")).await;
    let ending = tokio::spawn(gateway.inner.shut_down());
    while !lifecycle.is_going_down() {
        tokio::task::yield_now().await;
    }
    assert_eq!(admin_says(admin, "/readyz").await, (503, "draining\n".to_owned()));
    assert_eq!(admin_says(admin, "/healthz").await.0, 200);
    let (_, metrics) = admin_says(admin, "/metrics").await;
    assert_eq!(Metrics(metrics).get("tollgate_in_flight"), 1);
    assert!(!ending.is_finished());
    drop(reading);
    assert!(within(ending).await.unwrap());
    assert!(resting.is_closed().await);
    assert!(tokio::net::TcpStream::connect(admin).await.is_err());
    within(backend.stats().wait_for(|counts| counts.in_flight == 0)).await;
}

/// The last step of a shutdown does not wait for a client that takes nothing.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let (gateway, _backend) = pair("drain = \"9s\"\nclient_timeout = \"60s\"").await;
    let _silent = reading(&gateway, "tokens=1000000").await;
    let lifecycle = gateway.inner.lifecycle().clone();
    let ending = tokio::spawn(gateway.inner.shut_down());
    lifecycle.stop();
    assert!(!within(ending).await.unwrap());
    assert_eq!(lifecycle.in_flight(), 0);
}

/// What is read on for its usage, after its client has left, is waited for like a request.
#[tokio::test]
async fn an_answer_that_is_read_on_is_waited_for() {
    let (gateway, backend) = pair("drain = \"9s\"\nlinger = \"0s\"").await;
    let leaving = asking(&gateway, false, "ttft=300ms").await;
    within(backend.stats().wait_for(|counts| counts.in_flight == 1)).await;
    drop(leaving);
    assert!(within(gateway.inner.shut_down()).await);
    let counts = backend.stats().now();
    assert_eq!((counts.completed, counts.cancelled), (1, 0));
}

/// What is refused before there is a request has an id and is counted, and a reload changes how it looks, too.
#[tokio::test]
async fn faults_are_answered_like_refusals() {
    let (mut gateway, backend) = pair("client_timeout = \"100ms\"").await;
    for (sent, status, reason) in [
        (
            "CONNECT a.test:1 HTTP/1.1\r\nhost: a.test:1\r\nx-request-id: mine\r\n\r\n",
            405,
            "method_not_allowed",
        ),
        ("nonsense\r\n\r\n", 400, "malformed_body"),
        ("GET / HTTP/1.1\r\nho", 408, "request_timeout"),
    ] {
        let answer = sends(&gateway, sent).await;
        answer.refused(status, reason);
        assert_eq!(answer.field("allow"), (status == 405).then_some("GET, POST"));
        assert_eq!(answer.id() == "mine", status == 405);
        let sample = format!("tollgate_refusals_total{{reason=\"{reason}\"}}");
        assert_eq!(gateway.metrics().await.get(&sample), 1);
    }
    let by_reason = Setup::over(backend.local_addr()).text("[errors]\ncode = \"reason\"");
    gateway.inner.reload(by_reason.config()).await.unwrap();
    let answer = sends(&gateway, "nonsense\r\n\r\n").await;
    assert_eq!(answer.json()["error"]["code"], "malformed_body");
}

/// The answer to these bytes.
async fn sends(gateway: &Gateway, bytes: &str) -> Answer {
    let mut client = gateway.client().await;
    client.wire().send(bytes).await;
    let head = client.head().await.unwrap();
    let (body, end) = client.rest().await;
    end.unwrap();
    Answer { head, body }
}

/// No byte has gone to the backend, so no token of the prompt can have been used.
#[tokio::test]
async fn a_client_that_leaves_while_its_backend_is_connected_to_is_charged_nothing() {
    // It accepts, and never shakes hands.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("https://localhost:{port}/v1");
    let setup = Setup::default().backend_at("main", &url, "on_disconnect = \"cancel\"");
    let gateway = setup.start();
    let leaving = asking(&gateway, true, "").await;
    let _held = within(silent.accept()).await.unwrap();
    drop(leaving);
    gateway.is_quiet().await;
    let Metrics(metrics) = gateway.metrics().await;
    assert!(!metrics.contains("\ntollgate_tokens_total"), "{metrics}");
    assert!(metrics.contains("outcome=\"cancelled\""), "{metrics}");
}
