//! What a verb says when it was not done.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::server::{REQUEST_ID, Server};
use super::{Ran, program, run};
use crate::support::bridge::Certs;
use crate::support::within;

fn refusal(status: u16, reason: &str, message: &str) -> (u16, Value) {
    let error = json!({"message": message, "type": "any", "reason": reason, "param": null, "code": status});
    (status, json!({ "error": error }))
}

/// A run that has to fail and to print nothing for a program to read.
async fn fails(url: &str, arguments: &str, code: i32) -> String {
    let mut command = program(&arguments.split_whitespace().collect::<Vec<_>>());
    command.env("TOLLGATE_ADMIN", url);
    let Ran { code: ended, out, err } = run(command, "").await;
    assert_eq!((ended, &*out), (Some(code), ""), "{arguments}: {err}");
    err
}

#[tokio::test]
async fn a_refusal_has_the_servers_words_its_reason_and_its_request_id() {
    for (status, reason, message, advice) in [
        (400, "invalid", "quota: write a number", ""),
        (
            401,
            "token_invalid",
            "Invalid or missing admin token.",
            "TOLLGATE_ADMIN_TOKEN",
        ),
        (403, "read_only", "This token may only read.", ""),
        (404, "not_found", "There is no such key.", ""),
        (404, "path_not_found", "No such path.", "[admin] listen"),
        (409, "ambiguous", "Two keys have this name.", "--account"),
        (422, "refused", "More than is free.", ""),
        (503, "store_unavailable", "The store cannot be reached.", "try again"),
    ] {
        let server = Server::answers([refusal(status, reason, message)]).await;
        let err = fails(&server.url(), "key disable ci --json", 1).await;
        let told = format!("tollgate: {message}\n  {reason}, HTTP {status}, request id {REQUEST_ID}\n");
        assert!(err.starts_with(&told), "{err}");
        assert_eq!(err.len() > told.len(), !advice.is_empty(), "{err}");
        assert!(err.contains(advice), "{err}");
        server.asked_once();
    }
}

#[tokio::test]
async fn nobody_there_names_the_url_and_what_to_do() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let err = fails(&url, "account list", 1).await;
    assert!(
        err.starts_with(&format!("tollgate: no connection to the admin API at {url}: ")),
        "{err}"
    );
    assert!(
        err.contains("refused") && err.contains("--admin URL or TOLLGATE_ADMIN"),
        "{err}"
    );
}

#[tokio::test]
async fn wrong_use_is_told_before_anything_is_sent() {
    for (arguments, told) in [
        ("key edit ci", "nothing to change"),
        ("account edit acme", "nothing to change"),
        ("key create --name ci", "--account"),
        ("key create --name ci --account acme --expires tomorrow", "2027-01-31"),
        ("account topup acme -5", "more than zero"),
        ("key list --admin gw:8081", "http://127.0.0.1:8081"),
        ("key list --admin http://ops:pass@gw", "no place in the URL"),
        ("key forget ci", "unrecognized subcommand"),
        ("code redeem --account acme", "no code"),
    ] {
        let err = fails("http://127.0.0.1:1", arguments, 2).await;
        assert!(err.contains(told), "{arguments}: {err}");
        assert!(!err.contains("ops:pass"), "{err}");
    }
    let mut command = program(&["key", "list"]);
    command.env_remove("TOLLGATE_ADMIN_TOKEN");
    let ran = run(command, "").await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("TOLLGATE_ADMIN_TOKEN is not set"), "{ran:?}");
}

/// `--admin` counts before the variable, wherever it stands.
#[tokio::test]
async fn the_argument_counts_before_the_variable() {
    for at in 0..3 {
        let server = Server::answers([(200, json!({"id": "06k1"}))]).await;
        let url = server.url();
        let mut arguments = vec!["key", "show", "ci"];
        arguments.splice(at..at, ["--admin", &url, "--json"]);
        let mut command = program(&arguments);
        command.env("TOLLGATE_ADMIN", "http://127.0.0.1:1");
        let ran = run(command, "").await;
        assert_eq!((ran.code, &*ran.out), (Some(0), "{\"id\":\"06k1\"}\n"), "{ran:?}");
    }
}

#[tokio::test]
async fn what_is_no_admin_api_is_told_as_that() {
    for (status, body) in [(200, "<html>"), (404, "not found"), (302, ""), (500, "{\"oops\":1}")] {
        let server = Server::answers_bytes(status, body).await;
        let err = fails(&server.url(), "key list", 1).await;
        assert!(
            err.contains("not as an admin API does") && err.contains(&status.to_string()),
            "{err}"
        );
    }
    let server = Server::answers_bytes(200, vec![b' '; 65 << 20]).await;
    let err = fails(&server.url(), "key list", 1).await;
    assert!(err.contains("length limit exceeded"), "{err}");
}

/// Whether it was done is not known, and for money there is a way to find out that costs nothing.
#[tokio::test]
async fn an_answer_that_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut some = [0; 16];
            let _ = socket.read(&mut some).await;
        }
    });
    let err = fails(&url, "account topup acme 5", 1).await;
    let (_, key) = err.split_once("Repeat it with --idempotency-key ").expect(&err);
    assert!(key.split(':').next().is_some_and(|key| key.len() == 32), "{err}");
    let err = fails(&url, "key rotate ci", 1).await;
    assert!(err.contains("look before you repeat it"), "{err}");
    let err = fails(&url, "key show ci", 1).await;
    assert!(!err.contains("done"), "{err}");
    server.abort();
}

#[tokio::test]
async fn over_tls_with_a_certificate_that_the_machine_trusts() {
    let certs = Certs::new();
    let acceptor = TlsAcceptor::from(certs.server(&[], false));
    let server = Server::answers_over_tls(acceptor.clone(), json!({"id": "06k1"})).await;
    let mut command = program(&["key", "show", "ci", "--json"]);
    command
        .env("TOLLGATE_ADMIN", server.url())
        .env("SSL_CERT_FILE", certs.ca());
    let ran = run(command, "").await;
    assert_eq!((ran.code, &*ran.out), (Some(0), "{\"id\":\"06k1\"}\n"), "{ran:?}");
    server.asked_once();

    // Another authority is not trusted, and the token stays here.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shaken = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor.accept(tcp).await.is_ok()
    });
    let other = Certs::new();
    let mut command = program(&["key", "show", "ci"]);
    let url = format!("https://localhost:{port}");
    command.env("TOLLGATE_ADMIN", url).env("SSL_CERT_FILE", other.ca());
    let ran = run(command, "").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("certificate"), "{ran:?}");
    assert!(!within(shaken).await.unwrap());
}
