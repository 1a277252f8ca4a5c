//! One process takes over from another: real processes, real sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tollgate::backend::{Backend, Script};

use crate::support::raw::Wire;
use crate::support::whole::{answer, routed, start_chat};
use crate::support::within;

/// A gateway in a process of its own, which ends with the test.
struct Process {
    child: Child,
    log: tokio::io::Lines<BufReader<ChildStderr>>,
}

impl Process {
    fn spawn(config: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--config"])
            .arg(config)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log }
    }

    /// The next line of the log that has these words; the process's other words are for whoever sees the test fail.
    async fn says(&mut self, words: &str) -> String {
        loop {
            let line = within(self.log.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended before it said {words:?}"));
            println!("{line}");
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Where it listens for requests.
    async fn address(&mut self) -> SocketAddr {
        let line: serde_json::Value = serde_json::from_str(&self.says("\"listening\"").await).unwrap();
        let list = line["http"].as_str().unwrap();
        list.trim_matches(['[', ']']).parse().unwrap()
    }

    async fn ends(mut self) -> ExitStatus {
        let ending = async {
            while let Ok(Some(line)) = self.log.next_line().await {
                println!("{line}");
            }
            self.child.wait().await
        };
        tokio::time::timeout(Duration::from_secs(30), ending)
            .await
            .unwrap()
            .unwrap()
    }
}

/// Short requests without a pause, on connections that are kept for as long as the server keeps them.
async fn load(address: SocketAddr, stop: Arc<AtomicBool>, served: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let mut wire = Wire::connect(address).await;
        loop {
            start_chat(&mut wire, false, "tokens=1").await;
            let (head, _) = answer(&mut wire).await;
            assert_eq!(head.status(), 200);
            served.fetch_add(1, Ordering::Relaxed);
            if head.field("connection") == Some("close") || stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

/// The text of each event of a stream, in order, up to a clean end.
async fn texts(stream: &mut Wire) -> Vec<String> {
    let mut body = Vec::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        body.extend(chunk);
    }
    let body = String::from_utf8(body).unwrap();
    let events = body.strip_suffix("data: [DONE]\n\n").expect("the end of the stream");
    events
        .split_terminator("\n\n")
        .map(|event| {
            let event: serde_json::Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
            event["choices"][0]["delta"]["content"].to_string()
        })
        .collect()
}

fn config(dir: &Path, backend: SocketAddr) -> std::path::PathBuf {
    let server = format!(
        "run_dir = '{}'\ndrain = \"25s\"\nlinger = \"500ms\"\naccess_log = false\nthreads = 2",
        dir.join("run").display()
    );
    let path = dir.join("tollgate.toml");
    std::fs::write(&path, routed(&format!("http://{backend}/v1"), &server, "")).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_takes_over_without_a_gap() {
    let backend = Backend::start(Script::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), backend.local_addr());
    let mut old = Process::spawn(&path, &[]);
    let address = old.address().await;

    let mut stream = Wire::connect(address).await;
    start_chat(&mut stream, true, "tokens=300").await;
    assert_eq!(stream.head().await.unwrap().status(), 200);
    let whole = texts(&mut stream).await;
    assert!(whole.len() >= 300);
    start_chat(&mut stream, true, "tokens=300; tps=100").await;
    assert_eq!(stream.head().await.unwrap().status(), 200);
    let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let loads: Vec<_> = (0..4)
        .map(|_| tokio::spawn(load(address, Arc::clone(&stop), Arc::clone(&served))))
        .collect();
    while served.load(Ordering::Relaxed) < 20 {
        tokio::task::yield_now().await;
    }

    let mut new = Process::spawn(&path, &["--upgrade"]);
    assert_eq!(new.address().await, address, "on the same socket");
    old.says("another process took over").await;
    let before = served.load(Ordering::Relaxed);
    // What was begun goes on to its end, with nothing lost.
    assert_eq!(texts(&mut stream).await, whole);
    assert!(old.ends().await.success());

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
    let mut process = Process::spawn(&path, &["--upgrade"]);
    process.says("no running gateway").await;
    assert_eq!(process.ends().await.code(), Some(1));
}

/// A new process that cannot start leaves the old one as it was, to be upgraded by the next.
#[tokio::test]
async fn an_upgrade_that_fails_changes_nothing() {
    let backend = Backend::start(Script::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), backend.local_addr());
    let mut old = Process::spawn(&path, &[]);
    let address = old.address().await;

    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let bad = format!("h2c_listen = \"{}\"\nrun_dir", taken.local_addr().unwrap());
    let other = dir.path().join("other.toml");
    std::fs::write(&other, text.replacen("run_dir", &bad, 1)).unwrap();
    let mut new = Process::spawn(&other, &["--upgrade"]);
    new.says("cannot listen on").await;
    assert_eq!(new.ends().await.code(), Some(1));

    let ask = async || {
        let mut wire = Wire::connect(address).await;
        start_chat(&mut wire, false, "tokens=1").await;
        answer(&mut wire).await.0.status()
    };
    assert_eq!(ask().await, 200);
    assert!(old.child.try_wait().unwrap().is_none());
    let mut new = Process::spawn(&path, &["--upgrade"]);
    assert_eq!(new.address().await, address);
    assert!(old.ends().await.success());
    assert_eq!(ask().await, 200);
}
