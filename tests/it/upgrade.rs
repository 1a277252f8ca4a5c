//! One process takes over from another: real processes, real sockets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tollgate::store::{self, Millis, Position};

use crate::support::client::{Client, Speaks};
use crate::support::gateway::{Setup, chat, scripted};
use crate::support::process::Process;
use crate::support::within;

/// Short requests without a pause, on connections that are kept for as long as the server keeps them.
async fn load(address: SocketAddr, stop: Arc<AtomicBool>, served: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let mut client = Client::at(address, Speaks::KeepAlive).await;
        loop {
            let (head, _) = client.call(&chat(false, "tokens=1")).await;
            assert_eq!(head.status, 200);
            served.fetch_add(1, Ordering::Relaxed);
            if head.field("connection") == Some("close") || stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

/// Sends a request for a stream, and awaits its head.
async fn begin(client: &mut Client, script: &str) {
    client.start(&chat(true, script)).await;
    assert_eq!(client.head().await.unwrap().status, 200);
}

/// The text of each event of a stream, in order, up to a clean end.
async fn texts(stream: &mut Client) -> Vec<String> {
    let (body, end) = stream.rest().await;
    end.unwrap();
    let body = String::from_utf8(body.into()).unwrap();
    let events = body.strip_suffix("data: [DONE]\n\n").expect("the end of the stream");
    events
        .split_terminator("\n\n")
        .map(|event| {
            let event: serde_json::Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
            event["choices"][0]["delta"]["content"].to_string()
        })
        .collect()
}

fn config(dir: &Path, backend: SocketAddr) -> PathBuf {
    let server = format!(
        "run_dir = '{}'\ndrain = \"25s\"\nlinger = \"500ms\"\naccess_log = false\nthreads = 2",
        dir.join("run").display()
    );
    let path = dir.join("tollgate.toml");
    std::fs::write(&path, Setup::over(backend).server(&server).toml()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_takes_over_without_a_gap() {
    let backend = scripted().await;
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), backend.local_addr());
    let mut old = Process::spawn(&path, &[], &[]);
    let address = old.listens().await.http;

    let mut stream = Client::at(address, Speaks::KeepAlive).await;
    begin(&mut stream, "tokens=300").await;
    let whole = texts(&mut stream).await;
    assert!(whole.len() >= 300);
    begin(&mut stream, "tokens=300; tps=100").await;
    let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let loads: Vec<_> = (0..4)
        .map(|_| tokio::spawn(load(address, Arc::clone(&stop), Arc::clone(&served))))
        .collect();
    while served.load(Ordering::Relaxed) < 20 {
        tokio::task::yield_now().await;
    }

    let mut new = Process::spawn(&path, &["--upgrade"], &[]);
    assert_eq!(new.listens().await.http, address, "on the same socket");
    old.says("another process took over").await;
    let before = served.load(Ordering::Relaxed);
    // What was begun goes on to its end, with nothing lost.
    assert_eq!(texts(&mut stream).await, whole);
    assert_eq!(old.end().await.0, Some(0));

    // And what comes is answered, all the time.
    let after = served.load(Ordering::Relaxed);
    while served.load(Ordering::Relaxed) < after + 20 {
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        within(load).await.unwrap();
    }
    assert!(after > before);
    let pid = std::fs::read_to_string(dir.path().join("run/tollgate.pid")).unwrap();
    assert_eq!(pid.trim().parse::<u32>().ok(), new.child.id());
}

#[tokio::test]
async fn an_upgrade_of_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "127.0.0.1:1".parse().unwrap());
    let mut process = Process::spawn(&path, &["--upgrade"], &[]);
    process.says("no running gateway").await;
    assert_eq!(process.end().await.0, Some(1));
}

/// Nor does it keep a part of the limits, which the store would leave to it until its lease ends.
#[tokio::test]
async fn an_upgrade_that_fails_takes_part_in_no_limit() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = |more: &str| {
        Setup::over("127.0.0.1:1".parse().unwrap())
            .server(&format!("run_dir = '{here}/run'\naccess_log = false\n{more}"))
            .model("scripted", "route = [{ backend = \"main\" }]\nprice = \"free\"")
            .text(&format!(
                "[store]\nurl = \"sqlite://{here}/tollgate.db\"\n[ledger]\npath = \"{here}/journal\""
            ))
            .key("ci", "account = \"acme\"")
    };
    let (good, bad) = (dir.path().join("good.toml"), dir.path().join("bad.toml"));
    std::fs::write(&good, setup("").toml()).unwrap();
    let elsewhere = format!("h2c_listen = \"{}\"", taken.local_addr().unwrap());
    std::fs::write(&bad, setup(&elsewhere).toml()).unwrap();
    let mut old = Process::spawn(&good, &[], &[]);
    old.listens().await;
    let mut new = Process::spawn(&bad, &["--upgrade"], &[]);
    new.says("the store is open").await;
    new.says("cannot listen on").await;
    assert_eq!(new.end().await.0, Some(1));

    let store = store::open(&format!("sqlite://{here}/tollgate.db")).await.unwrap();
    let probe = store.register(Millis(Millis::now().0 + 30_000)).await.unwrap();
    store.serve(probe.id, true).await.unwrap();
    let position = store.pulse(probe.id).await.unwrap().position;
    assert_eq!(
        position,
        Some(Position { of: 2, rank: 1 }),
        "the old process and this test"
    );
}

/// A new process that cannot start leaves the old one as it was, to be upgraded by the next.
#[tokio::test]
async fn an_upgrade_that_fails_changes_nothing() {
    let backend = scripted().await;
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), backend.local_addr());
    let mut old = Process::spawn(&path, &[], &[]);
    let address = old.listens().await.http;

    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let bad = format!("h2c_listen = \"{}\"\nrun_dir", taken.local_addr().unwrap());
    let other = dir.path().join("other.toml");
    std::fs::write(&other, text.replacen("run_dir", &bad, 1)).unwrap();
    let mut new = Process::spawn(&other, &["--upgrade"], &[]);
    new.says("cannot listen on").await;
    assert_eq!(new.end().await.0, Some(1));

    let ask = async || {
        let mut client = Client::at(address, Speaks::Close).await;
        client.call(&chat(false, "tokens=1")).await.0.status
    };
    assert_eq!(ask().await, 200);
    assert!(old.child.try_wait().unwrap().is_none());
    let mut new = Process::spawn(&path, &["--upgrade"], &[]);
    assert_eq!(new.listens().await.http, address);
    assert_eq!(old.end().await.0, Some(0));
    assert_eq!(ask().await, 200);
}
