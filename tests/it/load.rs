//! The load generator against the scripted backend, as its user runs it.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;
use tollgate::backend::{Backend, Running, Script};

use crate::support::within;

/// A backend that answers like this and wants the key `k`.
async fn backend(script: &str) -> Running {
    let script = Script::default().with_header(&format!("{script}; key=k")).unwrap();
    Backend::start(script).await.unwrap()
}

/// The report, and whether any request was answered in full.
async fn load(backend: &Running, more: &str) -> (Value, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args([
            "load",
            "--json",
            "--key-env",
            "KEY_OF_THE_TEST",
            "--url",
            &backend.base_url(),
        ])
        .args(more.split_whitespace())
        .env("KEY_OF_THE_TEST", "k")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within(output).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "quiet in a pipe");
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.success())
}

#[tokio::test]
async fn a_closed_loop_sends_what_it_may_over_its_connections() {
    let backend = backend("tokens=5").await;
    let (report, ok) = load(&backend, "--connections 2 --requests 7 --prompt-tokens 40").await;
    assert!(ok);
    assert_eq!((&report["sent"], &report["ok"]), (&7.into(), &7.into()));
    assert_eq!(
        (&report["tokens"]["completion"], &report["tokens"]["prompt"]),
        (&35.into(), &280.into())
    );
    assert_eq!(report["status"], json!({"200": 7}));
    let counts = backend.stats().now();
    assert_eq!(counts.requests, 7);
    assert!(counts.max_in_flight <= 2 && counts.connections <= 2, "{counts:?}");
}

#[tokio::test]
async fn a_stream_is_ok_only_when_it_is_whole() {
    let backend = backend("tokens=4; every=2; fault=cut:2").await;
    let (report, ok) = load(&backend, "--connections 1 --requests 4 --stream").await;
    assert!(ok);
    assert_eq!((&report["sent"], &report["ok"]), (&4.into(), &2.into()));
    assert_eq!(report["errors"], json!({"connection broke": 2}));
    // Of a broken stream the tokens that came are counted all the same.
    assert_eq!(report["tokens"]["completion"], 12);
    for (fault, error) in [("no_done", "no end of stream"), ("error_event:1", "error in stream")] {
        let more = format!("--connections 1 --requests 1 --stream --header x-tollgate-script:fault={fault};every=1");
        let (report, ok) = load(&backend, &more).await;
        assert!(!ok);
        assert_eq!(report["errors"], json!({error: 1}));
    }
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate_and_skips_above_its_bound() {
    let backend = backend("").await;
    let (report, _) = load(&backend, "--rate 2000 --requests 20").await;
    assert_eq!(
        (&report["sent"], &report["ok"], &report["skipped"]),
        (&20.into(), &20.into(), &0.into())
    );
    let more = "--rate 5000 --requests 10 --max-in-flight 1 --timeout 200ms --header x-tollgate-script:fault=stall";
    let (report, ok) = load(&backend, more).await;
    assert!(!ok);
    assert_eq!(report["ok"], 0);
    assert_eq!(
        report["sent"].as_u64().unwrap() + report["skipped"].as_u64().unwrap(),
        10
    );
    assert!(report["errors"]["timeout"].as_u64().unwrap() >= 1);
}
