//! The program itself: its reloads, its output, its end.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::{Answer, KEY, Setup, chat, scripted, secret};
use crate::support::within;

const CREDENTIAL: &str = "sk-of-the-backend-42";

/// `tollgate serve`, and what it has logged so far.
struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    logged: String,
    http: std::net::SocketAddr,
    admin: std::net::SocketAddr,
}

impl Process {
    async fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--config"])
            .arg(config)
            .env("THEIRS", CREDENTIAL)
            .env("TOLLGATE_LOG", "debug")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self {
            child,
            log,
            logged: String::new(),
            http: nowhere,
            admin: nowhere,
        };
        let line = process.says("\"listening\"").await;
        let address = |name: &str| {
            let shown = line[name].as_str().unwrap();
            let digits = shown.trim_matches(|c: char| !c.is_ascii_digit());
            digits.parse().unwrap()
        };
        (process.http, process.admin) = (address("http"), address("admin"));
        process
    }

    /// The next line of the log with this in it.
    async fn says(&mut self, mark: &str) -> Value {
        loop {
            let line = within(self.log.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("no {mark} in\n{}", self.logged));
            self.logged.extend([&*line, "\n"]);
            if line.contains(mark) {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(within(sent).await.unwrap().success());
    }

    async fn call(&self, ask: &Ask) -> Answer {
        let (head, body) = Client::at(self.http, Speaks::Close).await.call(ask).await;
        Answer { head, body }
    }

    async fn metrics(&self) -> String {
        let (_, body) = Client::at(self.admin, Speaks::Close)
            .await
            .call(&Ask::get("/metrics"))
            .await;
        String::from_utf8(body.into()).unwrap()
    }

    /// Its exit code, and all that it wrote.
    async fn end(mut self) -> (Option<i32>, String) {
        let mut out = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        within(stdout.read_to_string(&mut out)).await.unwrap();
        while let Some(line) = within(self.log.next_line()).await.unwrap() {
            self.logged.extend([&*line, "\n"]);
        }
        let status = within(self.child.wait()).await.unwrap();
        (status.code(), out + &self.logged)
    }
}

#[tokio::test]
async fn a_life_of_the_program() {
    let backend = scripted().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tollgate.toml");
    let setup = || Setup::default().backend("main", backend.local_addr(), "api_key = { env = \"THEIRS\" }");
    // By a rename, so that half of it is never read.
    let write = |text: &str| {
        let new = dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    write(&setup().key(KEY, "").key("other", "").toml());
    let mut process = Process::start(&path).await;
    assert_eq!(process.call(&chat(false, "")).await.head.status, 200);

    // A file that is wrong is told about, and the one in use stays.
    write("[server]\nlisten = 7\ncolour = \"red\"\n");
    process.says("reload refused").await;
    process.says("reload refused").await;
    assert!(
        process.logged.contains("colour") && process.logged.contains("listen"),
        "{}",
        process.logged
    );
    assert_eq!(process.call(&chat(false, "")).await.head.status, 200);
    assert!(
        process
            .metrics()
            .await
            .contains("tollgate_config_reloads_total{result=\"refused\"} 1")
    );

    // A file that is right takes effect, whether it was noticed or a signal told of it.
    write(&setup().key("other", "").toml());
    process.says("the configuration was reloaded").await;
    process.call(&chat(false, "")).await.refused(401, "key_invalid");
    process.signal("HUP").await;
    process.says("the configuration was reloaded").await;
    assert!(
        process
            .metrics()
            .await
            .contains("tollgate_config_reloads_total{result=\"ok\"} 2")
    );

    // What fails, and what is said in it, is nobody's business but the client's.
    for script in [
        "",
        "fault=status:400",
        "fault=status:500",
        "fault=cut",
        "fault=cut:2",
        "fault=gzip",
    ] {
        for stream in [true, false] {
            let ask = Ask::chat(stream, script).by("other").field("x-hidden", "hush-header");
            let mut client = Client::at(process.http, Speaks::Close).await;
            client.start(&ask).await;
            client.head().await.unwrap();
            let _ = client.rest().await;
        }
    }

    process.signal("TERM").await;
    let (code, written) = process.end().await;
    assert_eq!(code, Some(0), "{written}");
    assert!(written.contains("an attempt failed") && written.contains("\"chat.completions\""));
    for hidden in [
        CREDENTIAL,
        &secret(KEY),
        &secret("other"),
        "How are you",
        "word7",
        "hush-header",
        "The scripted backend",
    ] {
        let line = written.lines().find(|line| line.contains(hidden));
        assert_eq!(line, None, "{hidden}");
    }
}

#[tokio::test]
async fn a_file_that_is_wrong_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tollgate.toml");
    std::fs::write(&path, "[server]\nlisten = 7\ncolour = \"red\"\n").unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["serve", "--config"])
        .arg(&path)
        .kill_on_drop(true)
        .output();
    let done = within(done).await.unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("tollgate.toml:2") && said.contains("colour"), "{said}");
}
